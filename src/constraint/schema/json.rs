//! JSON values whose numbers keep all their digits: schemas contain identifiers beyond 64 bits, which no `f64` can
//! hold.
//!
//! Input: the source of a schema. Output: a tree of values. Knows nothing of schemas.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object, in source order; the last of duplicate members wins.
    Object(Vec<(String, Json)>),
}

/// Deepest nesting, the same as in `serde_json`.
const DEPTH_MAX: usize = 128;
/// Longest quotation of a value in an error, in characters.
const SHOWN_CHARS_MAX: usize = 40;

impl Json {
    /// Parses JSON text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| e.to_string())?;
        value(raw.get(), 0)
    }

    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The members of an object; empty for other values.
    pub fn members(&self) -> &[(String, Self)] {
        if let Self::Object(members) = self { members } else { &[] }
    }

    /// The elements of an array; empty for other values.
    pub fn elements(&self) -> &[Self] {
        if let Self::List(elements) = self { elements } else { &[] }
    }

    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The value one step down a JSON pointer; `step` is already unescaped.
    pub fn step(&self, step: &str) -> Option<&Self> {
        match self {
            Self::Object(_) => self.get(step),
            // An index has no sign and no leading zeros.
            Self::List(all) if step == "0" || !step.starts_with(['0', '+']) => {
                all.get(step.parse::<usize>().ok()?)
            }
            _ => None,
        }
    }

    /// The value, shortened for errors.
    pub fn shown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        if out.chars().nth(SHOWN_CHARS_MAX).is_some() {
            out = out.chars().take(SHOWN_CHARS_MAX - 1).collect::<String>() + "…";
        }
        out
    }

    /// Writes the value, stopping once it is long enough for a quotation.
    fn write(&self, out: &mut String) {
        if out.len() > 4 * SHOWN_CHARS_MAX {
            return;
        }
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(digits) => out.push_str(digits),
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::List(all) => {
                out.push('[');
                for (index, value) in all.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(all) => {
                out.push('{');
                for (index, (name, value)) in all.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(&quoted(name));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// A string as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Parses well-formed JSON without surrounding white space.
fn value(text: &str, depth: usize) -> Result<Json, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested more than {DEPTH_MAX} levels deep"));
    }
    let wrong = |e: serde_json::Error| e.to_string();
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let members = serde_json::Deserializer::from_str(text).deserialize_map(Members);
            let mut all: Vec<(String, Json)> = Vec::new();
            let mut places = hashbrown::HashMap::new();
            for (name, raw) in members.map_err(wrong)? {
                let member = value(raw.get(), depth + 1)?;
                let place = *places.entry(name.clone()).or_insert(all.len());
                match all.get_mut(place) {
                    Some((_, old)) => *old = member,
                    None => all.push((name, member)),
                }
            }
            Json::Object(all)
        }
        Some(b'[') => {
            let all: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            let all = all.into_iter().map(|raw| value(raw.get(), depth + 1));
            Json::List(all.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Json::Text(serde_json::from_str(text).map_err(wrong)?),
        Some(b't' | b'f') => Json::Bool(text == "true"),
        Some(b'n') | None => Json::Null,
        Some(_) => Json::Number(text.to_owned()),
    })
}

/// Reads an object's members in order, leaving their values unparsed.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut all = Vec::new();
        while let Some(member) = map.next_entry()? {
            all.push(member);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_and_members_their_order() {
        let text =
            r#" {"b": 123456789012345678901234567890, "a": [1.50, -0, 1E400], "b": "\u00e9"} "#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.shown(), r#"{"b":"é","a":[1.50,-0,1E400]}"#);
        assert_eq!(json.get("a").unwrap().step("2"), Some(&Json::Number("1E400".to_owned())));
        assert_eq!(json.get("a").unwrap().step("02"), None);
    }

    #[test]
    fn invalid_or_deeply_nested_json_is_an_error() {
        for text in ["", "{", "[1,]", "nul", "01", "{\"a\" 1}", "\"\\ud800\""] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(Json::parse(&deep(100)).is_ok());
        assert!(Json::parse(&deep(200)).is_err());
        assert!(Json::parse(&deep(60_000)).is_err());
    }
}
