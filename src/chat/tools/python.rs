//! Calls in Python's syntax: `[f(x="1"), g()]`, or `f.call(x="1")`.

use super::loose::scalar;
use super::tool::{INTERPRETERS, NAME_BYTES_MAX, Tool, tool};
use serde_json::{Map, Value, json};

/// Nesting limit for lists and dictionaries.
const DEPTH_MAX: usize = 64;

/// The calls in a text.
pub(super) fn calls(text: &str, _: &[Tool]) -> Option<Vec<(String, Value)>> {
    Parser { rest: text, depth: 0 }.calls()
}

/// Whether a text begins with a call, of one of the `known` functions if given; `None`: more text is needed.
pub(super) fn begins(text: &str, known: Option<&[Tool]>, ended: bool) -> Option<bool> {
    let is_word = |c: char| c.is_alphanumeric() || "_.-".contains(c);
    let end = text.find(|c| !is_word(c));
    let word = &text[..end.unwrap_or(text.len())];
    if end.is_none() && !ended && word.len() <= NAME_BYTES_MAX {
        return None;
    }
    let is_known = known.is_none_or(|tools| tool(tools, word).is_some());
    Some(!word.is_empty() && is_known && text[word.len()..].starts_with('('))
}

/// The calls in a text, or the text as code for an interpreter, if one is among the tools.
pub(super) fn calls_or_code(text: &str, tools: &[Tool]) -> Option<Vec<(String, Value)>> {
    calls(text, tools).or_else(|| {
        let tool = tools.iter().find(|tool| INTERPRETERS.contains(&tool.name.as_str()))?;
        Some(vec![(tool.name.clone(), json!({ "code": text }))])
    })
}

/// The arguments `a=1, b="x"`, as one object.
pub(super) fn keywords(text: &str) -> Option<Value> {
    let text = text.trim();
    let inner = text.strip_prefix('(').map_or(text, |text| text.strip_suffix(')').unwrap_or(text));
    let (_, value) = Parser { rest: &format!("f({inner})"), depth: 0 }.calls()?.pop()?;
    value.as_object().is_some_and(|all| !all.is_empty()).then_some(value)
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl Parser<'_> {
    /// Parses all of the text as calls.
    fn calls(mut self) -> Option<Vec<(String, Value)>> {
        let list = self.eat("[");
        let mut calls = Vec::new();
        loop {
            self.white();
            if list && self.eat("]") {
                break;
            }
            if self.rest.is_empty() {
                break;
            }
            calls.push(self.call()?);
            self.eat(",");
        }
        self.white();
        (self.rest.is_empty() && !calls.is_empty()).then_some(calls)
    }

    fn call(&mut self) -> Option<(String, Value)> {
        // Llama's built-in functions are objects with a method.
        let name = self.word()?;
        let name = name.strip_suffix(".call").unwrap_or(&name).to_owned();
        self.eat("(").then_some(())?;
        let mut arguments = Map::new();
        loop {
            self.white();
            // The closing parenthesis may be missing at the end of the text.
            if self.eat(")") || (self.rest.is_empty() && !arguments.is_empty()) {
                return Some((name, Value::Object(arguments)));
            }
            let key = self.word()?;
            self.eat("=").then_some(())?;
            let value = self.value()?;
            arguments.insert(key, value);
            if !self.eat(",") && !self.rest.starts_with(')') && !self.rest.is_empty() {
                return None;
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.white();
        if self.depth >= DEPTH_MAX {
            return None;
        }
        let first = self.rest.chars().next()?;
        match first {
            '"' | '\'' => self.string(first).map(Value::from),
            '[' | '(' => {
                let close = if first == '[' { "]" } else { ")" };
                self.rest = &self.rest[1..];
                self.depth += 1;
                let mut all = Vec::new();
                while !self.eat(close) && (all.is_empty() || !self.rest.is_empty()) {
                    all.push(self.value()?);
                    let more = self.eat(",") || self.rest.is_empty();
                    if !more && !self.rest.starts_with(close) {
                        return None;
                    }
                }
                self.depth -= 1;
                Some(Value::Array(all))
            }
            '{' => {
                self.rest = &self.rest[1..];
                self.depth += 1;
                let mut all = Map::new();
                while !self.eat("}") && (all.is_empty() || !self.rest.is_empty()) {
                    self.white();
                    let key = match self.value()? {
                        Value::String(key) => key,
                        key @ (Value::Number(_) | Value::Bool(_) | Value::Null) => key.to_string(),
                        _ => return None,
                    };
                    self.eat(":").then_some(())?;
                    let value = self.value()?;
                    all.insert(key, value);
                    let more = self.eat(",") || self.rest.is_empty();
                    if !more && !self.rest.starts_with('}') {
                        return None;
                    }
                }
                self.depth -= 1;
                Some(Value::Object(all))
            }
            _ => {
                let end = self.rest.find(|c: char| !(c.is_alphanumeric() || "+-._".contains(c)));
                let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = rest;
                self.white();
                serde_json::from_str(&scalar(word)?).ok()
            }
        }
    }

    /// A string in these quotes, single or triple.
    fn string(&mut self, quote: char) -> Option<String> {
        let threefold = String::from_iter([quote; 3]);
        let end = if self.rest.starts_with(&threefold) { &threefold } else { &threefold[..1] };
        let mut rest = &self.rest[end.len()..];
        let mut out = String::new();
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix(end) {
                self.rest = after;
                self.white();
                return Some(out);
            }
            rest = &rest[c.len_utf8()..];
            if c != '\\' {
                out.push(c);
                continue;
            }
            let escaped = rest.chars().next()?;
            rest = &rest[escaped.len_utf8()..];
            match escaped {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'x' => out.push(char::from(u8::try_from(hex(&mut rest, 2)?).ok()?)),
                'U' => out.push(char::from_u32(hex(&mut rest, 8)?)?),
                'u' => out.push(utf16(&mut rest)?),
                '\n' => {}
                c @ ('\\' | '"' | '\'') => out.push(c),
                c => out.extend(['\\', c]),
            }
        }
        None
    }

    fn word(&mut self) -> Option<String> {
        self.white();
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || "_.-".contains(c)))?;
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.white();
        (!word.is_empty()).then(|| word.to_owned())
    }

    /// Takes `text`, if it comes next, and the whitespace around it.
    fn eat(&mut self, text: &str) -> bool {
        self.white();
        let Some(rest) = self.rest.strip_prefix(text) else { return false };
        self.rest = rest;
        self.white();
        true
    }

    fn white(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

/// Takes `count` hexadecimal digits from the front.
fn hex(rest: &mut &str, count: usize) -> Option<u32> {
    let digits = rest.get(..count)?;
    *rest = &rest[count..];
    u32::from_str_radix(digits, 16).ok()
}

/// The character of one `\u` escape or a surrogate pair; a lone surrogate becomes U+FFFD.
fn utf16(rest: &mut &str) -> Option<char> {
    let first = u16::try_from(hex(rest, 4)?).ok()?;
    let mut after = rest.strip_prefix("\\u").unwrap_or("");
    let second = hex(&mut after, 4).and_then(|unit| u16::try_from(unit).ok());
    if let Some(second) = second.filter(|_| (0xd800..0xdc00).contains(&first))
        && let Some(Ok(c)) = char::decode_utf16([first, second]).next()
    {
        *rest = after;
        return Some(c);
    }
    Some(char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, Value)>> {
        Parser { rest: text, depth: 0 }.calls()
    }

    #[test]
    fn calls_parse_with_all_kinds_of_values() {
        let calls =
            read(r#"[f(a="x, \"y\"", b=[1, -2.5], c={'k': None, "l": True}, d=()), g()]"#).unwrap();
        assert_eq!(calls[0].0, "f");
        assert_eq!(
            calls[0].1.to_string(),
            r#"{"a":"x, \"y\"","b":[1,-2.5],"c":{"k":null,"l":true},"d":[]}"#
        );
        assert_eq!(calls[1], ("g".to_owned(), json!({})));
        assert_eq!(
            read("s.call(query=\"q\")"),
            Some(vec![("s".to_owned(), json!({"query": "q"}))])
        );
        assert_eq!(read("f(a=1)\ng(b='2')").unwrap().len(), 2);
        assert_eq!(read("[f(a=1, b=[2]").unwrap()[0].1, json!({"a": 1, "b": [2]}));
        for (value, expected) in [
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1.10", "1.10"),
            (r#""\ud83d\ude00\ud83d\x41""#, "\"😀\u{fffd}A\""),
            ("{1: None}", r#"{"1":null}"#),
            (r#""""x"y""""#, r#""x\"y""#),
            ("''", "\"\""),
        ] {
            let found = &read(&format!("f(x={value})")).unwrap()[0].1["x"];
            assert_eq!(found.to_string(), expected, "{value}");
        }
    }

    #[test]
    fn invalid_calls_are_none() {
        for text in
            ["", "print", "f(1)", "f(a=)", "f(a='x)", "x = 3", "f(a=1) and more", "f(a=1 2)"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        let deep = format!("f(a={}", "[".repeat(100_000));
        assert_eq!(read(&deep), None);
    }
}
