//! SentencePiece's unigram model, as the reference does it for `t5` vocabularies: the text is normalized, then split
//! into the tokens with the highest sum of scores.

use super::automaton::{Automaton, Direction};
use super::prefixes::Prefixes;
use super::{SPACE, TokenKind, TokenizerError, Vocabulary, flag, scores, steps};
use crate::model::ModelFile;

/// Penalty of an unknown character, relative to the worst token.
const UNKNOWN_PENALTY: f32 = 10.0;
/// Maximum length of a replaced text and of its replacement, in bytes. The longest in real models have some thirty;
/// with a hostile map, the search would never end.
const REPLACED_MAX: usize = 256;

/// Scores and the options of a unigram vocabulary.
pub(super) struct Ugm {
    tokens: Automaton,
    /// Tokens that are never normalized.
    verbatim: Prefixes,
    scores: Vec<f32>,
    unknown: Option<u32>,
    unknown_score: f32,
    replacements: Replacements,
    space_prefix: bool,
    merge_spaces: bool,
}

/// Bytes after which to ask whether to go on.
const BYTES_UNASKED: usize = 64;

/// The best way to split the text so far: its last token, where that begins, and the sum of the scores.
#[derive(Clone, Copy)]
struct Best {
    token: Option<u32>,
    start: usize,
    score: f64,
}

impl Ugm {
    pub(super) fn new(
        file: &ModelFile,
        vocabulary: &Vocabulary,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let kind = |id| vocabulary.kind(id);
        let usable = |id| {
            matches!(kind(id), Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused))
        };
        let count = u32::try_from(vocabulary.len()).unwrap_or(0);
        let mut scores = scores(file, vocabulary)?;
        let mut lowest = f32::MAX;
        for (id, score) in (0..).zip(&mut scores) {
            match kind(id) {
                Some(TokenKind::Normal) => lowest = lowest.min(*score),
                // Scores are log probabilities: 0 is the highest.
                Some(TokenKind::UserDefined) => *score = 0.0,
                _ => {}
            }
        }
        Ok(Self {
            // Of two with the same text, the later id counts.
            tokens: Automaton::new(
                (0..count).filter(|&id| usable(id)).map(|id| (id, vocabulary.text(id))),
                Direction::Forwards,
                u32::max,
                "tokenizer.ggml.tokens",
            )?,
            verbatim: Prefixes::new(vocabulary, |id| kind(id) == Some(TokenKind::UserDefined)),
            scores,
            unknown,
            unknown_score: lowest - UNKNOWN_PENALTY,
            replacements: Replacements::new(file),
            space_prefix: flag(file, "tokenizer.ggml.add_space_prefix")?.unwrap_or(false),
            merge_spaces: flag(file, "tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false),
        })
    }

    /// Appends the ids of a text without special tokens.
    pub(super) fn encode(
        &self,
        text: &str,
        vocabulary: &Vocabulary,
        go_on: &dyn Fn() -> bool,
        ids: &mut Vec<u32>,
    ) {
        let text = self.normalize(text.as_bytes(), vocabulary);
        // NaN marks positions inside a character, where no token may begin: NaN plus a score is greater than nothing.
        let nowhere = Best { token: None, start: 0, score: f64::NAN };
        let mut best = vec![nowhere; text.len() + 1];
        best[0].score = 0.0;
        let mut state = Automaton::start();
        let mut at = 0;
        while at < text.len() {
            if at.is_multiple_of(BYTES_UNASKED) && !go_on() {
                return;
            }
            let end = at + character_len(text[at]).min(text.len() - at);
            for &byte in &text[at..end] {
                state = self.tokens.step(state, byte);
            }
            let mut place = Best { token: None, start: 0, score: f64::MIN };
            let mut offer = |start: usize, token, score: f32| {
                let score = best[start].score + f64::from(score);
                if score > place.score {
                    place = Best { token, start, score };
                }
            };
            let mut known = false;
            // Longest first: on ties the first counts, as when scanning from the left.
            for (len, id) in self.tokens.ending(state) {
                known |= end - len == at;
                offer(end - len, Some(id), self.scores[id as usize]);
            }
            if !known {
                offer(at, self.unknown, self.unknown_score);
            }
            best[end] = place;
            at = end;
        }
        let first = ids.len();
        let mut end = text.len();
        while end > 0 {
            let Best { token, start, .. } = best[end];
            // Consecutive unknown characters are one token.
            let again = token == self.unknown && ids.len() > first && ids.last().copied() == token;
            if !again {
                ids.extend(token);
            }
            end = start;
        }
        ids[first..].reverse();
    }

    /// Replaces characters as the file says and spaces with U+2581, and merges spaces if asked to.
    fn normalize(&self, text: &[u8], vocabulary: &Vocabulary) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + text.len() / 4);
        let (mut prefixed, mut in_word) = (false, false);
        let mut rest = text;
        while !rest.is_empty() {
            let verbatim = self.verbatim.common(rest, vocabulary);
            let (taken, bytes) = if verbatim > 0 {
                (verbatim, &rest[..verbatim])
            } else if let Some((taken, bytes)) = self.replacements.find(rest) {
                (taken, bytes)
            } else {
                let taken = character_len(rest[0]).min(rest.len());
                (taken, &rest[..taken])
            };
            for &byte in bytes {
                if byte == b' ' {
                    in_word = false;
                    if !self.merge_spaces {
                        out.extend(SPACE.as_bytes());
                    }
                    continue;
                }
                if !in_word {
                    in_word = true;
                    if self.merge_spaces || self.space_prefix && !prefixed {
                        out.extend(SPACE.as_bytes());
                        prefixed = true;
                    }
                }
                out.push(byte);
            }
            rest = &rest[taken..];
        }
        out
    }
}

/// Length of the UTF-8 character that begins with this byte.
fn character_len(byte: u8) -> usize {
    match byte {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// Character replacements: SentencePiece's "precompiled character map".
///
/// The length in bytes of the nodes, then a compact double array (S. Kanda, 2018) of 32-bit nodes, then the replacement
/// texts, each ended by a zero. A node holds its label in bits 0 to 7, whether it has a text in bit 8, and the offset
/// of its children in bits 10 to 30, times 256 if bit 9 is set. The child with label 0 holds the offset of the text.
#[derive(Default)]
struct Replacements {
    nodes: Vec<u32>,
    texts: Vec<u8>,
}

impl Replacements {
    /// The map in a file; an unreadable one replaces nothing.
    fn new(file: &ModelFile) -> Self {
        let Some((array, bytes)) = file.array("tokenizer.ggml.precompiled_charsmap") else {
            return Self::default();
        };
        // Bytes, stored signed or unsigned.
        let map: Vec<u8> = array.numbers(bytes).map(|n| n as i64 as u8).collect();
        let Some((size, rest)) = map.split_first_chunk::<4>() else { return Self::default() };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((nodes, texts)) = rest.split_at_checked(size) else { return Self::default() };
        let node = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Self { nodes: nodes.chunks_exact(4).map(node).collect(), texts: texts.to_vec() }
    }

    /// The longest prefix of `text` that is replaced: its length, and the replacement.
    fn find(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        const CHILD_LABEL: u32 = 1 << 31 | 0xFF;
        let node = |at: u32| self.nodes.get(at as usize).copied();
        let children = |node: u32| (node >> 10) << ((node & 1 << 9) >> 6);
        let mut at = children(node(0)?);
        let mut found = None;
        for (index, &byte) in text.iter().take(REPLACED_MAX).enumerate() {
            if byte == 0 {
                break;
            }
            steps::add(1);
            at ^= u32::from(byte);
            let Some(here) = node(at).filter(|here| here & CHILD_LABEL == u32::from(byte)) else {
                break;
            };
            at ^= children(here);
            if here >> 8 & 1 == 1 {
                found = Some((index + 1, node(at)? & !(1 << 31)));
            }
        }
        let (len, place) = found?;
        let rest = self.texts.get(place as usize..)?;
        let end = rest.iter().take(REPLACED_MAX).position(|&byte| byte == 0)?;
        Some((len, &rest[..end]))
    }
}
