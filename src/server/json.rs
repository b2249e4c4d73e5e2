//! JSON responses.

use super::http::Response;
use serde_json::Value;

/// A JSON response.
pub fn ok(value: &Value) -> Response {
    json_text(value.to_string())
}

/// A response whose JSON is already serialized.
pub fn json_text(text: String) -> Response {
    let mut response = Response::new(200, "application/json", text);
    response.headers.push(("Cache-Control", "no-store".to_owned()));
    response
}
