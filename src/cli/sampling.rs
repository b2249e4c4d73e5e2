//! The flags about sampling: llama.cpp's names.

use clap::Args;
use std::path::PathBuf;

/// How tokens are chosen.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingFlags {
    /// Randomness; 0: always the likeliest token
    #[arg(long = "temp", alias = "temperature", value_name = "X", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Only the K likeliest tokens (0: all)
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub top_k: Option<i64>,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Only tokens at least this fraction as likely as the likeliest
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub min_p: Option<f64>,
    /// Only the most typical tokens that together reach this probability
    #[arg(long, alias = "typical-p", value_name = "X", allow_negative_numbers = true)]
    pub typical: Option<f64>,
    /// Only logits within so many standard deviations of the largest (-1: all)
    #[arg(
        long = "top-nsigma",
        alias = "top-n-sigma",
        value_name = "X",
        allow_negative_numbers = true
    )]
    pub top_n_sigma: Option<f64>,
    /// How often the likeliest tokens are left out
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub xtc_probability: Option<f64>,
    /// How likely tokens must be to be left out (above 0.5: none)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub xtc_threshold: Option<f64>,
    /// Penalty on recent tokens (1: none)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repeat_penalty: Option<f64>,
    /// How many recent tokens the penalties see (-1: all)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub repeat_last_n: Option<i64>,
    /// Penalty on tokens that occurred
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub presence_penalty: Option<f64>,
    /// Penalty on tokens for each time they occurred
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f64>,
    /// Penalty on what would continue a repetition (0: none)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub dry_multiplier: Option<f64>,
    /// How that penalty grows with each token of the repetition
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub dry_base: Option<f64>,
    /// Repetitions up to this length cost nothing
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub dry_allowed_length: Option<i64>,
    /// How many recent tokens are looked through for repetitions (-1: all)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub dry_penalty_last_n: Option<i64>,
    /// Text over which no repetition reaches, \n for a line break (several; none: no such text)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub dry_sequence_breaker: Vec<String>,
    /// How far the temperature follows the entropy (0: not at all)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub dynatemp_range: Option<f64>,
    /// The power by which it follows
    #[arg(long = "dynatemp-exp", value_name = "X", allow_negative_numbers = true)]
    pub dynatemp_exponent: Option<f64>,
    /// Steer the surprise of the text instead (1 or 2: version of Mirostat; 0: off)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub mirostat: Option<i64>,
    /// How fast Mirostat follows
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub mirostat_lr: Option<f64>,
    /// The surprise Mirostat aims at, in bits
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub mirostat_ent: Option<f64>,
    /// Prefer tokens of about this probability, where adaptive_p is among the samplers (-1: off)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub adaptive_target: Option<f64>,
    /// How long adaptive_p remembers
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub adaptive_decay: Option<f64>,
    /// The samplers in their order, separated by semicolons
    #[arg(long, value_name = "NAMES", overrides_with = "sampler_seq")]
    pub samplers: Option<String>,
    /// The same as letters, such as edskypmxt
    #[arg(long, alias = "sampling-seq", value_name = "LETTERS", overrides_with = "samplers")]
    pub sampler_seq: Option<String>,
    /// Make a token likelier or less likely: its id, + or -, and a number (several)
    #[arg(short = 'l', long, value_name = "ID±X")]
    pub logit_bias: Vec<String>,
    /// Go on where the model would end
    #[arg(long)]
    pub ignore_eos: bool,
    /// Answers must match this grammar (GBNF, or Lark after %llguidance)
    #[arg(long, value_name = "GRAMMAR", allow_hyphen_values = true)]
    pub grammar: Option<String>,
    /// A file with such a grammar
    #[arg(long, value_name = "FILE")]
    pub grammar_file: Option<PathBuf>,
    /// Answers must be JSON that this schema describes
    #[arg(short = 'j', long, value_name = "SCHEMA")]
    pub json_schema: Option<String>,
    /// A file with such a schema
    #[arg(long, value_name = "FILE")]
    pub json_schema_file: Option<PathBuf>,
    /// The same seed gives the same text (-1: a new one each time)
    #[arg(short = 's', long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<i64>,
}
