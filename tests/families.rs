//! Every family against llama.cpp, on tiny random models in F32 where nothing is rounded.
//!
//! `tests/golden/tiny.py` makes the models and the reference's logits.

use candle_core::{DType, Device};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tealight::kernels::{Compute, Isa};
use tealight::model::{Model, ModelFile, Wanted, Weights, WeightsError, family_names, spec};
use tealight::source;

/// Largest difference of a logit; the logits themselves have a deviation of about 1.
const TOLERANCE: f32 = 1e-3;
const POSITIONS: usize = 64;
/// Of them, those kept when a timeline goes back.
const KEPT: usize = 21;

#[test]
fn every_family_agrees_with_the_reference_however_its_tokens_come() {
    let mut seen = Vec::new();
    for path in models() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(path.with_extension("logits")).unwrap();
        let expected: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
        let past = file.number_or("tiny.past", 0).unwrap();
        let vocab = expected.len() / POSITIONS;
        let tokens: Vec<u32> =
            (0..past + POSITIONS).map(|i| ((7 * i + 3) % vocab) as u32).collect();
        let (before, tokens) = tokens.split_at(past);
        // A long past takes a while, and shows nothing that depends on the instruction set.
        let isas = if past == 0 { Isa::available() } else { vec![Isa::detect()] };
        for isa in isas {
            let model = load(&file, isa).unwrap_or_else(|e| panic!("{name}: {e}"));
            seen.push(model.spec().architecture.clone());
            let mut cache = model.cache(past + POSITIONS, DType::F32, DType::F32).unwrap();
            model.forward(before, &mut cache, Wanted::None).unwrap();
            let whole = model.forward(tokens, &mut cache, Wanted::All).unwrap();
            close(&name, isa, "in one batch", &whole, &expected);
            cache.truncate(past);
            let mut single = Vec::new();
            for token in tokens {
                single.extend(model.forward(&[*token], &mut cache, Wanted::Last).unwrap());
            }
            close(&name, isa, "token by token", &single, &expected);
            cache.truncate(past + KEPT);
            let rest = model.forward(&tokens[KEPT..], &mut cache, Wanted::All).unwrap();
            close(&name, isa, "after going back", &rest, &expected[KEPT * vocab..]);
        }
    }
    for family in family_names() {
        assert!(seen.iter().any(|s| s == family), "{family} has no vector");
    }
}

fn load(file: &ModelFile, isa: Isa) -> Result<Model, WeightsError> {
    let compute = Arc::new(Compute::new(isa, 2));
    let device = Device::Cpu;
    let weights = Weights::new(file, &compute, &device);
    Model::load(spec(file).unwrap(), weights, &compute, &device)
}

fn close(name: &str, isa: Isa, how: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{name}");
    let (at, worst) = ours
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .enumerate()
        .fold((0, 0.0), |worst, this| if this.1 > worst.1 { this } else { worst });
    assert!(worst <= TOLERANCE, "{name} on {isa}, {how}: {worst} at logit {at}");
    println!("{name} on {isa}, {how}: {worst}");
}

fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny");
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
        .collect();
    all.sort();
    all
}
