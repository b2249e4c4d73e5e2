//! Reads the fields of a JSON request, strictly: a wrong type, a number out of range and a name that
//! nobody knows are errors that say so.

use super::error::ApiError;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// The fields of a request that were not read yet, and the whole request where its numbers may have more digits
/// than a [`Value`] holds.
pub struct Fields(Map<String, Value>, Option<Vec<u8>>);

/// Numbers of fewer digits are what they were when they are written again.
const DIGITS_SAFE: usize = 16;

impl Fields {
    /// Parses a body.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => {
                let mut runs = body.split(|byte| !byte.is_ascii_digit());
                let long = runs.any(|run| run.len() > DIGITS_SAFE);
                Ok(Self(fields, long.then(|| body.to_vec())))
            }
            Ok(other) => {
                Err(ApiError::bad(format!("the body is {}, expected a JSON object", kind(&other))))
            }
            Err(error) => Err(ApiError::bad(format!("the body is not JSON: {error}"))),
        }
    }

    /// A field, if it is there and not null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|v| !v.is_null())
    }

    /// The text of a value within the request, if it may say more than the value that was read.
    pub fn exact(&self, path: &[&str]) -> Option<String> {
        let mut at: &RawValue = serde_json::from_slice(self.1.as_deref()?).ok()?;
        for step in path {
            let text = at.get();
            at = if let Ok(index) = step.parse::<usize>() {
                *serde_json::from_str::<Vec<&RawValue>>(text).ok()?.get(index)?
            } else {
                let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).ok()?;
                *members.get(*step)?
            };
        }
        Some(at.get().to_owned())
    }

    /// A truth value.
    ///
    /// # Errors
    /// When it is something else.
    pub fn bool(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.typed(name, "a string", |v| v.as_str().map(ToOwned::to_owned))
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// When it is something else or outside.
    pub fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.typed(name, &expected, |v| whole(v).filter(|n| range.contains(n)))
    }

    /// A text or several.
    ///
    /// # Errors
    /// When it is something else, or more than `max`.
    pub fn strings(&mut self, name: &str, max: usize) -> Result<Option<Vec<String>>, ApiError> {
        let expected = format!("a string or an array of at most {max} strings");
        self.typed(name, &expected, |v| match v {
            Value::String(s) => Some(vec![s.clone()]),
            Value::Array(all) if all.len() <= max => {
                all.iter().map(|s| s.as_str().map(ToOwned::to_owned)).collect()
            }
            _ => None,
        })
    }

    /// A field converted by `read`.
    ///
    /// # Errors
    /// When `read` finds nothing it can use.
    pub fn typed<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(ApiError::parameter(name, &show(&value), expected)),
        }
    }

    /// Drops fields that clients send and that change nothing here.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.0.shift_remove(*name);
        }
    }

    /// Refuses fields that are known elsewhere but not here, unless they ask for nothing.
    ///
    /// # Errors
    /// When one of them asks for something.
    pub fn unsupported(&mut self, names: &[&str]) -> Result<(), ApiError> {
        for name in names {
            let asks = |v: &Value| {
                !matches!(v, Value::Bool(false)) && v != &Value::from("") && !is_empty(v)
            };
            if self.take(name).is_some_and(|v| asks(&v)) {
                return Err(
                    ApiError::bad(format!("`{name}` is not supported yet")).with_param(name)
                );
            }
        }
        Ok(())
    }

    /// Refuses whatever was not read.
    ///
    /// # Errors
    /// When a field is left.
    pub fn finish(self, known: &[&str]) -> Result<(), ApiError> {
        let Some(name) = self.0.keys().next() else { return Ok(()) };
        let near =
            known.iter().filter(|k| distance(k, name) <= 2).min_by_key(|k| distance(k, name));
        let hint = near.map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
        Err(ApiError::bad(format!("unknown parameter `{name}`{hint}")).with_param(name))
    }
}

/// A whole number, also when it is written as 5.0, as some clients do.
fn whole(v: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    v.as_i64()
        .or_else(|| v.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9e15).map(|x| x as i64))
}

fn is_empty(v: &Value) -> bool {
    v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(Map::is_empty)
}

fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A value in a few words.
pub fn show(v: &Value) -> String {
    let text = v.to_string();
    if text.chars().count() <= 40 {
        text
    } else {
        format!("{}…", text.chars().take(39).collect::<String>())
    }
}

/// Edit distance (Levenshtein); names longer than 40 bytes are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 40 || b.len() > 40 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_found_again_with_all_their_digits() {
        let body = br#"{"a": {"b \"": [1, {"c": 123456789012345678901}]}, "d": 1.50}"#;
        let mut fields = Fields::parse(body).unwrap();
        let path = ["a", "b \"", "1", "c"];
        assert_eq!(fields.exact(&path).as_deref(), Some("123456789012345678901"));
        fields.take("a");
        assert!(fields.exact(&path).is_some());
        assert!(fields.exact(&["a", "x"]).is_none());
        assert!(fields.exact(&["a", "b \"", "7"]).is_none());
        assert!(Fields::parse(br#"{"a": 1234567890}"#).unwrap().exact(&["a"]).is_none());
    }
}
