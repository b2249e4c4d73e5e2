//! `tealight -p TEXT`: prints one completion.

use super::{Interrupt, show};
use crate::config::{Config, read_text};
use crate::engine::{Engine, Event, Finish, Generation, generate};
use anyhow::Context as _;
use std::cell::Cell;
use std::io::{self, Read as _};
use std::path::Path;

/// Longest prompt from standard input.
const STDIN_BYTES_MAX: u64 = 64 << 20;

/// Completes the prompt of `config` and prints what the model adds.
///
/// # Errors
/// When there is no prompt to read or it does not fit the context.
pub fn complete(engine: &Engine, config: &Config, interrupt: &Interrupt) -> anyhow::Result<()> {
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
    let open = Cell::new(true);
    let mut lost = None;
    let outcome = generate(
        &mut engine.session(),
        &engine.tokenizer,
        &request,
        &|| open.get() && !interrupt.is_raised(),
        &mut |event| {
            if let Event::Text { text, .. } = event
                && open.get()
            {
                open.set(show(&text).unwrap_or_else(|e| {
                    lost = Some(e);
                    false
                }));
            }
        },
    )?;
    if let Some(error) = lost {
        return Err(error).context("writing to stdout");
    }
    if open.get() {
        show("\n").context("writing to stdout")?;
    }
    let t = outcome.timings;
    if outcome.finish == Finish::Length && config.predict.is_none_or(|n| t.generated_tokens < n) {
        eprintln!("[cut off: the context of {} tokens is full]", engine.info.context);
    }
    if config.verbose {
        eprintln!(
            "prompt {} tokens, {:.1}/s; generated {} tokens, {:.1}/s",
            t.prompt_tokens,
            t.prompt_per_second(),
            t.generated_tokens,
            t.generated_per_second()
        );
    }
    Ok(())
}

/// The text of `-p`, with that of `-f` before it.
fn prompt(config: &Config) -> anyhow::Result<String> {
    let mut text = match config.prompt_file.as_deref() {
        None => String::new(),
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .take(STDIN_BYTES_MAX)
                .read_to_string(&mut text)
                .context("reading the prompt from standard input")?;
            text
        }
        Some(path) => read_text("file", path)?,
    };
    text.push_str(config.prompt.as_deref().unwrap_or(""));
    Ok(text)
}
