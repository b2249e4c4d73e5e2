//! Embeddings compared with llama.cpp's: those of tiny random models in F32, where nothing is rounded, and of the real
//! SmolLM2.
//!
//! `tests/golden/embeddings.py` makes the models and the reference's values.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tealight::backend::{Backend, Cpu, Portable};
use tealight::engine::{Engine, LoadOptions, Pooler, normalize};
use tealight::jobs::HANDLER;
use tealight::kernels::{CacheType, Compute, Isa};
use tealight::model::{Batch, Model, ModelFile, Pooling, Span, Wanted, Weights, spec};
use tealight::source;
use tealight::worker::Workers;

/// Largest allowed difference of an element; the tiny models' elements have a standard deviation of about 1.
const TOLERANCE: f32 = 1e-3;
/// Both programs round SmolLM2's activations to 8 bits, each in its own order; a mean over positions evens that out.
const COSINE_MEAN_MIN: f64 = 0.999;
const COSINE_LAST_MIN: f64 = 0.99;
const POSITIONS: usize = 40;
const TINY: [&str; 8] = [
    "bert",
    "bert-cls",
    "gemma-embedding",
    "jina-bert-v2",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "qwen3-embedding",
];

#[test]
fn tiny_models_agree_with_the_reference_however_they_are_pooled() {
    for name in TINY {
        let path = folder("tests/golden/embeddings").join(name);
        let file = ModelFile::open(source::open(&path.with_extension("gguf")).unwrap()).unwrap();
        let bytes = std::fs::read(path.with_extension("f32")).unwrap();
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let expected: Vec<&[f32]> = values.chunks(values.len() / (POSITIONS + 3)).collect();
        let cpu = |isa| Arc::new(Cpu::new(Arc::new(Compute::new(isa, 2)))) as Arc<dyn Backend>;
        let backends = Isa::available().into_iter().map(|isa| (isa.to_string(), cpu(isa)));
        let portable = ("candle".to_owned(), Arc::new(Portable) as Arc<dyn Backend>);
        for (isa, backend) in backends.chain([portable]) {
            let model = Model::load(spec(&file).unwrap(), Weights::new(&file, backend)).unwrap();
            let vocabulary = model.spec().n_vocab;
            let tokens: Vec<u32> =
                (0..POSITIONS).map(|i| ((7 * i + 3) % vocabulary) as u32).collect();
            if let Ok(bytes) = std::fs::read(path.with_extension("scores")) {
                let floats =
                    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                let expected: Vec<f32> = floats.collect();
                assert_eq!(model.scores(), expected.len(), "{name}");
                for batch in [7, 512] {
                    let ours = embed(&model, &tokens, Pooling::Rank, batch).remove(0);
                    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE;
                    assert!(
                        ours.iter().zip(&expected).all(close),
                        "{name} on {isa}: {ours:?}, {expected:?}"
                    );
                }
            }
            for (pooling, expected) in [
                (Pooling::None, &expected[..POSITIONS]),
                (Pooling::Mean, &expected[POSITIONS..=POSITIONS]),
                (Pooling::Cls, &expected[POSITIONS + 1..POSITIONS + 2]),
                (Pooling::Last, &expected[POSITIONS + 2..]),
            ] {
                for batch in [7, 512] {
                    let ours = embed(&model, &tokens, pooling, batch);
                    assert_eq!(ours.len(), expected.len());
                    for (ours, expected) in ours.iter().zip(expected) {
                        let worst = ours
                            .iter()
                            .zip(*expected)
                            .map(|(a, b)| (a - b).abs())
                            .fold(0.0, f32::max);
                        assert!(worst <= TOLERANCE, "{name} on {isa}, {pooling:?}: {worst}");
                        let cosine = cosine(ours, expected);
                        assert!(cosine >= 0.9999, "{name} on {isa}, {pooling:?}: cosine {cosine}");
                    }
                }
            }
        }
    }
}

/// The tokens' embedding, in batches if attention is causal.
fn embed(model: &Model, tokens: &[u32], pooling: Pooling, batch: usize) -> Vec<Vec<f32>> {
    let causal = model.spec().causal;
    let pool = model.pages(CacheType::F32, CacheType::F32, usize::MAX);
    let mut sequence = model.sequence(&pool, tokens.len());
    let rows = if pooling == Pooling::Rank { model.spec().ranked } else { pooling };
    let mut pooled = Pooler::new(rows, tokens.len(), model.spec().d_model);
    for piece in tokens.chunks(if causal { batch } else { tokens.len() }) {
        sequence.reserve(piece.len()).unwrap();
        let span = Span::tokens(&mut sequence, piece, causal, Wanted::All);
        let output = model.forward(&mut Batch { spans: vec![span] }, &|| true).unwrap().unwrap();
        let mut hidden = Vec::new();
        model.hidden(&output, output.rows[0].clone(), &mut hidden).unwrap();
        pooled.add(&hidden);
    }
    pooled.finish().into_iter().map(|row| model.project(row, pooling).unwrap()).collect()
}

#[test]
fn texts_have_the_embeddings_that_the_reference_gives_them() {
    let golden = golden();
    let all: Vec<&str> =
        golden["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let words: Vec<&str> = all.iter().copied().filter(|text| !text.is_empty()).collect();
    let smollm2 = "smollm2-135m-instruct-q4_1";
    for (name, texts, pooling) in [
        ("bert", &all, None),
        ("bert-cls", &all, None),
        ("nomic-bert", &all, None),
        ("smollm2-135m-instruct-q4_1-mean", &words, Some(Pooling::Mean)),
        ("smollm2-135m-instruct-q4_1-last", &words, Some(Pooling::Last)),
    ] {
        let path = match pooling {
            Some(_) => folder("models").join(format!("{smollm2}.gguf")),
            None => folder("tests/golden/embeddings").join(format!("{name}.gguf")),
        };
        assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
        let engine = engine(&path);
        assert_eq!(engine.info.makes_text, pooling.is_some());
        let pooling = pooling.or(engine.info.pooling).unwrap();
        let expected = golden[name].as_array().unwrap();
        assert_eq!(expected.len(), texts.len());
        for (text, expected) in texts.iter().zip(expected) {
            let ids = engine.tokenizer.encode(text, true, true);
            let mut rows = engine.embed(vec![ids], pooling, &|| true).unwrap().unwrap().remove(0);
            normalize(&mut rows[0], 2);
            let expected: Vec<f32> =
                expected.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            let cosine = cosine(&rows[0], &expected);
            let min = match pooling {
                _ if !name.starts_with(smollm2) => 0.9999,
                Pooling::Mean => COSINE_MEAN_MIN,
                _ => COSINE_LAST_MIN,
            };
            assert!(cosine >= min, "{name}, {text:?}: cosine {cosine}");
        }
    }
}

#[test]
fn what_does_not_fit_is_said_and_nobody_waits_for_what_nobody_wants() {
    let path = folder("tests/golden/embeddings/bert.gguf");
    let engine = engine(&path);
    let max = engine.embedding_tokens_max();
    assert_eq!(max, 48);
    let embed = |n: usize, wanted: bool| engine.embed(vec![vec![5; n]], Pooling::Mean, &|| wanted);
    assert!(embed(max, true).unwrap().is_some());
    assert!(embed(max + 1, true).unwrap_err().to_string().contains("49 tokens"));
    assert!(embed(0, true).unwrap_err().to_string().contains("empty"));
    assert!(embed(3, false).unwrap().is_none());
}

fn engine(path: &Path) -> Engine {
    let options = LoadOptions { context: 512, ..LoadOptions::default() };
    let compute = Arc::new(Compute::new(Isa::detect(), 2));
    let workers = Arc::new(Workers::here(HANDLER));
    Engine::load(source::open(path).unwrap(), &options, &compute, &workers).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    assert_eq!(a.len(), b.len());
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn golden() -> Value {
    let text = std::fs::read_to_string(folder("tests/golden/embeddings.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
