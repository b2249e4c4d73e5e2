//! Dispatches requests by path.

use super::budget::Budget;
use super::chats::CHANGE_BYTES_MAX;
use super::error::ApiError;
use super::guard::Refusal;
use super::http::{BODY_BYTES_MAX, Handler, Reply, Request, Response};
use super::{State, embeddings, monitor, native, openai};
use crate::engine::NO_TEXT;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Connections beside those of requests that wait.
const CONNECTIONS_MORE: usize = 64;

/// Answers the requests of one server.
pub struct Routes(pub Arc<State>);

impl Handler for Routes {
    fn admit(&self, request: &Request) -> Option<Response> {
        check(&self.0, request).err().map(|error| error.response())
    }

    fn connections_max(&self) -> usize {
        // Those that wait, those that are computed, and some for the page and for asking how it goes.
        let config = &self.0.config;
        config.queue + config.parallel.unwrap_or(CONNECTIONS_MORE) + CONNECTIONS_MORE
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.0.budget
    }

    fn body_bytes_max(&self, request: &Request) -> usize {
        // A single conversation may be as large as the file.
        let chats = self.0.chats.is_some() && request.path.ends_with("/chats");
        if chats { CHANGE_BYTES_MAX } else { BODY_BYTES_MAX }
    }

    fn answer(&self, request: &Request, reply: &mut Reply) {
        answer(&self.0, request, reply);
    }
}

/// Checks access, before the body is read.
fn check(state: &State, request: &Request) -> Result<(), ApiError> {
    state.guard.check_source(request).map_err(refused)?;
    let path = request.path.strip_prefix(state.config.prefix.as_str()).unwrap_or(&request.path);
    let open = matches!(request.method.as_str(), "GET" | "HEAD")
        && (path == "/health" || path == "/v1/health" || state.page.has(path)
            // That nothing is kept here is no secret; asking for a key would only annoy.
            || (path == "/chats" && state.chats.is_none()));
    if open { Ok(()) } else { state.guard.check_key(request).map_err(refused) }
}

/// Answers one request. A panic ends this request only.
fn answer(state: &State, request: &Request, reply: &mut Reply) {
    let outcome = catch_unwind(AssertUnwindSafe(|| route(state, request, reply)));
    let response = match outcome {
        Ok(Ok(None)) => return,
        Ok(Ok(Some(response))) => response,
        Ok(Err(error)) => error.response(),
        // An answer that has begun can't be followed by another.
        Err(_) if reply.is_sent() => return,
        Err(_) => ApiError::new(500, "server_error", "internal error; the server is still running")
            .response(),
    };
    let _ = reply.send(response);
}

/// The response, or `None` if it was already sent.
fn route(
    state: &State,
    request: &Request,
    reply: &mut Reply,
) -> Result<Option<Response>, ApiError> {
    let path = request.path.strip_prefix(state.config.prefix.as_str());
    let Some(path) = path.filter(|p| p.is_empty() || p.starts_with('/')) else {
        return Err(ApiError::not_found(&request.path));
    };
    // The page's relative URLs need the trailing slash.
    if path.is_empty() && !state.config.prefix.is_empty() {
        let mut response = Response::new(308, "text/plain", "");
        response.headers.push(("Location", format!("{}/", state.config.prefix)));
        return Ok(Some(response));
    }
    // `/v1` may be left out, as with llama.cpp.
    let bare = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
    if method == "GET" {
        if bare == "/health" {
            return native::health(state).map(Some);
        }
        if let Some(file) = state.page.get(path) {
            request.share.take(file.body.len())?;
            return Ok(Some(file));
        }
    }
    let model = bare.strip_prefix("/models/").filter(|id| !id.is_empty());
    let slot = bare.strip_prefix("/slots/").and_then(|id| id.parse::<usize>().ok());
    let allowed = match bare {
        _ if model.is_some() => "GET",
        _ if slot.is_some() => "POST",
        "/chats" if method == "POST" && state.chats.is_some() => "POST",
        "/chats" | "/models" | "/props" | "/slots" | "/metrics" => "GET",
        "/chat/completions" | "/completions" | "/apply-template" | "/tokenize" | "/detokenize"
        | "/render" | "/embeddings" | "/embedding" => "POST",
        _ => return Err(ApiError::not_found(path)),
    };
    if method != allowed {
        let message = format!("{path} accepts {allowed}, not {method}");
        let mut response = ApiError::new(405, "invalid_request_error", message).response();
        response.headers.push(("Allow", allowed.to_owned()));
        return Ok(Some(response));
    }
    if bare == "/chats" {
        return match (&state.chats, method) {
            // Every page asks; keeping conversations in the browser is not an error.
            (None, _) => Ok(Some(Response::new(204, "application/json", ""))),
            (Some(chats), "GET") => chats.answer(request).map(Some),
            (Some(chats), _) => chats.change(request).map(Some),
        };
    }
    if bare == "/render" {
        return native::render(state, request, reply).map(Some);
    }
    let engine = state.engine()?;
    if let Some(id) = model {
        return openai::model(state, &engine, id).map(Some);
    }
    if let Some(slot) = slot {
        return monitor::act_on_slot(state, &engine, slot, request, reply).map(Some);
    }
    if !engine.info.makes_text && !WITHOUT_TEXT.contains(&bare) {
        return Err(ApiError::new(501, "not_supported_error", NO_TEXT));
    }
    match bare {
        "/models" => Ok(Some(openai::models(state, &engine))),
        "/props" => Ok(Some(native::props(state, &engine))),
        "/slots" => Ok(Some(monitor::slots(&engine))),
        "/metrics" => Ok(Some(monitor::metrics(state, &engine))),
        "/tokenize" => native::tokenize(state, &engine, request, reply).map(Some),
        "/detokenize" => native::detokenize(state, &engine, request, reply).map(Some),
        "/apply-template" => openai::apply_template(state, &engine, request, reply).map(Some),
        "/embeddings" => embeddings::openai(state, &engine, request, reply),
        "/embedding" => embeddings::native(state, &engine, request, reply),
        "/chat/completions" => openai::chat(state, &engine, request, reply),
        _ => openai::completion(state, &engine, request, reply),
    }
}

/// Paths that work even if the model generates no text.
const WITHOUT_TEXT: &[&str] = &[
    "/models",
    "/props",
    "/slots",
    "/metrics",
    "/tokenize",
    "/detokenize",
    "/embeddings",
    "/embedding",
];

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Host => ApiError::new(
            403,
            "forbidden_error",
            "the Host header names another machine; use localhost or 127.0.0.1\nhint: --allowed-host NAME allows a name of yours",
        ),
        Refusal::Origin => {
            ApiError::new(403, "forbidden_error", "requests from other sites' pages are refused")
        }
        Refusal::Key => ApiError::new(
            401,
            "authentication_error",
            "this server requires an API key: send it as `Authorization: Bearer KEY`",
        ),
    }
}
