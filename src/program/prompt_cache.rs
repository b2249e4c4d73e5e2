//! The prompt cache of a bundle: made at the request of `tealight-bundle set --prompt-cache`, taken over at the start.

use super::layers::layers;
use super::{weights, workers};
use anyhow::Context as _;
use std::path::Path;
use tealight::chat::Conversation;
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
    let tokens = engine.common_beginning(config.system_prompt.as_deref(), &like(&config))?;
    anyhow::ensure!(
        !tokens.is_empty(),
        "conversations with this template begin with nothing in common"
    );
    let (tokens, bytes) = engine.make_prompt_cache(tokens, path, PROMPT_CACHE_SHIFT)?;
    Ok(format!("{tokens} tokens, {bytes} bytes, {}\n", config.isa))
}

/// Takes over the prompt cache of a bundle that has one; says why, if it is of no use.
pub fn take_over(program: &Program, engine: &Engine, config: &Config) {
    let Some(entry) = program.tail.iter().flat_map(|tail| tail.with_role(Role::PromptCache)).next()
    else {
        return;
    };
    let problem = match engine.map_prompt_cache(&program.file, entry.range.clone()) {
        Err(KeepError::Saved { error, .. }) => error.to_string(),
        Err(error) => error.to_string(),
        Ok(tokens) => match engine.common_beginning(config.system_prompt.as_deref(), &like(config))
        {
            Ok(now) if now.starts_with(&tokens) => return,
            Ok(_) => "it was made for another system prompt, template or settings".to_owned(),
            Err(error) => error.to_string(),
        },
    };
    if !config.quiet {
        let problem = problem.lines().next().unwrap_or_default();
        say(format_args!(
            "note: the prompt cache in this file is not used: {problem}\nhint: `tealight-bundle set --prompt-cache` makes a new one on this computer"
        ));
    }
}

/// What templates are given in every conversation.
fn like(config: &Config) -> Conversation {
    Conversation {
        variables: config.template_variables.clone(),
        reasoning: config.reasoning_format,
        no_thoughts: config.reasoning_budget == Some(0),
        ..Conversation::default()
    }
}
