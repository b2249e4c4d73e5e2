//! Our tokens and logits compared with llama.cpp's, on the real models.
//!
//! `tests/golden/make.py` makes the vectors and says how; `make test` fetches the models.

mod bits;

use bits::Bits;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tealight::backend::Cpu;
use tealight::kernels::{CacheType, Compute, Isa};
use tealight::model::{Batch, Model, ModelFile, Sequence, Span, Wanted, Weights, spec};
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
fn a_sequence_gets_the_same_logits_alone_and_among_others() {
    for name in ["smollm2-135m-instruct-q4_1", "gemma-3-270m-q4_k_m"] {
        let loaded = Loaded::new(name);
        let ids: Vec<Vec<u32>> = (0..7_u32)
            .map(|which| {
                (0..[1, 5, 64, 65, 130, 40, 3][which as usize])
                    .map(|i| 300 + which * 91 + i * 7)
                    .collect()
            })
            .collect();
        let next = |logits: &[f32]| tealight::sampler::greedy(logits);
        // A prompt, then five tokens of an answer.
        let alone: Vec<Vec<Vec<f32>>> = ids
            .iter()
            .map(|ids| {
                let mut sequence = loaded.sequence();
                let mut all = vec![loaded.read(&mut sequence, ids)];
                for _ in 0..5 {
                    let token = next(all.last().unwrap());
                    all.push(loaded.read(&mut sequence, &[token]));
                }
                all
            })
            .collect();
        let mut sequences: Vec<Sequence> = ids.iter().map(|_| loaded.sequence()).collect();
        let mut tokens = ids.clone();
        let steps = 0..6;
        for step in steps {
            let mut batch: Vec<_> =
                sequences.iter_mut().zip(tokens.iter().map(Vec::as_slice)).collect();
            let logits = loaded.read_all(&mut batch);
            for (which, logits) in logits.iter().enumerate() {
                assert_eq!(logits, &alone[which][step], "{name}, sequence {which}, step {step}");
            }
            tokens = logits.iter().map(|logits| vec![next(logits)]).collect();
        }
    }
}

/// Q4_K, Q5_0, Q6_K and Q8_0, a prompt and an answer: the same bits on every machine.
#[test]
fn every_instruction_set_gives_the_committed_bits() {
    let name = "qwen2.5-coder-0.5b-instruct-q4_k_m";
    let mut bits = Bits::of("real");
    // Without vectors it would take minutes; `tests/families.rs` has it on tiny models.
    let isas = Isa::available().into_iter().filter(|isa| isa.is_exact() && *isa != Isa::SCALAR);
    for isa in isas {
        let loaded = Loaded::with(name, isa, 2);
        let ids = loaded.tokenizer.encode(&"fn candle(wax: f32) -> f32 { ".repeat(7), true, true);
        let mut sequence = loaded.sequence();
        let mut logits = loaded.read(&mut sequence, &ids);
        bits.add("prompt", &logits, &isa.to_string());
        for step in 0..8 {
            let token = tealight::sampler::greedy(&logits);
            logits = loaded.read(&mut sequence, &[token]);
            bits.add(&format!("token {step}"), &logits, &isa.to_string());
        }
    }
    bits.check();
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
        Self::with(name, Isa::detect(), threads)
    }

    fn with(name: &str, isa: Isa, threads: usize) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = folder("models").join(format!("{name}.gguf"));
        assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
        let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
        let compute = Arc::new(Compute::new(isa, threads));
        let weights = Weights::new(&file, Arc::new(Cpu::new(compute)));
        let model = Model::load(spec(&file).unwrap(), weights).unwrap();
        Self { model, tokenizer: Tokenizer::new(&file).unwrap(), _alone: alone }
    }

    /// The logits after the last of several batches.
    fn logits(&self, batches: &[&[u32]]) -> Vec<f32> {
        let mut sequence = self.sequence();
        let all = batches.iter().map(|batch| self.read(&mut sequence, batch));
        all.last().unwrap()
    }

    fn sequence(&self) -> Sequence {
        let pool = self.model.pages(CacheType::F16, CacheType::F16, usize::MAX);
        self.model.sequence(&pool, 2048)
    }

    /// The logits after the last of some tokens.
    fn read(&self, sequence: &mut Sequence, tokens: &[u32]) -> Vec<f32> {
        self.read_all(&mut [(sequence, tokens)]).remove(0)
    }

    /// The logits after the last tokens of several sequences that are computed in one batch.
    fn read_all(&self, all: &mut [(&mut Sequence, &[u32])]) -> Vec<Vec<f32>> {
        let mut batch = Batch::default();
        for (sequence, tokens) in all {
            sequence.reserve(tokens.len()).unwrap();
            batch.spans.push(Span::tokens(sequence, tokens, true, Wanted::Last));
        }
        let output = self.model.forward(&mut batch, &|| true).unwrap().unwrap();
        let logits = |rows: &std::ops::Range<usize>| {
            let mut logits = Vec::new();
            self.model.logits(&output, rows.clone(), &mut logits).unwrap();
            logits
        };
        output.rows.iter().map(logits).collect()
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
    let mut sequence = loaded.sequence();
    let mut next = prompt;
    let steps = case["top2"].as_array().unwrap();
    assert!(steps.len() >= 64);
    for (step, top) in steps.iter().enumerate() {
        let logits = loaded.read(&mut sequence, &next);
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
    let mut sequence = loaded.sequence();
    let mut next = ids(&case["prompt_ids"]);
    let (mut difference, mut count) = (0.0, 0.0);
    for (step, top) in case["top2"].as_array().unwrap().iter().enumerate() {
        let logits = loaded.read(&mut sequence, &next);
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
