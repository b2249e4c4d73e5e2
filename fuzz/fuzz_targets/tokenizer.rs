//! Encodes a text with one of the known pre-tokenizers: decoding must give the text back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tealight::tokenizer::Tokenizer;

#[path = "../model.rs"]
mod model;

/// Names of pre-tokenizers.
const RULES: &[&str] = &[
    "gpt-2", "llama-bpe", "qwen2", "qwen35", "deepseek-llm", "deepseek-v3", "falcon", "mpt", "starcoder", "command-r",
    "smollm", "tekken", "gpt-4o", "kimi-k2", "superbpe", "bailingmoe", "seed-coder", "exaone", "viking", "poro-chat",
];

static ALL: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    RULES.iter().filter_map(|name| Tokenizer::with_pre(&model::FILE, name).ok()).collect()
});

/// Characters of ASCII for which the vocabulary has no token. As in the reference, they are dropped.
static DROPPED: LazyLock<Vec<char>> = LazyLock::new(|| {
    (0..128_u8).map(char::from).filter(|c| ALL[0].encode_inside(&c.to_string()).is_empty()).collect()
});

fuzz_target!(|input: (u8, &str)| {
    let (rule, text) = input;
    let tokenizer = &ALL[usize::from(rule) % ALL.len()];
    let plain = tokenizer.encode(text, false, false);
    let kept: String = text.chars().filter(|c| !DROPPED.contains(c)).collect();
    assert_eq!(tokenizer.decode(&plain, true), kept.as_bytes());
    let _ = tokenizer.encode(text, true, true);
});
