//! How the program ends: errors as exit codes, and as words that are seen even after a double click.

use super::TO_STDOUT;
use super::layers::{UsageError, layers};
use std::ffi::OsString;
use std::process::ExitCode;
use tealight::cli::{self, Command};
use tealight::server;
use tealight::settings::{ConfigError, Layer};
use tealight::source::Program;
use tealight::system::{self, Browser};
use tealight::terminal::Interrupted;
use tealight_bundle::shown::{self, say};
use tealight_bundle::signals::Ending;

/// Exit code for a wrong command line, the same as clap's. The others: 0, 1 for failures (also in `tealight_bundle`,
/// when mapped weights vanish), 130 after Ctrl-C ([`Ending::code`]). Where no signal is watched, signals have their
/// default effect: Ctrl-C ends a single completion, and what was printed stays.
const USAGE: u8 = 2;

/// The doctor found and already reported a problem that stops the program.
#[derive(Debug, thiserror::Error)]
#[error("a problem stops the program")]
pub struct Unfit;

/// Reports an error; returns the exit code.
pub fn exit_code(error: anyhow::Error, arguments: &[OsString]) -> ExitCode {
    match error.downcast::<clap::Error>() {
        Ok(usage) => {
            if let Err(error) = shown::usage(&usage) {
                say(format_args!("error: {TO_STDOUT}: {error}"));
                return ExitCode::FAILURE;
            }
            if usage.use_stderr() {
                last_words(arguments, &usage.to_string());
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
            last_words(arguments, &text);
            let wrong = matches!(error.downcast_ref(), Some(ConfigError::Value { .. }));
            let usage = wrong || error.is::<UsageError>();
            if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

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
