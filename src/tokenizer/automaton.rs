//! Finds every occurrence of many texts in another in a single pass (Aho and Corasick, 1975).
//!
//! Input: the texts of tokens; then a text, byte by byte, forwards or backwards. Output: the tokens that end at each
//! byte, longest first. Knows nothing of their meaning.
//!
//! Our own rather than the crate `aho-corasick`, which stores a copy of all matches in each state (gigabytes for a
//! hostile vocabulary) and has no way to ask for the next shorter match on demand.

use super::{TokenizerError, steps};

/// Maximum length of all texts together, in bytes. The largest vocabularies have 4 MB; each byte can become a node.
const BYTES_MAX: usize = 16 << 20;
/// No entry of [`Automaton::ends`].
const NONE: u32 = u32::MAX;

/// A state of an [`Automaton`]: the longest end of what was read that is the beginning of some text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State(u32);

/// The trie of the texts, its nodes in breadth-first order.
pub(super) struct Automaton {
    /// The children of node `n` are the nodes from `first[n]` to `first[n + 1]`, by ascending label.
    first: Vec<u32>,
    /// The byte that leads to a node.
    labels: Vec<u8>,
    /// The node of the longest proper suffix of a node's text that is in the trie.
    fallback: Vec<u32>,
    /// The longest text that is a suffix of a node's text: an index of `ends`, or [`NONE`].
    longest: Vec<u32>,
    ends: Vec<End>,
    /// The root's children by label; 0 where there is none.
    root: Box<[u32; 256]>,
}

/// One of the texts.
struct End {
    token: u32,
    len: u32,
    /// The longest other text that is a suffix of this one: an index of `ends`, or [`NONE`].
    shorter: u32,
}

/// Which way texts are read.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    Forwards,
    /// Then the tokens that "end" at a byte are those that begin there.
    Backwards,
}

impl Automaton {
    /// Builds the automaton of these tokens; empty texts are skipped. `prefer` picks one of two with the same text.
    ///
    /// # Errors
    /// When the texts are too long in total; `key` is their metadata key.
    pub(super) fn new<'t>(
        texts: impl Iterator<Item = (u32, &'t [u8])>,
        direction: Direction,
        prefer: fn(u32, u32) -> u32,
        key: &'static str,
    ) -> Result<Self, TokenizerError> {
        // All texts in reading order, contiguous: in the file they are scattered.
        let mut bytes = Vec::new();
        let mut places: Vec<(u32, usize, usize)> = Vec::new();
        for (token, text) in texts {
            let start = bytes.len();
            if start + text.len() > BYTES_MAX {
                return Err(TokenizerError::Array {
                    key,
                    found: format!("tokens of more than {BYTES_MAX} bytes in total"),
                    expected: format!("at most {BYTES_MAX} bytes"),
                });
            }
            match direction {
                Direction::Forwards => bytes.extend_from_slice(text),
                Direction::Backwards => bytes.extend(text.iter().rev()),
            }
            places.push((token, start, bytes.len()));
        }
        // Sorted by the first 8 bytes as a number, then by the texts themselves: the number decides most comparisons.
        let first = |text: &[u8]| {
            let mut first = [0; 8];
            let len = text.len().min(8);
            first[..len].copy_from_slice(&text[..len]);
            u64::from_be_bytes(first)
        };
        let keyed = |&(token, start, end): &(u32, usize, usize)| {
            let text: &[u8] = &bytes[start..end];
            (first(text), text, token)
        };
        let mut keyed: Vec<(u64, &[u8], u32)> = places.iter().map(keyed).collect();
        keyed.sort_unstable();
        let texts = keyed.iter().map(|&(_, text, token)| (text, token));
        let mut texts: Vec<(&[u8], u32)> = texts.filter(|(text, _)| !text.is_empty()).collect();
        texts.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = prefer(kept.1, later.1);
            }
            same
        });
        Ok(Self::of_sorted(&texts))
    }

    fn of_sorted(texts: &[(&[u8], u32)]) -> Self {
        let mut all = Self {
            first: Vec::new(),
            labels: vec![0],
            fallback: vec![0],
            longest: vec![NONE],
            ends: Vec::with_capacity(texts.len()),
            root: Box::new([0; 256]),
        };
        // For each node, the range of texts that begin with its own.
        let mut ranges = vec![(0, texts.len())];
        let (mut node, mut depth, mut next_level) = (0, 0, 1);
        while node < ranges.len() {
            if node == next_level {
                depth += 1;
                next_level = ranges.len();
            }
            all.first.push(ranges.len() as u32);
            let (mut start, end) = ranges[node];
            // The node's own text, if it is one of the texts, sorts before the longer ones.
            if start < end && texts[start].0.len() == depth && depth > 0 {
                let shorter = all.longest[all.fallback[node] as usize];
                all.longest[node] = all.ends.len() as u32;
                all.ends.push(End { token: texts[start].1, len: depth as u32, shorter });
                start += 1;
            } else if depth > 0 {
                all.longest[node] = all.longest[all.fallback[node] as usize];
            }
            while start < end {
                let label = texts[start].0[depth];
                let same = match end - start {
                    1 => 1,
                    _ => texts[start..end].partition_point(|(text, _)| text[depth] == label),
                };
                let child = ranges.len() as u32;
                let fallback = if node == 0 {
                    all.root[usize::from(label)] = child;
                    0
                } else {
                    all.step(State(all.fallback[node]), label).0
                };
                ranges.push((start, start + same));
                all.labels.push(label);
                all.fallback.push(fallback);
                all.longest.push(NONE);
                start += same;
            }
            node += 1;
        }
        all.first.push(ranges.len() as u32);
        all
    }

    /// The state in which nothing has been read yet.
    pub(super) fn start() -> State {
        State(0)
    }

    /// The state after one more byte.
    #[inline]
    pub(super) fn step(&self, state: State, byte: u8) -> State {
        let State(mut node) = state;
        loop {
            steps::add(1);
            if node == 0 {
                return State(self.root[usize::from(byte)]);
            }
            if let Some(child) = self.child(node, byte) {
                return State(child);
            }
            node = self.fallback[node as usize];
        }
    }

    /// The tokens that end at this state, as (length, token), longest first.
    pub(super) fn ending(&self, state: State) -> impl Iterator<Item = (usize, u32)> + '_ {
        let mut at = self.longest[state.0 as usize];
        std::iter::from_fn(move || {
            let end = self.ends.get(at as usize)?;
            steps::add(1);
            at = end.shorter;
            Some((end.len as usize, end.token))
        })
    }

    /// Whether there are no texts.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    #[inline]
    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        let node = node as usize;
        let (start, end) = (self.first[node] as usize, self.first[node + 1] as usize);
        let labels = &self.labels[start..end];
        let at = if labels.len() <= 8 {
            labels.iter().position(|&label| label == byte)?
        } else {
            labels.binary_search(&byte).ok()?
        };
        Some((start + at) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(texts: &[&str], direction: Direction) -> Automaton {
        let texts = (0..).zip(texts.iter().map(|text| text.as_bytes()));
        Automaton::new(texts, direction, u32::max, "tokens").unwrap()
    }

    /// The tokens that end (forwards) or begin (backwards) at each byte.
    fn found(automaton: &Automaton, text: &str, direction: Direction) -> Vec<Vec<u32>> {
        let mut state = Automaton::start();
        let mut each = |&byte: &u8| {
            state = automaton.step(state, byte);
            automaton.ending(state).map(|(_, token)| token).collect()
        };
        match direction {
            Direction::Forwards => text.as_bytes().iter().map(each).collect(),
            Direction::Backwards => {
                let mut all: Vec<Vec<u32>> = text.as_bytes().iter().rev().map(&mut each).collect();
                all.reverse();
                all
            }
        }
    }

    #[test]
    fn every_occurrence_is_found_the_longest_first() {
        let texts = ["he", "she", "his", "hers", "e", "", "he"];
        let forwards = made(&texts, Direction::Forwards);
        let expected: [&[u32]; 6] = [&[], &[], &[1, 6, 4], &[], &[3], &[]];
        assert_eq!(found(&forwards, "shers?", Direction::Forwards), expected);
        let backwards = made(&texts, Direction::Backwards);
        let expected: [&[u32]; 6] = [&[1], &[3, 6], &[4], &[], &[], &[]];
        assert_eq!(found(&backwards, "shers?", Direction::Backwards), expected);
        assert!(made(&["", ""], Direction::Forwards).is_empty() && !forwards.is_empty());
    }

    #[test]
    fn it_finds_what_a_search_for_each_text_finds() {
        let mut dice = super::super::tests::Dice(7);
        for _ in 0..300 {
            let texts: Vec<String> = (0..dice.roll(12)).map(|_| dice.text("ab\u{e9}", 5)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let text = dice.text("ab\u{e9}c", 30);
            for direction in [Direction::Forwards, Direction::Backwards] {
                let automaton = made(&texts, direction);
                let expected: Vec<Vec<u32>> = (0..text.len())
                    .map(|at| {
                        let ends = |token: &u32| {
                            let one = texts[*token as usize].as_bytes();
                            let later = texts[*token as usize + 1..].iter();
                            let is_last = later.clone().all(|other| other.as_bytes() != one);
                            let found = match direction {
                                Direction::Forwards => text.as_bytes()[..=at].ends_with(one),
                                Direction::Backwards => text.as_bytes()[at..].starts_with(one),
                            };
                            !one.is_empty() && is_last && found
                        };
                        let mut all: Vec<u32> = (0..texts.len() as u32).filter(ends).collect();
                        all.sort_by_key(|&t| std::cmp::Reverse(texts[t as usize].len()));
                        all
                    })
                    .collect();
                assert_eq!(found(&automaton, &text, direction), expected, "{texts:?} in {text:?}");
            }
        }
    }

    #[test]
    fn texts_within_texts_take_no_more_memory_than_their_bytes() {
        let texts: Vec<String> = (1..1500).map(|n| "a".repeat(n)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let automaton = made(&texts, Direction::Forwards);
        assert_eq!((automaton.labels.len(), automaton.ends.len()), (1500, 1499));
        let long = vec![b'a'; BYTES_MAX + 1];
        let texts = std::iter::once((0, long.as_slice()));
        assert!(Automaton::new(texts, Direction::Forwards, u32::max, "tokens").is_err());
    }
}
