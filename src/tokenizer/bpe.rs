//! Byte-level byte-pair encoding, as GPT-2 defined it.
//!
//! Every byte is written as one printable character (the alphabet below), words are cut by the
//! pre-tokenizer, and neighbours are merged in the order of their rank.

use super::chain::Chain;
use super::pretokenize::PreTokenizer;
use super::{Kind, TokenizerError, Vocabulary};
use crate::model::{ModelFile, Strings};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::cmp::Reverse;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;

/// Merge ranks and the pre-tokenizer.
pub(super) struct Bpe {
    pre: PreTokenizer,
    merges: Merges,
}

impl Bpe {
    /// The tokenizer whose words are cut as `pre` says.
    pub(super) fn new(file: &ModelFile, pre: &str) -> Result<Self, TokenizerError> {
        let pre = PreTokenizer::new(pre)?;
        let merges = Merges::new(file.strings("tokenizer.ggml.merges")?);
        Ok(Self { pre, merges })
    }

    /// Appends the ids of a text without special tokens.
    pub(super) fn encode(&self, text: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        let mut word = String::new();
        for range in self.pre.split(text) {
            word.clear();
            word.extend(text.as_bytes()[range].iter().map(|&b| ALPHABET.chars[usize::from(b)]));
            self.encode_word(&word, vocabulary, ids);
        }
    }

    /// Whether texts begin with BOS where the file does not say.
    pub(super) fn adds_bos(&self) -> bool {
        self.pre.adds_bos
    }

    fn encode_word(&self, word: &str, vocabulary: &Vocabulary, ids: &mut Vec<u32>) {
        if self.pre.whole_words
            && let Some(id) = vocabulary.find(word.as_bytes())
        {
            ids.push(id);
            return;
        }
        let mut chain = Chain::new(word);
        // The lowest rank is merged first.
        chain.merge_all(|pair| {
            self.merges.rank(pair.left.as_bytes(), pair.right.as_bytes()).map(Reverse)
        });
        for symbol in chain.texts() {
            match vocabulary.find(symbol.as_bytes()) {
                Some(id) => ids.push(id),
                // A merge whose result is no token: its characters one by one.
                None => ids.extend(
                    symbol
                        .chars()
                        .filter_map(|c| vocabulary.find(c.encode_utf8(&mut [0; 4]).as_bytes())),
                ),
            }
        }
    }
}

/// Appends the bytes that a token stands for.
pub(super) fn piece(text: &[u8], kind: Kind, out: &mut Vec<u8>) {
    let plain = std::str::from_utf8(text).ok().filter(|_| !is_verbatim(kind));
    let Some(plain) = plain else {
        out.extend(text);
        return;
    };
    for c in plain.chars() {
        match ALPHABET.byte(c) {
            Some(byte) => out.push(byte),
            None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Added tokens stand in the file as they are, not in the byte alphabet.
fn is_verbatim(kind: Kind) -> bool {
    matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown)
}

/// One printable character for each byte: printable Latin-1 stands for itself, the other 68 bytes
/// for the characters from U+0100 on.
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

/// The ranks of pairs, found by the two texts; the texts stay in the file as `left right`.
struct Merges {
    texts: Strings,
    by_pair: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Merges {
    fn new(texts: Strings) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut by_pair = HashTable::with_capacity(texts.len());
        for rank in 0..u32::try_from(texts.len()).unwrap_or(u32::MAX) {
            let pair = split_pair(texts.get(rank as usize));
            let hash = hasher.hash_one(pair);
            // The first of two equal merges counts.
            if by_pair.find(hash, |&r: &u32| split_pair(texts.get(r as usize)) == pair).is_none() {
                by_pair.insert_unique(hash, rank, |&r| {
                    hasher.hash_one(split_pair(texts.get(r as usize)))
                });
            }
        }
        Self { texts, by_pair, hasher }
    }

    fn rank(&self, left: &[u8], right: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((left, right));
        let same = |&r: &u32| split_pair(self.texts.get(r as usize)) == (left, right);
        self.by_pair.find(hash, same).copied()
    }
}

/// `left right` at its space; a left part is never empty, so a space at the start belongs to it.
fn split_pair(merge: &[u8]) -> (&[u8], &[u8]) {
    let space = merge.iter().skip(1).position(|&b| b == b' ').map(|i| i + 1);
    match space {
        Some(at) => (&merge[..at], &merge[at + 1..]),
        None => (merge, &[]),
    }
}
