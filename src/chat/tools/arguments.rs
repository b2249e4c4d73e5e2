//! The arguments of a call: always a JSON object, whatever the model writes.

use super::super::held::{Held, Out};
use super::loose::{Loose, Progress, quoted, value};
use super::python;
use super::tool::{INTERPRETERS, Tool, tool};

/// Reads an object that arrives piece by piece.
#[derive(Debug, Default)]
pub(super) struct Arguments(Loose);

impl Arguments {
    /// The JSON that has arrived, and whether the object has ended. If the answer was cut off, it has not; if the model
    /// ended the answer itself, missing brackets are added.
    pub fn read(&mut self, held: &mut Held, marks: &[&str]) -> (String, bool) {
        let read = self.0.read(&held.text, marks, held.ended);
        held.take(read.taken);
        let mut json = read.json;
        let ends = match read.progress {
            Progress::Done | Progress::Stopped => true,
            Progress::More => held.ended && !held.cut,
        };
        let closed = if ends { self.0.close() } else { None };
        json.push_str(closed.as_deref().unwrap_or(""));
        (json, closed.is_some())
    }
}

/// Reads any text as an object: JSON, Python, JSON in a string, nothing, or the value of the function's only argument.
pub(in super::super) fn object(text: &str, name: &str, tools: &[Tool]) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "{}".to_owned();
    }
    let (json, whole) = value(text);
    if json.starts_with('{') && (whole || text.starts_with('{')) {
        return json;
    }
    if json == "null" || json == "[]" || json == "\"\"" {
        return "{}".to_owned();
    }
    if whole && json.starts_with('"') {
        let inner: String = serde_json::from_str(&json).unwrap_or_default();
        let (json, whole) = value(&inner);
        if whole && json.starts_with('{') {
            return json;
        }
        if inner.trim().is_empty() {
            return "{}".to_owned();
        }
    }
    if let Some(arguments) = python::keywords(text) {
        return arguments.to_string();
    }
    let json = if whole { json } else { quoted(text) };
    format!("{{{}: {json}}}", quoted(&only_argument(name, tools)))
}

/// The name of a function's only argument, or a generic one.
fn only_argument(name: &str, tools: &[Tool]) -> String {
    let tool = tool(tools, name);
    let known = tool.and_then(|tool| tool.parameters.get("properties")?.as_object());
    match known {
        Some(known) if known.len() == 1 => known.keys().next().cloned().unwrap_or_default(),
        _ if INTERPRETERS.contains(&name) => "code".to_owned(),
        _ => "arguments".to_owned(),
    }
}

/// Emits a whole call.
pub(super) fn tell(out: &mut Out, name: &str, arguments: &str) {
    out.call(name, None);
    out.arguments(arguments);
    out.end_call();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_text_becomes_an_object() {
        let raw = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}});
        let tools = [Tool::read(&raw).unwrap()];
        for (text, expected) in [
            ("", "{}"),
            ("null", "{}"),
            ("[]", "{}"),
            ("\"\"", "{}"),
            ("None", "{}"),
            (r#"{"a": 12345678901234567890123}"#, r#"{"a": 12345678901234567890123}"#),
            (r#"{"a": "cut o"#, r#"{"a": "cut o"}"#),
            (r#""{\"a\": 1}""#, r#"{"a": 1}"#),
            ("{'a': True}", r#"{"a": true}"#),
            ("a=1, b='x'", r#"{"a":1,"b":"x"}"#),
            ("plain text", r#"{"q": "plain text"}"#),
            ("[1, 2]", r#"{"q": [1, 2]}"#),
        ] {
            assert_eq!(object(text, "f", &tools), expected, "{text}");
        }
        assert_eq!(object("print(1)", "python", &[]), r#"{"code": "print(1)"}"#);
        assert_eq!(object("x", "g", &[]), r#"{"arguments": "x"}"#);
    }
}
