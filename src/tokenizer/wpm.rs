//! WordPiece, as the reference does it for `bert` vocabularies: words are normalized, then split from the left into the
//! longest tokens.

use super::automaton::{Automaton, Direction};
use super::{SPACE, TokenizerError, Vocabulary, flag};
use crate::model::ModelFile;
use regex::Regex;
use std::sync::LazyLock;
use unicode_normalization::char::decompose_canonical;

/// The options of a WordPiece vocabulary.
pub(super) struct Wpm {
    /// Reads backwards: finds the tokens that begin at a position.
    tokens: Automaton,
    unknown: Option<u32>,
    lowercase: bool,
    strip_accents: bool,
}

impl Wpm {
    pub(super) fn new(
        file: &ModelFile,
        vocabulary: &Vocabulary,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let lowercase = flag(file, "tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = flag(file, "tokenizer.ggml.normalizer.strip_accents")?;
        let count = u32::try_from(vocabulary.len()).unwrap_or(0);
        Ok(Self {
            // Of two with the same text, the later id counts.
            tokens: Automaton::new(
                (0..count).map(|id| (id, vocabulary.text(id))),
                Direction::Backwards,
                u32::max,
                "tokenizer.ggml.tokens",
            )?,
            unknown,
            lowercase,
            strip_accents: strip_accents.unwrap_or(lowercase),
        })
    }

    /// Appends the ids of a text without special tokens.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        // The longest token that begins at each position of a word.
        let mut longest = Vec::new();
        for word in self.words(text) {
            let before = ids.len();
            // A token that begins a word begins with this mark.
            let word = format!("{SPACE}{word}");
            longest.clear();
            longest.resize(word.len(), None);
            let mut state = Automaton::start();
            for (at, &byte) in word.as_bytes().iter().enumerate().rev() {
                state = self.tokens.step(state, byte);
                longest[at] = self.tokens.ending(state).next();
            }
            let mut at = 0;
            while at < word.len() {
                let Some((len, id)) = longest[at] else {
                    // One unknown part makes the whole word unknown.
                    ids.truncate(before);
                    break;
                };
                ids.push(id);
                at += len;
            }
            if ids.len() == before {
                ids.extend(self.unknown);
            }
        }
    }

    /// The words of a text; punctuation and Chinese characters are words of their own.
    fn words(&self, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word = String::new();
        for c in text.chars() {
            let c = if self.strip_accents { base(c) } else { c };
            let class = Class::of(c);
            match class {
                Class::Nothing => continue,
                Class::Accent if self.strip_accents => continue,
                Class::Space | Class::Alone if !word.is_empty() => {
                    words.push(std::mem::take(&mut word));
                }
                _ => {}
            }
            if class == Class::Space {
                continue;
            }
            // Each character maps to one character, as in the reference's table.
            let c = if self.lowercase { c.to_lowercase().next().unwrap_or(c) } else { c };
            word.push(c);
            if class == Class::Alone {
                words.push(std::mem::take(&mut word));
            }
        }
        if !word.is_empty() {
            words.push(word);
        }
        words
    }
}

/// The first character of the canonical decomposition. The rest is accents, except in Hangul, where the reference loses
/// it too.
fn base(c: char) -> char {
    let mut first = None;
    decompose_canonical(c, |part| {
        first.get_or_insert(part);
    });
    first.unwrap_or(c)
}

/// What a character does to a word.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    Space,
    /// Is dropped.
    Nothing,
    Accent,
    /// Is a word of its own.
    Alone,
    /// Belongs to a word.
    Part,
}

impl Class {
    fn of(c: char) -> Self {
        static CONTROL: LazyLock<Option<Regex>> = LazyLock::new(|| class(r"\p{Cc}\p{Cf}\p{Co}"));
        static ACCENT: LazyLock<Option<Regex>> = LazyLock::new(|| class(r"\p{M}"));
        static SIGN: LazyLock<Option<Regex>> = LazyLock::new(|| class(r"\p{P}"));
        let is = |class: &Option<Regex>| {
            class.as_ref().is_some_and(|regex| regex.is_match(c.encode_utf8(&mut [0; 4])))
        };
        if c.is_whitespace() {
            Self::Space
        } else if c.is_ascii_alphanumeric() {
            Self::Part
        } else if c == '\u{FFFD}' || is(&CONTROL) {
            Self::Nothing
        } else if is(&ACCENT) {
            Self::Accent
        } else if c.is_ascii_punctuation() || is(&SIGN) || is_chinese(c) {
            Self::Alone
        } else {
            Self::Part
        }
    }
}

fn class(members: &str) -> Option<Regex> {
    Regex::new(&format!("[{members}]")).ok()
}

/// The blocks that BERT's own tokenizer treats as Chinese.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}
