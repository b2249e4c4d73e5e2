//! What a server does, for people and programs that watch it: `/slots` and `/metrics`. Names and units are
//! llama-server's. No text of anyone is shown. What a slot has read can be saved to a file, if the one who started the
//! server named a folder for that.

use super::error::ApiError;
use super::fields::Fields;
use super::http::{Reply, Request, Response};
use super::json::ok;
use super::sink::Sink;
use super::{HEAVY_WAIT, State};
use crate::engine::{Engine, KeepError, Slot, Status};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// Longest name of a saved file, in bytes.
const NAME_MAX: usize = 200;

/// `GET /slots`: one object for each request that may be computed at a time.
pub fn slots(engine: &Engine) -> Response {
    let Status { slots, .. } = engine.status();
    let of = |id: usize| slots.iter().find(|slot| slot.id == id);
    let slot = |id: usize| slot(id, engine.info.context, of(id));
    ok(&Value::Array((0..engine.info.parallel).map(slot).collect()))
}

fn slot(id: usize, context: usize, slot: Option<&Slot>) -> Value {
    let state = match slot {
        None => "idle",
        Some(slot) if slot.decoding => "generating",
        Some(_) => "reading",
    };
    let Slot { prompt, read, generated, .. } = slot.copied().unwrap_or_default();
    json!({
        "id": id,
        "n_ctx": context,
        "is_processing": slot.is_some(),
        "state": state,
        "n_prompt_tokens": prompt,
        "n_prompt_tokens_processed": read.min(prompt),
        "n_past": read,
        "n_decoded": generated,
    })
}

/// `POST /slots/ID?action=save|restore|erase`.
pub fn act_on_slot(
    state: &State,
    engine: &Engine,
    slot: usize,
    request: &Request,
    reply: &mut Reply,
) -> Result<Response, ApiError> {
    if slot >= engine.info.parallel {
        let most = engine.info.parallel - 1;
        return Err(ApiError::bad(format!("slot {slot}: expected 0 to {most} (--parallel)")));
    }
    let action = request.query.split('&').find_map(|part| part.strip_prefix("action="));
    let action = action.unwrap_or_default();
    if action == "erase" {
        let erased = engine.erase_slot(slot).map_err(|e| failed(&e))?;
        return Ok(ok(&json!({ "id_slot": slot, "n_erased": erased })));
    }
    if !matches!(action, "save" | "restore") {
        let found = format!("\"{action}\"");
        return Err(ApiError::parameter("action", &found, "save, restore or erase"));
    }
    let mut fields = Fields::parse(&request.body, &request.share)?;
    let name = fields.string("filename")?.unwrap_or_default();
    fields.finish(&["filename"], state.config.strict)?.tell(state.config.quiet, reply);
    let path = saved_path(state, &name)?;
    let sink = Sink::new(reply);
    let permit = state.restoring.acquire(HEAVY_WAIT, &|| sink.is_wanted());
    let _permit = permit.map_err(|no| ApiError::overloaded(no.to_string()))?;
    let start = Instant::now();
    let done = if action == "save" {
        engine.save_slot(slot, &path)
    } else {
        engine.restore_slot(slot, &path)
    };
    let (tokens, bytes) = done.map_err(|e| failed(&e))?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    Ok(ok(&if action == "save" {
        json!({
            "id_slot": slot, "filename": name, "n_saved": tokens, "n_written": bytes,
            "timings": { "save_ms": ms },
        })
    } else {
        json!({
            "id_slot": slot, "filename": name, "n_restored": tokens, "n_read": bytes,
            "timings": { "restore_ms": ms },
        })
    }))
}

/// The path of a saved file: a plain name in the folder that was named at the start.
fn saved_path(state: &State, name: &str) -> Result<PathBuf, ApiError> {
    let Some(folder) = &state.config.slot_save_path else {
        let message = "saving slots is off\nhint: start with --slot-save-path FOLDER";
        return Err(ApiError::new(501, "not_supported_error", message));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.');
    if !fits || !name.chars().all(plain) {
        let found = format!("\"{}\"", name.escape_debug());
        return Err(ApiError::parameter("filename", &found, "a name of letters, digits and ._-"));
    }
    Ok(folder.join(name))
}

fn failed(error: &KeepError) -> ApiError {
    match error {
        KeepError::Nothing(_) | KeepError::File { .. } | KeepError::Saved { .. } => {
            ApiError::bad(error.to_string())
        }
        KeepError::Stopped | KeepError::Computing(_) => {
            ApiError::new(500, "server_error", error.to_string())
        }
    }
}

/// `GET /metrics`: counters and gauges in Prometheus' text format (version 0.0.4).
pub fn metrics(state: &State, engine: &Engine) -> Response {
    let status = engine.status();
    let page = engine.page_bytes()[0] as f64;
    let rate = |n: u64, seconds: f64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
    let (prompt_time, time) =
        (status.prompt_time.as_secs_f64(), status.generation_time.as_secs_f64());
    let all = [
        ("counter", "prompt_tokens_total", "Prompt tokens computed", status.prompt_tokens as f64),
        ("counter", "prompt_seconds_total", "Seconds spent on prompts", prompt_time),
        ("counter", "tokens_predicted_total", "Tokens generated", status.generated_tokens as f64),
        ("counter", "tokens_predicted_seconds_total", "Seconds spent on generation", time),
        ("counter", "n_decode_total", "Forward passes", status.passes as f64),
        (
            "gauge",
            "n_busy_slots_per_decode",
            "Sequences in a forward pass, on average",
            rate(status.spans, status.passes as f64),
        ),
        (
            "gauge",
            "prompt_tokens_seconds",
            "Prompt tokens per second, on average",
            rate(status.prompt_tokens, prompt_time),
        ),
        (
            "gauge",
            "predicted_tokens_seconds",
            "Generated tokens per second, on average",
            rate(status.generated_tokens, time),
        ),
        ("gauge", "requests_processing", "Requests being computed", status.slots.len() as f64),
        ("gauge", "requests_deferred", "Requests that wait", status.waiting as f64),
        ("gauge", "cache_bytes", "Bytes of keys and values in use", engine.cache_bytes() as f64),
        (
            "gauge",
            "cache_kept_bytes",
            "Of these, kept for prompts to come",
            status.cached_pages as f64 * page,
        ),
        (
            "gauge",
            "request_bytes",
            "Bytes taken by requests, of those that --request-memory allows",
            state.budget.taken() as f64,
        ),
    ];
    let mut text = String::new();
    for (kind, name, help, value) in all {
        let _ = writeln!(
            text,
            "# HELP llamacpp:{name} {help}.\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}"
        );
    }
    Response::new(200, "text/plain; version=0.0.4; charset=utf-8", text)
}
