//! Answers in JSON.

use super::http::Response;
use serde_json::Value;

/// A JSON answer.
pub fn ok(value: &Value) -> Response {
    json_text(value.to_string())
}

/// A JSON answer that is written already.
pub fn json_text(text: String) -> Response {
    let mut response = Response::new(200, "application/json", text);
    response.headers.push(("Cache-Control", "no-store".to_owned()));
    response
}
