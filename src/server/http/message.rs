//! Requests and responses.

use crate::server::budget::Share;
use hyper::HeaderMap;
use std::sync::Arc;

/// A complete request.
#[derive(Debug, Default)]
pub struct Request {
    /// `GET`, `POST`, ….
    pub method: String,
    /// The path without the query; percent escapes are not decoded.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    pub(super) headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// What the request takes of the memory for all.
    pub share: Arc<Share>,
}

impl Request {
    /// The value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An HTTP response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without further headers.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }
}

/// An error of the protocol, in OpenAI's form.
pub(super) fn failure(status: u16, message: &str) -> Response {
    let body = serde_json::json!({
        "error": { "message": message, "type": "invalid_request_error", "code": status }
    });
    Response::new(status, "application/json", body.to_string())
}

#[cfg(test)]
impl Request {
    /// A request to this host.
    pub fn to(method: &str, target: &str, headers: &[(&'static str, &str)], body: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut all = HeaderMap::new();
        for (name, value) in [("host", "localhost")].iter().chain(headers) {
            all.insert(*name, value.parse().unwrap());
        }
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: all,
            body: body.as_bytes().to_vec(),
            share: Arc::default(),
        }
    }

    /// A request with nothing but a body.
    pub fn of_body(body: Vec<u8>) -> Self {
        Self { method: "POST".to_owned(), path: "/".to_owned(), body, ..Self::default() }
    }
}
