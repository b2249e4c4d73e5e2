//! Calls as Gemma 4 writes them: `call:f{city:<|"|>Rome<|"|>,days:2}`, which is JSON with bare keys and a special token
//! for quotes, between which nothing is escaped.

use super::loose::{scalar, string};
use super::tool::{Tool, is_name};
use serde_json::{Map, Value};

const QUOTE: &str = "<|\"|>";
/// Nesting limit for lists and objects.
const DEPTH_MAX: usize = 64;

/// The calls in a text.
pub(super) fn calls(text: &str, _: &[Tool]) -> Option<Vec<(String, Value)>> {
    let mut text = text;
    let mut calls = Vec::new();
    while let Some(call) = text.trim_start().strip_prefix("call:") {
        let end = call.find('{').unwrap_or(call.len());
        let name = call[..end].trim();
        if !is_name(name) {
            return None;
        }
        let mut parser = Parser { rest: &call[end..], depth: 0 };
        // A function without arguments may go without braces.
        let arguments =
            if parser.rest.is_empty() { Value::Object(Map::new()) } else { parser.value()? };
        calls.push((name.to_owned(), arguments));
        // A surplus brace, or the next call.
        text = parser.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '}' || c == ',');
    }
    (text.trim().is_empty() && !calls.is_empty()).then_some(calls)
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn value(&mut self) -> Option<Value> {
        if self.eat(QUOTE) {
            let Some(mut text) = self.up_to(QUOTE) else { return self.word().map(Value::from) };
            // Doubled quotes.
            if text.is_empty() && !self.rest.is_empty() && !self.rest.starts_with([',', '}', ']']) {
                text = self.up_to(QUOTE)?;
            }
            self.eat(QUOTE);
            return Some(Value::from(text));
        }
        if self.rest.starts_with('"') {
            let (text, end) = string(self.rest, &[], true)?;
            self.rest = self.rest[end..].trim_start();
            return Some(Value::from(text));
        }
        if self.depth >= DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let value = if self.eat("{") {
            self.object()
        } else if self.eat("[") {
            self.list()
        } else {
            let word = self.word()?;
            Some(match scalar(word) {
                Some(json) => serde_json::from_str(&json).unwrap_or(Value::from(word)),
                None => Value::from(word),
            })
        };
        self.depth -= 1;
        value
    }

    /// The text up to the next comma or bracket; one of its quotes may be missing.
    fn word(&mut self) -> Option<&'t str> {
        let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let word = word.trim().trim_end_matches(QUOTE);
        (!word.is_empty()).then_some(word)
    }

    fn object(&mut self) -> Option<Value> {
        let mut all = Map::new();
        // The closing brace may be missing at the end of the text.
        while !self.eat("}") && (all.is_empty() || !self.rest.is_empty()) {
            let key = if self.eat(QUOTE) {
                let key = self.up_to(QUOTE)?;
                self.eat(":").then_some(key)?
            } else {
                self.up_to(":")?.trim()
            };
            let value = self.value()?;
            all.insert(key.to_owned(), value);
            if !self.eat(",") && !self.rest.starts_with('}') && !self.rest.is_empty() {
                return None;
            }
        }
        Some(Value::Object(all))
    }

    fn list(&mut self) -> Option<Value> {
        let mut all = Vec::new();
        while !self.eat("]") && (all.is_empty() || !self.rest.is_empty()) {
            all.push(self.value()?);
            if !self.eat(",") && !self.rest.starts_with(']') && !self.rest.is_empty() {
                return None;
            }
        }
        Some(Value::Array(all))
    }

    fn up_to(&mut self, end: &str) -> Option<&'t str> {
        let (text, rest) = self.rest.split_once(end)?;
        self.rest = rest.trim_start();
        Some(text)
    }

    fn eat(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        let Some(rest) = self.rest.strip_prefix(text) else { return false };
        self.rest = rest.trim_start();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Option<String> {
        calls(text, &[]).map(|calls| calls[0].1.to_string())
    }

    #[test]
    fn a_call_is_json_with_bare_keys_and_other_quotes() {
        let text = r#"call:f{a:<|"|>x, "}<|"|>,b:[1,-2.5,{c:true}], d : null ,e:{},g:[]}"#;
        let expected = r#"{"a":"x, \"}","b":[1,-2.5,{"c":true}],"d":null,"e":{},"g":[]}"#;
        assert_eq!(arguments(text).as_deref(), Some(expected));
        for text in ["call:f{}", "call:f", "call:f{}}"] {
            assert_eq!(arguments(text).as_deref(), Some("{}"), "{text}");
        }
        assert_eq!(arguments("call:f{a:1,b:[2").as_deref(), Some(r#"{"a":1,"b":[2]}"#));
        let number = "123456789012345678901234567890";
        let text = format!("call:f{{a:{number},b:\"x, y\"}}");
        assert_eq!(arguments(&text), Some(format!(r#"{{"a":{number},"b":"x, y"}}"#)));
        assert_eq!(calls("call:f{}call:g{}", &[]).unwrap().len(), 2);
        for text in ["f{}", "call:{}", "call:f{a}", "call:f{} x", "call:a b{}"] {
            assert_eq!(arguments(text), None, "{text}");
        }
        assert_eq!(arguments(&format!("call:f{{a:{}", "[".repeat(100_000))), None);
    }
}
