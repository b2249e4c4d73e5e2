//! Where a JSON value ends, found while it arrives.

/// Follows one JSON value character by character.
#[derive(Debug, Default)]
pub(super) struct Scan {
    depth: usize,
    begun: bool,
    place: Place,
}

#[derive(Debug, Default)]
enum Place {
    /// Where a value, a comma or a bracket may come.
    #[default]
    Between,
    String,
    /// After a backslash.
    Escape,
    /// In a number or a word, which ends where something else begins.
    Word,
}

impl Scan {
    /// How many bytes of `text` belong to the value, and whether it ends there. White space before a value
    /// belongs to it.
    pub fn advance(&mut self, text: &str) -> (usize, bool) {
        for (at, c) in text.char_indices() {
            let after = at + c.len_utf8();
            match (&self.place, c) {
                (Place::Escape, _) | (Place::Between, '"') => self.place = Place::String,
                (Place::String, '\\') => self.place = Place::Escape,
                (Place::String, '"') if self.depth == 0 => return (after, true),
                (Place::String, '"') => self.place = Place::Between,
                (Place::Word, ',' | '}' | ']' | ':') => return (at, true),
                (Place::Word, c) if c.is_whitespace() => return (at, true),
                (Place::Between, '{' | '[') => self.depth += 1,
                // Without an opening one it belongs to whatever is around.
                (Place::Between, '}' | ']') if !self.begun => return (at, true),
                (Place::Between, '}' | ']') if self.depth <= 1 => return (after, true),
                (Place::Between, '}' | ']') => self.depth -= 1,
                (Place::Between, c) if self.depth == 0 && !c.is_whitespace() => {
                    self.place = Place::Word;
                }
                (Place::String | Place::Word | Place::Between, _) => {}
            }
            self.begun |= !c.is_whitespace();
        }
        (text.len(), false)
    }
}

/// The text of a JSON string that stands at the front with its quotes, and how many bytes it takes; `None`
/// while it is not complete or is none.
pub(super) fn string(text: &str) -> Option<(String, usize)> {
    let (end, done) = Scan::default().advance(text);
    let whole = text.get(..end).filter(|t| done && t.starts_with('"'))?;
    // What JSON does not allow in a string, a line break say, models write all the same.
    let inner = &whole[1..whole.len() - 1];
    let read = serde_json::from_str(whole).unwrap_or_else(|_| inner.to_owned());
    Some((read, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_it_ends() {
        for (text, expected) in [
            (r#"{"a": "}\"", "b": [1, {}]}, x"#, r#"{"a": "}\"", "b": [1, {}]}"#),
            (r#""a\\" x"#, r#""a\\""#),
            ("  12.5, x", "  12.5"),
            ("null}", "null"),
            ("[] ]", "[]"),
            ("}", ""),
        ] {
            assert_eq!(Scan::default().advance(text), (expected.len(), true), "{text}");
            // However it is cut.
            let (mut scan, mut end) = (Scan::default(), 0);
            for c in text.chars() {
                let (taken, done) = scan.advance(&c.to_string());
                end += taken;
                if done {
                    break;
                }
            }
            assert_eq!(end, expected.len(), "{text}");
        }
        assert_eq!(Scan::default().advance(r#"{"a": 1"#), (7, false));
    }

    #[test]
    fn a_string_is_read_with_its_escapes() {
        assert_eq!(string(r#""a\u00e9\n" x"#), Some(("aé\n".to_owned(), 11)));
        assert_eq!(string("\"two\nlines\""), Some(("two\nlines".to_owned(), 11)));
        assert_eq!(string(r#""open"#), None);
        assert_eq!(string("1"), None);
    }
}
