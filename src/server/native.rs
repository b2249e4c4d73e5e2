//! The endpoints that are not OpenAI's: health, properties, tokens, and Markdown for the page.

use super::aliases::{self, On};
use super::error::ApiError;
use super::fields::Fields;
use super::http::{Reply, Request, Response};
use super::json::{json_text, ok};
use super::lists::Part;
use super::prompts;
use super::sampling;
use super::sink::Sink;
use super::{HEAVY_TIME, State};
use crate::engine::Engine;
use crate::render::render_while;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;

/// Longest text that `/tokenize` accepts, in bytes, and the limit if each token's text is wanted too.
const TEXT_MAX: usize = 8 << 20;
const PIECES_TEXT_MAX: usize = 512 << 10;
/// Bytes of memory for each token of an answer: its digits, twice while the text grows; with its text, a JSON object.
const ID_BYTES: usize = 16;
const PIECE_BYTES: usize = 512;
/// Bytes of memory for each byte of Markdown: its HTML, in the fragments and in the answer.
const RENDERING_BYTES: usize = 32;

/// `GET /health`: 200 once the model is ready, 503 before.
pub fn health(state: &State) -> Result<Response, ApiError> {
    state.engine()?;
    Ok(ok(&json!({ "status": "ok" })))
}

/// `GET /props`: the model, its defaults, and what the page needs to know.
pub fn props(state: &State, engine: &Engine) -> Response {
    let info = &engine.info;
    let mut params = sampling::json(&state.config.sampling);
    params.insert("ignore_eos".to_owned(), json!(state.config.ignore_end));
    let predict = state.config.predict.map_or(json!(-1), |n| json!(n));
    params.insert("n_predict".to_owned(), predict);
    params.insert("stop".to_owned(), json!(state.config.stops));
    ok(&json!({
        "model_alias": state.model_name(engine),
        "n_ctx": info.context,
        "total_slots": info.parallel,
        "chat_template": engine.chat.source(),
        "bos_token": engine.tokenizer.bos_text(),
        "eos_token": engine.tokenizer.eos_text(),
        "build_info": concat!("tealight-", env!("CARGO_PKG_VERSION")),
        "modalities": { "vision": false, "audio": false },
        "default_generation_settings": {
            "n_ctx": info.context,
            "params": params,
        },
        "tealight": {
            "version": env!("CARGO_PKG_VERSION"),
            "name": state.name,
            "system_prompt": state.config.system_prompt.as_deref().unwrap_or(""),
            "has_chat_template": info.stand_in.is_none(),
            "makes_text": info.makes_text,
            "thinks": engine.chat.thinks(),
        },
    }))
}

/// `POST /tokenize`.
pub fn tokenize(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply,
) -> Result<Response, ApiError> {
    const KNOWN: &[&str] = &["content", "add_special", "parse_special", "with_pieces", "model"];
    let mut fields = Fields::parse(&request.body, &request.share)?;
    aliases::apply(&mut fields, On::Tokens)?;
    fields.ignore(&["model"]);
    let text = fields.string("content")?.unwrap_or_default();
    let add_special = fields.bool("add_special")?.unwrap_or(false);
    let parse_special = fields.bool("parse_special")?.unwrap_or(true);
    let with_pieces = fields.bool("with_pieces")?.unwrap_or(false);
    fields.finish(KNOWN, state.config.strict)?.tell(state.config.quiet, reply);
    let limit = if with_pieces { PIECES_TEXT_MAX } else { TEXT_MAX };
    if text.len() > limit {
        let found = format!("{} bytes", text.len());
        return Err(ApiError::parameter("content", &found, &format!("at most {limit} bytes")));
    }
    let sink = Sink::new(reply);
    let _permit = state.heavy(&|| sink.is_wanted())?;
    let ids = prompts::tokens(&text, add_special, parse_special, engine, &request.share, &sink)?;
    let bytes = if with_pieces { PIECE_BYTES } else { ID_BYTES };
    request.share.take(ids.len() * bytes)?;
    if !with_pieces {
        // Without a tree of values.
        let ids = serde_json::to_string(&ids).unwrap_or_default();
        return Ok(json_text(format!("{{\"tokens\":{ids}}}")));
    }
    let piece = |id: u32| {
        let bytes = engine.tokenizer.decode(&[id], true);
        match String::from_utf8(bytes) {
            Ok(text) => json!({ "id": id, "piece": text }),
            Err(part) => json!({ "id": id, "piece": part.into_bytes() }),
        }
    };
    let tokens: Vec<Value> = ids.iter().map(|&id| piece(id)).collect();
    Ok(ok(&json!({ "tokens": tokens })))
}

/// `POST /detokenize`.
pub fn detokenize(
    state: &State,
    engine: &Engine,
    request: &Request,
    reply: &mut Reply,
) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&request.body, &request.share)?;
    aliases::apply(&mut fields, On::Tokens)?;
    fields.ignore(&["model"]);
    let vocab = engine.tokenizer.len();
    let expected = format!("an array of token ids below {vocab}");
    let wrong = |found: &str| ApiError::parameter("tokens", found, &expected);
    let ids = match fields.take_list("tokens") {
        None => Vec::new(),
        Some(Part::List(list)) => list.into_ids().map_err(|other| wrong(&other.to_string()))?,
        Some(other) => return Err(wrong(&other.to_string())),
    };
    if let Some(unknown) = ids.iter().find(|id| **id as usize >= vocab) {
        return Err(wrong(&unknown.to_string()));
    }
    fields.finish(&["tokens", "model"], state.config.strict)?.tell(state.config.quiet, reply);
    // The bytes, the text, its JSON with every character escaped.
    let length: usize = ids.iter().map(|&id| engine.tokenizer.piece_bytes_max(id)).sum();
    request.share.take(length.saturating_mul(8))?;
    let bytes = engine.tokenizer.decode(&ids, true);
    Ok(ok(&json!({ "content": String::from_utf8_lossy(&bytes) })))
}

/// `POST /render`: Markdown to the HTML fragments that the page shows.
pub fn render(state: &State, request: &Request, reply: &mut Reply) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&request.body, &request.share)?;
    let text = fields.string("text")?.unwrap_or_default();
    fields.finish(&["text"], state.config.strict)?.tell(state.config.quiet, reply);
    let sink = Sink::new(reply);
    let _permit = state.heavy(&|| sink.is_wanted())?;
    request.share.take(text.len().saturating_mul(RENDERING_BYTES))?;
    // Past the deadline, code is shown without colours.
    let end = Instant::now() + HEAVY_TIME;
    let go_on = || sink.is_wanted() && Instant::now() < end;
    Ok(ok(&json!({ "blocks": render_while(&text, &go_on) })))
}

impl State {
    /// The model's name in the API.
    pub(super) fn model_name(&self, engine: &Engine) -> String {
        self.model_names(engine).swap_remove(0)
    }

    /// All its names: the configured aliases, the bundle's name, the weights' name. Answers have the first.
    pub(super) fn model_names(&self, engine: &Engine) -> Vec<String> {
        let given = self.config.alias.iter().flat_map(|alias| alias.split(','));
        let mut names: Vec<String> = given.map(|name| name.trim().to_owned()).collect();
        names.extend(self.name.clone());
        names.push(engine.info.name.clone());
        let mut seen = BTreeSet::new();
        names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
        if names.is_empty() { vec!["model".to_owned()] } else { names }
    }
}
