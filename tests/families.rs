//! Every family against llama.cpp, on tiny random models in F32 where nothing is rounded.
//!
//! `tests/golden/tiny.py` makes the models and the reference's logits.

use candle_core::{DType, Device};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tealight::kernels::{Compute, Isa};
use tealight::model::{Model, ModelFile, Wanted, Weights, family_names, spec};
use tealight::source;

/// Largest difference of a logit; the logits themselves have a deviation of about 1.
const TOLERANCE: f32 = 1e-3;
const POSITIONS: usize = 64;

#[test]
fn every_family_agrees_with_the_reference_in_one_batch_and_token_by_token() {
    let mut seen = Vec::new();
    for path in models() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(path.with_extension("logits")).unwrap();
        let expected: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let vocab = expected.len() / POSITIONS;
        let tokens: Vec<u32> = (0..POSITIONS).map(|i| ((7 * i + 3) % vocab) as u32).collect();
        for isa in Isa::available() {
            let model = load(&path, isa);
            seen.push(model.spec().architecture.clone());
            let mut cache = model.cache(POSITIONS, DType::F32, DType::F32).unwrap();
            let whole = model.forward(&tokens, &mut cache, Wanted::All).unwrap();
            close(&name, isa, "in one batch", &whole, &expected);
            let mut cache = model.cache(POSITIONS, DType::F32, DType::F32).unwrap();
            let mut single = Vec::new();
            for token in &tokens {
                single.extend(model.forward(&[*token], &mut cache, Wanted::Last).unwrap());
            }
            close(&name, isa, "token by token", &single, &expected);
        }
    }
    for family in family_names() {
        assert!(seen.iter().any(|s| s == family), "{family} has no vector");
    }
}

fn load(path: &Path, isa: Isa) -> Model {
    let file = ModelFile::open(source::open(path).unwrap()).unwrap();
    let compute = Arc::new(Compute::new(isa, 2));
    let device = Device::Cpu;
    let weights = Weights::new(&file, &compute, &device);
    Model::load(spec(&file).unwrap(), weights, &compute, &device)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn close(name: &str, isa: Isa, how: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{name}");
    let (at, worst) = ours
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .enumerate()
        .fold((0, 0.0), |worst, this| if this.1 > worst.1 { this } else { worst });
    let position = at / (expected.len() / POSITIONS);
    assert!(worst <= TOLERANCE, "{name} on {isa}, {how}: {worst} at position {position}");
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
