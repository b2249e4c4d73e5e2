//! The program. Input: the command line. Output: files, an answer on stdout, notes and errors on stderr, an exit code.
//!
//! `cli` parses the command line, and each command has a module. `runtime` (for a `target`), `weights` and `settings`
//! gather what goes into a bundle; `write` and `output` write it.

mod cli;
mod copy;
mod executable;
mod extract;
mod list;
mod new;
mod output;
mod progress;
mod prompt_cache;
mod runtime;
mod set;
mod settings;
mod source;
mod target;
mod universal;
mod usb;
mod verify;
mod weights;
mod write;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tealight_bundle::{Mapped, Tail, shown, tail};

/// Exit code: success.
const OK: u8 = 0;
/// Exit code: failure; the error is on stderr.
const FAILED: u8 = 1;
/// The error's context when an answer could not be written.
const TO_STDOUT: &str = "cannot write to stdout";
// 2 is clap's exit code for a usage error.

/// Runs the program.
pub fn main() -> ExitCode {
    let done = match cli::Cli::try_parse() {
        Ok(cli) => run(cli).map(|()| OK),
        Err(usage) => {
            let code = u8::try_from(usage.exit_code()).unwrap_or(FAILED);
            shown::usage(&usage).context(TO_STDOUT).map(|()| code)
        }
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        note(format_args!("error: {error:#}"));
        FAILED
    }))
}

fn run(cli: cli::Cli) -> Result<()> {
    output::remove_on_signal()?;
    match cli.command {
        None => new::run(&cli.new),
        Some(cli::Command::New(args)) => new::run(&args),
        Some(cli::Command::Usb(args)) => usb::run(&args),
        Some(cli::Command::Set(args)) => set::run(&args),
        Some(cli::Command::List(args)) => list::run(&args),
        Some(cli::Command::Extract(args)) => extract::run(&args),
        Some(cli::Command::Verify(args)) => verify::run(&args),
    }
}

/// Opens a file that must be a bundle.
fn open_bundle(path: &Path) -> Result<(Mapped, Tail)> {
    let mapped = Mapped::open(path)?;
    let tail = read_tail(&mapped)?;
    Ok((mapped, tail))
}

fn read_tail(mapped: &Mapped) -> Result<Tail> {
    let shown = mapped.path().display();
    match tail::read(mapped.bytes()).with_context(|| shown.to_string())? {
        Some(tail) => Ok(tail),
        None if mapped.bytes().starts_with(b"GGUF") => {
            bail!(
                "{shown}: this is a weights file, not a bundle\nhint: make one: tealight-bundle --weights {shown} -o chat"
            )
        }
        None => bail!(
            "{shown}: not a bundle (no head and no directory found)\n\
             hint: if it was a bundle, it was truncated before its weights"
        ),
    }
}

/// Prints the answer. A closed pipe is success.
fn answer(text: &str) -> Result<()> {
    shown::report(text).context(TO_STDOUT)
}

/// Prints a note for the user on stderr.
fn note(text: impl std::fmt::Display) {
    shown::say(format_args!("{text}"));
}

/// Formats a byte count for people.
fn human(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn leftover_note(path: &Path, tail: &Tail) {
    if tail.leftover_bytes() > 0 {
        note(format_args!(
            "note: {} has {} bytes left over from an interrupted `set`; the next `set` removes them",
            path.display(),
            tail.leftover_bytes()
        ));
    }
}
