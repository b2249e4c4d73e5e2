//! The types that a schema allows, to interpret text without quotes.

use super::loose::{self, is_number, quoted};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Cap on the schemas visited for one argument: references can fan out.
const SCHEMAS_MAX: usize = 256;

/// Kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set")]
pub(super) struct Types {
    pub string: bool,
    pub number: bool,
    pub boolean: bool,
    pub null: bool,
    pub object: bool,
    pub array: bool,
    /// Whether the schema says anything.
    pub said: bool,
}

const ALL: Types = Types {
    string: true,
    number: true,
    boolean: true,
    null: true,
    object: true,
    array: true,
    said: false,
};
const NONE: Types = Types {
    string: false,
    number: false,
    boolean: false,
    null: false,
    object: false,
    array: false,
    said: true,
};

impl Types {
    /// A string.
    pub const TEXT: Self = Self { string: true, ..NONE };

    /// The types of the argument `key` of a function with these parameters.
    pub fn of(parameters: &Value, key: &str) -> Self {
        let mut left = SCHEMAS_MAX;
        match property(parameters, key, &mut left) {
            Some(schema) => Self::read(parameters, schema, &mut left),
            None => ALL,
        }
    }

    /// Whether only a string is allowed.
    pub fn is_text(self) -> bool {
        self == Self::TEXT
    }

    /// Whether only a string or null is allowed.
    pub fn is_text_or_null(self) -> bool {
        self == Self { null: true, ..Self::TEXT }
    }

    /// The JSON of a text without quotes.
    pub fn value(self, text: &str) -> String {
        let trimmed = text.trim();
        if self.is_text() {
            return quoted(text);
        }
        if let Some(scalar) = loose::scalar(trimmed) {
            let allowed = match scalar.as_str() {
                "null" => self.null,
                "true" | "false" => self.boolean,
                _ => self.number,
            };
            // A scalar that is not allowed is kept if a string is not allowed either.
            let stays = allowed && (!self.string || scalar == trimmed || !is_number(&scalar));
            return if stays || !self.string { scalar } else { quoted(text) };
        }
        let may_nest = self.object && trimmed.starts_with('{')
            || self.array && trimmed.starts_with(['[', '('])
            || trimmed.starts_with(['"', '\'']) && !self.said;
        if may_nest || (!self.string && !trimmed.is_empty()) {
            let (json, whole) = loose::value(trimmed);
            // If a string is allowed, only valid JSON counts as another type.
            let strict = self.string && serde_json::from_str::<Value>(trimmed).is_err();
            if whole && !(strict && self.said) {
                return json;
            }
            if !self.string && trimmed.starts_with(['{', '[']) {
                return json;
            }
        }
        quoted(text)
    }

    fn read(root: &Value, schema: &Value, left: &mut usize) -> Self {
        let Some(schema) = schema.as_object().filter(|_| spend(left)) else { return ALL };
        let mut found = ALL;
        let mut narrow = |types: Self| {
            let both = found.and(types);
            // Of contradictory types, the last counts.
            found = if both.any() { both } else { types };
        };
        if let Some(target) = schema.get("$ref").and_then(|r| resolve(root, r.as_str()?)) {
            narrow(Self::read(root, target, left));
        }
        match schema.get("type") {
            Some(Value::String(kind)) => narrow(NONE.with(kind)),
            Some(Value::Array(kinds)) => {
                narrow(kinds.iter().filter_map(Value::as_str).fold(NONE, Self::with));
            }
            _ => {}
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            narrow(values.iter().fold(NONE, |types, value| types.with(kind(value))));
        }
        if let Some(value) = schema.get("const") {
            narrow(NONE.with(kind(value)));
        }
        for any in ["anyOf", "oneOf"] {
            if let Some(Value::Array(all)) = schema.get(any) {
                let each = all.iter().map(|one| Self::read(root, one, left));
                if let Some(types) = each.reduce(Self::or) {
                    narrow(types);
                }
            }
        }
        for one in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            narrow(Self::read(root, one, left));
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) && found.said {
            found.null = true;
        }
        found
    }

    fn with(mut self, kind: &str) -> Self {
        match kind {
            "string" => self.string = true,
            "number" | "integer" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "object" => self.object = true,
            "array" => self.array = true,
            _ => self = ALL,
        }
        self
    }

    fn and(self, other: Self) -> Self {
        Self {
            string: self.string && other.string,
            number: self.number && other.number,
            boolean: self.boolean && other.boolean,
            null: self.null && other.null,
            object: self.object && other.object,
            array: self.array && other.array,
            said: self.said || other.said,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            string: self.string || other.string,
            number: self.number || other.number,
            boolean: self.boolean || other.boolean,
            null: self.null || other.null,
            object: self.object || other.object,
            array: self.array || other.array,
            said: self.said && other.said,
        }
    }

    fn any(self) -> bool {
        self.string || self.number || self.boolean || self.null || self.object || self.array
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Takes one of the schema visits left, if any.
fn spend(left: &mut usize) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

/// Whether a function has this argument.
pub(super) fn has_property(parameters: &Value, key: &str) -> bool {
    listed(parameters, parameters, key, &mut { SCHEMAS_MAX }).is_some()
}

/// The schema of a property, or that of additional properties.
fn property<'s>(root: &'s Value, key: &str, left: &mut usize) -> Option<&'s Value> {
    listed(root, root, key, left)
        .or_else(|| root.get("additionalProperties").filter(|more| more.is_object()))
}

fn listed<'s>(
    root: &'s Value,
    schema: &'s Value,
    key: &str,
    left: &mut usize,
) -> Option<&'s Value> {
    if !spend(left) {
        return None;
    }
    let schema: &Map<String, Value> = schema.as_object()?;
    if let Some(found) = schema.get("properties").and_then(|all| all.get(key)) {
        return Some(found);
    }
    let target = schema.get("$ref").and_then(|r| resolve(root, r.as_str()?));
    let parts =
        ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|name| schema.get(name)?.as_array());
    let mut all = target.into_iter().chain(parts.flatten());
    all.find_map(|part| listed(root, part, key, left))
}

/// Resolves a reference within the schema.
fn resolve<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let pointer = reference.strip_prefix('#')?;
    let decoded = || percent_decode_str(pointer).decode_utf8().ok();
    root.pointer(pointer).or_else(|| root.pointer(&decoded()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_found_through_references_and_combinations() {
        let parameters = json!({
            "type": "object",
            "properties": {
                "ref": {"$ref": "#/$defs/a%20b"},
                "deep": {"$ref": "#/$defs/x~1y"},
                "any": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "one": {"oneOf": [{"$ref": "#/$defs/a b"}, {"const": "x"}]},
                "all": {"allOf": [{"$ref": "#/$defs/a b"}, {"minLength": 1}]},
                "list": {"type": ["string", "null"]},
                "enum": {"enum": ["1", "2"]},
                "nullable": {"type": "string", "nullable": true},
                "loop": {"$ref": "#/properties/loop"},
                "id": {"type": ["string", "integer"]},
            },
            "$defs": {"a b": {"type": "string"}, "x/y": {"allOf": [{"$ref": "#/$defs/a b"}]}},
        });
        for key in ["ref", "deep", "one", "all", "enum"] {
            let types = Types::of(&parameters, key);
            assert!(types.is_text(), "{key}: {types:?}");
            assert_eq!(types.value("012"), "\"012\"");
            assert_eq!(types.value("null"), "\"null\"");
        }
        for key in ["any", "list", "nullable"] {
            let types = Types::of(&parameters, key);
            assert!(types.is_text_or_null(), "{key}: {types:?}");
            assert_eq!(types.value("012"), "\"012\"");
            assert_eq!(types.value("12"), "\"12\"");
            assert_eq!(types.value("{\"a\": 1}"), r#""{\"a\": 1}""#);
            assert_eq!(types.value("null"), "null");
        }
        let id = Types::of(&parameters, "id");
        assert_eq!(id.value("12"), "12");
        assert_eq!(id.value("012"), "\"012\"");
        assert_eq!(id.value("+12"), "\"+12\"");
        assert_eq!(Types::of(&parameters, "loop"), ALL);
        assert_eq!(Types::of(&Value::Null, "x"), ALL);
    }

    #[test]
    fn reference_fan_out_is_bounded() {
        let again = vec![json!({"$ref": "#"}); 10];
        let fans = json!({"anyOf": again, "properties": {"x": {"anyOf": again}}});
        assert!(has_property(&fans, "x") && !has_property(&fans, "y"));
        // Each of ten looks at ten, and so on.
        for key in ["x", "y"] {
            assert_eq!(Types::of(&fans, key), ALL, "{key}");
        }
    }

    #[test]
    fn text_is_converted_by_its_schema() {
        let of = |schema: Value| Types::of(&json!({"properties": {"x": schema}}), "x");
        let integer = of(json!({"type": "integer"}));
        assert_eq!(
            integer.value("123456789012345678901234567890"),
            "123456789012345678901234567890"
        );
        assert_eq!(integer.value("three"), "\"three\"");
        assert_eq!(of(json!({"type": "number"})).value("1.10"), "1.10");
        assert_eq!(of(json!({"type": "boolean"})).value("True"), "true");
        assert_eq!(
            of(json!({"type": "object"})).value("{'a': 1, 'b': [None]}"),
            r#"{"a": 1, "b": [null]}"#
        );
        assert_eq!(of(json!({"type": "array"})).value("[\"a\nb\", 2,]"), r#"["a\nb", 2]"#);
        let any = of(json!({}));
        for (text, json) in [
            ("12", "12"),
            ("True", "true"),
            ("x", "\"x\""),
            ("{\"a\": 1}", "{\"a\": 1}"),
            ("[link](x)", "\"[link](x)\""),
        ] {
            assert_eq!(any.value(text), json);
        }
    }
}
