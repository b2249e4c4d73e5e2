//! Our samplers compared with llama.cpp's, on random logits. `tests/golden/sampling.py` makes the vectors and says how.

use serde_json::Value;
use std::path::Path;
use tealight::model::ModelFile;
use tealight::sampler::{Breakers, Candidate, Sampler, Sampling, Stage};
use tealight::settings::numbers;
use tealight::source;
use tealight::tokenizer::Tokenizer;

#[test]
fn samplers_and_chains_leave_what_the_reference_leaves() {
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 49);
    for case in cases {
        let mut sampler = Sampler::new(settings(&case["settings"]), Breakers::default());
        let left =
            sampler.narrow(&logits(&golden, &case["settings"], 0), &ids(&case["past"]), None);
        check(left, case, &case["settings"].to_string());
    }
}

#[test]
fn samplers_that_learn_leave_what_the_reference_leaves_at_each_step() {
    let golden = golden();
    for case in golden["steps"].as_array().unwrap() {
        let mut sampler = Sampler::new(settings(&case["settings"]), Breakers::default());
        for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let turn = usize::try_from(step["turn"].as_u64().unwrap()).unwrap();
            let left = sampler.narrow(&logits(&golden, &case["settings"], turn), &[], None);
            check(left, step, &format!("{} at step {at}", case["settings"]));
            sampler.accept(u32::try_from(step["chosen"].as_u64().unwrap()).unwrap());
        }
    }
}

#[test]
fn dry_punishes_what_the_reference_punishes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2-135m-instruct-q4_1.gguf");
    assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
    let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
    let tokenizer = Tokenizer::new(&file).unwrap();
    for case in golden()["dry"].as_array().unwrap() {
        let texts = case["breakers"].as_array().unwrap();
        let texts: Vec<String> = texts.iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        let breakers = Breakers::new(
            &texts,
            tokenizer.len(),
            |id, out| tokenizer.piece(id, true, out),
            |text| tokenizer.encode(text, false, false),
        );
        let samplers = vec![Stage::Dry];
        let settings = Sampling { samplers, ..settings(&case["settings"]) };
        let mut sampler = Sampler::new(settings, breakers);
        let left = sampler.narrow(&vec![0.0; tokenizer.len()], &ids(&case["past"]), None);
        let changed: Vec<&Candidate> = left.iter().filter(|c| c.logit != 0.0).collect();
        let expected = pairs(&case["changed"]);
        assert_eq!(changed.len(), expected.len(), "{}: {changed:?}", case["text"]);
        for (ours, (id, logit)) in changed.iter().zip(expected) {
            let close = (f64::from(ours.logit) - logit).abs() <= logit.abs() * 1e-5;
            assert!(ours.id == id && close, "{}: {ours:?}, expected {id} {logit}", case["text"]);
        }
    }
}

/// Checks that the same tokens are left, with the same probabilities.
fn check(left: &[Candidate], expected: &Value, what: &str) {
    let max = left.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
    let weight = |c: &Candidate| libm::exp(f64::from(c.logit - max));
    let total: f64 = left.iter().map(weight).sum();
    let mut ours: Vec<(u32, f64)> = left.iter().map(|c| (c.id, weight(c) / total)).collect();
    ours.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    assert_eq!(ours.len() as u64, expected["count"].as_u64().unwrap(), "{what}: tokens left");
    for (ours, (id, p)) in ours.iter().zip(pairs(&expected["left"])) {
        let close = (ours.1 - p).abs() < 1e-5;
        assert!(ours.0 == id && close, "{what}: {ours:?}, expected {id} {p}");
    }
}

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sampling.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn settings(v: &Value) -> Sampling {
    let mut settings = Sampling::default();
    for (name, value) in v.as_object().unwrap() {
        match name.as_str() {
            "scale" => {}
            "samplers" => {
                let names = value.as_array().unwrap().iter().map(|n| n.as_str().unwrap());
                settings.samplers = names.map(|n| Stage::named(n).unwrap()).collect();
            }
            name => {
                let (_, number) = numbers().find(|(known, _)| *known == name).unwrap();
                (number.set)(&mut settings, value.as_f64().unwrap());
            }
        }
    }
    settings
}

fn logits(golden: &Value, settings: &Value, turn: usize) -> Vec<f32> {
    let float = |v: &Value| v.as_f64().unwrap() as f32;
    let scale = settings.get("scale").map_or(1.0, float);
    let logits = golden["logits"].as_array().unwrap();
    let mut logits: Vec<f32> = logits.iter().map(|x| float(x) * scale).collect();
    logits.rotate_left(turn);
    logits
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn pairs(v: &Value) -> Vec<(u32, f64)> {
    let pair = |p: &Value| (u32::try_from(p[0].as_u64().unwrap()).unwrap(), p[1].as_f64().unwrap());
    v.as_array().unwrap().iter().map(pair).collect()
}
