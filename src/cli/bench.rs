//! Arguments of `tealight bench`.

use super::parse_with;
use crate::settings::Set;
use clap::Parser;
use std::ffi::OsString;

/// What to measure, and how often.
#[derive(Debug, Clone, Parser)]
#[command(name = "tealight bench", about = "Measures the speed of prompts and of generation.")]
pub struct BenchFlags {
    /// Tokens of the prompt
    #[arg(short = 'p', long = "n-prompt", default_value_t = 512, value_parser = count, value_name = "N")]
    pub prompt: usize,
    /// Tokens to generate
    #[arg(short = 'n', long = "n-gen", default_value_t = 64, value_parser = count, value_name = "N")]
    pub generate: usize,
    /// Tokens in the cache before either is measured
    #[arg(short = 'd', long = "n-depth", default_value_t = 0, value_parser = count, value_name = "N")]
    pub depth: usize,
    /// Sequences to generate together, beside a pass of as many tokens of one; 0 measures neither
    #[arg(long = "n-seqs", default_value_t = 0, value_parser = sequences, value_name = "N")]
    pub sequences: usize,
    /// How often each is measured
    #[arg(short = 'r', long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Measure the machine's peak rates instead: bytes read and multiply-adds per second
    #[arg(long)]
    pub limits: bool,
}

/// Parses the arguments after `bench`.
///
/// # Errors
/// As [`super::parse`].
pub fn parse_bench(arguments: &[OsString]) -> Result<(BenchFlags, Vec<Set>), clap::Error> {
    parse_with(arguments, &["model", "threads", "cache-type-k", "cache-type-v", "isa"])
}

/// Parses a number of sequences within the benchmark's limit.
fn sequences(text: &str) -> Result<usize, String> {
    const MAX: usize = 256;
    text.parse().ok().filter(|n| *n <= MAX).ok_or_else(|| format!("expected 0 to {MAX}"))
}

/// Parses a token count within the benchmark's limit.
fn count(text: &str) -> Result<usize, String> {
    const MAX: usize = 1 << 20;
    text.parse().ok().filter(|n| *n <= MAX).ok_or_else(|| format!("expected 0 to {MAX}"))
}
