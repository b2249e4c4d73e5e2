//! The API's errors, in OpenAI's form.

use super::budget::Short;
use super::http::Response;
use serde_json::{Map, Value, json};

/// An error response.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Fields>);

#[derive(Debug, Clone)]
struct Fields {
    status: u16,
    kind: &'static str,
    message: String,
    more: Map<String, Value>,
    retry_after: Option<u32>,
}

impl ApiError {
    /// An error with this status and type.
    #[must_use]
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        let (message, more) = (message.into(), Map::new());
        Self(Box::new(Fields { status, kind, message, more, retry_after: None }))
    }

    /// An invalid request (400).
    #[must_use]
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// The computer is too busy for this request (503).
    #[must_use]
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(503, "overloaded_error", message).retry_after(2)
    }

    /// A parameter with a wrong type or value.
    #[must_use]
    pub fn parameter(name: &str, found: &str, expected: &str) -> Self {
        Self::bad(format!("`{name}`: found {found}, expected {expected}")).with_param(name)
    }

    /// An unknown path (404).
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found_error", format!("{what}: no such thing here"))
    }

    /// Names the parameter at fault.
    #[must_use]
    pub fn with_param(self, name: &str) -> Self {
        self.with("param", name)
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    /// Sets `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// The JSON of the error.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut error =
            json!({ "message": self.0.message, "type": self.0.kind, "code": self.0.status });
        if let Value::Object(fields) = &mut error {
            fields.extend(self.0.more.clone());
        }
        json!({ "error": error })
    }

    /// The HTTP response.
    #[must_use]
    pub fn response(&self) -> Response {
        let mut response =
            Response::new(self.0.status, "application/json", self.json().to_string());
        if let Some(seconds) = self.0.retry_after {
            response.headers.push(("Retry-After", seconds.to_string()));
        }
        if self.0.status == 401 {
            response.headers.push(("WWW-Authenticate", "Bearer".to_owned()));
        }
        response
    }
}

impl From<Short> for ApiError {
    fn from(short: Short) -> Self {
        match short {
            Short::Ever(bytes, of) => {
                let (bytes, of) = (bytes.div_ceil(1 << 20), of >> 20);
                let message = format!(
                    "the request would take {bytes} MiB of memory, but all requests together have {of}\nhint: send less at a time, or start with a larger --request-memory"
                );
                Self::new(413, "invalid_request_error", message)
            }
            Short::Now => Self::overloaded(
                "other requests have all the memory that requests may take; try again in a moment\nhint: --request-memory allows more",
            ),
        }
    }
}
