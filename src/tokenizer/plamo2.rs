//! PLaMo 2's tokenizer, as the reference does it for `plamo2` vocabularies: the split with the highest sum of scores, found
//! from the end of the text, with bytes where no token fits.

use super::automaton::{Automaton, Direction};
use super::{TokenKind, TokenizerError, Vocabulary, byte_of, scores};
use crate::model::ModelFile;

/// What a character without a token costs, in units of [`UNIT`].
const UNKNOWN: i64 = 10_000_000;
/// Scores are rounded to whole numbers of these parts.
const UNIT: f32 = 1e4;

/// Characters after which to ask whether to go on.
const CHARACTERS_UNASKED: usize = 64;

/// Tokens with their scores, and bytes.
pub(super) struct Plamo2 {
    /// Reads backwards: finds the tokens that begin at a position.
    tokens: Automaton,
    /// Whole numbers; what is not finite is as bad as it gets.
    scores: Vec<i64>,
    bytes: Vec<Option<u32>>,
}

impl Plamo2 {
    pub(super) fn new(file: &ModelFile, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let count = u32::try_from(vocabulary.len()).unwrap_or(0);
        let scores = scores(file, vocabulary)?;
        #[expect(clippy::cast_possible_truncation, reason = "a conversion that saturates")]
        let scores: Vec<i64> = scores.iter().map(|score| (score * UNIT).round() as i64).collect();
        let mut bytes = vec![None; 256];
        for id in (0..count).filter(|id| vocabulary.kind(*id) == Some(TokenKind::Byte)) {
            if let Some(byte) = byte_of(vocabulary.text(id)) {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        // What is typed is never a control token; the reference makes it one.
        let usable = |id: &u32| {
            !matches!(vocabulary.kind(*id), Some(TokenKind::Control | TokenKind::Byte))
                && scores[*id as usize] > -2 * UNKNOWN
        };
        let texts = (0..count).filter(usable).map(|id| (id, vocabulary.text(id)));
        // Of two with the same text, the later id counts.
        let key = "tokenizer.ggml.tokens";
        let tokens = Automaton::new(texts, Direction::Backwards, u32::max, key)?;
        Ok(Self { tokens, scores, bytes })
    }

    /// Appends the ids of a text without special tokens.
    pub(super) fn encode(&self, text: &str, go_on: &dyn Fn() -> bool, ids: &mut Vec<u32>) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // The lowest cost of the text from a position on, and the length and id of the token there.
        let mut best = vec![(0_i64, 0, None); text.len() + 1];
        let mut state = Automaton::start();
        for (done, (at, c)) in text.char_indices().rev().enumerate() {
            if done.is_multiple_of(CHARACTERS_UNASKED) && !go_on() {
                return;
            }
            let end = at + c.len_utf8();
            for &byte in text.as_bytes()[at..end].iter().rev() {
                state = self.tokens.step(state, byte);
            }
            let mut place = (i64::MAX, 0, None);
            // Longest first: on ties the first counts.
            for (len, id) in self.tokens.ending(state) {
                let cost = best[at + len].0.saturating_sub(self.scores[id as usize]);
                if cost < place.0 {
                    place = (cost, len, Some(id));
                }
            }
            let cost = best[end].0.saturating_add(UNKNOWN);
            if cost < place.0 {
                place = (cost, c.len_utf8(), None);
            }
            best[at] = place;
        }
        let mut at = 0;
        while at < text.len() {
            let (_, len, token) = best[at];
            if let Some(id) = token {
                ids.push(id);
            } else {
                let own = text.as_bytes()[at..at + len].iter();
                ids.extend(own.filter_map(|byte| self.bytes[usize::from(*byte)]));
            }
            at += len.max(1);
        }
    }
}
