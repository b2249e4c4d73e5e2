//! Every pre-tokenizer against llama.cpp, id for id, on five thousand lines assembled for trouble.
//!
//! `tests/golden/pretokenize.py` makes the corpus and the reference's digests.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use tealight::model::ModelFile;
use tealight::source;
use tealight::tokenizer::Tokenizer;

/// Lines in one digest.
const GROUP: usize = 100;

#[test]
fn every_pre_tokenizer_gives_the_references_ids() {
    let golden = json("tests/golden/pretokenize.json");
    let corpus = json("tests/golden/corpus.json");
    let lines: Vec<&str> = corpus.as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert!(lines.len() >= 5000);
    let path = folder().join("models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
    assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
    let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for (name, digests) in golden["names"].as_object().unwrap() {
        let tokenizer = Tokenizer::with_pre(&file, name).unwrap();
        let groups = lines.chunks(GROUP).zip(digests.as_array().unwrap());
        for (number, (group, expected)) in groups.enumerate() {
            let mut hash = Sha256::new();
            for line in group {
                let ids = tokenizer.encode(line, false, false);
                assert_eq!(tokenizer.decode(&ids, true), line.as_bytes(), "{name}: {line:?}");
                ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
                hash.update(u32::MAX.to_le_bytes());
            }
            let expected = hex(expected.as_str().unwrap());
            if hash.finalize().as_slice() != expected {
                wrong.push(format!("{name}, lines {} and on", number * GROUP));
            }
        }
    }
    assert!(wrong.is_empty(), "{} groups differ, first: {}", wrong.len(), wrong[0]);
}

fn hex(text: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
