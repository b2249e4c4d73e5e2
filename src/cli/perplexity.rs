//! Arguments of `tealight perplexity`.

use super::parse_with;
use crate::settings::{self, Set};
use clap::{ArgGroup, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// Which tokens to score, how to compute them, and what to output.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "tealight perplexity",
    about = "Measures how well a model predicts a text.",
    after_help = "Perplexity is e to the mean of -ln p(token | the tokens before it in its chunk). The tokens are \
                  split into chunks of -c; each chunk starts with an empty context, and its first token is replaced \
                  by BOS if the model uses one. With several chunks, the second half of each full chunk is scored: \
                  positions c/2 + 1 to c - 1, counted from 0, as in llama-perplexity (which needs at least two \
                  chunks). If everything fits in one chunk, every token after the first is scored. The text is read \
                  to its last byte, with BOS before it if the model uses one; control tokens written in it are plain \
                  text. Token ids are used as given, without a BOS.\n\n\
                  --logits-out writes one row per token, including those of a final partial chunk: float32 of shape \
                  (tokens, vocabulary) in NumPy's format 1.0, where row i holds the logits after token i. An \
                  existing file of that format is overwritten; any other file is not.",
    group(ArgGroup::new("tokens").required(true).args(["file", "token_ids"]))
)]
pub struct PerplexityFlags {
    /// The text in this file (-: standard input)
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Token ids instead of a text: 1,2,3 or [1, 2, 3] (@FILE: read them from a file)
    #[arg(long, value_name = "IDS")]
    pub token_ids: Option<String>,
    /// Tokens per chunk (0: what the model was trained on; default: 512 for a text, all of them for ids)
    #[arg(short = 'c', long, value_name = "N")]
    pub ctx_size: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write the logits of every position to this file
    #[arg(long, value_name = "FILE.npy")]
    pub logits_out: Option<PathBuf>,
}

/// Parses the arguments after `perplexity`.
///
/// # Errors
/// As [`super::parse`].
pub fn parse_perplexity(
    arguments: &[OsString],
) -> Result<(PerplexityFlags, Vec<Set>), clap::Error> {
    let shared =
        ["model", "threads", "batch-size", "cache-type-k", "cache-type-v", "log-disable", "isa"];
    let (flags, mut sets) = parse_with::<PerplexityFlags>(arguments, &shared)?;
    if let (Some(n), Some(setting)) = (flags.ctx_size, settings::find("ctx-size")) {
        sets.push(Set { setting, value: n.to_string().into() });
    }
    Ok((flags, sets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_flags_are_accepted() {
        let parse = |line: &str| {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            parse_perplexity(&arguments)
        };
        let flags =
            parse("-m a -f b -c 256 -t 2 -b 64 -ctk f32 -ctv f32 --json --logits-out x.npy");
        let (_, sets) = flags.unwrap();
        assert!(sets.iter().any(|set| set.setting.flag == "cache-type-k" && set.value == "f32"));
        assert!(parse("-m a").is_err());
        assert!(parse("-m a -f b --token-ids 1").is_err());
    }
}
