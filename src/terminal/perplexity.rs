//! `tealight perplexity`: measures how well a model predicts a text, with every logit on the way if asked for.

use super::npy::Npy;
use super::{Interrupt, Interrupted, input};
use crate::cli::PerplexityFlags;
use crate::engine::{Bare, Chunking, Row, measure};
use crate::settings::{Config, read_text};
use anyhow::Context as _;
use serde_json::json;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use tealight_bundle::shown::say;

/// Default chunk size of a text in tokens, the same as in llama.cpp.
const CONTEXT_DEFAULT: usize = 512;

/// Measures what `flags` and `config` ask for. Returns the report. `interrupt` starts watching signals; it is called
/// once there is something to stop.
///
/// # Errors
/// When there are no tokens, they cannot be computed, or the logits cannot be written.
pub fn perplexity(
    bare: Bare,
    flags: &PerplexityFlags,
    config: &Config,
    interrupt: &dyn Fn() -> anyhow::Result<Arc<Interrupt>>,
) -> anyhow::Result<String> {
    let Bare { model, tokenizer, name } = bare;
    let (tokens, bos, usual) = if let Some(ids) = &flags.token_ids {
        let ids = match ids.strip_prefix('@') {
            Some(path) => token_ids(&read_text(path.as_ref()).context("--token-ids")?)?,
            None => token_ids(ids)?,
        };
        let count = ids.len();
        (ids, None, count)
    } else {
        let tokenizer = tokenizer
            .context("-f needs a vocabulary, which this model lacks\nhint: use --token-ids")?;
        let text = input::text(flags.file.as_deref())?;
        (tokenizer.encode(&text, true, false), tokenizer.bos(), CONTEXT_DEFAULT)
    };
    anyhow::ensure!(
        tokens.len() > usize::from(flags.logits_out.is_none()),
        "found {} tokens, expected at least 2: the first token is not predicted",
        tokens.len()
    );
    let context = match config.context_named.then_some(config.context) {
        None => usual,
        Some(0) => model.spec().n_ctx_train,
        Some(n) => n,
    };
    anyhow::ensure!(context > 1, "--ctx-size: found {context}, expected 2 or more");
    let plan = Chunking {
        context,
        batch: config.batch,
        bos,
        key_type: config.key_type,
        value_type: config.value_type,
        every_row: flags.logits_out.is_some(),
    };
    let interrupt = interrupt()?;
    interrupt.begin_to_write();
    let mut out = match &flags.logits_out {
        None => None,
        Some(path) => Some(Npy::create(path, tokens.len(), model.spec().n_vocab)?),
    };
    let live = !config.quiet && std::io::stderr().is_terminal();
    let mut shown = 0;
    let result = measure(&model, &tokens, &plan, &|| !interrupt.is_raised(), &mut |row| {
        if live && row.chunk > shown {
            shown = row.chunk;
            show(&row);
        }
        out.as_mut().map_or(Ok(()), |out| out.row(row.logits))
    });
    if live && shown > 0 {
        say(format_args!(""));
    }
    let found = match result.map_err(anyhow::Error::from).and_then(|found| {
        out.map_or(Ok(()), Npy::finish)?;
        Ok(found)
    }) {
        Ok(found) => found,
        Err(error) => {
            // A partial matrix under a name that promises a whole one helps nobody.
            if let Some(path) = flags.logits_out.as_ref().filter(|path| path.is_file()) {
                let _ = std::fs::remove_file(path);
            }
            return Err(match interrupt.raised() {
                Some(ending) => Interrupted(ending).into(),
                None => error.context(name),
            });
        }
    };
    interrupt.end();
    if flags.json {
        let report = json!({
            "model": name,
            "perplexity": found.value(),
            "standard_error": found.standard_error(),
            "mean_nll": found.mean(),
            "tokens": tokens.len(),
            "scored": found.scored,
            "context": context.min(tokens.len()),
            "chunks": found.chunks,
        });
        return Ok(format!("{report}\n"));
    }
    let mut report = format!(
        "{} tokens, chunks of {}, {} tokens scored\n",
        tokens.len(),
        context.min(tokens.len()),
        found.scored
    );
    if let (Some(value), Some(error)) = (found.value(), found.standard_error()) {
        report.push_str(&format!("Final estimate: PPL = {value:.4} +/- {error:.5}\n"));
    }
    Ok(report)
}

/// Prints the perplexity over the chunks so far.
fn show(row: &Row<'_>) {
    if let Some(value) = row.so_far.value() {
        let _ = write!(std::io::stderr(), "[{}]{value:.4},", row.chunk);
    }
}

/// `1,2,3` or `[1, 2, 3]`.
fn token_ids(text: &str) -> anyhow::Result<Vec<u32>> {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(trimmed);
    if inner.trim().is_empty() {
        return Ok(Vec::new());
    }
    inner
        .split(',')
        .enumerate()
        .map(|(index, id)| {
            id.trim().parse().map_err(|_| {
                let id: String = id.trim().chars().take(40).collect();
                anyhow::anyhow!(
                    "--token-ids: found `{id}` at position {index}, expected whole numbers separated by commas"
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_as_printed() {
        assert_eq!(token_ids("1,2,3").unwrap(), [1, 2, 3]);
        assert_eq!(token_ids(" [1, 2, 3]\n").unwrap(), [1, 2, 3]);
        assert!(token_ids("[]").unwrap().is_empty());
        for wrong in ["1,,2", "1 2", "-1", "a", "4294967296"] {
            assert!(token_ids(wrong).unwrap_err().to_string().contains("--token-ids"), "{wrong}");
        }
    }
}
