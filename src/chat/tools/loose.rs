//! Repairs JSON as models write it, while it arrives.
//!
//! Input: text that should be one JSON value. Output: one JSON value, whatever the input. Raw line breaks in strings
//! are escaped, Python's quotes and words become JSON's, a missing or doubled comma or bracket is repaired. Spacing and
//! the digits of numbers are kept. Knows nothing of functions.

/// Nesting limit for lists and objects; common JSON parsers stop at 128.
const DEPTH_MAX: usize = 100;

/// Reads one value.
#[derive(Debug, Default)]
pub(in super::super) struct Loose {
    /// The open lists and objects.
    frames: Vec<Frame>,
    place: Place,
    /// Whitespace, and the key of a value that has not begun; written with the value.
    pending: String,
}

#[derive(Debug)]
struct Frame {
    is_object: bool,
    is_filled: bool,
}

#[derive(Debug, Default, PartialEq)]
enum Place {
    /// Before a value.
    #[default]
    Value,
    /// Before a key.
    Key,
    /// After a key.
    Colon,
    /// After a value within a list or an object.
    After,
    /// In a string with these quotes.
    Text { quote: char, is_key: bool },
    /// In a number, a word, or a string without quotes.
    Word { word: String, is_key: bool },
    /// After the whole value.
    Done,
    /// Nested too deeply; the rest is dropped.
    Lost,
}

/// The result of a read.
#[derive(Debug, PartialEq)]
pub(in super::super) struct Read {
    /// Bytes of the text consumed.
    pub taken: usize,
    /// The JSON they stand for.
    pub json: String,
    pub progress: Progress,
}

/// How far the value has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Progress {
    /// It goes on.
    More,
    /// It has ended.
    Done,
    /// A marker interrupts it: it was not closed.
    Stopped,
}

enum Taken {
    Bytes(usize),
    Wait,
    Stop,
}

impl Loose {
    /// Reads on. `marks` are markers that end a value left open; `ended`: nothing follows `text`. The JSON is the same
    /// however the text is split.
    pub fn read(&mut self, text: &str, marks: &[&str], ended: bool) -> Read {
        let (mut json, mut taken) = (String::new(), 0);
        let progress = loop {
            if self.place == Place::Done {
                break Progress::Done;
            }
            let rest = &text[taken..];
            let Some(c) = rest.chars().next() else {
                if ended && matches!(self.place, Place::Word { .. }) {
                    self.end_word(&mut json);
                    continue;
                }
                break Progress::More;
            };
            let step = match self.place {
                Place::Text { quote, is_key } => {
                    self.text(rest, c, quote, is_key, marks, ended, &mut json)
                }
                Place::Lost => Taken::Bytes(rest.len()),
                _ if marks.iter().any(|mark| rest.starts_with(mark)) => {
                    if matches!(self.place, Place::Word { .. }) {
                        self.end_word(&mut json);
                    }
                    Taken::Stop
                }
                _ if !ended && marks.iter().any(|mark| mark.starts_with(rest)) => Taken::Wait,
                Place::Word { .. } => self.word(c, &mut json),
                _ => self.structure(c, &mut json),
            };
            match step {
                Taken::Bytes(count) => taken += count,
                Taken::Wait => break Progress::More,
                Taken::Stop if self.place == Place::Done => break Progress::Done,
                Taken::Stop => break Progress::Stopped,
            }
        };
        Read { taken, json, progress }
    }

    /// The closing brackets of all that is open; `None` inside a string, whose continuation is unknown, or beyond the
    /// nesting limit.
    pub fn close(&mut self) -> Option<String> {
        if matches!(self.place, Place::Text { .. } | Place::Lost) {
            return None;
        }
        Some(self.close_all())
    }

    fn close_all(&mut self) -> String {
        let mut json = String::new();
        if let Place::Text { is_key: false, .. } = self.place {
            json.push('"');
        }
        self.pending.clear();
        self.place = Place::Done;
        json.extend(self.frames.drain(..).rev().map(|frame| frame.close()));
        json
    }

    fn structure(&mut self, c: char, json: &mut String) -> Taken {
        match (&self.place, c) {
            (_, c) if c.is_whitespace() => {
                if !self.frames.is_empty() {
                    self.pending.push(
                        if c.is_ascii() && c >= '\t' && c != '\u{b}' && c != '\u{c}' {
                            c
                        } else {
                            ' '
                        },
                    );
                }
            }
            (_, '}' | ']' | ')') => self.close_one(c == '}', json),
            (Place::Value, '{' | '[' | '(') => {
                if self.frames.len() >= DEPTH_MAX {
                    self.place = Place::Lost;
                } else {
                    self.begin(json);
                    let is_object = c == '{';
                    json.push(if is_object { '{' } else { '[' });
                    self.frames.push(Frame { is_object, is_filled: false });
                    self.place = self.next();
                }
            }
            (Place::Value, '"' | '\'') => {
                self.begin(json);
                json.push('"');
                self.place = Place::Text { quote: c, is_key: false };
            }
            (Place::Key, '"' | '\'') => {
                self.pending.push('"');
                self.place = Place::Text { quote: c, is_key: true };
            }
            // A surplus character.
            (Place::Value, ':') | (Place::Key, ',' | ':' | '{' | '[' | '(') => {}
            (Place::Value | Place::Colon, ',') => {
                self.pending.clear();
                self.place = self.next();
            }
            (Place::Colon, ':' | '=') => {
                self.pending.push(':');
                self.place = Place::Value;
            }
            (Place::Colon, _) => {
                self.pending.push(':');
                self.place = Place::Value;
                return Taken::Bytes(0);
            }
            (Place::After, ',' | ';') => self.place = self.next(),
            (Place::After, _) => {
                self.place = self.next();
                return Taken::Bytes(0);
            }
            (place, c) => {
                let is_key = *place == Place::Key;
                self.place = Place::Word { word: c.to_string(), is_key };
            }
        }
        Taken::Bytes(c.len_utf8())
    }

    /// Begins a value: writes the comma and the pending text before it.
    fn begin(&mut self, json: &mut String) {
        if let Some(frame) = self.frames.last_mut() {
            if std::mem::replace(&mut frame.is_filled, true) {
                json.push(',');
            }
            json.push_str(&self.pending);
        }
        self.pending.clear();
    }

    /// Closes the innermost list or object of this kind, and all that is open inside it.
    fn close_one(&mut self, is_object: bool, json: &mut String) {
        let Some(at) = self.frames.iter().rposition(|frame| frame.is_object == is_object) else {
            return;
        };
        let in_object = self.frames.last().is_some_and(|frame| frame.is_object);
        if self.place == Place::Colon || (self.place == Place::Value && in_object) {
            // A key without a value.
            self.pending.clear();
        }
        json.push_str(&std::mem::take(&mut self.pending));
        json.extend(self.frames.drain(at..).rev().map(|frame| frame.close()));
        self.place = self.after();
    }

    fn after(&self) -> Place {
        if self.frames.is_empty() { Place::Done } else { Place::After }
    }

    fn next(&self) -> Place {
        if self.frames.last().is_some_and(|frame| frame.is_object) {
            Place::Key
        } else {
            Place::Value
        }
    }

    fn word(&mut self, c: char, json: &mut String) -> Taken {
        let Place::Word { word, is_key } = &mut self.place else { return Taken::Wait };
        let ends = match c {
            ',' | '}' | ']' | ')' | '\n' => true,
            ':' | '=' => *is_key,
            // An unquoted text may have several words.
            c => c.is_whitespace() && (*is_key || scalar(word).is_some()),
        };
        if ends {
            self.end_word(json);
            return Taken::Bytes(0);
        }
        word.push(c);
        Taken::Bytes(c.len_utf8())
    }

    fn end_word(&mut self, json: &mut String) {
        let Place::Word { word, is_key } = std::mem::take(&mut self.place) else { return };
        let word = word.trim_end();
        if is_key {
            self.pending.push_str(&quoted(word));
            self.place = Place::Colon;
        } else {
            self.begin(json);
            json.push_str(&scalar(word).unwrap_or_else(|| quoted(word)));
            self.place = self.after();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a step of the loop above")]
    fn text(
        &mut self,
        rest: &str,
        c: char,
        quote: char,
        is_key: bool,
        marks: &[&str],
        ended: bool,
        json: &mut String,
    ) -> Taken {
        let after = if is_key { Place::Colon } else { self.after() };
        let out = if is_key { &mut self.pending } else { json };
        match c {
            '\\' => return escape(rest, ended, out),
            '<' => {
                let tags = || marks.iter().filter(|mark| mark.starts_with('<'));
                if let Some(mark) = tags().find(|mark| rest.starts_with(**mark)) {
                    match goes_on(&rest[mark.len()..], quote, ended) {
                        None => return Taken::Wait,
                        Some(true) => {
                            out.push_str(mark);
                            return Taken::Bytes(mark.len());
                        }
                        Some(false) => {
                            out.push('"');
                            self.place = after;
                            return Taken::Stop;
                        }
                    }
                }
                if !ended && tags().any(|mark| mark.starts_with(rest)) {
                    return Taken::Wait;
                }
                out.push('<');
            }
            c if c == quote => {
                out.push('"');
                self.place = after;
            }
            '"' => out.push_str("\\\""),
            c if c < ' ' => control(c, out),
            c => out.push(c),
        }
        Taken::Bytes(c.len_utf8())
    }
}

impl Frame {
    fn close(&self) -> char {
        if self.is_object { '}' } else { ']' }
    }
}

/// Whether a string continues after a marker in it: then a comma, colon, bracket or the end follows its closing quote.
fn goes_on(rest: &str, quote: char, ended: bool) -> Option<bool> {
    let mut escaped = false;
    let end = rest.char_indices().find(|&(_, c)| {
        let found = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        found
    });
    let Some((at, _)) = end else { return ended.then_some(false) };
    match rest[at + 1..].trim_start().chars().next() {
        Some(next) => Some(matches!(next, ',' | '}' | ']' | ')' | ':')),
        None => ended.then_some(true),
    }
}

/// Reads a backslash escape.
fn escape(rest: &str, ended: bool, out: &mut String) -> Taken {
    let Some(c) = rest[1..].chars().next() else {
        return if ended { Taken::Bytes(1) } else { Taken::Wait };
    };
    match c {
        '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => {
            out.extend(['\\', c]);
            Taken::Bytes(2)
        }
        '\'' => {
            out.push('\'');
            Taken::Bytes(2)
        }
        'u' => match (unit(rest), ended) {
            (Unit::Cut, false) => Taken::Wait,
            (Unit::Some(0xd800..=0xdbff), _) => match (unit(&rest[6..]), ended) {
                (Unit::Cut, false) => Taken::Wait,
                (Unit::Some(0xdc00..=0xdfff), _) => {
                    out.push_str(&rest[..12]);
                    Taken::Bytes(12)
                }
                _ => lone(out),
            },
            (Unit::Some(0xdc00..=0xdfff), _) => lone(out),
            (Unit::Some(_), _) => {
                out.push_str(&rest[..6]);
                Taken::Bytes(6)
            }
            _ => {
                out.push_str("\\\\");
                Taken::Bytes(1)
            }
        },
        // Not a JSON escape: the backslash is literal.
        _ => {
            out.push_str("\\\\");
            Taken::Bytes(1)
        }
    }
}

/// A lone surrogate becomes U+FFFD.
fn lone(out: &mut String) -> Taken {
    out.push_str("\\ufffd");
    Taken::Bytes(6)
}

enum Unit {
    Some(u16),
    /// Its end has not arrived.
    Cut,
    None,
}

/// The UTF-16 code unit of the escape, `\u` and four hex digits, at the start of a text.
fn unit(text: &str) -> Unit {
    let is_hex = |b: &u8| b.is_ascii_hexdigit();
    let bytes = text.as_bytes();
    let begins = b"\\u".starts_with(&bytes[..bytes.len().min(2)]);
    let digits = bytes.get(2..bytes.len().min(6)).unwrap_or(&[]);
    if !begins || !digits.iter().all(is_hex) {
        return Unit::None;
    }
    match u16::from_str_radix(text.get(2..6).unwrap_or(""), 16) {
        Ok(unit) => Unit::Some(unit),
        Err(_) => Unit::Cut,
    }
}

fn control(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
    }
}

/// A text as a JSON string.
pub(in super::super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The JSON of a number or literal, Python's literals included.
pub(super) fn scalar(word: &str) -> Option<String> {
    let known = match word {
        "true" | "True" => "true",
        "false" | "False" => "false",
        "null" | "None" => "null",
        number if is_number(number) => number,
        number => {
            let plain = number.strip_prefix('+').unwrap_or(number);
            return is_number(plain).then(|| plain.to_owned());
        }
    };
    Some(known.to_owned())
}

/// Whether a text is a number as JSON writes it.
pub(in super::super) fn is_number(text: &str) -> bool {
    let digits = |text: &str| {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        (text.len() - rest.len(), rest.to_owned())
    };
    let text = text.strip_prefix('-').unwrap_or(text);
    let (count, mut rest) = digits(text);
    if count == 0 || (count > 1 && text.starts_with('0')) {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let (count, after) = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = after;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let (count, after) = digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        return count > 0 && after.is_empty();
    }
    rest.is_empty()
}

/// The JSON of a whole text, and whether the value was closed and nothing follows it.
pub(in super::super) fn value(text: &str) -> (String, bool) {
    let text = text.trim();
    let mut loose = Loose::default();
    let Read { taken, mut json, progress } = loose.read(text, &[], true);
    let whole = progress == Progress::Done && text[taken..].trim().is_empty();
    json.push_str(&loose.close_all());
    (json, whole)
}

/// The quoted string at the front, and its length in bytes; `None` while its closing quote is missing.
pub(super) fn string(text: &str, marks: &[&str], ended: bool) -> Option<(String, usize)> {
    let mut loose = Loose::default();
    let read = loose.read(text, marks, ended);
    let found = (read.progress == Progress::Done).then(|| serde_json::from_str(&read.json).ok());
    Some((found??, read.taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Reads a text whole and character by character, and expects the same result.
    fn read(text: &str, marks: &[&str]) -> (String, Progress, usize) {
        let whole = Loose::default().read(text, marks, true);
        let (mut loose, mut held, mut json, mut taken) =
            (Loose::default(), String::new(), String::new(), 0);
        let mut progress = Progress::More;
        for (at, c) in text.char_indices() {
            held.push(c);
            let ended = at + c.len_utf8() == text.len();
            let read = loose.read(&held, marks, ended);
            held.drain(..read.taken);
            json += &read.json;
            taken += read.taken;
            progress = read.progress;
            if progress != Progress::More {
                break;
            }
        }
        assert_eq!((&json, progress, taken), (&whole.json, whole.progress, whole.taken), "{text}");
        (json, progress, taken)
    }

    #[test]
    fn valid_json_is_unchanged() {
        for text in [
            r#"{"a": "}\"\\\/\u00e9\ud83d\ude00", "b" : [1,  {}, [ ]],"c":{ "d":null }}"#,
            "[1, -0.5e+7, 123456789012345678901234567890, 1.10, 1E400]",
            "{\n  \"a\": true\n}",
            "\"x\"",
        ] {
            let (json, progress, taken) = read(text, &["</x>"]);
            assert_eq!((progress, taken), (Progress::Done, text.len()), "{text}");
            assert_eq!(json, text);
        }
        assert_eq!(read(r#"{"a": 1}} x"#, &[]).2, 8);
        assert_eq!(read("12, x", &[]), ("12".into(), Progress::Done, 2));
    }

    #[test]
    fn malformed_json_of_models_is_repaired() {
        for (text, expected) in [
            ("{\"a\": \"1\n2\t3\u{1}\"}", r#"{"a": "1\n2\t3\u0001"}"#),
            (
                r"{'a': 'it\'s \x', 'b': True, 'c': None}",
                r#"{"a": "it's \\x", "b": true, "c": null}"#,
            ),
            (r#"{'a': "say 'hi'", 'b': 'say "hi"'}"#, r#"{"a": "say 'hi'", "b": "say \"hi\""}"#),
            (r#"{"a": 1,, "b": [1, 2,],}"#, r#"{"a": 1, "b": [1, 2]}"#),
            (r#"{"a": 1 "b" 2}"#, r#"{"a": 1, "b" :2}"#),
            (r#"{"a": [1, {"b": 2}"#, r#"{"a": [1, {"b": 2}]}"#),
            (r#"{"a": [1, 2}"#, r#"{"a": [1, 2]}"#),
            (r#"{"a": 1]}"#, r#"{"a": 1}"#),
            (r#"{{"a": 1}"#, r#"{"a": 1}"#),
            (r#"{"a": 1, "b"}"#, r#"{"a": 1}"#),
            (r#"{"a": 1, "b":}"#, r#"{"a": 1}"#),
            ("{a: 1, b: two words, c: 007}", r#"{"a": 1, "b": "two words", "c": "007"}"#),
            ("(1, (2,))", "[1, [2]]"),
            (
                r#"{"a": "\ud83d", "b": "\ude00x", "c": "\u12"}"#,
                r#"{"a": "\ufffd", "b": "\ufffdx", "c": "\\u12"}"#,
            ),
            ("{\"a\":\u{a0}1}", r#"{"a": 1}"#),
        ] {
            read(text, &[]);
            let (json, _) = value(text);
            serde_json::from_str::<Value>(&json).unwrap_or_else(|e| panic!("{text}: {json}: {e}"));
            assert_eq!(json, expected, "{text}");
        }
    }

    #[test]
    fn a_marker_closes_open_values_but_is_text_in_a_string() {
        let marks = &["</t>", "<t>"];
        for (text, json) in [
            (r#"{"a": "x</t>"}"#, r#"{"a": "x</t>"}"#),
            (r#"{"a": "say </t>, ok", "b": 1}"#, r#"{"a": "say </t>, ok", "b": 1}"#),
        ] {
            assert_eq!(read(text, marks), (json.to_owned(), Progress::Done, text.len()));
        }
        for (text, json) in [
            (r#"{"a": "x"</t>"#, r#"{"a": "x""#),
            (r#"{"a": 12</t>"#, r#"{"a": 12"#),
            (r#"{"a": "x}</t>"#, r#"{"a": "x}""#),
            (r#"{"a": "x}</t><t>{"name": "f"}"#, r#"{"a": "x}""#),
        ] {
            let (found, progress, taken) = read(text, marks);
            assert_eq!((found.as_str(), progress), (json, Progress::Stopped), "{text}");
            assert!(text[taken..].starts_with("</t>"));
        }
    }

    #[test]
    fn an_unterminated_string_stays_open_and_depth_is_bounded() {
        let mut loose = Loose::default();
        loose.read("{\"a\": \"x", &[], true);
        assert_eq!(loose.close(), None);
        let mut loose = Loose::default();
        loose.read("{\"a\": [\"x\"", &[], true);
        assert_eq!(loose.close().as_deref(), Some("]}"));
        let deep = "[".repeat(100_000);
        let (json, whole) = value(&deep);
        assert!(!whole && serde_json::from_str::<Value>(&json).is_ok());
    }

    #[test]
    fn any_input_becomes_valid_json() {
        // A linear congruential generator (Knuth's constants), so that each run tries the same texts.
        let mut state = 77_u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            ",",
            ":",
            "\"",
            "'",
            "\\",
            "\\u",
            "d83d",
            "\\ude00",
            "\n",
            " ",
            "é",
            "<",
            "</t>",
            "a",
            "1",
            "-",
            "0",
            ".",
            "e5",
            "True",
            "null",
            "\u{0}",
            "\u{2028}",
            "\"a\": ",
            "{\"b\": [",
        ];
        for _ in 0..20_000 {
            let text: String = (0..=next(12)).map(|_| pieces[next(pieces.len())]).collect();
            read(&text, &["</t>"]);
            let (json, _) = value(&text);
            let valid = json.is_empty() || serde_json::from_str::<Value>(&json).is_ok();
            assert!(valid, "{text:?}: {json:?}");
        }
    }
}
