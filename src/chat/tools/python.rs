//! Calls in Python's syntax: `[f(x="1"), g()]`, or `f.call(x="1")`.

use super::Tool;
use serde_json::{Map, Number, Value, json};

/// How deep lists and dictionaries may lie in one another.
const DEPTH_MAX: usize = 64;
/// Names of functions that take code, where what is called is no function at all.
const INTERPRETERS: &[&str] = &["python", "ipython", "code_interpreter"];

/// The calls of a text.
pub(super) fn calls(text: &str, _: &[Tool]) -> Option<Vec<(String, Value)>> {
    Parser { rest: text, depth: 0 }.calls()
}

/// The calls of a text, or the text as code for an interpreter, if one is among the tools.
pub(super) fn calls_or_code(text: &str, tools: &[Tool]) -> Option<Vec<(String, Value)>> {
    calls(text, tools).or_else(|| {
        let tool = tools.iter().find(|tool| INTERPRETERS.contains(&tool.name.as_str()))?;
        Some(vec![(tool.name.clone(), json!({ "code": text }))])
    })
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl Parser<'_> {
    /// All of the text as calls.
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
            if self.eat(")") {
                return Some((name, Value::Object(arguments)));
            }
            let key = self.word()?;
            self.eat("=").then_some(())?;
            let value = self.value()?;
            arguments.insert(key, value);
            if !self.eat(",") && !self.rest.starts_with(')') {
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
                while !self.eat(close) {
                    all.push(self.value()?);
                    if !self.eat(",") && !self.rest.starts_with(close) {
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
                while !self.eat("}") {
                    self.white();
                    let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
                    let key = self.string(quote)?;
                    self.eat(":").then_some(())?;
                    let value = self.value()?;
                    all.insert(key, value);
                    if !self.eat(",") && !self.rest.starts_with('}') {
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
                match word {
                    "True" | "true" => Some(Value::Bool(true)),
                    "False" | "false" => Some(Value::Bool(false)),
                    "None" | "null" => Some(Value::Null),
                    number => number.parse::<Number>().ok().map(Value::Number),
                }
            }
        }
    }

    /// A string in these quotes.
    fn string(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'u' => {
                        let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    c @ ('\\' | '"' | '\'') => out.push(c),
                    c => out.extend(['\\', c]),
                },
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    self.white();
                    return Some(out);
                }
                c => out.push(c),
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

    /// Takes `text`, if it comes next, and white space around it.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, Value)>> {
        Parser { rest: text, depth: 0 }.calls()
    }

    #[test]
    fn calls_are_read_with_all_kinds_of_values() {
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
    }

    #[test]
    fn what_is_no_call_is_none() {
        for text in
            ["", "print", "f(1)", "f(a=)", "f(a='x)", "x = 3", "f(a=1) and more", "f(a=1 2)"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        let deep = format!("f(a={}", "[".repeat(100_000));
        assert_eq!(read(&deep), None);
    }
}
