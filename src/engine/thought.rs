//! A limit on how long a model thinks: when it is reached, the thought is ended for it, and the answer begins.
//!
//! Input: the bytes of an answer's tokens. Output: the tokens that have to come next, if any. Knows nothing of messages.

use std::sync::Arc;

/// A limit on thoughts.
#[derive(Debug, Clone)]
pub struct ThoughtLimit {
    /// Tokens that a thought may have.
    pub tokens: usize,
    /// What begins a thought.
    pub open: &'static str,
    /// What ends it.
    pub close: &'static str,
    /// Whether the prompt ends inside a thought.
    pub opened: bool,
    /// Whether thoughts may begin later than with the answer.
    pub again: bool,
    /// The tokens that end a thought that reached the limit.
    pub ending: Arc<[u32]>,
}

/// Watches an answer for thoughts that reach their limit.
pub struct Watch {
    limit: ThoughtLimit,
    state: State,
    /// The last bytes, in which a marker may begin.
    seen: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before the first character that isn't white; a thought may begin.
    Start,
    /// A thought, and how many tokens it still may have.
    Thought(usize),
    /// The limit was reached; how many of its last tokens were chosen.
    Ending(usize),
    /// The answer.
    Answer,
}

impl Watch {
    /// For an answer that begins.
    #[must_use]
    pub fn new(limit: ThoughtLimit) -> Self {
        let state = if limit.opened { State::Thought(limit.tokens) } else { State::Start };
        let mut watch = Self { limit, state, seen: Vec::new() };
        watch.end_if_full();
        watch
    }

    /// The token that has to come next, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        let State::Ending(chosen) = self.state else { return None };
        self.limit.ending.get(chosen).copied()
    }

    /// Takes the bytes of the token that was chosen. Where the token that [`Watch::next`] asks for can't be chosen, the
    /// thought goes on.
    pub fn take(&mut self, id: u32, bytes: &[u8]) {
        self.seen.extend_from_slice(bytes);
        match self.state {
            State::Start => self.start(),
            State::Answer if self.limit.again && self.has(self.limit.open) => self.begin(),
            State::Thought(_) if self.has(self.limit.close) => self.answer(),
            State::Thought(left) => self.state = State::Thought(left.saturating_sub(1)),
            State::Ending(chosen) if self.limit.ending.get(chosen) == Some(&id) => {
                self.state = State::Ending(chosen + 1);
                if chosen + 1 == self.limit.ending.len() {
                    self.answer();
                }
            }
            State::Ending(_) if self.has(self.limit.close) => self.answer(),
            State::Answer | State::Ending(_) => {}
        }
        self.end_if_full();
        let longest = self.limit.open.len().max(self.limit.close.len());
        if self.state != State::Start {
            self.seen.drain(..self.seen.len().saturating_sub(longest));
        }
    }

    fn start(&mut self) {
        let text = self.seen.trim_ascii_start();
        let open = self.limit.open.as_bytes();
        if text.starts_with(open) {
            self.begin();
        } else if !open.starts_with(text) {
            self.answer();
        }
    }

    fn begin(&mut self) {
        self.state = State::Thought(self.limit.tokens);
        self.seen.clear();
    }

    fn answer(&mut self) {
        self.state = State::Answer;
        self.seen.clear();
    }

    /// Ends a thought that has no tokens left, once its last character is whole.
    fn end_if_full(&mut self) {
        if self.state == State::Thought(0)
            && ends_whole(&self.seen)
            && !self.limit.ending.is_empty()
        {
            self.state = State::Ending(0);
        }
    }

    fn has(&self, marker: &str) -> bool {
        self.seen.windows(marker.len().max(1)).any(|part| part == marker.as_bytes())
    }
}

/// Whether bytes end with a whole character, or with one that never will be.
fn ends_whole(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    match std::str::from_utf8(tail) {
        Ok(_) => true,
        // `None`: more bytes could complete it.
        Err(error) => match error.error_len() {
            None => false,
            Some(bad) => {
                let rest = &tail[error.valid_up_to() + bad..];
                rest.is_empty() || ends_whole(rest)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(tokens: usize) -> ThoughtLimit {
        ThoughtLimit {
            tokens,
            open: "<think>",
            close: "</think>",
            opened: false,
            again: false,
            ending: Arc::new([900, 901]),
        }
    }

    /// Feeds pieces, in whose place come the tokens that are asked for; returns which came and where.
    fn forced(watch: &mut Watch, pieces: &[&[u8]]) -> Vec<(usize, u32)> {
        let mut all = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            while let Some(id) = watch.next() {
                all.push((at, id));
                watch.take(id, b"x");
            }
            watch.take(1, piece);
        }
        all
    }

    #[test]
    fn a_long_thought_is_ended_once_and_a_short_one_is_not() {
        let pieces: [&[u8]; 8] = [b"\n", b"<thi", b"nk>", b"a", b"b", b"c", b"d", b"e"];
        assert_eq!(forced(&mut Watch::new(limit(3)), &pieces), [(6, 900), (6, 901)]);
        assert_eq!(forced(&mut Watch::new(limit(9)), &pieces), []);
        let short: [&[u8]; 6] = [b"<think>", b"a", b"</thi", b"nk>", b"b", b"c"];
        assert_eq!(forced(&mut Watch::new(limit(4)), &short), []);
    }

    #[test]
    fn it_waits_for_whole_characters() {
        let pieces: [&[u8]; 5] = [b"<think>", b"a", &[0xc3], &[0xa9], b"b"];
        assert_eq!(forced(&mut Watch::new(limit(2)), &pieces), [(4, 900), (4, 901)]);
    }

    #[test]
    fn a_prompt_may_have_begun_it_and_an_answer_may_name_the_tag() {
        let opened = ThoughtLimit { opened: true, ..limit(1) };
        assert_eq!(forced(&mut Watch::new(opened), &[b"a", b"b"]), [(1, 900), (1, 901)]);
        let named: [&[u8]; 4] = [b"The tag ", b"<think>", b"a", b"b"];
        assert_eq!(forced(&mut Watch::new(limit(1)), &named), []);
        let again = ThoughtLimit { again: true, ..limit(1) };
        assert_eq!(forced(&mut Watch::new(again), &named), [(3, 900), (3, 901)]);
        let none = ThoughtLimit { opened: true, ..limit(0) };
        assert_eq!(forced(&mut Watch::new(none), &[b"a"]), [(0, 900), (0, 901)]);
    }
}
