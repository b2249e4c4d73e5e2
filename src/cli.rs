//! What was typed, before it means anything.
//!
//! Enters: the arguments of a process, of a bundle's `.args`, or of environment variables. Leaves:
//! [`Flags`], in which everything is optional, and a [`Command`]. [`crate::config`] gives them meaning.

mod environment;
mod perplexity;
mod sampling;
mod tokenize;

pub use environment::{Variable, environment};
pub use perplexity::{PerplexityFlags, parse_perplexity};
pub use sampling::SamplingFlags;
pub use tokenize::{TokenizeFlags, parse_tokenize};

use clap::builder::Resettable;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Serve the page and the API.
    Serve,
    /// Chat in the terminal.
    Chat,
    /// Describe the file.
    Info,
    /// Check the file.
    Verify,
    /// Measure the speed.
    Bench,
    /// Print the tokens of a text.
    Tokenize,
    /// Measure how well a text is predicted.
    Perplexity,
    /// Say whether the program would run here, and what is in the way.
    Doctor,
}

/// The arguments of one layer of the configuration.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "tealight",
    version,
    about = "A language model in one file: runs on this computer, and nothing leaves it.",
    override_usage = "tealight [OPTIONS]\n       tealight -p TEXT [OPTIONS]\n       tealight chat|info|doctor|verify|bench|tokenize|perplexity [OPTIONS]",
    after_help = "Commands:\n  (none)      serve the chat page and the API, and open the browser\n  chat        chat in the terminal\n  info        describe the program's model\n  doctor      say whether it runs here, and what is in the way [--json]\n  verify      check every byte of the bundle\n  bench       measure the speed: -p tokens -n tokens -r runs [--json]\n  tokenize    print the tokens of a text: -p TEXT, -f FILE or --stdin\n  perplexity  measure how well a text is predicted: -f FILE\n\nWith -p TEXT or -f FILE: print one completion and end.\n\nEnvironment: LLAMA_ARG_ and the name of an option set it (LLAMA_ARG_CTX_SIZE), as do llama.cpp's other\nnames; OLLAMA_HOST and OLLAMA_CONTEXT_LENGTH; NOBROWSER. An option counts more.\n\nExit codes: 0 done, 1 failed, 2 wrong command line, 130 ended by Ctrl-C.",
    disable_help_subcommand = true,
    // The later of two settings counts, as in the programs these flags come from.
    args_override_self = true
)]
pub struct Flags {
    /// Weights: a GGUF file, the first part of a split one, or another bundle
    #[arg(short = 'm', long = "model", alias = "weights", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Size of the context in tokens (0: what the model was trained on, as far as memory goes)
    #[arg(short = 'c', long, alias = "contextsize", value_name = "N")]
    pub ctx_size: Option<usize>,
    /// Tokens to generate at most (-1: until the model ends)
    #[arg(
        short = 'n',
        long = "predict",
        alias = "n-predict",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub predict: Option<i64>,
    /// Threads that compute (default: the fast physical cores)
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// Tokens of a prompt computed at a time
    #[arg(short = 'b', long, env = "LLAMA_ARG_BATCH", value_name = "N")]
    pub batch_size: Option<usize>,
    /// Layers on the GPU: a number, auto or all (this build computes on the CPU)
    #[arg(long, alias = "gpu-layers", alias = "gpulayers", value_name = "N")]
    pub n_gpu_layers: Option<String>,
    /// Element type of the cached keys: f16, bf16, f32 or q8_0
    #[arg(long, value_name = "TYPE")]
    pub cache_type_k: Option<String>,
    /// Element type of the cached values: f16, bf16, f32 or q8_0
    #[arg(long, value_name = "TYPE")]
    pub cache_type_v: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are documented")]
    pub server: ServerFlags,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are documented")]
    pub sampling: SamplingFlags,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are documented")]
    pub text: TextFlags,
    /// Show each setting and where it comes from, and end
    #[arg(long)]
    pub print_config: bool,
    /// Say more on stderr
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// Say nothing on stderr but errors
    #[arg(long = "log-disable", alias = "quiet")]
    pub quiet: bool,
    /// Instruction set of the kernels
    #[arg(long, hide = true, value_name = "NAME")]
    pub isa: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are documented")]
    pub accepted: AcceptedFlags,
}

/// Where and to whom the server speaks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerFlags {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port to listen on (default: 8080, or the next free one)
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Ask for this key in every API request (several: separated by commas)
    #[arg(long, env = "LLAMA_API_KEY", value_name = "KEY")]
    pub api_key: Option<String>,
    /// A file with such keys, one a line
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Name of the model in the API
    #[arg(short = 'a', long, value_name = "NAME")]
    pub alias: Option<String>,
    /// Serve the page from this folder
    #[arg(long, env = "LLAMA_ARG_STATIC_PATH", value_name = "FOLDER")]
    pub path: Option<PathBuf>,
    /// Serve everything below this path
    #[arg(long, value_name = "PATH")]
    pub api_prefix: Option<String>,
    /// How embeddings of a text are made of those of its tokens: none, mean, cls or last (default: the
    /// model's own, else mean)
    #[arg(long, value_name = "HOW")]
    pub pooling: Option<String>,
    /// How embeddings are scaled: -1 not at all, 0 for 16-bit integers, 1 taxicab, 2 Euclidean, above by
    /// that norm
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub embd_normalize: Option<i32>,
    /// Refuse API requests with fields that nobody knows (else they are ignored and named)
    #[arg(long)]
    pub strict: bool,
    /// Do not open the browser
    #[arg(long)]
    pub nobrowser: bool,
    /// Keep the page's conversations in a file beside the program, not in the browser
    #[arg(long)]
    pub portable: bool,
}

/// Prompts and templates.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Text")]
pub struct TextFlags {
    /// Complete this text, print it, and end
    #[arg(short = 'p', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Complete the text in this file (-: standard input)
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// System prompt of chats (@FILE: read it from a file)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system_prompt: Option<String>,
    /// End an answer at this text (may be given several times)
    #[arg(short = 'r', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub reverse_prompt: Vec<String>,
    /// Keep what is typed in `chat` in this file, for the arrow keys of the next one
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Read \n, \r, \t, \', \", \\ and \xHH in prompts and stop texts as the characters they stand for (the default)
    #[arg(short = 'e', long, overrides_with = "no_escape")]
    pub escape: bool,
    /// Take prompts and stop texts as they are, backslashes too
    #[arg(long, overrides_with = "escape")]
    pub no_escape: bool,
    /// Chat template instead of the model's own: a name (such as chatml or llama3), a file, or Jinja
    #[arg(long, value_name = "NAME|FILE", allow_hyphen_values = true)]
    pub chat_template: Option<String>,
    /// A file with a chat template
    #[arg(long, value_name = "FILE")]
    pub chat_template_file: Option<PathBuf>,
    /// Variables of the chat template, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub chat_template_kwargs: Option<String>,
    /// Thoughts of a model: apart from its answer (auto, deepseek) or in it (none)
    #[arg(long, env = "LLAMA_ARG_THINK", value_name = "NAME")]
    pub reasoning_format: Option<String>,
    /// Tokens a model may think: 0 for no thoughts, -1 for no limit
    #[arg(long, env = "LLAMA_ARG_THINK_BUDGET", value_name = "N", allow_negative_numbers = true)]
    pub reasoning_budget: Option<i64>,
}

impl TextFlags {
    /// Whether escapes are read, if one of the two flags says so.
    #[must_use]
    pub fn escapes(&self) -> Option<bool> {
        (self.escape || self.no_escape).then_some(self.escape)
    }
}

/// Arguments of other programs that mean nothing here; they are taken with a warning.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[expect(missing_docs, reason = "they mean nothing")]
pub struct AcceptedFlags {
    #[arg(long = "server", hide = true)]
    pub server_mode: bool,
    #[arg(long, alias = "embedding", hide = true)]
    pub embeddings: bool,
    #[arg(long, hide = true)]
    pub cli: bool,
    #[arg(long, hide = true)]
    pub chat: bool,
    #[arg(long, hide = true)]
    pub launch: bool,
    #[arg(long, hide = true)]
    pub offline: bool,
    #[arg(long, hide = true)]
    pub jinja: bool,
    #[arg(long, hide = true)]
    pub mmap: bool,
    #[arg(long, hide = true)]
    pub no_mmap: bool,
    #[arg(long, hide = true)]
    pub mlock: bool,
    #[arg(long, hide = true)]
    pub no_webui: bool,
    #[arg(long, hide = true)]
    pub v2: bool,
    #[arg(long, hide = true)]
    pub nologo: bool,
    #[arg(long, hide = true)]
    pub ascii: bool,
    #[arg(long, hide = true)]
    pub unsecure: bool,
    #[arg(long, hide = true)]
    pub cont_batching: bool,
    #[arg(long, hide = true, env = "LLAMA_ARG_N_PARALLEL", value_name = "N")]
    pub parallel: Option<usize>,
    #[arg(long, hide = true, env = "LLAMA_ARG_UBATCH", value_name = "N")]
    pub ubatch_size: Option<usize>,
    #[arg(long, hide = true, value_name = "N")]
    pub threads_batch: Option<usize>,
    #[arg(long, hide = true, value_name = "MODE", num_args = 0..=1, default_missing_value = "on")]
    pub flash_attn: Option<String>,
    #[arg(long, hide = true, value_name = "NAME")]
    pub gpu: Option<String>,
}

/// What `bench` takes.
#[derive(Debug, Clone, Parser)]
#[command(name = "tealight bench", about = "Measures the speed of prompts and of generation.")]
pub struct BenchFlags {
    /// Weights, as for serving
    #[arg(short = 'm', long = "model", alias = "weights", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Tokens of the prompt
    #[arg(short = 'p', long = "n-prompt", default_value_t = 512, value_parser = count, value_name = "N")]
    pub prompt: usize,
    /// Tokens to generate
    #[arg(short = 'n', long = "n-gen", default_value_t = 64, value_parser = count, value_name = "N")]
    pub generate: usize,
    /// Tokens in the cache before either is measured
    #[arg(short = 'd', long = "n-depth", default_value_t = 0, value_parser = count, value_name = "N")]
    pub depth: usize,
    /// Threads that compute
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// Element type of the cached keys: f16, bf16, f32 or q8_0 (also -ctk)
    #[arg(long, value_name = "TYPE")]
    pub cache_type_k: Option<String>,
    /// Element type of the cached values: f16, bf16, f32 or q8_0 (also -ctv)
    #[arg(long, value_name = "TYPE")]
    pub cache_type_v: Option<String>,
    /// How often each is measured
    #[arg(short = 'r', long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Measure the machine instead: bytes read and multiply-adds each second, at most
    #[arg(long)]
    pub limits: bool,
    /// Instruction set of the kernels
    #[arg(long, hide = true, value_name = "NAME")]
    pub isa: Option<String>,
}

impl BenchFlags {
    /// The settings that all commands share.
    #[must_use]
    pub fn shared(&self) -> Flags {
        Flags {
            model: self.model.clone(),
            threads: self.threads,
            cache_type_k: self.cache_type_k.clone(),
            cache_type_v: self.cache_type_v.clone(),
            isa: self.isa.clone(),
            ..Flags::default()
        }
    }
}

/// A number of tokens that a benchmark can be about.
fn count(text: &str) -> Result<usize, String> {
    const MAX: usize = 1 << 20;
    text.parse().ok().filter(|n| *n <= MAX).ok_or_else(|| format!("expected 0 to {MAX}"))
}

/// Multi-letter flags with one dash, as llama.cpp has them.
const SHORT: &[(&str, &str)] = &[
    ("-ngl", "--n-gpu-layers"),
    ("-sys", "--system-prompt"),
    ("-jf", "--json-schema-file"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-np", "--parallel"),
    ("-cb", "--cont-batching"),
    ("-fa", "--flash-attn"),
    ("-tb", "--threads-batch"),
    ("-ub", "--ubatch-size"),
];

/// Splits off the command, if the first argument names one.
#[must_use]
pub fn command(arguments: &[OsString]) -> (Command, &[OsString]) {
    let Some((first, rest)) = arguments.split_first() else { return (Command::Serve, arguments) };
    let command = match first.to_str() {
        Some("serve") => Command::Serve,
        Some("chat") => Command::Chat,
        Some("info") => Command::Info,
        Some("verify") => Command::Verify,
        Some("bench") => Command::Bench,
        Some("tokenize") => Command::Tokenize,
        Some("perplexity") => Command::Perplexity,
        Some("doctor") => Command::Doctor,
        _ => return (Command::Serve, arguments),
    };
    (command, rest)
}

/// Parses the flags of one layer.
///
/// # Errors
/// clap's error, which names the argument and suggests one; `--help` and `--version` come this way too.
pub fn parse(arguments: &[OsString]) -> Result<Flags, clap::Error> {
    // The environment is a layer of its own: `environment::arguments`.
    let command = Flags::command().no_binary_name(true).mut_args(|arg| arg.env(Resettable::Reset));
    Flags::from_arg_matches(&command.try_get_matches_from(spelled_out(arguments))?)
}

/// Parses what `doctor` takes: the flags of a serving run, and whether to print JSON.
///
/// # Errors
/// As [`parse`].
pub fn parse_doctor(arguments: &[OsString]) -> Result<(Flags, bool), clap::Error> {
    let (json, flags): (Vec<_>, Vec<_>) =
        arguments.iter().cloned().partition(|argument| argument == "--json");
    Ok((parse(&flags)?, !json.is_empty()))
}

/// The arguments with those of [`SHORT`] in their long form.
fn spelled_out(arguments: &[OsString]) -> impl Iterator<Item = OsString> {
    arguments.iter().map(|argument| {
        let known = argument.to_str().and_then(|a| SHORT.iter().find(|(short, _)| *short == a));
        known.map_or_else(|| argument.clone(), |(_, long)| OsString::from(long))
    })
}

/// Parses what `bench` takes.
///
/// # Errors
/// As [`parse`].
pub fn parse_bench(arguments: &[OsString]) -> Result<BenchFlags, clap::Error> {
    let command = BenchFlags::command().no_binary_name(true);
    BenchFlags::from_arg_matches(&command.try_get_matches_from(spelled_out(arguments))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(arguments: &[&str]) -> Vec<OsString> {
        arguments.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_flags_that_fingers_know_are_taken() {
        let line = "-m a.gguf -c 4096 -n -1 -t 4 -tb 4 -b 512 -ub 128 -ngl 999 --host 127.0.0.1 --port 81 \
            --temp 0.1 --top-k 5 --top-p 0.5 --min-p 0.1 --repeat-penalty 1.1 --repeat-last-n -1 \
            --presence-penalty -0.5 --frequency-penalty 0.1 -s -1 -sys hello -r stop -r end -e --jinja \
            -np 2 -cb -fa on -ctk f16 -ctv f32 --server --nobrowser --offline --no-mmap --mlock \
            --log-disable -v --launch -a name --api-prefix /x --nologo --v2 --ascii --unsecure --no-webui \
            --typical 0.9 --top-nsigma -1 --xtc-probability 0.5 --xtc-threshold 0.1 --dry-multiplier 0.8 \
            --dry-base 1.75 --dry-allowed-length 2 --dry-penalty-last-n -1 --dry-sequence-breaker none \
            --dynatemp-range 0.1 --dynatemp-exp 1 --mirostat 2 --mirostat-lr 0.1 --mirostat-ent 5 \
            --samplers top_k;min_p --sampler-seq kpt -l 15043-1 --ignore-eos --adaptive-target -1";
        let flags = parse(&os(&line.split_whitespace().collect::<Vec<_>>())).unwrap();
        assert_eq!(flags.predict, Some(-1));
        assert_eq!(flags.text.reverse_prompt, ["stop", "end"]);
        assert_eq!(flags.n_gpu_layers.as_deref(), Some("999"));
        assert_eq!(flags.sampling.samplers, None, "the later of two names of a setting counts");
        assert_eq!(flags.sampling.sampler_seq.as_deref(), Some("kpt"));
        let aliases =
            "--weights a --n-predict 3 --temperature 1 --gpu-layers all --contextsize 9 --quiet";
        assert!(parse(&os(&aliases.split_whitespace().collect::<Vec<_>>())).is_ok());
    }

    #[test]
    fn the_later_of_two_settings_counts() {
        let flags = parse(&os(&["--temp", "0.1", "-t", "1", "--temp", "0.2"])).unwrap();
        assert_eq!(flags.sampling.temperature, Some(0.2));
    }

    #[test]
    fn an_unknown_flag_is_named_with_a_suggestion() {
        let error = parse(&os(&["--tempp", "1"])).unwrap_err().to_string();
        assert!(error.contains("--tempp") && error.contains("--temp"), "{error}");
    }
}
