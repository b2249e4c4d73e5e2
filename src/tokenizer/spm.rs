//! SentencePiece's unigram-scored merging, as the reference does it for `llama` vocabularies.
//!
//! Spaces become U+2581, neighbours whose joined text is a token are merged by highest score, and symbols that are no
//! token in the end are written as byte tokens.

use super::chain::Chain;
use super::{SPACE, TokenizerError, Vocabulary, byte_token, steps};
use crate::model::ModelFile;
use std::cmp::Ordering;

/// Scores and the options of a SentencePiece vocabulary.
pub(super) struct Spm {
    scores: Vec<f32>,
    space_prefix: bool,
    /// The token of each byte, if there is one.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    /// Length of the longest token, in bytes.
    longest: usize,
}

impl Spm {
    /// `unknown` stands for bytes that have no token.
    pub(super) fn new(
        file: &ModelFile,
        vocabulary: &Vocabulary,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let scores = super::scores(file, vocabulary)?;
        let value = file.get("tokenizer.ggml.add_space_prefix");
        let token = |byte| byte_token(vocabulary, byte).or_else(|| vocabulary.find(&[byte]));
        let bytes = (0..=255_u8).map(token).collect();
        Ok(Self {
            scores,
            space_prefix: value.and_then(tealight_bundle::gguf::Value::as_bool).unwrap_or(true),
            bytes,
            unknown,
            longest: vocabulary.longest(),
        })
    }

    /// Appends the ids of a text without special tokens; `at_start`: nothing or a special token comes
    /// before it.
    pub(super) fn encode(
        &self,
        text: &str,
        at_start: bool,
        vocabulary: &Vocabulary,
        go_on: &dyn Fn() -> bool,
        ids: &mut Vec<u32>,
    ) {
        let mut escaped = String::with_capacity(text.len() + 3);
        if self.space_prefix && at_start {
            escaped.push_str(SPACE);
        }
        escaped.push_str(&text.replace(' ', SPACE));

        let mut chain = Chain::new(&escaped);
        // The highest score is merged first.
        chain.merge_all(go_on, |pair| {
            // A lookup takes time in the text's length, so longer texts than any token are skipped.
            if pair.joined.len() > self.longest {
                return None;
            }
            steps::add(pair.joined.len());
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

/// A score, ordered by `total_cmp`.
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
