//! Command-line parsing: what was typed, not yet interpreted.
//!
//! Input: the arguments of the process, of a bundle's `.args`, or of environment variables. Output: the settings given
//! ([`Set`]), in order, and a [`Command`]. The flags come from the table in [`crate::settings`], which gives them
//! meaning; few commands have flags of their own.

mod bench;
mod environment;
mod perplexity;
mod tokenize;

pub use bench::{BenchFlags, parse_bench};
pub use environment::{Variable, environment};
pub use perplexity::{PerplexityFlags, parse_perplexity};
pub use tokenize::{TokenizeFlags, parse_tokenize};

use crate::settings::{self, Set, Setting, Takes, Value, default_in_help};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The command to run.
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
    /// Check whether the program would run here, and what stops it.
    Doctor,
    /// Compute what all conversations begin with, for a bundle.
    PromptCache,
}

const USAGE: &str = "tealight [OPTIONS]
       tealight -p TEXT [OPTIONS]
       tealight chat|info|doctor|verify|bench|tokenize|perplexity|prompt-cache [OPTIONS]";

const AFTER_HELP: &str = "\
Commands:
  (none)      serve the chat page and the API, and open the browser
  chat        chat in the terminal
  info        describe the program's model
  doctor      check whether it can run here, and what stops it [--json]
  verify      check every byte of the bundle
  bench       measure the speed: -p tokens -n tokens -r runs [--json]
  tokenize    print the tokens of a text: -p TEXT, -f FILE or --stdin
  perplexity  measure how well a text is predicted: -f FILE
  prompt-cache FILE  write what was read of the system prompt, for tealight-bundle set --prompt-cache

With -p TEXT or -f FILE: print one completion and exit.

Environment: LLAMA_ARG_ plus an option's name sets it (LLAMA_ARG_CTX_SIZE), as do llama.cpp's other
names; OLLAMA_HOST, OLLAMA_CONTEXT_LENGTH and NOBROWSER are read too. Options override them.

Exit codes: 0 success, 1 failure, 2 invalid command line, 130 stopped by Ctrl-C.";

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
        Some("prompt-cache") => Command::PromptCache,
        _ => return (Command::Serve, arguments),
    };
    (command, rest)
}

/// Parses the flags of one layer.
///
/// # Errors
/// clap's error, which names the argument and suggests a similar one; `--help` and `--version` arrive this way too.
pub fn parse(arguments: &[OsString]) -> Result<Vec<Set>, clap::Error> {
    let command = clap::Command::new("tealight")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A language model in one file: runs on this computer, and nothing leaves it.")
        .override_usage(USAGE)
        .after_help(AFTER_HELP)
        .disable_help_subcommand(true)
        // The last occurrence of a flag wins, as in the programs these flags come from.
        .args_override_self(true)
        .no_binary_name(true)
        .args(settings::all().filter_map(argument));
    let matches = command.try_get_matches_from(spelled_out(arguments, &|_| true))?;
    Ok(sets(&matches, &|_| true))
}

/// Parses the arguments of `doctor`: the server's flags, and whether to print JSON.
///
/// # Errors
/// As [`parse`].
pub fn parse_doctor(arguments: &[OsString]) -> Result<(Vec<Set>, bool), clap::Error> {
    let (json, flags): (Vec<_>, Vec<_>) =
        arguments.iter().cloned().partition(|argument| argument == "--json");
    Ok((parse(&flags)?, !json.is_empty()))
}

/// Parses the arguments of `prompt-cache`: the file to write, and the server's flags.
///
/// # Errors
/// As [`parse`], and when no file is named.
pub fn parse_prompt_cache(arguments: &[OsString]) -> Result<(PathBuf, Vec<Set>), clap::Error> {
    match arguments.split_first() {
        Some((path, flags)) if !path.to_string_lossy().starts_with('-') => {
            Ok((path.into(), parse(flags)?))
        }
        _ => {
            let text = "prompt-cache: expected the file to write as the first argument\n";
            Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, text))
        }
    }
}

/// Parses a command's own flags plus the `shared` ones from the table.
fn parse_with<Own: clap::CommandFactory + clap::FromArgMatches>(
    arguments: &[OsString],
    shared: &[&str],
) -> Result<(Own, Vec<Set>), clap::Error> {
    debug_assert!(shared.iter().all(|flag| settings::find(flag).is_some()), "{shared:?}");
    let takes = |setting: &Setting| shared.contains(&setting.flag);
    let flags = shared.iter().filter_map(|flag| settings::find(flag).and_then(argument));
    let command = Own::command().no_binary_name(true).args_override_self(true).args(flags);
    let matches = command.try_get_matches_from(spelled_out(arguments, &takes))?;
    Ok((Own::from_arg_matches(&matches)?, sets(&matches, &takes)))
}

/// The clap argument of a setting; `None` if it has no flag.
fn argument(setting: &'static Setting) -> Option<Arg> {
    let flag = Some(setting.flag).filter(|flag| !flag.is_empty())?;
    let mut argument = Arg::new(flag).long(flag).aliases(setting.aliases).help(help(setting));
    argument = argument.hide(setting.help.is_empty());
    if let Some(letter) = setting.short {
        argument = argument.short(letter);
    }
    if let Some(heading) = setting.group.heading() {
        argument = argument.help_heading(heading);
    }
    if setting.takes() == Takes::Nothing {
        return Some(argument.action(ArgAction::SetTrue));
    }
    let several = matches!(setting.value, Value::Texts(_));
    argument = argument
        .action(if several { ArgAction::Append } else { ArgAction::Set })
        .value_name(setting.placeholder)
        .allow_negative_numbers(setting.is_number())
        .allow_hyphen_values(setting.takes_dash && !setting.is_number());
    if setting.takes() == Takes::Perhaps {
        argument = argument.num_args(0..=1).default_missing_value("on");
    }
    Some(if setting.is_path() {
        argument.value_parser(clap::value_parser!(PathBuf))
    } else {
        argument.value_parser(clap::value_parser!(String))
    })
}

/// The help text, with the flag's single-dash forms and the default.
fn help(setting: &Setting) -> String {
    let dashed = match setting.dashed {
        [] => String::new(),
        all => format!(" (also {})", all.join(", ")),
    };
    let default = default_in_help(setting).map_or_else(String::new, |value| format!(" [{value}]"));
    format!("{}{dashed}{default}", setting.help)
}

/// The settings given on the command line, in order.
fn sets(matches: &ArgMatches, takes: &dyn Fn(&Setting) -> bool) -> Vec<Set> {
    let mut found = Vec::new();
    let ids: Vec<&str> = matches.ids().map(clap::Id::as_str).collect();
    for setting in settings::all().filter(|s| ids.contains(&s.flag) && takes(s)) {
        if matches.value_source(setting.flag) != Some(ValueSource::CommandLine) {
            continue;
        }
        let places = matches.indices_of(setting.flag).into_iter().flatten();
        if setting.takes() == Takes::Nothing {
            found.extend(places.map(|at| (at, Set { setting, value: OsString::new() })));
        } else {
            let values = matches.get_raw(setting.flag).into_iter().flatten();
            let set = |value: &OsStr| Set { setting, value: value.to_owned() };
            found.extend(places.zip(values.map(set)));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, set)| set).collect()
}

/// Replaces multi-letter flags after a single dash by their long form, for the settings that the command `takes`. The
/// argument after a flag that needs a value is that value, whatever it looks like.
fn spelled_out(arguments: &[OsString], takes: &dyn Fn(&Setting) -> bool) -> Vec<OsString> {
    let mut is_value = false;
    let spelled = arguments.iter().map(|argument| {
        if std::mem::take(&mut is_value) {
            return argument.clone();
        }
        let Some(setting) = settings::all().find(|s| takes(s) && is_flag(s, argument)) else {
            return argument.clone();
        };
        is_value = !matches!(setting.takes(), Takes::Nothing | Takes::Perhaps);
        let dashed = setting.dashed.iter().any(|dashed| argument == dashed);
        if dashed { format!("--{}", setting.flag).into() } else { argument.clone() }
    });
    spelled.collect()
}

/// Whether an argument is one of the setting's flags, without `=value`.
fn is_flag(setting: &Setting, argument: &OsStr) -> bool {
    let Some(text) = argument.to_str() else { return false };
    let long = text.strip_prefix("--");
    let named = |name: &str| long == Some(name) && !name.is_empty();
    let short = |letter: char| text.strip_prefix('-').is_some_and(|rest| rest.chars().eq([letter]));
    named(setting.flag)
        || setting.aliases.iter().copied().any(named)
        || setting.dashed.contains(&text)
        || setting.short.is_some_and(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Config, Layer, Origin};

    fn os(arguments: &[&str]) -> Vec<OsString> {
        arguments.iter().map(OsString::from).collect()
    }

    #[test]
    fn familiar_flags_are_accepted() {
        let line = "-m a.gguf -c 4096 -n -1 -t 4 -tb 4 -b 512 -ub 128 -ngl 999 --host 127.0.0.1 --port 81 \
            --temp 0.1 --top-k 5 --top-p 0.5 --min-p 0.1 --repeat-penalty 1.1 --repeat-last-n -1 \
            --presence-penalty -0.5 --frequency-penalty 0.1 -s -1 -sys hello -r stop -r end -e --jinja \
            -np 2 -cb -fa on -ctk f16 -ctv f32 --server --nobrowser --offline --no-mmap --mlock \
            --log-disable -v --launch -a name --api-prefix /x --nologo --v2 --ascii --unsecure --no-webui \
            --typical 0.9 --top-nsigma -1 --xtc-probability 0.5 --xtc-threshold 0.1 --dry-multiplier 0.8 \
            --dry-base 1.75 --dry-allowed-length 2 --dry-penalty-last-n -1 --dry-sequence-breaker none \
            --dynatemp-range 0.1 --dynatemp-exp 1 --mirostat 2 --mirostat-lr 0.1 --mirostat-ent 5 \
            --samplers top_k;min_p --sampler-seq kpt -l 15043-1 --ignore-eos --adaptive-target -1";
        let sets = parse(&os(&line.split_whitespace().collect::<Vec<_>>())).unwrap();
        let layer = Layer::new(Origin::Flag, sets);
        let config = Config::resolve(&[layer]).unwrap();
        assert_eq!((config.predict, config.stops), (None, vec!["stop".into(), "end".into()]));
        let samplers: Vec<_> = config.sampling.samplers.iter().map(|s| s.name()).collect();
        assert_eq!(samplers, ["top_k", "top_p", "temperature"], "the later of two names counts");
        let aliases =
            "--weights a --n-predict 3 --temperature 1 --gpu-layers all --contextsize 9 --quiet";
        assert!(parse(&os(&aliases.split_whitespace().collect::<Vec<_>>())).is_ok());
    }

    #[test]
    fn flags_keep_their_order() {
        let sets = parse(&os(&["--temp", "0.1", "-r", "a", "-t", "1", "-r", "b", "--temp", "0.2"]));
        let text = |set: &Set| format!("{}={}", set.setting.flag, set.value.display());
        let sets: Vec<_> = sets.unwrap().iter().map(text).collect();
        assert_eq!(sets, ["reverse-prompt=a", "threads=1", "reverse-prompt=b", "temp=0.2"]);
    }

    #[test]
    fn a_value_is_never_taken_for_a_flag() {
        let sets = parse(&os(&["-p", "-np", "-np", "2", "-fa", "-sys", "-fa"])).unwrap();
        let sets: Vec<_> =
            sets.iter().map(|s| (s.setting.flag, s.value.to_str().unwrap())).collect();
        let wanted =
            [("prompt", "-np"), ("parallel", "2"), ("flash-attn", "on"), ("system-prompt", "-fa")];
        assert_eq!(sets, wanted);
        let (flags, sets) = parse_tokenize(&os(&["-p", "-np", "--quiet"])).unwrap();
        assert_eq!(flags.prompt.as_deref(), Some("-np"));
        assert_eq!(sets.iter().map(|s| s.setting.flag).collect::<Vec<_>>(), ["log-disable"]);
        let (_, sets) = parse_bench(&os(&["-p", "5", "-ctk", "f32"])).unwrap();
        assert_eq!(sets.iter().map(|s| s.setting.flag).collect::<Vec<_>>(), ["cache-type-k"]);
        assert!(
            parse(&os(&["-m", ""])).is_err()
                && parse_perplexity(&os(&["-f", "x", "-m", ""])).is_err()
        );
    }

    #[test]
    fn an_unknown_flag_is_named_with_a_suggestion() {
        let error = parse(&os(&["--tempp", "1"])).err().unwrap().to_string();
        assert!(error.contains("--tempp") && error.contains("--temp"), "{error}");
    }

    #[test]
    fn help_shows_the_defaults() {
        let help = parse(&os(&["--help"])).err().unwrap().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in
            ["more is more varied [0.8]", "Address to listen on [127.0.0.1]", "--model <FILE>"]
        {
            assert!(words.contains(line), "{line} is not in {help}");
        }
        assert!(!help.contains("--isa") && !help.contains("--mlock"));
    }
}
