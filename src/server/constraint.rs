//! The request fields that constrain the form of the answer.

use super::error::ApiError;
use super::fields::{Fields, show};
use super::sink::Sink;
use crate::constraint::{CallSpec, Constraint, ConstraintError, Guide, TOOLS};
use crate::engine::Engine;
use serde_json::Value;

/// The fields' names.
pub const KNOWN: &[&str] = &["response_format", "json_schema", "grammar", "regex", "lark"];

/// The constraint that a request asks for.
pub struct Asked(Option<(&'static str, Option<Constraint>)>);

impl Asked {
    /// The field and its constraint; `default` is the one the server was started with.
    pub fn constraint(self, default: Option<&Constraint>) -> Option<(&'static str, Constraint)> {
        match self.0 {
            None => default.map(|constraint| ("grammar", constraint.clone())),
            Some((name, constraint)) => constraint.map(|constraint| (name, constraint)),
        }
    }
}

/// Compiles a field's constraint; stops if the client disconnects.
pub fn guide(
    engine: &Engine,
    name: &str,
    constraint: &Constraint,
    sink: &Sink<'_>,
) -> Result<Guide, ApiError> {
    engine.guide_within(constraint, &|| sink.is_wanted()).map_err(|error| match error {
        ConstraintError::Untried(_) => ApiError::overloaded(error.to_string()),
        _ => ApiError::bad(error.to_string()).with_param(blamed(name, constraint, &error)),
    })
}

/// The field at fault: `tools` if the error is in a tool's schema, even if the answer need not be a call.
fn blamed<'n>(name: &'n str, constraint: &Constraint, error: &ConstraintError) -> &'n str {
    match (constraint, error) {
        (Constraint::Calls(_), ConstraintError::Invalid { what: TOOLS, .. }) => TOOLS,
        _ => name,
    }
}

/// The constraint where tools may be called: a tool call, or the JSON that the field `name` asks for.
///
/// # Errors
/// When the model's calls can't be told from JSON answers.
pub fn with_calls(name: &str, schema: &str, may: Option<CallSpec>) -> Result<Constraint, ApiError> {
    let may = may.ok_or_else(|| {
        let problem = "this model's tool calls cannot be told apart from such an answer";
        let hint = "leave out `tools`, or set `tool_choice` to \"none\"";
        ApiError::bad(format!("`{name}`: {problem}\nhint: {hint}")).with_param(name)
    })?;
    Ok(Constraint::Calls(Box::new(CallSpec { answer: Some(schema.to_owned()), ..may })))
}

/// Reads the field that is set. One that asks for nothing disables the server's default.
pub fn read(f: &mut Fields) -> Result<Asked, ApiError> {
    let mut found: Option<(&'static str, Option<Constraint>)> = None;
    for name in KNOWN {
        let Some(value) = f.take(name) else { continue };
        let constraint = match (*name, value.as_str()) {
            ("response_format", _) => response_format(&value)?,
            ("json_schema", _) => Some(schema(name, &value)?),
            (_, None) => return Err(ApiError::parameter(name, &show(&value), "a string")),
            (_, Some("")) => None,
            ("regex", Some(text)) => Some(Constraint::Regex(text.to_owned())),
            ("lark", Some(text)) => Some(Constraint::Lark(text.to_owned())),
            (_, Some(text)) => Some(Constraint::grammar(text)),
        };
        match &found {
            Some((other, Some(_))) if constraint.is_some() => {
                let message = format!("`{name}` and `{other}` cannot be combined");
                return Err(ApiError::bad(message).with_param(name));
            }
            Some((_, Some(_))) => {}
            _ => found = Some((name, constraint)),
        }
    }
    Ok(Asked(found))
}

/// OpenAI's `response_format`, with llama.cpp's `schema` beside `type`.
fn response_format(v: &Value) -> Result<Option<Constraint>, ApiError> {
    const NAME: &str = "response_format";
    match v["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => match v.get("schema") {
            None | Some(Value::Null) => Ok(Some(Constraint::JsonSchema(ANY_OBJECT.to_owned()))),
            Some(within) => schema("response_format.schema", within).map(Some),
        },
        Some("json_schema") => {
            let within = v.get("json_schema").map(|s| &s["schema"]).or(v.get("schema"));
            let Some(within) = within.filter(|s| !s.is_null()) else {
                return Err(ApiError::parameter(
                    "response_format.json_schema.schema",
                    "nothing",
                    "a JSON schema",
                ));
            };
            schema("response_format.json_schema.schema", within).map(Some)
        }
        _ => {
            let expected = "an object whose type is text, json_object or json_schema";
            Err(ApiError::parameter(NAME, &show(v), expected))
        }
    }
}

/// A schema that accepts any object.
const ANY_OBJECT: &str = r#"{"type":"object"}"#;

/// A schema; an empty one means any object, as in the reference.
fn schema(name: &str, v: &Value) -> Result<Constraint, ApiError> {
    match v.as_object() {
        Some(fields) if fields.is_empty() => Ok(Constraint::JsonSchema(ANY_OBJECT.to_owned())),
        Some(_) => Ok(Constraint::JsonSchema(v.to_string())),
        None => Err(ApiError::parameter(name, &show(v), "a JSON schema: an object")),
    }
}
