//! What this computer is and allows: memory, processor, graphics, medium, window, browser.
//!
//! Reports what the system knows without vendor libraries and without writing anything; `None` where it does not know.
//! Knows nothing of models.

mod browser;
mod cores;
mod graphics;
mod medium;
mod memory;
mod quiet;
mod replace;
mod stack;
mod version;
mod window;

pub use browser::{Browser, has_display};
pub use cores::Cores;
pub use graphics::graphics;
pub use medium::{Medium, is_writable, quarantine};
pub use memory::{Memory, size};
pub use quiet::quietly;
pub use replace::{is_unplaced, replace};
pub use stack::on_stack;
pub use version::version;
pub use window::{TerminalMode, hold, is_unseen};

/// A path to open the running program's own file. On Linux it works even after the file was removed or replaced.
///
/// # Errors
/// When the system does not say.
pub fn own_file() -> std::io::Result<std::path::PathBuf> {
    let own = std::path::Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && own.exists() {
        Ok(own.to_owned())
    } else {
        std::env::current_exe()
    }
}

/// Hint for when no thread can be started.
pub const THREADS_HINT: &str = "hint: this user's thread limit (`ulimit -u`) may be reached; close other programs, or use fewer with --threads";

/// The output of a system program, or `None` if it is missing or fails. Only for what has no other source.
#[cfg(any(windows, target_os = "macos"))]
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    use std::process::{Command, Stdio};
    let mut command = Command::new(program);
    let done = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    (done.status.success() && !text.is_empty()).then_some(text)
}
