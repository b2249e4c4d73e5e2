//! Token bytes to displayable text.
//!
//! Input: bytes, token by token. Output: text that never holds half a character nor any part of a stop string. Knows
//! nothing of tokens.

use std::str::Utf8Error;

/// Collects bytes and releases text that is surely part of the answer.
pub struct TextStream {
    stops: Vec<String>,
    /// Bytes of an unfinished character.
    partial: Vec<u8>,
    /// Text held back because it may begin a stop string.
    held: String,
    stopped: bool,
}

impl TextStream {
    /// A stream that ends at any of `stops` (empty ones are dropped).
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self { stops, partial: Vec::new(), held: String::new(), stopped: false }
    }

    /// Adds bytes; returns text that may be shown now. Invalid UTF-8 shows as U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.partial.extend_from_slice(bytes);
        self.decode(false);
        self.release()
    }

    /// The remaining text at the end of an answer.
    pub fn finish(&mut self) -> String {
        self.decode(true);
        let mut rest = self.release();
        if !self.stopped {
            rest.push_str(&std::mem::take(&mut self.held));
        }
        rest
    }

    /// Starts to look for stop strings; there were none so far.
    pub fn watch(&mut self, stops: &[String]) {
        self.stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
    }

    /// Whether a stop string was found; nothing comes out after it.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Moves whole characters from `partial` to `held`; all of it when `end`.
    fn decode(&mut self, end: bool) {
        let bytes = std::mem::take(&mut self.partial);
        let mut rest: &[u8] = &bytes;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => return self.held.push_str(text),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(bad) => {
                            self.held.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[bad..];
                        }
                        None if end => return self.held.push(char::REPLACEMENT_CHARACTER),
                        None => return self.partial = after.to_vec(),
                    }
                }
            }
        }
    }

    fn release(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let found = self.stops.iter().filter_map(|s| self.held.find(s.as_str())).min();
        if let Some(at) = found {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, kept)
    }
}

/// The offset of each of several pieces in the text that they form together.
#[derive(Debug, Default)]
pub struct Places {
    /// Whole characters so far.
    chars: usize,
    /// Bytes of an unfinished character.
    partial: Vec<u8>,
}

impl Places {
    /// The offset of the next piece, in characters: that of the character its first byte belongs to. Invalid UTF-8
    /// counts as [`TextStream`] shows it.
    pub fn next(&mut self, piece: &[u8]) -> usize {
        let earlier = self.partial.len();
        self.partial.extend_from_slice(piece);
        let (mut place, mut read) = (self.chars, 0);
        for chunk in self.partial.utf8_chunks() {
            let bad = chunk.invalid();
            let last = read + chunk.valid().len() + bad.len() == self.partial.len();
            let unfinished = |e: Utf8Error| last && e.error_len().is_none();
            let bad = if std::str::from_utf8(bad).is_err_and(unfinished) { 0 } else { bad.len() };
            let characters = chunk.valid().chars().map(char::len_utf8);
            for bytes in characters.chain(Some(bad).filter(|bytes| *bytes > 0)) {
                read += bytes;
                self.chars += 1;
                // A character before the piece that only now turns out to be complete, because it is invalid UTF-8.
                place += usize::from(read <= earlier);
            }
        }
        self.partial.drain(..read);
        place
    }
}

/// Number of bytes at the end of `text` that may be the beginning of `stop`.
#[must_use]
pub fn overlap(text: &str, stop: &str) -> usize {
    let most = text.len().min(stop.len().saturating_sub(1));
    (1..=most)
        .rev()
        .filter(|&n| text.is_char_boundary(text.len() - n))
        .find(|&n| stop.as_bytes().starts_with(&text.as_bytes()[text.len() - n..]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut stream = TextStream::new(&stops);
        let mut out: Vec<String> = pieces.iter().map(|p| stream.push(p)).collect();
        out.push(stream.finish());
        (out, stream.stopped())
    }

    #[test]
    fn a_split_character_is_shown_whole() {
        let (out, _) = stream(&[], &[b"a\xf0\x9f", b"\x98", b"\x80b", b"\xc3"]);
        assert_eq!(out, ["a", "", "😀b", "", "\u{fffd}"]);
    }

    #[test]
    fn invalid_bytes_are_replaced_and_lose_nothing_else() {
        let (out, _) = stream(&[], &[b"a\xffb", b"\xe2\x28c"]);
        assert_eq!(out.concat(), "a\u{fffd}b\u{fffd}(c");
    }

    #[test]
    fn offsets_are_correct_however_the_text_is_split() {
        let bytes = "a é👩 \u{0}b".as_bytes().iter().chain(b"\xff\xe2\x28\xf0\x9fz\xc3").copied();
        let bytes: Vec<u8> = bytes.collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // The character that each byte belongs to, counted one byte after the other.
        let of_byte: Vec<usize> = {
            let mut places = Places::default();
            bytes.iter().map(|b| places.next(&[*b])).collect()
        };
        assert_eq!(of_byte[..9], [0, 1, 2, 2, 3, 3, 3, 3, 4]);
        assert_eq!(of_byte.last(), Some(&(text.chars().count() - 1)));
        for cut in 0..bytes.len() {
            for second in cut..bytes.len() {
                let mut places = Places::default();
                let found = [&bytes[..cut], &bytes[cut..second], &bytes[second..]];
                let found = found.map(|piece| places.next(piece));
                assert_eq!(found[0], 0);
                assert_eq!(found[2], of_byte[second], "{cut} {second}");
                if cut < second {
                    assert_eq!(found[1], of_byte[cut], "{cut} {second}");
                }
            }
        }
    }

    #[test]
    fn stop_strings_are_hidden_and_false_starts_are_shown() {
        let (out, stopped) = stream(&["</end>"], &[b"x <", b"/e", b"nd", b"> more"]);
        assert_eq!((out.concat().as_str(), stopped), ("x ", true));
        let (out, stopped) = stream(&["</end>"], &[b"x </e", b"xtra"]);
        assert_eq!((out.concat().as_str(), stopped), ("x </extra", false));
        let (out, _) = stream(&["aab"], &[b"a", b"a", b"a", b"b!"]);
        assert_eq!(out.concat(), "a");
        let (out, stopped) = stream(&["é!"], &[b"caf\xc3", b"\xa9", b"?"]);
        assert_eq!((out.concat().as_str(), stopped), ("café?", false));
    }
}
