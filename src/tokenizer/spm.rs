//! SentencePiece's unigram-scored merging, as the reference does it for `llama` vocabularies.
//!
//! Spaces become U+2581, neighbours whose joined text is a token are merged by highest score, and what
//! is no token in the end is written as byte tokens.

use super::chain::Chain;
use super::{Kind, TokenizerError, Vocabulary};
use crate::model::ModelFile;
use std::cmp::Ordering;

const SPACE: &str = "\u{2581}";

/// Scores and the options of a SentencePiece vocabulary.
pub(super) struct Spm {
    scores: Vec<f32>,
    space_prefix: bool,
    /// The token of each byte, if there is one.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
}

impl Spm {
    #[expect(clippy::cast_possible_truncation, reason = "scores are stored as f32")]
    pub(super) fn new(file: &ModelFile, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        const KEY: &str = "tokenizer.ggml.scores";
        let scores: Vec<f32> = match file.array(KEY) {
            Some((array, bytes)) => array.numbers(bytes).map(|s| s as f32).collect(),
            None => Vec::new(),
        };
        if scores.len() != vocabulary.len() {
            return Err(TokenizerError::Array {
                key: KEY,
                found: format!("{} scores", scores.len()),
                expected: format!("{}, one a token", vocabulary.len()),
            });
        }
        let value = file.get("tokenizer.ggml.add_space_prefix");
        let bytes = (0..=255_u8).map(|byte| byte_token(vocabulary, byte)).collect();
        Ok(Self {
            scores,
            space_prefix: value.and_then(tealight_bundle::gguf::Value::as_bool).unwrap_or(true),
            bytes,
            unknown: super::token_id(file, vocabulary, "tokenizer.ggml.unknown_token_id")?,
        })
    }

    /// Appends the ids of a text without special tokens; `at_start`: nothing or a special token comes
    /// before it.
    pub(super) fn encode(
        &self,
        text: &str,
        at_start: bool,
        vocabulary: &Vocabulary,
        ids: &mut Vec<u32>,
    ) {
        let mut escaped = String::with_capacity(text.len() + 3);
        if self.space_prefix && at_start {
            escaped.push_str(SPACE);
        }
        escaped.push_str(&text.replace(' ', SPACE));

        let mut chain = Chain::new(&escaped);
        // The highest score is merged first.
        chain.merge_all(|pair| {
            vocabulary.find(pair.joined.as_bytes()).map(|id| Score(self.scores[id as usize]))
        });
        for symbol in chain.texts() {
            match vocabulary.find(symbol.as_bytes()) {
                Some(id) => ids.push(id),
                None => ids.extend(
                    symbol.bytes().filter_map(|b| self.bytes[usize::from(b)].or(self.unknown)),
                ),
            }
        }
    }
}

/// Appends the bytes that a token stands for.
pub(super) fn piece(text: &[u8], kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::Byte => out.extend(byte_of(text)),
        // The reference shows an unknown token as this block.
        Kind::Unknown => out.extend("\u{2585}".as_bytes()),
        Kind::Control | Kind::UserDefined => out.extend(text),
        Kind::Normal | Kind::Unused => match std::str::from_utf8(text) {
            Ok(text) => out.extend(text.replace(SPACE, " ").as_bytes()),
            Err(_) => out.extend(text),
        },
    }
}

/// `<0x0A>` and the like.
fn byte_of(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

fn byte_token(vocabulary: &Vocabulary, byte: u8) -> Option<u32> {
    vocabulary.find(format!("<0x{byte:02X}>").as_bytes()).or_else(|| vocabulary.find(&[byte]))
}

/// A score in its total order.
struct Score(f32);

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}
