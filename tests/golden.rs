//! Our tokens and logits compared with llama.cpp's, on the real models.
//!
//! `tests/golden/make.py` makes the vectors and says how; `make test` fetches the models.

use candle_core::Device;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tealight::kernels::{CacheType, Compute, Isa};
use tealight::model::{Model, ModelFile, Wanted, Weights, spec};
use tealight::source;
use tealight::tokenizer::Tokenizer;

/// If the reference's first choice leads its second by less than this, either may be chosen.
const TIE: f64 = 0.05;
/// Minimum number of greedy tokens compared, over ten texts of 64, before the texts diverge at ties.
const COMPARED_MIN: usize = 500;
/// Both programs round activations to 8 bits, each in its own order of additions; a lead above this cannot be due to
/// rounding. The largest difference of a single logit seen between the reference and itself in F32 is 2.6.
const CLEAR: f64 = 2.0;
/// Largest mean difference of the two leading logits over a prompt that rounding explains; 0.2 is usual.
const MEAN_DIFFERENCE_MAX: f64 = 0.6;

#[test]
fn smollm2_agrees_with_the_reference() {
    agrees("smollm2-135m-instruct-q4_1");
}

#[test]
fn qwen2_agrees_with_the_reference() {
    agrees("qwen2.5-coder-0.5b-instruct-q4_k_m");
}

#[test]
fn gemma3_agrees_with_the_reference() {
    agrees("gemma-3-270m-q4_k_m");
}

#[test]
fn a_prompt_in_batches_gives_the_logits_of_one_token_at_a_time() {
    let loaded = Loaded::new("smollm2-135m-instruct-q4_1");
    let ids = loaded.tokenizer.encode(&"A candle burns because wax melts. ".repeat(9), true, true);
    let batched = loaded.logits(&[&ids]);
    let cut = loaded.logits(&[&ids[..37], &ids[37..]]);
    let single: Vec<&[u32]> = ids.chunks(1).collect();
    let single = loaded.logits(&single);
    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for other in [cut, single] {
        assert_eq!(bits(&batched), bits(&other));
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let name = "smollm2-135m-instruct-q4_1";
    let ids: Vec<u32> = (0..70).map(|i| 500 + i * 7).collect();
    let one = Loaded::with_threads(name, 1).logits(&[&ids]);
    let four = Loaded::with_threads(name, 4).logits(&[&ids]);
    assert_eq!(one, four);
}

struct Loaded {
    model: Model,
    tokenizer: Tokenizer,
    /// One test computes at a time: more threads than cores only wait for each other.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Loaded {
    fn new(name: &str) -> Self {
        Self::with_threads(name, 2)
    }

    fn with_threads(name: &str, threads: usize) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = folder("models").join(format!("{name}.gguf"));
        assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
        let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
        let compute = Arc::new(Compute::new(Isa::detect(), threads));
        let device = Device::Cpu;
        let weights = Weights::new(&file, &compute, &device);
        let model = Model::load(spec(&file).unwrap(), weights, &compute, &device).unwrap();
        Self { model, tokenizer: Tokenizer::new(&file).unwrap(), _alone: alone }
    }

    /// The logits after the last of several batches.
    fn logits(&self, batches: &[&[u32]]) -> Vec<f32> {
        let mut cache = self.model.cache(2048, CacheType::F16, CacheType::F16).unwrap();
        let mut logits = Vec::new();
        for batch in batches {
            logits = self.model.forward(batch, &mut cache, Wanted::Last).unwrap();
        }
        logits
    }
}

fn agrees(name: &str) {
    let golden =
        std::fs::read_to_string(folder("tests/golden").join(format!("{name}.json"))).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let loaded = Loaded::new(name);
    for case in golden["tokenize"].as_array().unwrap() {
        check_tokenizer(&loaded.tokenizer, case);
    }
    let greedy = golden["greedy"].as_array().unwrap();
    assert_eq!(greedy.len(), 10);
    let compared: usize = greedy.iter().map(|case| check_greedy(&loaded, case)).sum();
    assert!(compared >= COMPARED_MIN, "only {compared} tokens before the texts part at ties");
    golden["natural"].as_array().unwrap().iter().for_each(|case| check_natural(&loaded, case));
}

fn check_tokenizer(tokenizer: &Tokenizer, case: &Value) {
    let text = case["text"].as_str().unwrap();
    let plain = tokenizer.encode(text, false, false);
    assert_eq!(tokenizer.encode(text, true, true), ids(&case["special"]), "{text:?}, special");
    assert_eq!(plain, ids(&case["plain"]), "{text:?}, plain");
    assert_eq!(tokenizer.decode(&plain, true), text.as_bytes(), "{text:?}, decoded");
}

/// Our greedy choices match the reference's for 64 tokens, or diverge at a tie. Returns how many matched.
fn check_greedy(loaded: &Loaded, case: &Value) -> usize {
    let prompt = ids(&case["prompt_ids"]);
    let text = case["prompt"].as_str().unwrap();
    assert_eq!(loaded.tokenizer.encode(text, true, true), prompt, "{text:?}");
    let mut cache = loaded.model.cache(2048, CacheType::F16, CacheType::F16).unwrap();
    let mut next = prompt;
    let steps = case["top2"].as_array().unwrap();
    assert!(steps.len() >= 64);
    for (step, top) in steps.iter().enumerate() {
        let logits = loaded.model.forward(&next, &mut cache, Wanted::Last).unwrap();
        let ours = tealight::sampler::greedy(&logits);
        let [(first, a), (_, b)] = top2(top);
        if ours != first {
            assert!(a - b < TIE, "{text:?} differs at token {step}, where the lead is {}", a - b);
            return step;
        }
        next = vec![ours];
    }
    steps.len()
}

/// Fed the reference's tokens, our choice matches the reference's wherever that is clear.
fn check_natural(loaded: &Loaded, case: &Value) {
    let text = case["prompt"].as_str().unwrap();
    let mut cache = loaded.model.cache(2048, CacheType::F16, CacheType::F16).unwrap();
    let mut next = ids(&case["prompt_ids"]);
    let (mut difference, mut count) = (0.0, 0.0);
    for (step, top) in case["top2"].as_array().unwrap().iter().enumerate() {
        let logits = loaded.model.forward(&next, &mut cache, Wanted::Last).unwrap();
        let [(first, a), (second, b)] = top2(top);
        if a - b > CLEAR {
            let ours = tealight::sampler::greedy(&logits);
            assert_eq!(ours, first, "{text:?} at token {step}, where the lead is {}", a - b);
        }
        for (id, logit) in [(first, a), (second, b)] {
            difference += (f64::from(logits[id as usize]) - logit).abs();
            count += 1.0;
        }
        next = vec![first];
    }
    let mean = difference / count;
    assert!(mean < MEAN_DIFFERENCE_MAX, "{text:?}: mean difference of the leading logits {mean}");
}

fn top2(v: &Value) -> [(u32, f64); 2] {
    [0, 1].map(|i| (u32::try_from(v[i][0].as_u64().unwrap()).unwrap(), v[i][1].as_f64().unwrap()))
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
