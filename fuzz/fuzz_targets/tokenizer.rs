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

/// Bytes for which the vocabulary has no token, some of which are parts of rare characters. As in the reference, they
/// are dropped. Found on one character for each byte that UTF-8 has.
static DROPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let leads = (0..0x80).chain((2..32).map(|lead| lead << 6)).chain((1..16).map(|lead| lead << 12));
    let leads = leads.chain((1..17).map(|lead| lead << 16)).chain((0..64).map(|last| 0x80 | last));
    let missing = |c: char| {
        let text = c.to_string();
        let kept = ALL[0].decode(&ALL[0].encode_inside(&text), true);
        text.bytes().filter(|byte| !kept.contains(byte)).collect::<Vec<_>>()
    };
    leads.filter_map(char::from_u32).flat_map(missing).collect()
});

fuzz_target!(|input: (u8, &str)| {
    let (rule, text) = input;
    let tokenizer = &ALL[usize::from(rule) % ALL.len()];
    let plain = tokenizer.encode(text, false, false);
    let kept: Vec<u8> = text.bytes().filter(|byte| !DROPPED.contains(byte)).collect();
    assert_eq!(tokenizer.decode(&plain, true), kept);
    let _ = tokenizer.encode(text, true, true);
});
