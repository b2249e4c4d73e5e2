//! The one executable: finds its weights, reads its settings, and serves, chats or reports.

use anyhow::Context as _;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tealight::cli::{self, Command};
use tealight::constraint::Constraint;
use tealight::engine::{Bare, Engine, LoadOptions, NO_TEXT, Room};
use tealight::jobs::HANDLER;
use tealight::kernels::{Compute, Isa, keep_freed_memory};
use tealight::model::Shard;
use tealight::server::{self, Chats, ModelState, Page, State};
use tealight::settings::{Config, ConfigError, Layer, Origin, Set};
use tealight::source::{self, NO_WEIGHTS, Program, SourceError};
use tealight::system::{self, Browser, THREADS_HINT};
use tealight::terminal::{self, Interrupt, Interrupted, Patient};
use tealight::worker::{self, Bounded, CHILD_FLAG, Workers};
use tealight_bundle::args::Args;
use tealight_bundle::shown::{self, say};
use tealight_bundle::signals::{self, Ending};
use tealight_bundle::tail::Role;

/// Exit code for a wrong command line, the same as clap's. The others: 0, 1 for failures (also in `tealight_bundle`,
/// when mapped weights vanish), 130 after Ctrl-C ([`Ending::code`]). Where no signal is watched, signals have their
/// default effect: Ctrl-C ends a single completion, and what was printed stays.
const USAGE: u8 = 2;

/// Enforces its memory limit in worker processes only.
#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == CHILD_FLAG) {
        return worker::run(HANDLER);
    }
    keep_freed_memory();
    // Skip the program's name and, if a bundle was handed over, `--bundle FILE`.
    let own = if source::handed_over().is_some() { 3 } else { 1 };
    let arguments: Vec<OsString> = std::env::args_os().skip(own).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(usage) => {
                if let Err(error) = shown::usage(&usage) {
                    say(format_args!("error: {TO_STDOUT}: {error}"));
                    return ExitCode::FAILURE;
                }
                if usage.use_stderr() {
                    last_words(&arguments, &usage.to_string());
                }
                ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(USAGE))
            }
            Err(error) if error.is::<Unfit>() => ExitCode::FAILURE,
            Err(error) if error.is::<Interrupted>() => {
                let ending = error.downcast_ref().map_or(Ending::Interrupt, |Interrupted(by)| *by);
                ExitCode::from(ending.code())
            }
            Err(error) => {
                let text = format!("error: {error:#}");
                say(format_args!("{text}"));
                last_words(&arguments, &text);
                let wrong = matches!(error.downcast_ref(), Some(ConfigError::Value { .. }));
                let usage = wrong || error.is::<UsageError>();
                if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
            }
        },
    }
}

/// Error context if a report cannot be written.
const TO_STDOUT: &str = "writing to stdout";

/// Keeps an error visible after a double click: holds the console window open or, if there is none, shows the error in
/// the browser.
fn last_words(arguments: &[OsString], error: &str) {
    if system::is_unseen() && system::has_display() && is_for_a_browser(arguments) {
        server::trouble(error, Browser::open);
    }
    system::hold();
}

/// Whether the failed run with these arguments would have opened the browser.
fn is_for_a_browser(arguments: &[OsString]) -> bool {
    let (command, rest) = cli::command(arguments);
    let user = cli::parse(rest).unwrap_or_default();
    let no = |layer: &Layer| {
        ["nobrowser", "print-config", "prompt", "file"].iter().any(|flag| layer.has(flag))
    };
    // An invalid flag must not hide a valid `--nobrowser`.
    let forbidden = rest.iter().any(|argument| argument == "--nobrowser");
    let program = Program::open().ok();
    let silent = match layers(program.as_ref(), user) {
        Ok(layers) => layers.iter().any(no),
        Err(_) => std::env::var_os("NOBROWSER").is_some_and(|v| !v.is_empty() && v != "0"),
    };
    command == Command::Serve && !forbidden && !silent
}

/// The doctor found and already reported a problem that stops the program.
#[derive(Debug, thiserror::Error)]
#[error("something stops the program")]
struct Unfit;

/// A setting from the environment or the bundle that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message}")]
struct UsageError {
    place: String,
    message: String,
}

/// The first line of clap's message without its `error:`, plus where the arguments come from.
fn misplaced(place: impl Into<String>, error: &clap::Error) -> UsageError {
    let text = error.to_string();
    let message = text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
    UsageError { place: place.into(), message }
}

fn run(arguments: &[OsString]) -> anyhow::Result<()> {
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
    let user = cli::parse(rest)?;
    if command == Command::Verify {
        let config = settings(user)?;
        let program = config.model.as_deref().map_or_else(Program::open, Program::at)?;
        return print(&terminal::verify(&program)?);
    }
    let program = Program::open();
    // A damaged tail of our own is fatal only if no other weights are named.
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
    if config.print_config {
        return print(&config.listing);
    }
    if command == Command::Info {
        let program = program.as_ref().context("the program's own file cannot be read")?;
        let shards = weights(&config, Some(program))?;
        return print(&terminal::info(program, shards)?);
    }
    if command == Command::Chat || config.prompt.is_some() || config.prompt_file.is_some() {
        let shards = weights(&config, program.as_ref())?.context(NO_WEIGHTS)?;
        let engine = Engine::load(shards, &config.load_options(), &workers())?;
        anyhow::ensure!(engine.info.makes_text, NO_TEXT);
        if !config.quiet {
            engine.info.notes.iter().for_each(|note| say(format_args!("{note}")));
            if command == Command::Chat {
                stand_in(&engine);
            }
        }
        return match command {
            Command::Chat => terminal::chat(&engine, &config, &*interrupt()?),
            _ => terminal::complete(&engine, &config),
        };
    }
    let shards = weights(&config, program.as_ref())?;
    serve(config, program.as_ref(), shards)
}

/// The named weights, or else the program's own.
fn weights(config: &Config, program: Option<&Program>) -> Result<Option<Vec<Shard>>, SourceError> {
    match (&config.model, program) {
        (Some(path), _) => source::open(path).map(Some),
        (None, Some(program)) => program.weights(),
        (None, None) => Ok(None),
    }
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

/// The configuration layers, highest precedence last.
fn layers(program: Option<&Program>, user: Vec<Set>) -> anyhow::Result<Vec<Layer>> {
    let mut layers = Vec::new();
    if let Some(program) = program {
        let sets = match program.text(Role::Args) {
            None => Vec::new(),
            Some(text) => {
                let args =
                    Args::parse(text.as_bytes()).context("the bundle's default arguments")?;
                let all: Vec<OsString> = args.around(std::iter::empty::<OsString>());
                cli::parse(&all).map_err(|e| misplaced("the bundle's default arguments", &e))?
            }
        };
        let mut layer = Layer::new(Origin::Bundle, sets);
        for (flag, role) in
            [("system-prompt", Role::SystemPrompt), ("chat-template", Role::ChatTemplate)]
        {
            if let Some(text) = program.text(role) {
                layer.set(flag, text);
            }
        }
        layers.push(layer);
    }
    layers.extend(environment()?);
    layers.push(Layer::new(Origin::Flag, user));
    Ok(layers)
}

/// The layers from environment variables.
fn environment() -> anyhow::Result<Vec<Layer>> {
    let variables = cli::environment(&|name| std::env::var_os(name)).into_iter();
    let layers = variables.map(|cli::Variable { name, arguments, warning }| {
        let sets = cli::parse(&arguments)
            .map_err(|e| misplaced(format!("environment variable {name}"), &e))?;
        Ok(Layer { warning, ..Layer::new(Origin::Environment(name), sets) })
    });
    layers.collect()
}

/// Serves the page at once, and the model as soon as it is loaded.
fn serve(
    config: Config,
    program: Option<&Program>,
    shards: Option<Vec<Shard>>,
) -> anyhow::Result<()> {
    // The first worker starts up in parallel with everything else.
    let workers = workers();
    let page = Page::new(config.page.as_deref(), program).context("--path")?;
    let name = program.and_then(|p| p.tail.as_ref()).and_then(|t| t.manifest().name.clone());
    let chats = if config.portable { chats(&config, program) } else { None };
    if let Some(program) = program {
        // The bundle has been read: release its lock, so that it can be changed while we serve.
        program.file.release();
    }
    let listener = server::bind(&config)?;
    let url = url(&listener, &config)?;
    let (quiet, browser, wanted) = (config.quiet, config.browser, config.port);
    let (options, constraint) = (config.load_options(), config.constraint.clone());
    let state = Arc::new(State::new(config, page, name, chats, &listener));
    let stop = Arc::new(AtomicBool::new(false));
    end_on_interrupt(&listener, &stop)?;
    let accepting = {
        let (state, stop, listener) =
            (Arc::clone(&state), Arc::clone(&stop), listener.try_clone()?);
        let thread = std::thread::Builder::new().name("accepting".to_owned());
        let accepting = thread.spawn(move || server::run(&listener, &state, &stop));
        accepting.map_err(|error| no_thread(&error))?
    };
    // A server that can't start a thread for a request would look alive and answer nothing.
    let _ = std::thread::Builder::new().spawn(|| ()).map_err(|error| no_thread(&error))?.join();
    if listener.local_addr()?.port() != wanted && wanted != 0 && !quiet {
        say(format_args!("port {wanted} is taken by another program; this is the next free one"));
    }
    // Serve even if stdout is closed.
    let _ = writeln!(std::io::stdout(), "{url}");
    let _ = std::io::stdout().flush();
    if browser && system::has_display() && !Browser::open(&url) && !quiet {
        say(format_args!("no browser could be opened; open the address above in one"));
    }
    match shards {
        None => {
            say(format_args!("{NO_WEIGHTS}"));
            state.set_model(ModelState::Missing(NO_WEIGHTS.to_owned()));
        }
        Some(shards) => match load(shards, &options, constraint.as_ref(), &workers) {
            Ok(engine) => {
                if !quiet {
                    say(format_args!("{}", greeting(&engine, &options)));
                    engine.info.notes.iter().for_each(|note| say(format_args!("{note}")));
                    stand_in(&engine);
                }
                state.set_model(ModelState::Ready(Arc::new(engine)));
            }
            Err(error) => {
                say(format_args!("error: {error}"));
                state.set_model(ModelState::Failed(error));
            }
        },
    }
    let _ = accepting.join();
    Ok(())
}

/// The file for conversations beside the program; `None`, with a warning, unless it can be written and the server is
/// local or has an API key.
fn chats(config: &Config, program: Option<&Program>) -> Option<Chats> {
    let in_browser = "conversations stay in the browser";
    let Some(chats) = program.map(Chats::beside) else {
        say(format_args!("warning: --portable: the program's own file is unknown; {in_browser}"));
        return None;
    };
    let own = ["127.0.0.1", "localhost", "::1", "[::1]"].contains(&config.host.as_str());
    if !own && config.api_keys.is_empty() {
        say(format_args!(
            "warning: --portable: --host {} lets others ask, and there is no --api-key; {in_browser}",
            config.host
        ));
        return None;
    }
    if !chats.path().parent().is_some_and(system::is_writable) {
        say(format_args!(
            "warning: --portable: {} cannot be written; {in_browser}",
            chats.path().display()
        ));
        return None;
    }
    Some(chats)
}

/// Loads an engine and checks that it can follow the configured constraint.
fn load(
    shards: Vec<Shard>,
    options: &LoadOptions,
    constraint: Option<&Constraint>,
    workers: &Arc<Workers>,
) -> Result<Engine, String> {
    let engine = Engine::load(shards, options, workers).map_err(|error| error.to_string())?;
    match constraint.map(|constraint| engine.guide(constraint)) {
        Some(Err(error)) => Err(error.to_string()),
        _ => Ok(engine),
    }
}

fn greeting(engine: &Engine, options: &LoadOptions) -> String {
    let info = &engine.info;
    format!(
        "{}: {:.0} million parameters, context {}, {} threads, {}. Press Ctrl-C to end.",
        info.name.escape_debug(),
        info.parameters as f64 / 1e6,
        info.context,
        options.threads,
        options.isa
    )
}

/// Reports which built-in chat template is used if the file has none.
fn stand_in(engine: &Engine) {
    if let Some(name) = engine.info.stand_in {
        say(format_args!(
            "note: the model brings no chat template; `{name}` is used, and --chat-template NAME chooses another"
        ));
    }
}

/// The URL for the browser; an unspecified address becomes loopback.
fn url(listener: &TcpListener, config: &Config) -> anyhow::Result<String> {
    let address = listener.local_addr()?;
    let ip = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => "[::1]".to_owned(),
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    };
    Ok(format!("http://{ip}:{}{}/", address.port(), config.prefix))
}

/// Ctrl-C, SIGTERM and a closed terminal end the program cleanly.
fn end_on_interrupt(listener: &TcpListener, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let stop = Arc::clone(stop);
    let address = listener.local_addr()?;
    signals::watch(move |ending| {
        if stop.swap(true, Ordering::SeqCst) {
            std::process::exit(ending.code().into());
        }
        // Wake the accepting thread: it checks the flag at its next connection, which is this one.
        let loopback = match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv6() => std::net::Ipv6Addr::LOCALHOST.into(),
            ip if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        let _ = std::net::TcpStream::connect((loopback, address.port()));
    })
    .map_err(|error| no_thread(&error))
}

/// Error for a thread that cannot be started: the limit is the user's, not the program's.
fn no_thread(error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("no thread could be started: {error}\n{THREADS_HINT}")
}

/// Settings for a command that takes none from a bundle.
fn settings(user: Vec<Set>) -> anyhow::Result<Config> {
    Ok(Config::resolve(&layers(None, user)?)?)
}

fn bench(arguments: &[OsString]) -> anyhow::Result<()> {
    let (flags, sets) = cli::parse_bench(arguments)?;
    let config = settings(sets)?;
    if flags.limits {
        return print(&terminal::limits(&Compute::new(config.isa, config.threads), flags.json));
    }
    let shards = named_weights(config.model.as_deref())?;
    let context = flags.depth + flags.prompt.max(flags.generate) + 8;
    let engine = Engine::load(
        shards,
        &LoadOptions { context, room: Room::now(true), ..config.load_options() },
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
    let bare = Bare::load(named_weights(config.model.as_deref())?, &config.load_options())?;
    print(&terminal::perplexity(bare, &flags, &config, &interrupt)?)
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

/// Prints a report; a closed pipe counts as success.
fn print(text: &str) -> anyhow::Result<()> {
    shown::report(text).context(TO_STDOUT)
}
