//! Arguments of `tealight tokenize`: the flags of `llama-tokenize`.

use super::parse_with;
use crate::settings::Set;
use clap::{ArgGroup, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// Which text to tokenize, and how to print its tokens.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "tealight tokenize",
    about = "Prints the tokens of a text: one per line with its bytes, or a list of ids.",
    after_help = "Only the vocabulary is read, so a GGUF file without weights works. The text is used as it is, to \
                  the last byte, unless -e expands escapes.",
    group(ArgGroup::new("text").required(true).args(["prompt", "file", "stdin"]))
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct TokenizeFlags {
    /// The text itself
    #[arg(short = 'p', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// The text in this file (-: standard input)
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The text on standard input
    #[arg(long)]
    pub stdin: bool,
    /// Print only the ids, as [1, 2, 3]
    #[arg(long)]
    pub ids: bool,
    /// Read each line as a separate text, written as a JSON string, and print its ids on one line
    #[arg(long)]
    pub json_lines: bool,
    /// Do not add the model's tokens around the text (BOS, EOS, SEP)
    #[arg(long)]
    pub no_bos: bool,
    /// Treat control tokens written in the text as plain text
    #[arg(long)]
    pub no_parse_special: bool,
    /// Also print the number of tokens
    #[arg(long)]
    pub show_count: bool,
    /// Read \n, \t, \" and \\ in the text as line break, tab, quote and backslash
    #[arg(short = 'e', long, overrides_with = "no_escape")]
    pub escape: bool,
    /// The default, named as in other programs
    #[arg(long, hide = true)]
    pub no_escape: bool,
}

/// Parses the arguments after `tokenize`.
///
/// # Errors
/// As [`super::parse`].
pub fn parse_tokenize(arguments: &[OsString]) -> Result<(TokenizeFlags, Vec<Set>), clap::Error> {
    parse_with(arguments, &["model", "log-disable"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<TokenizeFlags, clap::Error> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse_tokenize(&arguments).map(|(flags, _)| flags)
    }

    #[test]
    fn exactly_one_text_source_is_required() {
        assert_eq!(parse("-m a -p -x --ids").unwrap().prompt.as_deref(), Some("-x"));
        assert!(parse("--stdin --show-count --no-bos --no-parse-special").unwrap().stdin);
        assert!(parse("-m a --ids").is_err());
        assert!(parse("-p x --stdin").is_err());
        assert!(!parse("-p x -e --no-escape").unwrap().escape);
    }
}
