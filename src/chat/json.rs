//! JSON as Python's `json.dumps` writes it, to the byte: models were trained on that spacing.

use serde_json::{Number, Value};

/// Output style; the default is that of `transformers`: one line, `, ` and `: `, non-ASCII characters unescaped.
#[derive(Debug, Clone, Default)]
pub(super) struct Style {
    /// Escape everything outside ASCII.
    pub ensure_ascii: bool,
    /// Spaces per level, with each element on its own line.
    pub indent: Option<usize>,
    /// Between elements, and between key and value.
    pub separators: Option<(String, String)>,
    /// Sort the keys.
    pub sort_keys: bool,
}

/// The output would be longer than allowed.
#[derive(Debug)]
pub(super) struct TooLong;

/// Writes `value`, at most `max` bytes.
pub(super) fn dumps(value: &Value, style: &Style, max: usize) -> Result<String, TooLong> {
    let usual = if style.indent.is_some() { "," } else { ", " };
    let (item, key) = match &style.separators {
        Some((item, key)) => (item.as_str(), key.as_str()),
        None => (usual, ": "),
    };
    let mut writer = Writer { out: String::new(), style, item, key, max };
    writer.value(value, 1)?;
    Ok(writer.out)
}

struct Writer<'s> {
    out: String,
    style: &'s Style,
    item: &'s str,
    key: &'s str,
    max: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, level: usize) -> Result<(), TooLong> {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Number(n) => match n.as_f64() {
                Some(x) if n.is_f64() && float_keeps(n) => self.out.push_str(&float(x)),
                _ => self.out.push_str(&n.to_string()),
            },
            Value::String(text) => self.text(text),
            Value::Array(all) if all.is_empty() => self.out.push_str("[]"),
            Value::Object(all) if all.is_empty() => self.out.push_str("{}"),
            Value::Array(all) => {
                self.out.push('[');
                for (index, element) in all.iter().enumerate() {
                    self.begin(index, level);
                    self.value(element, level + 1)?;
                }
                self.line(level - 1);
                self.out.push(']');
            }
            Value::Object(all) => {
                self.out.push('{');
                let mut entries: Vec<_> = all.iter().collect();
                if self.style.sort_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                for (index, (key, element)) in entries.into_iter().enumerate() {
                    self.begin(index, level);
                    self.text(key);
                    self.out.push_str(self.key);
                    self.value(element, level + 1)?;
                }
                self.line(level - 1);
                self.out.push('}');
            }
        }
        if self.out.len() > self.max { Err(TooLong) } else { Ok(()) }
    }

    /// Writes the separator and line break before an element.
    fn begin(&mut self, index: usize, level: usize) {
        if index > 0 {
            self.out.push_str(self.item);
        }
        self.line(level);
    }

    fn line(&mut self, level: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * level));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.style.ensure_ascii && !c.is_ascii()) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// Whether a float can represent a number: of more than 17 digits it may lose some.
pub(super) fn float_keeps(number: &Number) -> bool {
    let text = number.to_string();
    let digits = text.split(['e', 'E']).next().unwrap_or("").chars().filter(char::is_ascii_digit);
    digits.skip_while(|c| *c == '0').count() <= 17
}

/// Python's `repr` of a float: the shortest digits that round-trip, with an exponent outside 1e-4 to 1e16.
pub(super) fn float(x: f64) -> String {
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MAX: usize = 1 << 20;

    #[test]
    fn output_matches_python() {
        // Each expected text is what `json.dumps` of Python 3.12 prints with the same arguments.
        let value = json!({"b": [1, 2.0, -0.5, 1e16, 1e-5, 0.0001, 123_456_789_012_345.6], "a": {"é\u{1f600}\u{7f}\u{1}": "\"\\\n\r\t\u{8}\u{c}/"}, "c": [[], {}, null, true]});
        let with = |style: Style| dumps(&value, &style, MAX).unwrap();
        assert_eq!(
            with(Style::default()),
            "{\"b\": [1, 2.0, -0.5, 1e+16, 1e-05, 0.0001, 123456789012345.6], \"a\": {\"é😀\u{7f}\\u0001\": \"\\\"\\\\\\n\\r\\t\\b\\f/\"}, \"c\": [[], {}, null, true]}"
        );
        assert_eq!(
            with(Style { ensure_ascii: true, sort_keys: true, ..Style::default() }),
            "{\"a\": {\"\\u00e9\\ud83d\\ude00\u{7f}\\u0001\": \"\\\"\\\\\\n\\r\\t\\b\\f/\"}, \"b\": [1, 2.0, -0.5, 1e+16, 1e-05, 0.0001, 123456789012345.6], \"c\": [[], {}, null, true]}"
        );
        let small = json!({"a": [1, {"b": []}], "c": {}});
        let with = |style: Style| dumps(&small, &style, MAX).unwrap();
        assert_eq!(
            with(Style { indent: Some(2), ..Style::default() }),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ],\n  \"c\": {}\n}"
        );
        let separators = Some((",".to_owned(), ":".to_owned()));
        assert_eq!(
            with(Style { separators, ..Style::default() }),
            "{\"a\":[1,{\"b\":[]}],\"c\":{}}"
        );
    }

    #[test]
    fn long_separators_are_bounded() {
        let separators = Some(("x".repeat(1000), ":".to_owned()));
        let value = json!(vec![0; 100_000]);
        assert!(dumps(&value, &Style { separators, ..Style::default() }, MAX).is_err());
    }
}
