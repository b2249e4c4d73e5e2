//! Calls as Gemma 4 writes them: `call:f{city:<|"|>Rome<|"|>,days:2}`, which is JSON with bare keys and with a
//! token for quotes, in which nothing is escaped.

use super::Tool;
use serde_json::{Map, Value};

const QUOTE: &str = "<|\"|>";
/// How deep lists and objects may lie in one another.
const DEPTH_MAX: usize = 64;

/// The call of a text.
pub(super) fn calls(text: &str, _: &[Tool]) -> Option<Vec<(String, Value)>> {
    let text = text.strip_prefix("call:")?;
    let (name, _) = text.split_once('{')?;
    let name = name.trim();
    let fits = |c: char| c.is_alphanumeric() || "_-./:".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        return None;
    }
    let mut parser = Parser { rest: &text[text.find('{')?..], depth: 0 };
    let arguments = parser.value()?;
    parser.rest.trim().is_empty().then(|| vec![(name.to_owned(), arguments)])
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn value(&mut self) -> Option<Value> {
        if self.eat(QUOTE) {
            return self.up_to(QUOTE).map(Value::from);
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
            let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            // Neither quoted nor anything of JSON: a text all the same.
            let word = word.trim();
            (!word.is_empty()).then(|| serde_json::from_str(word).unwrap_or(Value::from(word)))
        };
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Option<Value> {
        let mut all = Map::new();
        while !self.eat("}") {
            let key = if self.eat(QUOTE) {
                let key = self.up_to(QUOTE)?;
                self.eat(":").then_some(key)?
            } else {
                self.up_to(":")?.trim()
            };
            let value = self.value()?;
            all.insert(key.to_owned(), value);
            if !self.eat(",") && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(all))
    }

    fn list(&mut self) -> Option<Value> {
        let mut all = Vec::new();
        while !self.eat("]") {
            all.push(self.value()?);
            if !self.eat(",") && !self.rest.starts_with(']') {
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
        assert_eq!(arguments("call:f{}").as_deref(), Some("{}"));
        for text in
            ["f{}", "call:{}", "call:f", "call:f{a:1", "call:f{a}", "call:f{} x", "call:a b{}"]
        {
            assert_eq!(arguments(text), None, "{text}");
        }
        assert_eq!(arguments(&format!("call:f{{a:{}", "[".repeat(100_000))), None);
    }
}
