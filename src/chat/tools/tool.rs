//! A function that a model may call.

use serde_json::{Value, json};

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
    /// As the client described it.
    pub raw: Value,
}

impl Tool {
    /// A tool as OpenAI's API describes it. `null` fields are dropped: templates would write "None".
    #[must_use]
    pub fn read(raw: &Value) -> Option<Self> {
        let mut raw = raw.clone();
        let function = raw.get_mut("function")?.as_object_mut()?;
        function.retain(|_, value| !value.is_null());
        let name = function.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
        let parameters = function.get("parameters").cloned().unwrap_or(Value::Null);
        Some(Self { name, parameters, raw })
    }

    /// JSON schema of its arguments, as text.
    pub(super) fn schema(&self) -> String {
        schema(&self.parameters).to_string()
    }
}

/// Longest name of a function.
pub(super) const NAME_BYTES_MAX: usize = 512;

/// The function of that name.
pub(super) fn tool<'t>(tools: &'t [Tool], name: &str) -> Option<&'t Tool> {
    tools.iter().find(|tool| tool.name == name)
}

/// Whether a text can be a function's name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./:".contains(c))
}

/// Which function must be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Any or none: the model decides.
    #[default]
    Auto,
    /// None.
    None,
    /// Some function.
    Required,
    /// This one.
    Named(String),
}

/// Names of functions that take code.
pub(super) const INTERPRETERS: &[&str] = &["python", "ipython", "code_interpreter"];

/// The schema of a function's arguments; if the client describes none, one that allows none.
fn schema(parameters: &Value) -> Value {
    let says_nothing = |fields: &serde_json::Map<String, Value>| {
        fields.iter().all(|(key, value)| match key.as_str() {
            "type" => value == "object",
            "title" | "description" | "$schema" | "$id" | "$defs" | "definitions" => true,
            "required" => value.as_array().is_some_and(Vec::is_empty),
            _ => false,
        })
    };
    match parameters.as_object() {
        Some(fields) if !says_nothing(fields) => {
            let mut schema = fields.clone();
            if schema.contains_key("properties") {
                // Arguments are an object, even if the schema does not say so.
                schema.entry("type").or_insert(json!("object"));
            }
            Value::Object(schema)
        }
        _ => json!({ "type": "object", "properties": {}, "additionalProperties": false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_without_a_schema_takes_no_arguments() {
        let none = schema(&Value::Null);
        for described in [
            json!({}),
            json!({"type": "object"}),
            json!({"type": "object", "title": "F", "required": []}),
        ] {
            assert_eq!(schema(&described), none);
        }
        for described in [
            json!({"type": "object", "additionalProperties": true}),
            json!({"type": "object", "properties": {"a": {}}}),
        ] {
            assert_eq!(schema(&described), described);
        }
        assert_eq!(schema(&json!({"properties": {"a": {}}}))["type"], "object");
    }
}
