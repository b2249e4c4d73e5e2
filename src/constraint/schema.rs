//! A JSON schema as it was meant.
//!
//! Answers are written on one line as most programs write JSON, `{"a": 1, "b": [2, 3]}`, so that everything
//! but the values is known in advance. An object that lists `properties` has no others unless the schema says
//! so, as in the reference: by the letter it might have any, and small models would never come to an end.

use serde_json::{Map, Value, json};

/// The schema as the library is given it.
///
/// # Errors
/// What in it is not supported, and where, as a JSON pointer.
pub(super) fn prepared(schema: &Value) -> Result<Value, String> {
    let mut schema = match schema {
        Value::Object(schema) => Value::Object(schema.clone()),
        Value::Bool(true) => json!({}),
        other => return Err(format!("found {}, expected an object", shown(other))),
    };
    let places = places(&schema);
    let mut multiples = Multiples::default();
    for place in &places {
        let Some(part) = schema.pointer_mut(place) else { continue };
        check(part, &mut multiples).map_err(|problem| format!("#{place}{problem}"))?;
    }
    let intersects = places.iter().filter_map(|p| schema.pointer(p)).any(intersects);
    multiples.check(intersects)?;
    for place in places.iter().filter(|_| !intersects) {
        if let Some(part) = schema.pointer_mut(place).and_then(Value::as_object_mut) {
            close(part);
        }
    }
    schema["x-guidance"] = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
        // The reference takes it as anyOf as well.
        "coerce_one_of": true,
    });
    Ok(schema)
}

/// Schemas within a schema that hold no other and can be looked at alone, each with its place: to find which of
/// them is wrong.
pub(super) fn leaves(schema: &Value) -> Vec<(String, &Value)> {
    let places = places(schema);
    let next = places.iter().skip(1).map(Some).chain([None]);
    let mut leaves = Vec::new();
    for (place, next) in places.iter().zip(next) {
        let Some(part) = schema.pointer(place) else { continue };
        let holds_next = next.is_some_and(|n| n.starts_with(place.as_str()));
        if !holds_next && part.get("$ref").is_none() {
            leaves.push((format!("#{place}"), part));
        }
    }
    leaves
}

/// Makes references within a schema hold when it stands at `place` in another one.
pub(super) fn relocate(schema: &mut Value, place: &str) {
    for part in places(schema) {
        let part = schema.pointer_mut(&part).and_then(Value::as_object_mut);
        if let Some(Value::String(to)) = part.and_then(|part| part.get_mut("$ref"))
            && let Some(inner) = to.strip_prefix('#')
        {
            *to = format!("#{place}{inner}");
        }
    }
}

/// Keywords that restrict values and that are not implemented; ignoring them would allow wrong answers.
const UNSUPPORTED: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
];
const TYPES: &[&str] = &["null", "boolean", "integer", "number", "string", "array", "object"];
/// Formats that are enforced. Others only say something about a value, as the standard has it by default.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
/// Keywords whose value is a schema, an array of schemas, or schemas by name.
const ONE: &[&str] = &["items", "additionalItems", "additionalProperties"];
const SEVERAL: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];

/// The places of all schemas in a schema, itself first, each before those in it.
fn places(schema: &Value) -> Vec<String> {
    let mut places = vec![String::new()];
    let mut at = 0;
    // Those in a schema are put right behind it.
    while let Some(place) = places.get(at).cloned() {
        let inner = schema.pointer(&place).map_or_else(Vec::new, |part| steps(part, &place));
        at += 1;
        places.splice(at..at, inner);
    }
    places
}

/// The places of the schemas directly within one at `place`.
fn steps(schema: &Value, place: &str) -> Vec<String> {
    let mut inner = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        let is = |kind: &[&str]| kind.contains(&key.as_str());
        match value {
            Value::Array(all) if is(SEVERAL) => {
                inner.extend((0..all.len()).map(|i| format!("{place}/{key}/{i}")));
            }
            Value::Object(all) if is(NAMED) => {
                let escaped = |name: &String| name.replace('~', "~0").replace('/', "~1");
                inner.extend(all.keys().map(|name| format!("{place}/{key}/{}", escaped(name))));
            }
            _ if is(ONE) => inner.push(format!("{place}/{key}")),
            _ => {}
        }
    }
    inner
}

/// Refuses what is not supported and drops what says nothing. Schemas within are looked at for themselves.
fn check(schema: &mut Value, multiples: &mut Multiples) -> Result<(), String> {
    let Some(fields) = schema.as_object_mut() else {
        let found = shown(schema);
        let is = schema.is_boolean();
        return if is { Ok(()) } else { Err(format!(": found {found}, expected a schema")) };
    };
    for key in UNSUPPORTED {
        match fields.shift_remove(*key) {
            None | Some(Value::Bool(false) | Value::Null) => {}
            Some(Value::Bool(true)) if key.starts_with("unevaluated") => {}
            Some(_) => return Err(format!(": `{key}` is not supported")),
        }
    }
    if let Some(types) = fields.get("type") {
        let known = |v: &Value| v.as_str().is_some_and(|t| TYPES.contains(&t));
        let fits = known(types) || types.as_array().is_some_and(|all| all.iter().all(known));
        if !fits {
            return Err(format!("/type: found {}, expected {}", shown(types), TYPES.join(", ")));
        }
    }
    if let Some(place) = fields.get("$ref")
        && !place.as_str().is_some_and(|r| r.starts_with('#'))
    {
        let found = shown(place);
        return Err(format!("/$ref: found {found}, expected a place in this schema, #/…"));
    }
    if fields.get("format").is_some_and(|f| f.as_str().is_none_or(|f| !FORMATS.contains(&f))) {
        fields.shift_remove("format");
    }
    match fields.get("multipleOf") {
        None => Ok(()),
        Some(multiple) => multiples.add(multiple),
    }
}

/// `multipleOf` costs a state for each remainder, all made in advance.
#[derive(Default)]
struct Multiples {
    sum: u64,
    product: u64,
}

impl Multiples {
    const MAX: u64 = 10_000;

    /// Adds a number without its decimal point: 0.25 has 25 remainders.
    fn add(&mut self, multiple: &Value) -> Result<(), String> {
        let text = multiple.to_string();
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let plain = multiple.is_number() && !text.contains(['e', 'E', '-']);
        let count = digits.parse().ok().filter(|n| plain && (1..=Self::MAX).contains(n));
        let Some(count) = count else {
            let max = Self::MAX;
            return Err(format!(
                "/multipleOf: found {text}, expected a number up to {max} without its decimal point"
            ));
        };
        self.sum += count;
        self.product = self.product.max(1).saturating_mul(count);
        Ok(())
    }

    /// Where schemas are intersected, their remainders are multiplied.
    fn check(&self, intersects: bool) -> Result<(), String> {
        let states = if intersects { self.product } else { self.sum };
        if states <= 2 * Self::MAX {
            Ok(())
        } else {
            Err("`multipleOf` of too many numbers".to_owned())
        }
    }
}

fn shown(v: &Value) -> String {
    v.to_string().chars().take(40).collect()
}

/// Whether a value has to satisfy two schemas at once: closing one would forbid what the other asks.
fn intersects(schema: &Value) -> bool {
    let has = |key: &str| schema.get(key).is_some();
    let parts = usize::from(["properties", "patternProperties", "required"].into_iter().any(has))
        + ["anyOf", "oneOf", "$ref"].into_iter().filter(|key| has(key)).count()
        + schema.get("allOf").and_then(Value::as_array).map_or(0, Vec::len);
    parts > 1
}

fn close(schema: &mut Map<String, Value>) {
    let open = ["additionalProperties", "patternProperties"];
    if schema.contains_key("properties") && !open.iter().any(|key| schema.contains_key(*key)) {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_unless_they_have_to_fit_others() {
        let closed = |schema: Value| prepared(&schema).unwrap()["additionalProperties"].clone();
        let plain = json!({ "type": "object", "properties": { "a": {} } });
        assert_eq!(closed(plain), json!(false));
        let inner = prepared(&json!({ "items": { "properties": { "properties": {} } } })).unwrap();
        assert_eq!(inner["items"]["additionalProperties"], json!(false));
        assert!(inner["items"]["properties"]["properties"].get("additionalProperties").is_none());
        assert_eq!(closed(json!({ "properties": {}, "additionalProperties": true })), json!(true));
        let both = json!({ "properties": { "a": {} }, "allOf": [{ "properties": { "b": {} } }] });
        assert_eq!(closed(both), Value::Null);
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_place() {
        for (schema, expected) in [
            (
                json!({ "properties": { "a": { "items": { "not": {} } } } }),
                "#/properties/a/items: `not`",
            ),
            (json!({ "anyOf": [{}, { "uniqueItems": true }] }), "#/anyOf/1: `uniqueItems`"),
            (
                json!({ "properties": { "a": { "type": "strin" } } }),
                "#/properties/a/type: found \"strin\"",
            ),
            (json!({ "$ref": "http://example.com" }), "#/$ref: found \"http"),
            (json!({ "items": 5 }), "#/items: found 5"),
            (json!({ "multipleOf": 999_983 }), "#/multipleOf: found 999983"),
            (json!({ "multipleOf": 1e-9 }), "#/multipleOf: found 1e-9"),
            (json!([]), "found []"),
        ] {
            let error = prepared(&schema).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(prepared(&json!({ "uniqueItems": false, "format": "int32", "x-y": 1 })).is_ok());
    }

    #[test]
    fn many_multiples_at_once_are_too_many() {
        let two = |key: &str| json!({ key: [{ "multipleOf": 9973 }, { "multipleOf": 9967 }] });
        assert!(prepared(&two("anyOf")).is_ok());
        assert!(prepared(&two("allOf")).is_err());
        let many: Vec<Value> = (0..9).map(|_| json!({ "multipleOf": 9973 })).collect();
        assert!(prepared(&json!({ "anyOf": many })).is_err());
    }
}
