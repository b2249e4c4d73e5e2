//! A model's vocabulary as llguidance wants it: a trie of token bytes, and a function from text to tokens.

use crate::tokenizer::{TokenKind, Tokenizer};
use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use std::sync::Arc;

/// Longest token in bytes that a constraint may choose: the trie is at most 1,024 deep. Longer ones are runs of spaces,
/// if they exist at all.
const TOKEN_BYTES_MAX: usize = 1000;
/// Most bytes of all tokens together: the trie has room for 4 million nodes. The largest vocabularies need 2 million.
const BYTES_MAX: usize = (1 << 22) - 1;

/// First byte of every control token: one that never occurs in text.
pub(super) const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The trie, and the tokenizer for text without control tokens.
struct Vocabulary<T> {
    trie: TokTrie,
    tokenize: T,
}

/// The vocabulary of a model; `None` if it is too large for the trie.
pub(super) fn token_env(tokenizer: &Arc<Tokenizer>) -> Option<TokEnv> {
    let count = u32::try_from(tokenizer.len()).ok()?;
    let words: Vec<Vec<u8>> = (0..count).map(|id| word(tokenizer, id)).collect();
    let tokenizer = Arc::clone(tokenizer);
    let ends = tokenizer.ends().to_vec();
    env(&words, &ends, move |trie, bytes| {
        trie.tokenize_with_greedy_fallback(bytes, |text| tokenizer.encode_inside(text))
    })
}

/// Builds the trie from the bytes of each token, by id; `None` if they do not fit.
pub(super) fn env<T>(words: &[Vec<u8>], ends: &[u32], tokenize: T) -> Option<TokEnv>
where
    T: Fn(&TokTrie, &[u8]) -> Vec<TokenId> + Send + Sync + 'static,
{
    if words.iter().map(Vec::len).sum::<usize>() > BYTES_MAX {
        return None;
    }
    let count = u32::try_from(words.len()).ok()?;
    let info = TokRxInfo::new(count, ends.first().copied().unwrap_or(INVALID_TOKEN));
    let mut trie = TokTrie::from(&info, words);
    if !ends.is_empty() {
        trie = trie.with_eos_tokens(ends);
    }
    Some(Arc::new(Vocabulary { trie, tokenize }))
}

/// The bytes a token adds to the text; empty if it must not be chosen. Control tokens add no text: prefixed with a byte
/// that never occurs in text, they can be chosen only where a grammar names them.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let mut word = Vec::new();
    match tokenizer.kind(id) {
        Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte) => {
            tokenizer.piece(id, true, &mut word);
        }
        Some(TokenKind::Control) => {
            word.push(MARKER);
            tokenizer.piece(id, true, &mut word);
        }
        Some(TokenKind::Unknown | TokenKind::Unused) | None => {}
    }
    let is_marker = word == [MARKER];
    if is_marker || word.len() > TOKEN_BYTES_MAX { Vec::new() } else { word }
}

impl<T> TokenizerEnv for Vocabulary<T>
where
    T: Fn(&TokTrie, &[u8]) -> Vec<TokenId> + Send + Sync,
{
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        (self.tokenize)(&self.trie, bytes)
    }
}
