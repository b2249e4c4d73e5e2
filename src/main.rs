//! The one executable: finds its weights, reads its settings, and serves, chats or reports.

mod program;

use std::ffi::OsString;
use std::process::ExitCode;
use tealight::jobs::HANDLER;
use tealight::kernels::keep_freed_memory;
use tealight::source;
use tealight::worker::{self, Bounded, CHILD_FLAG};

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
    match program::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::exit_code(error, &arguments),
    }
}
