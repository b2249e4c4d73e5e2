//! Every family compared with llama.cpp, on tiny random models in F32, where nothing is rounded.
//!
//! `tests/golden/tiny.py` makes the models and the reference's logits.

use candle_core::Device;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tealight::kernels::{CacheType, Compute, Isa};
use tealight::model::{Model, ModelFile, Spec, Wanted, Weights, WeightsError, family_names, spec};
use tealight::source;

/// Largest allowed difference of a logit; the logits themselves have a standard deviation of about 1.
const TOLERANCE: f32 = 1e-3;
const POSITIONS: usize = 64;
/// Positions kept when a timeline is truncated.
const KEPT: usize = 21;

#[test]
fn every_family_agrees_with_the_reference_however_its_tokens_come() {
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
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
        // A long past takes a while, and tests nothing that depends on the instruction set.
        let isas = if past == 0 { Isa::available() } else { vec![Isa::detect()] };
        for isa in isas {
            let model = match build(&file, spec(&file).unwrap(), isa) {
                Ok(model) => model,
                Err(error) => {
                    wrong.push(format!("{name}: {error}"));
                    break;
                }
            };
            let mut close = |how: &str, ours: &[f32], expected: &[f32]| {
                let worst = largest_difference(ours, expected);
                println!("{name} on {isa}, {how}: {worst}");
                if worst > TOLERANCE {
                    wrong.push(format!("{name} on {isa}, {how}: {worst}"));
                }
            };
            seen.push(model.spec().architecture.clone());
            let mut cache = model.cache(past + POSITIONS, CacheType::F32, CacheType::F32).unwrap();
            model.forward(before, &mut cache, Wanted::None).unwrap();
            let whole = model.forward(tokens, &mut cache, Wanted::All).unwrap();
            close("in one batch", &whole, &expected);
            cache.truncate(past);
            let mut single = Vec::new();
            for token in tokens {
                single.extend(model.forward(&[*token], &mut cache, Wanted::Last).unwrap());
            }
            close("token by token", &single, &expected);
            cache.truncate(past + KEPT);
            let rest = model.forward(&tokens[KEPT..], &mut cache, Wanted::All).unwrap();
            close("after going back", &rest, &expected[KEPT * vocab..]);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for family in family_names() {
        // Families that only make embeddings have their vectors elsewhere: `tests/embeddings.rs`.
        let embeds = folder().with_file_name(format!("embeddings/{family}.gguf")).is_file();
        assert!(embeds || seen.iter().any(|s| s == family), "{family} has no vector");
    }
}

#[test]
fn the_readme_names_every_family() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for family in family_names() {
        assert!(readme.contains(&format!("`{family}`")), "{family}");
    }
}

#[test]
fn a_tensor_that_nobody_claims_is_an_error() {
    let file = ModelFile::open(source::open(&folder().join("llama.gguf")).unwrap()).unwrap();
    let mut spec = spec(&file).unwrap();
    spec.layers.pop();
    let error = build(&file, spec, Isa::detect()).err().unwrap().to_string();
    assert!(error.contains("`blk.2.attn_norm.weight` (and 8 more)"), "{error}");
}

#[test]
fn an_unknown_architecture_names_itself_and_what_is_known() {
    let mut bytes = std::fs::read(folder().join("llama.gguf")).unwrap();
    let at = bytes.windows(5).position(|w| w == b"llama").unwrap();
    bytes[at..at + 5].copy_from_slice(b"camel");
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(copy.path(), bytes).unwrap();
    let file = ModelFile::open(source::open(copy.path()).unwrap()).unwrap();
    let error = spec(&file).err().unwrap().to_string();
    assert!(error.contains("`camel` is not supported"), "{error}");
    assert!(family_names().iter().all(|name| error.contains(name)), "{error}");
}

fn build(file: &ModelFile, spec: Spec, isa: Isa) -> Result<Model, WeightsError> {
    let compute = Arc::new(Compute::new(isa, 2));
    let device = Device::Cpu;
    let weights = Weights::new(file, &compute, &device);
    Model::load(spec, weights, &compute, &device)
}

/// Infinite if a value is NaN.
fn largest_difference(ours: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(ours.len(), expected.len());
    let difference = |(a, b): (&f32, &f32)| Some((a - b).abs()).filter(|d| !d.is_nan());
    ours.iter()
        .zip(expected)
        .map(|pair| difference(pair).unwrap_or(f32::INFINITY))
        .fold(0.0, f32::max)
}

fn models() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
        .collect();
    all.sort();
    all
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny")
}
