//! RWKV's tokenizer, as the reference does it for `rwkv` vocabularies: the longest token at each place. Tokens are bytes,
//! written with escapes.

use super::automaton::{Automaton, Direction};
use super::{TokenKind, TokenizerError, Vocabulary};

/// The tokens without their escapes.
pub(super) struct Rwkv {
    /// Reads backwards: finds the tokens that begin at a position.
    tokens: Automaton,
    unknown: Option<u32>,
}

impl Rwkv {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let count = u32::try_from(vocabulary.len()).unwrap_or(0);
        // What is typed is never a control token; the reference makes it one.
        let usable = |id: &u32| vocabulary.kind(*id) != Some(TokenKind::Control);
        let texts: Vec<(u32, Vec<u8>)> =
            (0..count).filter(usable).map(|id| (id, unescaped(vocabulary.text(id)))).collect();
        let texts = texts.iter().map(|(id, text)| (*id, text.as_slice()));
        // Of two with the same text, the later id counts.
        let key = "tokenizer.ggml.tokens";
        Ok(Self { tokens: Automaton::new(texts, Direction::Backwards, u32::max, key)?, unknown })
    }

    /// Appends the ids of a text without special tokens.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut longest = vec![None; text.len()];
        let mut state = Automaton::start();
        for (at, &byte) in text.as_bytes().iter().enumerate().rev() {
            state = self.tokens.step(state, byte);
            longest[at] = self.tokens.ending(state).next();
        }
        let mut at = 0;
        while at < text.len() {
            if let Some((len, id)) = longest[at] {
                ids.push(id);
                at += len;
            } else {
                ids.extend(self.unknown);
                at += 1;
            }
        }
    }
}

/// The bytes of a token: `\t`, `\n`, `\r` and `\xHH` stand for one byte, and a backslash before anything else is left out.
pub(super) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                if let (Some(high), Some(low)) = (digit(), digit()) {
                    out.push(u8::try_from(16 * high + low).unwrap_or(u8::MAX));
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}
