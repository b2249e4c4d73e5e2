//! `tealight -p TEXT`: prints one completion.

use super::{input, show};
use crate::engine::{Engine, Event, Finish, Generation};
use crate::settings::{Config, unescape};
use anyhow::Context as _;
use std::cell::Cell;
use tealight_bundle::shown::say;

/// Completes the prompt of `config` and prints what the model adds, flushing each piece: a signal may end the process
/// between any two of them.
///
/// # Errors
/// When there is no prompt to read or it does not fit the context.
pub fn complete(engine: &Engine, config: &Config) -> anyhow::Result<()> {
    let prompt = prompt(config)?;
    let request = Generation {
        prompt: engine.tokenizer.encode(&prompt, true, true),
        sampling: config.sampling.clone(),
        max_tokens: config.predict,
        stops: config.stops.clone(),
        ignore_end: config.ignore_end,
        guide: config.constraint.as_ref().map(|c| engine.guide(c)).transpose()?,
        ..Generation::default()
    };
    restore(engine, config);
    let open = Cell::new(true);
    let mut lost = None;
    let outcome = engine.generate(&request, &|| open.get(), &mut |event| {
        if let Event::Text { text, .. } = event
            && open.get()
        {
            open.set(show(&text).unwrap_or_else(|e| {
                lost = Some(e);
                false
            }));
        }
    })?;
    if let Some(error) = lost {
        return Err(error).context("writing to stdout");
    }
    if let Some(path) = &config.prompt_cache
        && let Err(error) = engine.save_slot(0, path)
    {
        say(format_args!("warning: --prompt-cache: {error}"));
    }
    if open.get() {
        show("\n").context("writing to stdout")?;
    }
    let t = outcome.timings;
    if outcome.finish == Finish::Length && config.predict.is_none_or(|n| t.generated_tokens < n) {
        say(format_args!("[cut off: the context of {} tokens is full]", engine.info.context));
    }
    if config.verbose {
        say(format_args!(
            "prompt {} tokens ({} known), {:.1}/s; generated {} tokens, {:.1}/s",
            t.prompt_tokens,
            t.reused_tokens,
            t.prompt_per_second(),
            t.generated_tokens,
            t.generated_per_second()
        ));
    }
    Ok(())
}

/// Takes back what the file of `--prompt-cache` holds. One that is of no use is replaced afterwards.
fn restore(engine: &Engine, config: &Config) {
    if let Some(path) = config.prompt_cache.as_ref().filter(|path| path.exists())
        && let Err(error) = engine.restore_slot(0, path)
    {
        say(format_args!("warning: --prompt-cache: {error}"));
    }
}

/// The text of `-f`, then that of `-p`.
fn prompt(config: &Config) -> anyhow::Result<String> {
    let mut text = config.prompt_file.as_deref().map_or(Ok(String::new()), input::prompt)?;
    if config.escape {
        text = unescape(&text);
    }
    text.push_str(config.prompt.as_deref().unwrap_or(""));
    Ok(text)
}
