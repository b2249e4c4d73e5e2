//! Reads the fields of a JSON request. A wrong type or a number out of range is an error; unknown fields are ignored
//! and reported.

use super::budget::Share;
use super::error::ApiError;
use super::ignored::{self, Ignored};
use super::lists::{List, Part};
use memchr::memchr3_iter;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;
use std::ops::RangeInclusive;

/// Most fields in a request.
const FIELDS_MAX: usize = 1000;
/// Most unknown fields of a request that get a spelling suggestion.
const HINTS_MAX: usize = 32;
/// Longest name that gets a spelling suggestion.
const NAME_BYTES_MAX: usize = 40;
/// Fields that may hold many token ids.
const LISTS: &[&str] = &["prompt", "input", "inputs", "content", "tokens", "token_ids", "ids"];
/// Bytes of memory for each value of parsed JSON, with what its containers keep in reserve.
const VALUE_BYTES: usize = 256;

/// The fields of a request that have not been read yet.
pub struct Fields {
    left: Map<String, Value>,
    /// Those of [`LISTS`] that are arrays; they have a stand-in in `left`.
    lists: Vec<(String, List)>,
    /// Our names of renamed fields, and the names in the request.
    renamed: Vec<(String, String)>,
    /// Fields that another one overrides, and that one.
    passed_over: Vec<(String, String)>,
}

impl Fields {
    /// Parses the body of a request. The memory for it is taken of the request's `share`.
    ///
    /// # Errors
    /// When it is not a JSON object, has too many fields, or takes too much memory.
    pub fn parse(body: &[u8], share: &Share) -> Result<Self, ApiError> {
        let mut given = serde_json::Deserializer::from_slice(body);
        let all = given.deserialize_any(Raw).and_then(|all| given.end().map(|()| all));
        let all = all.map_err(|error| {
            let kind = kind(body);
            let other = error.is_data() && kind != OBJECT;
            ApiError::bad(match () {
                () if other => format!("the body is {kind}, expected {OBJECT}"),
                () if error.is_data() => format!("the body has {error}"),
                () => format!("the body is not JSON: {error}"),
            })
        })?;
        let mut fields = Self {
            left: Map::new(),
            lists: Vec::new(),
            renamed: Vec::new(),
            passed_over: Vec::new(),
        };
        for (name, json) in all {
            let list = LISTS.contains(&name.as_str()) && json.get().starts_with('[');
            let list = if list { List::read(json, share)? } else { None };
            let value = match &list {
                Some(_) => Value::Array(vec![Value::from("…")]),
                None => value(json, share)?,
            };
            fields.lists.retain(|(n, _)| *n != name);
            fields.lists.extend(list.map(|list| (name.clone(), list)));
            fields.left.insert(name, value);
        }
        Ok(fields)
    }

    /// Removes and returns a field that is an array of token ids or texts, or a single text. Anything else is
    /// [`Part::Other`].
    pub fn take_list(&mut self, name: &str) -> Option<Part> {
        let list = self.lists.iter().position(|(n, _)| n == name);
        let value = self.take(name)?;
        Some(match (list, value) {
            (Some(index), _) => Part::List(self.lists.swap_remove(index).1),
            (None, Value::String(text)) => Part::Text(text),
            (None, other) => Part::Other(show(&other)),
        })
    }

    /// Removes and returns a field, if it is present and not null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.shift_remove(name).filter(|v| !v.is_null())
    }

    /// Whether a field is present and not null. `a.b` is the field `b` of `a`; if `a` is not an object, it counts as
    /// present.
    pub fn has(&self, name: &str) -> bool {
        let (object, inner) = name.split_once('.').unwrap_or((name, ""));
        match self.left.get(object) {
            None | Some(Value::Null) => false,
            Some(Value::Object(fields)) if name.contains('.') => {
                fields.get(inner).is_some_and(|v| !v.is_null())
            }
            Some(_) => true,
        }
    }

    /// Sets a field that the request calls `theirs`.
    pub fn put(&mut self, name: &str, theirs: &str, value: Value) {
        match name.split_once('.') {
            None => {
                self.lists.retain(|(n, _)| n != name);
                let list = self.lists.iter_mut().find(|(n, _)| n == theirs);
                if let Some((list, _)) = list {
                    name.clone_into(list);
                }
                self.renamed.push((name.to_owned(), self.called(theirs).to_owned()));
                self.left.insert(name.to_owned(), value);
            }
            Some((object, inner)) => {
                let place = self.left.entry(object).or_insert(Value::Null);
                if place.is_null() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(fields) = place {
                    fields.insert(inner.to_owned(), value);
                }
            }
        }
    }

    /// Records that a field is ignored because another one overrides it.
    pub fn passed_over(&mut self, theirs: &str, ours: &str) {
        let (theirs, ours) = (self.called(theirs).to_owned(), self.called(ours).to_owned());
        self.passed_over.push((theirs, ours));
    }

    /// Moves the fields of an object up into the request, if it is an object.
    pub fn lift(&mut self, object: &str) {
        let Some(inner) = self.take_object(object) else { return };
        for (name, value) in inner.into_iter().filter(|(_, v)| !v.is_null()) {
            let theirs = format!("{object}.{name}");
            if self.has(&name) {
                self.passed_over.push((theirs, name));
            } else {
                self.renamed.push((name.clone(), theirs));
                self.left.insert(name, value);
            }
        }
    }

    /// Flattens an object: its field `b` becomes the field `a.b`.
    pub fn spread(&mut self, object: &str) {
        for (name, value) in self.take_object(object).into_iter().flatten() {
            self.left.insert(format!("{object}.{name}"), value);
        }
    }

    /// Takes a field that is an object, unless its fields would exceed the limit.
    fn take_object(&mut self, name: &str) -> Option<Map<String, Value>> {
        let fields = self.left.get(name)?.as_object()?.len();
        match self.take(name)? {
            Value::Object(inner) if fields + self.left.len() <= FIELDS_MAX => Some(inner),
            other => {
                self.left.insert(name.to_owned(), other);
                None
            }
        }
    }

    /// An error for a field with a wrong type or value.
    pub fn wrong(&self, name: &str, found: &Value, expected: &str) -> ApiError {
        ApiError::parameter(self.called(name), &show(found), expected)
    }

    /// The name that the request uses for a field.
    pub fn called<'a>(&'a self, name: &'a str) -> &'a str {
        let theirs = self.renamed.iter().rev().find(|(ours, _)| ours == name);
        theirs.map_or(name, |(_, theirs)| theirs)
    }

    /// A boolean.
    ///
    /// # Errors
    /// When it is something else.
    pub fn bool(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A string.
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

    /// A string, or an array of strings.
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
            None => Err(self.wrong(name, &value, expected)),
        }
    }

    /// Drops fields that clients send but that have no effect here.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.left.shift_remove(*name);
        }
    }

    /// Returns the remaining and the overridden fields as ignored.
    ///
    /// # Errors
    /// When there are any and the server is `strict`.
    pub fn finish(self, known: &[&str], strict: bool) -> Result<Ignored, ApiError> {
        let mut ignored = Ignored::default();
        for (index, (name, _)) in self.left.iter().filter(|(_, v)| !v.is_null()).enumerate() {
            // Long names resemble none of ours and are slow to compare.
            let is_short = name.len() <= NAME_BYTES_MAX && index < HINTS_MAX;
            // In a two-letter name, one edit makes a different word.
            let far = (name.len() / 3).min(2);
            let near = known.iter().filter(|k| *k != name && is_short);
            let near = near.map(|known| (strsim::levenshtein(known, name), known));
            let near = near.filter(|(n, _)| *n <= far).min_by_key(|(n, _)| *n).map(|(_, k)| k);
            let hint = near.map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
            let why = format!("unknown parameter `{}`{hint}", ignored::shown(self.called(name)));
            ignored.add(self.called(name), why);
        }
        for (name, ours) in &self.passed_over {
            let (shown, ours) = (ignored::shown(name), ignored::shown(ours));
            let why = format!("`{shown}` is ignored because `{ours}` is set, which means the same");
            ignored.add(name, why);
        }
        if strict { ignored.refused() } else { Ok(ignored) }
    }
}

#[cfg(test)]
impl Fields {
    /// The remaining fields, and the names of those overridden.
    pub fn into_parts(self) -> (Value, Vec<String>) {
        let mut left = self.left;
        for (name, list) in self.lists {
            left.entry(name).and_modify(|value| *value = list.into_value());
        }
        (Value::Object(left), self.passed_over.into_iter().map(|(name, _)| name).collect())
    }
}

/// A whole number; some clients write 5 as 5.0.
fn whole(v: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    v.as_i64()
        .or_else(|| v.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9e15).map(|x| x as i64))
}

const OBJECT: &str = "a JSON object";

/// What a body is, by its first character.
fn kind(body: &[u8]) -> &'static str {
    match body.trim_ascii_start().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => OBJECT,
        _ => "a number",
    }
}

/// A value, after its memory was taken.
fn value(json: &RawValue, share: &Share) -> Result<Value, ApiError> {
    let json = json.get();
    let values = memchr3_iter(b',', b'[', b'{', json.as_bytes()).count() + 1;
    share.take(json.len().saturating_add(values.saturating_mul(VALUE_BYTES)))?;
    serde_json::from_str(json).map_err(|e| ApiError::bad(format!("the body is not JSON: {e}")))
}

/// Reads an object's fields as they are written.
struct Raw;

impl<'de> Visitor<'de> for Raw {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OBJECT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all: Self::Value = Vec::new();
        while let Some(field) = map.next_entry()? {
            if all.len() == FIELDS_MAX {
                let most = format!("more than {FIELDS_MAX} fields");
                return Err(serde::de::Error::custom(most));
            }
            all.push(field);
        }
        Ok(all)
    }
}

/// A value, shortened for an error message.
pub fn show(v: &Value) -> String {
    let text = v.to_string();
    if text.chars().count() <= 40 {
        text
    } else {
        format!("{}…", text.chars().take(39).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::parse(body.as_bytes(), &Share::default()).unwrap()
    }

    #[test]
    fn null_counts_as_missing() {
        let mut f =
            fields(r#"{"a": null, "b": null, "c": null, "d": null, "e": null, "new": null}"#);
        assert_eq!(f.bool("a").unwrap(), None);
        assert_eq!(f.string("b").unwrap(), None);
        assert_eq!(f.integer("c", 1..=2).unwrap(), None);
        assert_eq!(f.strings("d", 1).unwrap(), None);
        assert!(!f.has("e"));
        assert_eq!(f.finish(&[], true).unwrap().header(), None);
    }

    #[test]
    fn too_many_fields_are_refused_and_large_objects_not_flattened() {
        let many = |n: usize| {
            let all: Map<String, Value> = (0..n).map(|i| (format!("f{i}"), i.into())).collect();
            Value::Object(all)
        };
        assert!(Fields::parse(many(1000).to_string().as_bytes(), &Share::default()).is_ok());
        assert!(Fields::parse(many(1001).to_string().as_bytes(), &Share::default()).is_err());
        let mut f = fields(&serde_json::json!({ "x": 1, "options": many(1000) }).to_string());
        f.lift("options");
        f.spread("options");
        assert_eq!(f.finish(&[], false).unwrap().header().as_deref(), Some("x, options"));
    }

    #[test]
    fn unknown_fields_are_named_and_strict_servers_refuse_them() {
        let body = r#"{"temprature": 1, "quite_new": 2, "seed": 3}"#;
        let known = ["temperature", "seed"];
        let mut f = fields(body);
        f.ignore(&["seed"]);
        let ignored = f.finish(&known, false).unwrap();
        assert_eq!(ignored.header().as_deref(), Some("temprature, quite_new"));
        let error = fields(body).finish(&known, true).err().unwrap().json()["error"].clone();
        assert_eq!(error["param"], "temprature");
        let message = error["message"].as_str().unwrap();
        assert_eq!(message, "unknown parameter `temprature`; did you mean `temperature`?");
        let error = fields(r#"{"id": 1}"#).finish(&["n"], true).err().unwrap();
        assert_eq!(error.json()["error"]["message"], "unknown parameter `id`");
        // A field that is known elsewhere is not suggested for itself.
        let error = fields(r#"{"seed": 1}"#).finish(&known, true).err().unwrap();
        assert_eq!(error.json()["error"]["message"], "unknown parameter `seed`");
    }
}
