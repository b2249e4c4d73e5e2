//! The tokens of a vocabulary, left in the mapped file, and a hash table to find them.

use super::TokenizerError;
use crate::model::{ModelFile, Strings};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher as _;

/// A token's kind (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the format")]
pub enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// All tokens.
pub struct Vocabulary {
    texts: Strings,
    kinds: Vec<TokenKind>,
    by_text: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// Maximum number of tokens: ids have to fit 24 bits, and the largest vocabularies have 300,000.
const TOKENS_MAX: usize = 1 << 24;

impl Vocabulary {
    /// Reads `tokenizer.ggml.tokens` and `token_type`.
    pub(super) fn new(file: &ModelFile) -> Result<Self, TokenizerError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let texts = file.strings(TOKENS)?;
        if texts.len() == 0 || texts.len() > TOKENS_MAX {
            return Err(TokenizerError::Array {
                key: TOKENS,
                found: format!("{} tokens", texts.len()),
                expected: format!("1 to {TOKENS_MAX}"),
            });
        }
        let kinds = kinds(file, texts.len())?;
        let hasher = DefaultHashBuilder::default();
        let mut by_text = HashTable::with_capacity(texts.len());
        for id in 0..u32::try_from(texts.len()).unwrap_or(0) {
            let text = texts.get(id as usize);
            let hash = hasher.hash_one(text);
            // A duplicate text belongs to the later id, as in the reference.
            let same = |&other: &u32| texts.get(other as usize) == text;
            if let Some(slot) = by_text.find_mut(hash, same) {
                *slot = id;
            } else {
                let rehash = |&id: &u32| hasher.hash_one(texts.get(id as usize));
                by_text.insert_unique(hash, id, rehash);
            }
        }
        Ok(Self { texts, kinds, by_text, hasher })
    }

    /// The token with this text, as stored in the file.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.by_text.find(hash, |&id| self.text(id) == text).copied()
    }

    /// The text of a token, as stored in the file; empty outside the vocabulary.
    #[must_use]
    pub fn text(&self, id: u32) -> &[u8] {
        self.texts.get(id as usize)
    }

    /// A token's kind, `None` outside the vocabulary.
    #[must_use]
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// Changes the kind of the tokens with these texts. Returns those that exist.
    pub(super) fn set_kind(&mut self, texts: &[&str], kind: TokenKind) -> Vec<u32> {
        let found: Vec<u32> = texts.iter().filter_map(|text| self.find(text.as_bytes())).collect();
        for &id in &found {
            self.kinds[id as usize] = kind;
        }
        found
    }

    /// Number of tokens.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty: checked when it was read")]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Length of the longest text, in bytes.
    pub(super) fn longest(&self) -> usize {
        let count = u32::try_from(self.len()).unwrap_or(0);
        (0..count).map(|id| self.text(id).len()).max().unwrap_or(1).max(1)
    }
}

fn kinds(file: &ModelFile, tokens: usize) -> Result<Vec<TokenKind>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some((array, bytes)) = file.array(KEY) else { return Ok(vec![TokenKind::Normal; tokens]) };
    // Extra entries belong to no token; the reference ignores them too.
    if array.len < tokens {
        return Err(TokenizerError::Array {
            key: KEY,
            found: format!("{} entries", array.len),
            expected: format!("{tokens}, one per token"),
        });
    }
    #[expect(clippy::cast_possible_truncation, reason = "what is no small number is no kind")]
    let kind = |n: f64| match n as i64 {
        1 => TokenKind::Normal,
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        6 => TokenKind::Byte,
        _ => TokenKind::Unused,
    };
    let kinds: Vec<TokenKind> = array.numbers(bytes).take(tokens).map(kind).collect();
    if kinds.len() != tokens {
        let (found, expected) = (format!("{:?}", array.element), "numbers".to_owned());
        return Err(TokenizerError::Array { key: KEY, found, expected });
    }
    Ok(kinds)
}
