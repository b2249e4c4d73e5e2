//! What the executable does: one function for each command.

mod exit;
mod layers;
mod prompt_cache;
mod serve;

pub use exit::exit_code;

use anyhow::Context as _;
use exit::Unfit;
use layers::{layers, settings};
use serve::serve;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use tealight::cli::{self, Command};
use tealight::engine::{Bare, Engine, LoadOptions, NO_TEXT, Room};
use tealight::jobs::HANDLER;
use tealight::kernels::{Compute, Isa};
use tealight::model::Shard;
use tealight::settings::Config;
use tealight::source::{self, NO_WEIGHTS, Program, SourceError};
use tealight::system::{self, THREADS_HINT};
use tealight::terminal::{self, Interrupt, Patient};
use tealight::worker::Workers;
use tealight_bundle::shown::{self, say};
use tealight_bundle::signals::{self, Ending};

/// Error context if a report cannot be written.
const TO_STDOUT: &str = "writing to stdout";

/// Does what the command line asks for.
///
/// # Errors
/// When that fails; [`exit_code`] reports it.
pub fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let (command, rest) = cli::command(arguments);
    if command == Command::Bench {
        return bench(rest);
    }
    if command == Command::Tokenize {
        let (flags, sets) = cli::parse_tokenize(rest)?;
        let config = settings(sets)?;
        return terminal::tokenize(named_weights(config.model.as_deref())?, &flags, &config);
    }
    if command == Command::Perplexity {
        return perplexity(rest);
    }
    if command == Command::Doctor {
        return doctor(rest);
    }
    if command == Command::PromptCache {
        let (path, user) = cli::parse_prompt_cache(rest)?;
        return print(&prompt_cache::make(&path, user)?);
    }
    let user = cli::parse(rest)?;
    if command == Command::Verify {
        // Nothing else matters, and nothing else may keep a file from being checked.
        let layers = layers(None, user)?;
        let model = layers.iter().rev().find_map(|layer| layer.value("model"));
        let program = model.map(Path::new).map_or_else(Program::open, Program::at)?;
        return print(&terminal::verify(&program)?);
    }
    let program = Program::open();
    // A damaged tail of our own is fatal only if no other weights are named.
    let print_config = user.iter().any(|set| set.setting.flag == "print-config");
    let names_weights = user.iter().any(|set| set.setting.flag == "model");
    let program = match program {
        Ok(program) => Some(program),
        Err(error) if !names_weights => return Err(error.into()),
        Err(error) => {
            say(format_args!("warning: {error}"));
            None
        }
    };
    let config = Config::resolve(&layers(program.as_ref(), user)?)?;
    if !config.quiet {
        config.warnings.iter().for_each(|w| say(format_args!("warning: {w}")));
    }
    if print_config {
        return print(&config.listing);
    }
    if command == Command::Info {
        let program = program.as_ref().context("cannot read the program's own file")?;
        let shards = weights(&config, Some(program))?;
        return print(&terminal::info(program, shards)?);
    }
    if command == Command::Chat || config.prompt.is_some() || config.prompt_file.is_some() {
        let shards = weights(&config, program.as_ref())?.context(NO_WEIGHTS)?;
        let compute = config.compute();
        let engine = Engine::load(shards, &config.load_options(), &compute, &workers())?;
        anyhow::ensure!(engine.info.makes_text, NO_TEXT);
        if !config.quiet {
            engine.info.notes.iter().for_each(|note| say(format_args!("{note}")));
            if command == Command::Chat {
                stand_in(&engine);
            }
        }
        let taken = prompt_cache::take_over(program.as_ref(), &engine, config.quiet);
        prompt_cache::compare(taken, &engine, &config);
        return match command {
            Command::Chat => terminal::chat(&engine, &config, &*interrupt()?),
            _ => terminal::complete(&engine, &config),
        };
    }
    let shards = weights(&config, program.as_ref())?;
    serve(config, program.as_ref(), shards)
}

fn doctor(arguments: &[OsString]) -> anyhow::Result<()> {
    let (user, json) = cli::parse_doctor(arguments)?;
    let program = Program::open();
    let config = Config::resolve(&layers(program.as_ref().ok(), user)?)?;
    let shards = weights(&config, program.as_ref().ok());
    let report = terminal::doctor(Patient { config: &config, program: &program, shards });
    print(&if json { report.json() } else { report.text() })?;
    if report.is_fit() { Ok(()) } else { Err(Unfit.into()) }
}

fn bench(arguments: &[OsString]) -> anyhow::Result<()> {
    let (flags, sets) = cli::parse_bench(arguments)?;
    let config = settings(sets)?;
    if flags.limits {
        return print(&terminal::limits(&Compute::new(config.isa, config.threads), flags.json));
    }
    let shards = named_weights(config.model.as_deref())?;
    let together = flags.prompt + flags.generate.max(16 * flags.sequences);
    let context = together.max(flags.depth + flags.prompt.max(flags.generate)) + 8;
    let parallel = Some(flags.sequences.max(1));
    let engine = Engine::load(
        shards,
        &LoadOptions { context, parallel, room: Room::now(true), ..config.load_options() },
        &config.compute(),
        &workers(),
    )?;
    anyhow::ensure!(engine.info.makes_text, NO_TEXT);
    if !flags.json && std::io::stderr().is_terminal() {
        let isa: Isa = config.isa;
        say(format_args!("{}, {} threads, {isa}", engine.info.name, config.threads));
    }
    print(&terminal::bench(&engine, &flags)?)
}

fn perplexity(arguments: &[OsString]) -> anyhow::Result<()> {
    let (flags, sets) = cli::parse_perplexity(arguments)?;
    let config = settings(sets)?;
    let bare = Bare::load(named_weights(config.model.as_deref())?, &config.compute())?;
    print(&terminal::perplexity(bare, &flags, &config, &interrupt)?)
}

/// The named weights, or else the program's own.
fn weights(config: &Config, program: Option<&Program>) -> Result<Option<Vec<Shard>>, SourceError> {
    match (&config.model, program) {
        (Some(path), _) => source::open(path).map(Some),
        (None, Some(program)) => program.weights(),
        (None, None) => Ok(None),
    }
}

/// The weights in the named file, or else the program's own.
fn named_weights(path: Option<&Path>) -> anyhow::Result<Vec<Shard>> {
    match path {
        Some(path) => Ok(source::open(path)?),
        None => Program::open()?.weights()?.context(NO_WEIGHTS),
    }
}

/// Worker processes for work that must not run in this one.
fn workers() -> Arc<Workers> {
    Arc::new(Workers::start(HANDLER))
}

/// Reports which built-in chat template is used if the file has none.
fn stand_in(engine: &Engine) {
    if let Some(name) = engine.info.stand_in {
        say(format_args!(
            "note: the model has no chat template, so `{name}` is used; choose another with --chat-template NAME"
        ));
    }
}

/// Starts watching signals for work that can be interrupted. A signal that ends the program first restores the terminal
/// mode, which a line editor may have changed.
fn interrupt() -> anyhow::Result<Arc<Interrupt>> {
    let interrupt = Arc::new(Interrupt::default());
    let watched = Arc::clone(&interrupt);
    let mode = system::TerminalMode::now();
    signals::watch(move |ending| {
        if !watched.ends(ending) {
            return;
        }
        mode.restore();
        if ending == Ending::Interrupt {
            std::process::exit(ending.code().into());
        }
        ending.die();
    })
    .map_err(|error| no_thread(&error))?;
    Ok(interrupt)
}

/// Error for a thread that cannot be started: the limit is the user's, not the program's.
fn no_thread(error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("no thread could be started: {error}\n{THREADS_HINT}")
}

/// Prints a report; a closed pipe counts as success.
fn print(text: &str) -> anyhow::Result<()> {
    shown::report(text).context(TO_STDOUT)
}
