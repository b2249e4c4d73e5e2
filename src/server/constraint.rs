//! The fields of a request that say what the answer must look like.

use super::error::ApiError;
use super::fields::{Fields, show};
use crate::constraint::{Constraint, Guide};
use crate::engine::Engine;
use serde_json::{Value, json};

/// The fields' names.
pub const KNOWN: &[&str] = &["response_format", "json_schema", "grammar", "regex", "lark"];

/// What a request asks for.
pub struct Asked(Option<(&'static str, Option<Constraint>)>);

impl Asked {
    /// Compiles it; `default` is what the server was started with.
    pub fn guide(
        self,
        engine: &Engine,
        default: Option<&Constraint>,
    ) -> Result<Option<Guide>, ApiError> {
        let guide = |name: &str, constraint: &Constraint| {
            engine.guide(constraint).map_err(|e| ApiError::bad(e.to_string()).with_param(name))
        };
        match self.0 {
            None => default.map(|constraint| guide("grammar", constraint)).transpose(),
            Some((_, None)) => Ok(None),
            Some((name, Some(constraint))) => guide(name, &constraint).map(Some),
        }
    }
}

/// Reads the field that was set. One that asks for nothing takes away the server's default.
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
                let message = format!("`{name}` and `{other}` exclude each other");
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
            None | Some(Value::Null) => Ok(Some(Constraint::JsonSchema(json!({"type": "object"})))),
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

/// A schema; an empty one means any object, as in the reference.
fn schema(name: &str, v: &Value) -> Result<Constraint, ApiError> {
    match v.as_object() {
        Some(fields) if fields.is_empty() => Ok(Constraint::JsonSchema(json!({"type": "object"}))),
        Some(_) => Ok(Constraint::JsonSchema(v.clone())),
        None => Err(ApiError::parameter(name, &show(v), "a JSON schema: an object")),
    }
}
