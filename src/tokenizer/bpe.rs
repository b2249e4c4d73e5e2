//! Byte-pair encoding: the pre-tokenizer splits text into words, in which neighbours are merged in the order of their
//! rank.
//!
//! Most vocabularies write every byte as one printable character (the alphabet below), as GPT-2 defined
//! it; those with the habit `raw` hold plain text, with U+2581 for a space.

use super::chain::Chain;
use super::pretokenize::PreTokenizer;
use super::{SPACE, TokenKind, TokenizerError, Vocabulary, byte_of, byte_token, steps};
use crate::model::{ModelFile, Strings};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::cmp::Reverse;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;

/// Merge ranks and the pre-tokenizer.
pub(super) struct Bpe {
    pre: PreTokenizer,
    /// `None`: the file has none, and the id of the joined text is the rank.
    merges: Option<Merges>,
}

/// Metadata key of the merges.
const MERGES: &str = "tokenizer.ggml.merges";

impl Bpe {
    /// A tokenizer with the pre-tokenizer named `pre`.
    pub(super) fn new(file: &ModelFile, pre: &str) -> Result<Self, TokenizerError> {
        // Kimi K2's vocabulary is tiktoken's, whose ids are the ranks; the reference merges nothing in that case.
        let without = pre == "kimi-k2" && file.get(MERGES).is_none();
        let merges = if without { None } else { Some(Merges::new(file.strings(MERGES)?)) };
        Ok(Self { pre: PreTokenizer::new(pre)?, merges })
    }

    /// Appends the ids of a text without special tokens.
    pub(super) fn encode(
        &self,
        text: &str,
        vocabulary: &Vocabulary,
        go_on: &dyn Fn() -> bool,
        ids: &mut Vec<u32>,
    ) {
        if self.pre.habits.raw {
            let text = text.replace(' ', SPACE);
            for range in self.pre.split(&text) {
                if !go_on() {
                    return;
                }
                self.encode_word(&text[range], vocabulary, go_on, ids);
            }
            return;
        }
        let mut word = String::new();
        for range in self.pre.split(text) {
            if !go_on() {
                return;
            }
            word.clear();
            word.extend(text.as_bytes()[range].iter().map(|&b| ALPHABET.chars[usize::from(b)]));
            self.encode_word(&word, vocabulary, go_on, ids);
        }
    }

    /// Whether texts begin with BOS, given what the file says.
    pub(super) fn adds_bos(&self, said: Option<bool>) -> bool {
        self.pre.habits.always_bos || said.unwrap_or(self.pre.habits.adds_bos)
    }

    fn encode_word(
        &self,
        word: &str,
        vocabulary: &Vocabulary,
        go_on: &dyn Fn() -> bool,
        ids: &mut Vec<u32>,
    ) {
        let habits = self.pre.habits;
        let whole = habits.whole_words || habits.whole_lines && word.bytes().all(|b| b == b'\n');
        if whole && let Some(id) = vocabulary.find(word.as_bytes()) {
            ids.push(id);
            return;
        }
        let mut chain = Chain::new(word);
        // The lowest rank is merged first.
        chain.merge_all(go_on, |pair| {
            let rank = match &self.merges {
                Some(merges) => merges.rank(pair.left.as_bytes(), pair.right.as_bytes()),
                None => vocabulary.find(pair.joined.as_bytes()),
            };
            rank.map(Reverse)
        });
        for symbol in chain.texts() {
            match vocabulary.find(symbol.as_bytes()) {
                Some(id) => ids.push(id),
                None if habits.raw => {
                    ids.extend(symbol.bytes().filter_map(|byte| byte_token(vocabulary, byte)));
                }
                // The result of a merge is not a token: emit its characters one by one.
                None => ids.extend(
                    symbol
                        .chars()
                        .filter_map(|c| vocabulary.find(c.encode_utf8(&mut [0; 4]).as_bytes())),
                ),
            }
        }
    }

    /// Appends the bytes that a token stands for.
    pub(super) fn piece(&self, text: &[u8], kind: TokenKind, out: &mut Vec<u8>) {
        match kind {
            // Added tokens are stored as plain text.
            TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown => out.extend(text),
            TokenKind::Byte => out.extend(byte_of(text)),
            TokenKind::Unused => {}
            TokenKind::Normal if self.pre.habits.raw => super::plain_piece(text, out),
            TokenKind::Normal => {
                let Ok(text) = std::str::from_utf8(text) else { return out.extend(text) };
                for c in text.chars() {
                    match ALPHABET.byte(c) {
                        Some(byte) => out.push(byte),
                        None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        }
    }
}

/// One printable character per byte: printable Latin-1 maps to itself, the other 68 bytes to the characters from U+0100
/// on.
struct Alphabet {
    chars: [char; 256],
    bytes: Vec<Option<u8>>,
}

static ALPHABET: LazyLock<Alphabet> = LazyLock::new(|| {
    let mut chars = ['\0'; 256];
    let mut bytes = vec![None; 0x100 + 68];
    let mut next = 0x100_u32;
    for byte in 0..=255_u8 {
        let code = if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        chars[usize::from(byte)] = char::from_u32(code).unwrap_or_default();
        bytes[code as usize] = Some(byte);
    }
    Alphabet { chars, bytes }
});

impl Alphabet {
    fn byte(&self, c: char) -> Option<u8> {
        self.bytes.get(u32::from(c) as usize).copied().flatten()
    }
}

/// The ranks of pairs, looked up by their two texts, which stay in the file as `left right`.
struct Merges {
    texts: Strings,
    by_pair: HashTable<u32>,
    /// Length of the longest merge in bytes, including its space.
    longest: usize,
    hasher: DefaultHashBuilder,
}

impl Merges {
    fn new(texts: Strings) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut by_pair = HashTable::with_capacity(texts.len());
        let mut longest = 0;
        for rank in 0..u32::try_from(texts.len()).unwrap_or(u32::MAX) {
            let merge = texts.get(rank as usize);
            longest = longest.max(merge.len());
            let pair = split_pair(merge);
            let hash = hasher.hash_one(pair);
            // The first of duplicate merges counts.
            if by_pair.find(hash, |&r: &u32| split_pair(texts.get(r as usize)) == pair).is_none() {
                by_pair.insert_unique(hash, rank, |&r| {
                    hasher.hash_one(split_pair(texts.get(r as usize)))
                });
            }
        }
        Self { texts, by_pair, longest, hasher }
    }

    fn rank(&self, left: &[u8], right: &[u8]) -> Option<u32> {
        // A lookup takes time in the pair's length, so longer pairs than any merge are skipped.
        if left.len() + right.len() >= self.longest {
            return None;
        }
        steps::add(left.len() + right.len());
        let hash = self.hasher.hash_one((left, right));
        let same = |&r: &u32| split_pair(self.texts.get(r as usize)) == (left, right);
        self.by_pair.find(hash, same).copied()
    }
}

/// Splits `left right` at its space; a left part is never empty, so a space at the start belongs to it.
fn split_pair(merge: &[u8]) -> (&[u8], &[u8]) {
    let space = merge.iter().skip(1).position(|&b| b == b' ').map(|i| i + 1);
    match space {
        Some(at) => (&merge[..at], &merge[at + 1..]),
        None => (merge, &[]),
    }
}
