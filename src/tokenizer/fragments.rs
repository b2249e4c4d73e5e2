//! Splits a text at the special tokens written in it.

use super::automaton::{Automaton, Direction, State};
use super::{TokenKind, TokenizerError, Vocabulary, steps};
use crate::model::ModelFile;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A special token, or text between them.
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// The special tokens to look for in a text.
pub(super) struct Fragments {
    /// All of them, and those recognized even if control tokens are plain text.
    all: Automaton,
    always: Automaton,
    strips: Strips,
}

/// An occurrence of a token. The greatest is taken first: that of the longest token, then of the lowest id, then the
/// leftmost.
type Occurrence = (usize, Reverse<u32>, Reverse<usize>);

impl Fragments {
    /// The special tokens of a vocabulary whose kinds are final.
    pub(super) fn new(file: &ModelFile, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let found = |wanted: &dyn Fn(TokenKind) -> bool| {
            let count = u32::try_from(vocabulary.len()).unwrap_or(0);
            let ids = (0..count).filter(|&id| vocabulary.kind(id).is_some_and(wanted));
            let texts = ids.map(|id| (id, vocabulary.text(id)));
            // Texts that are not UTF-8 occur in no `str`.
            let texts = texts.filter(|(_, text)| std::str::from_utf8(text).is_ok());
            // Reading backwards, it finds the tokens that begin at a position.
            Automaton::new(texts, Direction::Backwards, u32::min, "tokenizer.ggml.tokens")
        };
        Ok(Self {
            all: found(&|kind| {
                matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
            })?,
            always: found(&|kind| kind == TokenKind::UserDefined)?,
            strips: Strips::new(file),
        })
    }

    /// Splits `text`. The longest token is searched for first, in all of it, then the next in what remains, as in the
    /// reference. `parse_special` recognizes control tokens.
    pub(super) fn of<'t>(
        &self,
        text: &'t str,
        vocabulary: &Vocabulary,
        parse_special: bool,
    ) -> Vec<Fragment<'t>> {
        let tokens = if parse_special { &self.all } else { &self.always };
        let taken = self.taken(text, tokens, vocabulary);
        let mut fragments = Vec::with_capacity(2 * taken.len() + 1);
        let mut end = 0;
        for (start, piece) in taken {
            if start > end {
                fragments.push(Fragment::Text(&text[end..start]));
            }
            fragments.extend(piece.token.map(Fragment::Token));
            end = piece.end;
        }
        if end < text.len() {
            fragments.push(Fragment::Text(&text[end..]));
        }
        fragments
    }

    /// The parts of the text that are not text, by where they start.
    ///
    /// Searching for each token in what remains would take tokens × text. Instead, a queue holds for each position only
    /// the longest token that begins there. If it overlaps a part that is already taken, it is replaced by the longest
    /// one that does not; that one is less than half as long, so this happens only a few times per position.
    fn taken(
        &self,
        text: &str,
        tokens: &Automaton,
        vocabulary: &Vocabulary,
    ) -> BTreeMap<usize, Taken> {
        let mut taken: BTreeMap<usize, Taken> = BTreeMap::new();
        if tokens.is_empty() {
            return taken;
        }
        let mut queue: BinaryHeap<(Occurrence, State)> = BinaryHeap::new();
        let mut state = Automaton::start();
        for (at, &byte) in text.as_bytes().iter().enumerate().rev() {
            state = tokens.step(state, byte);
            if let Some((len, id)) = tokens.ending(state).next() {
                queue.push(((len, Reverse(id), Reverse(at)), state));
            }
        }
        while let Some(((len, Reverse(id), Reverse(at)), state)) = queue.pop() {
            steps::add(1);
            let before = taken.range(..=at).next_back().map_or(0, |(_, piece)| piece.end);
            let after = taken.range(at..).next().map_or(text.len(), |(&start, _)| start);
            if before > at {
                continue;
            }
            if at + len > after {
                let fits = |&(len, _): &(usize, u32)| at + len <= after;
                if let Some((len, id)) = tokens.ending(state).find(fits) {
                    queue.push(((len, Reverse(id), Reverse(at)), state));
                }
                continue;
            }
            taken.insert(at, Taken { end: at + len, token: Some(id) });
            let (strips_before, strips_after) = self.strips.of(vocabulary.text(id));
            if strips_before {
                let kept = before + text[before..at].trim_end_matches(is_space).len();
                if kept < at {
                    taken.insert(kept, Taken { end: at, token: None });
                }
            }
            if strips_after {
                let kept = after - text[at + len..after].trim_start_matches(is_space).len();
                if kept > at + len {
                    taken.insert(at + len, Taken { end: kept, token: None });
                }
            }
        }
        taken
    }
}

/// A special token in a text, or white space that it strips.
struct Taken {
    end: usize,
    token: Option<u32>,
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Which tokens strip the white space beside them. Files don't say so, and the reference goes by names.
#[derive(Clone, Copy)]
enum Strips {
    None,
    /// This token, before it.
    Before(&'static str),
    /// All tokens but these, after them.
    After(&'static [&'static str]),
}

impl Strips {
    fn new(file: &ModelFile) -> Self {
        let pre = file.text("tokenizer.ggml.pre").unwrap_or_default();
        let architecture = file.text("general.architecture").unwrap_or_default();
        let name = file.text("general.name").unwrap_or_default().to_lowercase();
        let any = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if any(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
            || any(architecture, &["nomic-bert-moe", "jina-bert-v3"])
        {
            Self::Before("<mask>")
        } else if any(&name, &["phi-3", "phi3"]) {
            Self::After(&["<unk>", "<s>", "<|endoftext|>"])
        } else if any(&name, &["modern-bert"]) {
            Self::Before("[MASK]")
        } else {
            Self::None
        }
    }

    /// Whether the token with that text strips before and after it.
    fn of(self, text: &[u8]) -> (bool, bool) {
        match self {
            Self::None => (false, false),
            Self::Before(token) => (text == token.as_bytes(), false),
            Self::After(except) => (false, !except.iter().any(|token| text == token.as_bytes())),
        }
    }
}
