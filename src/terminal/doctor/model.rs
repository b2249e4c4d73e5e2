//! The weights, and the memory they need.

use super::{Check, State, split_hint};
use crate::engine::{LoadOptions, Need, Pages, Room, Sizes, fit, sizes};
use crate::model::{ModelFile, PageShape, Shard, spec};
use crate::settings::Config;
use crate::source::{NO_WEIGHTS, SourceError};
use crate::system::{Memory, size};
use crate::tokenizer::Tokenizer;
use serde_json::json;

/// Checks the weights, and whether there is enough memory for them.
pub fn weights_and_memory(
    config: &Config,
    shards: Result<Option<Vec<Shard>>, SourceError>,
) -> (Check, Check) {
    let alone = |weights: Check| (weights, memory_alone());
    let shards = match shards {
        Err(error) => return alone(Check::of_error("weights", &error.to_string())),
        Ok(None) => {
            let text = NO_WEIGHTS.lines().next().unwrap_or_default();
            let check = Check::new("weights", State::Problem, text);
            return alone(check.hint(
                "run tealight --weights model.gguf, or put NAME.gguf beside the program NAME",
            ));
        }
        Ok(Some(shards)) => shards,
    };
    let name = shards.first().map(|shard| shard.name.clone()).unwrap_or_default();
    let parts = shards.len();
    let of_error =
        |error: &dyn std::fmt::Display| Check::of_error("weights", &format!("{name}: {error}"));
    let file = match ModelFile::open(shards) {
        Err(error) => return alone(of_error(&error)),
        Ok(file) => file,
    };
    let spec = match spec(&file) {
        Err(error) => return alone(of_error(&error)),
        Ok(spec) => spec,
    };
    let tokenizer = match Tokenizer::new(&file) {
        Err(error) => return alone(of_error(&error)),
        Ok(tokenizer) => tokenizer,
    };
    let options = config.load_options();
    let need = Need::of(&file, &spec, &options);
    let split = if parts > 1 { format!(", {parts} parts") } else { String::new() };
    let text = format!("{name}: {}, {}{split}", spec.architecture, size(need.weights));
    let facts = json!({ "architecture": spec.architecture, "bytes": need.weights, "parts": parts });
    let mut check = Check::ok("weights", text).facts(facts);
    for warning in tokenizer.warnings() {
        let (warning, hint) = split_hint(warning);
        check.state = State::Note;
        check.text.push_str("; ");
        check.text.push_str(&warning);
        check.hint = hint.or(check.hint);
    }
    (check, memory(&need, &Pages::of(&spec, &options).whole, &options))
}

fn memory(need: &Need, shape: &PageShape, options: &LoadOptions) -> Check {
    let asked = options.context;
    let room = options.room;
    let fit = match fit(need, asked, room.as_ref()) {
        Err(error) => return Check::of_error("memory", &error.to_string()).facts(have(room)),
        Ok(fit) => fit,
    };
    let private = need.private(fit.context);
    let needs = format!(
        "needs {} (mapped weights, shared) and up to {} with a full context of {}",
        size(need.weights),
        size(private),
        fit.context
    );
    let Sizes { pool_bytes, limits } = sizes(need, shape, fit.context, options);
    let kept = limits.cached_pages.saturating_mul(shape.bytes());
    let facts = json!({
        "parallel": limits.parallel,
        "pages_bytes": pool_bytes,
        "kept_bytes": kept,
        "weights_bytes": need.weights,
        "private_bytes": private,
        "cache_bytes_per_position": need.per_position,
        "checkpoints": limits.cached_states,
        "checkpoint_bytes": need.states,
        "context": fit.context,
        "context_train": need.trained,
    });
    let Some(Room { memory, .. }) = room else {
        let text = format!("this system does not report how much is free; the model {needs}");
        return Check::new("memory", State::Note, text).facts(facts);
    };
    let mut several = format!(
        "; {} requests at a time share up to {}, of which {} may keep what was read",
        limits.parallel,
        size(pool_bytes as u64),
        size(kept as u64)
    );
    if need.states > 0 {
        let (count, each) = (limits.cached_states, size(need.states));
        several.push_str(&format!("; {count} checkpoints of {each} may be kept besides"));
    }
    let mut check = Check::ok("memory", format!("{}; the model {needs}{several}", free(&memory)));
    for note in &fit.notes {
        let (note, hint) = split_hint(note);
        check.state = State::Note;
        check.text.push_str("; ");
        // Without `note:` or `warning:`, which the state already says.
        check.text.push_str(note.split_once(": ").map_or(note.as_str(), |(_, text)| text));
        // The last of several is the most serious.
        check.hint = hint.or(check.hint);
    }
    check.facts(facts).facts(have(room))
}

fn memory_alone() -> Check {
    match Room::now(false) {
        Some(room) => Check::ok("memory", free(&room.memory)).facts(have(Some(room))),
        None => Check::new("memory", State::Note, "this system does not report how much there is"),
    }
}

fn free(memory: &Memory) -> String {
    let whose = if memory.limited { " that this container may use" } else { "" };
    format!("{} free of {}{whose}", size(memory.available), size(memory.total))
}

fn have(room: Option<Room>) -> serde_json::Value {
    room.map_or(json!({}), |Room { memory, .. }| {
        json!({
            "total_bytes": memory.total,
            "available_bytes": memory.available,
            "swap_free_bytes": memory.swap,
            "limited": memory.limited,
        })
    })
}
