//! What a server does, for people and programs that watch it: `/slots` and `/metrics`. Names and units are
//! llama-server's. No text of anyone is shown.

use super::http::Response;
use super::json::ok;
use crate::engine::{Engine, Slot, Status};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// `GET /slots`: one object for each request that may be computed at a time.
pub fn slots(engine: &Engine) -> Response {
    let Status { slots, .. } = engine.status();
    let places = engine.info.parallel.max(slots.len());
    let slot = |id: usize| slot(id, engine.info.context, slots.get(id));
    ok(&Value::Array((0..places).map(slot).collect()))
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

/// `GET /metrics`: counters and gauges in Prometheus' text format (version 0.0.4).
pub fn metrics(engine: &Engine) -> Response {
    let status = engine.status();
    let page = engine.page_bytes() as f64;
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
        ("gauge", "cache_bytes", "Bytes of keys and values in use", status.pages as f64 * page),
        (
            "gauge",
            "cache_kept_bytes",
            "Of these, kept for prompts to come",
            status.cached_pages as f64 * page,
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
