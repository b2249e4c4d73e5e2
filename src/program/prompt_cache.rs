//! The prompt cache of a bundle: made at the request of `tealight-bundle set --prompt-cache`, taken over at the start.

use super::layers::layers;
use super::{weights, workers};
use anyhow::Context as _;
use std::path::Path;
use tealight::engine::{Engine, KeepError, NO_TEXT};
use tealight::settings::{Config, Set};
use tealight::source::{NO_WEIGHTS, Program};
use tealight_bundle::shown::say;
use tealight_bundle::tail::Role;
use tealight_bundle::tail::layout::PROMPT_CACHE_SHIFT;

/// Reads what all conversations of the program begin with, and writes that to `path`. Returns what to print.
pub fn make(path: &Path, user: Vec<Set>) -> anyhow::Result<String> {
    let program = Program::open()?;
    let config = Config::resolve(&layers(Some(&program), user)?)?;
    let shards = weights(&config, Some(&program))?.context(NO_WEIGHTS)?;
    let engine = Engine::load(shards, &config.load_options(), &config.compute(), &workers())?;
    anyhow::ensure!(engine.info.makes_text, NO_TEXT);
    let tokens =
        engine.common_beginning(config.system_prompt.as_deref(), &config.conversation())?;
    anyhow::ensure!(
        !tokens.is_empty(),
        "conversations with this template begin with nothing in common"
    );
    let (tokens, bytes) = engine.make_prompt_cache(tokens, path, PROMPT_CACHE_SHIFT)?;
    Ok(format!("{tokens} tokens, {bytes} bytes, {}\n", config.isa))
}

/// Takes over the prompt cache of a bundle that has one; says why, if it is of no use. Returns its tokens.
pub fn take_over(program: Option<&Program>, engine: &Engine, quiet: bool) -> Option<Vec<u32>> {
    let program = program?;
    let entry = program.tail.as_ref()?.with_role(Role::PromptCache).next()?;
    match engine.map_prompt_cache(&program.file, entry.range.clone()) {
        Ok(tokens) => return Some(tokens),
        Err(KeepError::Saved { error, .. }) => not_used(&error.to_string(), quiet),
        Err(error) => not_used(&error.to_string(), quiet),
    }
    None
}

/// Says so, if conversations do not begin with these tokens. Reading nothing depends on it, so it can wait until the
/// program is ready.
pub fn compare(tokens: Option<Vec<u32>>, engine: &Engine, config: &Config) {
    let Some(tokens) = tokens.filter(|_| !config.quiet) else { return };
    match engine.common_beginning(config.system_prompt.as_deref(), &config.conversation()) {
        Ok(now) if now.starts_with(&tokens) => {}
        Ok(_) => not_used("it was made for another system prompt, template or settings", false),
        Err(error) => not_used(&error.to_string(), false),
    }
}

fn not_used(problem: &str, quiet: bool) {
    if !quiet {
        let problem = problem.lines().next().unwrap_or_default();
        say(format_args!(
            "note: the prompt cache in this file is not used: {problem}\nhint: `tealight-bundle set --prompt-cache` makes a new one on this computer"
        ));
    }
}
