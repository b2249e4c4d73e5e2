//! Every tokenizer compared with llama.cpp, id for id, on six thousand lines assembled to cause trouble.
//!
//! `tests/golden/tokenizers.py` makes the reference's digests and documents them.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use tealight::model::ModelFile;
use tealight::source;
use tealight::tokenizer::Tokenizer;

const LINES: usize = 6000;
/// Lines in one digest.
const GROUP: usize = 100;

#[test]
fn every_pre_tokenizer_gives_the_references_ids() {
    let file = model("models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
    compare("pre", true, |name| Tokenizer::with_pre(&file, name).unwrap());
}

#[test]
fn the_real_models_give_the_references_ids() {
    compare("real", true, |name| Tokenizer::new(&model(&format!("models/{name}.gguf"))).unwrap());
}

/// Not all of these can restore a text: WordPiece and unigrams change it, and others lack characters.
#[test]
fn tiny_vocabularies_give_the_references_ids() {
    compare("tiny", false, |name| {
        Tokenizer::new(&model(&format!("tests/golden/tokenizers/{name}.gguf"))).unwrap()
    });
}

#[test]
fn vocabularies_with_byte_tokens_give_every_text_back() {
    for (name, prefix) in
        [("spm-prefix", " "), ("spm-no-prefix", ""), ("gemma4", ""), ("sarvam-moe", "")]
    {
        let file = model(&format!("tests/golden/tokenizers/{name}.gguf"));
        let tokenizer = Tokenizer::new(&file).unwrap();
        for line in corpus() {
            // A U+2581 in the text decodes to a space.
            let expected = format!("{prefix}{}", line.replace('\u{2581}', " "));
            let decoded = tokenizer.decode(&tokenizer.encode(&line, false, false), true);
            // Another space is inserted after a special token found in the text.
            if prefix.is_empty()
                || !line.contains("<tag>") && !line.contains("\n\n") && !line.contains("    ")
            {
                assert_eq!(String::from_utf8_lossy(&decoded), expected, "{name}");
            }
        }
    }
}

/// Compares with the goldens of one section; `whole`: decoding must restore the line.
fn compare(section: &str, whole: bool, tokenizer: impl Fn(&str) -> Tokenizer) {
    let golden = json("tests/golden/tokenizers.json");
    let lines = corpus();
    let mut wrong = Vec::new();
    for (name, expected) in golden[section].as_object().unwrap() {
        let tokenizer = tokenizer(name);
        for (how, special) in [("plain", false), ("special", true)] {
            let expected = expected[how].as_str().unwrap().split(' ');
            assert_eq!(expected.clone().count(), LINES / GROUP);
            for (number, (group, expected)) in lines.chunks(GROUP).zip(expected).enumerate() {
                let mut hash = Sha256::new();
                for line in group {
                    let ids = tokenizer.encode(line, special, special);
                    if whole {
                        let begin = usize::from(special && tokenizer.adds_bos());
                        let text = tokenizer.decode(&ids[begin..], true);
                        // If U+2581 stands for a space, it comes back as one.
                        let same = text == line.as_bytes()
                            || text == line.replace('\u{2581}', " ").as_bytes();
                        assert!(same, "{name}, {how}: {line:?}");
                    }
                    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
                    hash.update(u32::MAX.to_le_bytes());
                }
                let digest = hash.finalize();
                let begin = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
                if begin != u32::from_str_radix(expected, 16).unwrap() {
                    wrong.push(format!("{name}, {how}, lines {} and on", number * GROUP));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} groups differ: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
}

/// The lines of `tests/golden/tokenizers.py`, made the same way from the same pieces.
fn corpus() -> Vec<String> {
    let parts = json("tests/golden/corpus.json");
    let texts = |name: &str| -> Vec<String> {
        parts[name].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect()
    };
    let (pieces, glue) = (texts("pieces"), texts("glue"));
    let mut lines = pieces.clone();
    let mut state = 20_260_101_u64;
    let mut below = |n: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    };
    while lines.len() < LINES {
        let mut line = String::new();
        for _ in 0..=below(9) {
            let piece = &pieces[below(pieces.len())];
            let start = below(piece.chars().count());
            line.extend(piece.chars().skip(start).take(1 + below(14)));
            line.push_str(&glue[below(glue.len())]);
        }
        lines.push(line);
    }
    lines
}

fn model(name: &str) -> ModelFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    assert!(path.is_file(), "{} is missing: `make test` fetches the models", path.display());
    ModelFile::open(source::open(&path).unwrap()).unwrap()
}

fn json(name: &str) -> Value {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
