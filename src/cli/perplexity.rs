//! What `tealight perplexity` takes.

use super::{Flags, spelled_out};
use clap::{ArgGroup, CommandFactory as _, FromArgMatches as _, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// Which tokens, how they are computed, and what comes out.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "tealight perplexity",
    about = "Measures how well a model predicts a text.",
    after_help = "What is computed: e to the mean of -ln p(token | the tokens before it in its chunk). The tokens are cut into \
                  chunks of -c; each chunk begins anew, its first token replaced by BOS where the model wants one. Of several \
                  chunks, the second half of each whole one counts: positions c/2 + 1 to c - 1, counted from 0, as \
                  llama-perplexity has it (which wants at least two chunks). When all fit one chunk, every token after the \
                  first counts. The text is read to its last byte, with BOS before it where the model wants one; control \
                  tokens written in it are plain text. Ids are taken as they are, and no BOS is put in.\n\n\
                  --logits-out writes one row for each token, those of the last part of a chunk too: float32 of shape \
                  (tokens, vocabulary) in NumPy's format 1.0, row i holding the logits after token i. An older file of that \
                  format is overwritten, any other is not.",
    group(ArgGroup::new("tokens").required(true).args(["file", "token_ids"])),
    args_override_self = true
)]
pub struct PerplexityFlags {
    /// Weights: a GGUF file, the first part of a split one, or a bundle (default: the program's own)
    #[arg(short = 'm', long = "model", alias = "weights", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The text in this file (-: standard input)
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Token ids instead of a text: 1,2,3 or [1, 2, 3] (@FILE: read them from a file)
    #[arg(long, value_name = "IDS")]
    pub token_ids: Option<String>,
    /// Tokens of a chunk (0: what the model was trained on; default: 512 of a text, all of given ids)
    #[arg(short = 'c', long, value_name = "N")]
    pub ctx_size: Option<usize>,
    /// Threads that compute (default: the physical cores)
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// Tokens computed at a time
    #[arg(short = 'b', long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Element type of the cached keys: f16, bf16, f32 or q8_0 (also -ctk)
    #[arg(long, value_name = "TYPE")]
    pub cache_type_k: Option<String>,
    /// Element type of the cached values: f16, bf16, f32 or q8_0 (also -ctv)
    #[arg(long, value_name = "TYPE")]
    pub cache_type_v: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write the logits of every position to this file
    #[arg(long, value_name = "FILE.npy")]
    pub logits_out: Option<PathBuf>,
    /// Say nothing on stderr but errors
    #[arg(long = "log-disable", alias = "quiet")]
    pub quiet: bool,
    /// Instruction set of the kernels
    #[arg(long, hide = true, value_name = "NAME")]
    pub isa: Option<String>,
}

impl PerplexityFlags {
    /// The settings that all commands share.
    #[must_use]
    pub fn shared(&self) -> Flags {
        Flags {
            model: self.model.clone(),
            ctx_size: self.ctx_size,
            threads: self.threads,
            batch_size: self.batch_size,
            cache_type_k: self.cache_type_k.clone(),
            cache_type_v: self.cache_type_v.clone(),
            isa: self.isa.clone(),
            ..Flags::default()
        }
    }
}

/// Parses the arguments after `perplexity`.
///
/// # Errors
/// As [`super::parse`].
pub fn parse_perplexity(arguments: &[OsString]) -> Result<PerplexityFlags, clap::Error> {
    let command = PerplexityFlags::command().no_binary_name(true);
    PerplexityFlags::from_arg_matches(&command.try_get_matches_from(spelled_out(arguments))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_that_fingers_know_are_taken() {
        let parse = |line: &str| {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            parse_perplexity(&arguments)
        };
        let flags =
            parse("-m a -f b -c 256 -t 2 -b 64 -ctk f32 -ctv f32 --json --logits-out x.npy");
        assert_eq!(flags.unwrap().shared().cache_type_k.as_deref(), Some("f32"));
        assert!(parse("-m a").is_err());
        assert!(parse("-m a -f b --token-ids 1").is_err());
    }
}
