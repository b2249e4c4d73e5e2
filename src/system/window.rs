//! The window in which a program's output appears: who sees it, and for how long.

use std::io::{IsTerminal as _, stderr, stdin, stdout};

/// Whether nobody sees the output: there is no terminal, and no program reads it. This happens when a file manager
/// starts a program on Linux.
#[must_use]
pub fn is_unseen() -> bool {
    !(stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal() || is_read())
}

/// If the window would close with the program, and its last output with it, waits until Enter is pressed. Otherwise
/// does nothing.
pub fn hold() {
    if is_own_window() && stdin().is_terminal() && stderr().is_terminal() {
        // Fixed text without a line break: `shown::say` is for text from elsewhere.
        eprint!("\nPress Enter to close this window. ");
        let _ = stdin().read_line(&mut String::new());
    }
}

/// The terminal's input mode, to be restored after a line editor that had no time to do so.
pub struct TerminalMode {
    #[cfg(unix)]
    found: Option<rustix::termios::Termios>,
}

impl TerminalMode {
    /// The mode of the terminal on stdin, if it is one.
    #[must_use]
    pub fn now() -> Self {
        Self {
            #[cfg(unix)]
            found: rustix::termios::tcgetattr(stdin()).ok(),
        }
    }

    /// Restores it if a line editor left it changed. (A Windows console does so by itself.)
    pub fn restore(&self) {
        #[cfg(unix)]
        {
            use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
            use std::io::Write as _;
            let Some(found) = &self.found else { return };
            let edits =
                |mode: &rustix::termios::Termios| !mode.local_modes.contains(LocalModes::ICANON);
            if tcgetattr(stdin()).is_ok_and(|now| edits(&now)) && !edits(found) {
                // Turns off bracketed paste, and moves the cursor to a line of its own.
                let _ = stdout().write_all(b"\x1b[?2004l\n").and_then(|()| stdout().flush());
                let _ = tcsetattr(stdin(), OptionalActions::Now, found);
            }
        }
    }
}

/// Whether stdout or stderr is a pipe, which has a program at its other end.
#[cfg(unix)]
fn is_read() -> bool {
    use rustix::fs::{FileType, fstat};
    let pipe = |found: rustix::io::Result<rustix::fs::Stat>| {
        found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
    };
    pipe(fstat(stderr())) || pipe(fstat(stdout()))
}

/// Elsewhere, a console program always has a console.
#[cfg(not(unix))]
fn is_read() -> bool {
    true
}

/// Windows opens a console for a program started by the Explorer, and closes it with the program. (macOS keeps its
/// Terminal's window open.)
#[cfg(windows)]
fn is_own_window() -> bool {
    parent().is_some_and(|name| name.eq_ignore_ascii_case("explorer.exe"))
}

#[cfg(not(windows))]
fn is_own_window() -> bool {
    false
}

/// The file name of the program that started this one.
#[cfg(windows)]
fn parent() -> Option<String> {
    use winsafe::{HPROCESSLIST, co::TH32CS};
    let mut list = HPROCESSLIST::CreateToolhelp32Snapshot(TH32CS::SNAPPROCESS, None).ok()?;
    let all: Vec<(u32, u32, String)> = list
        .iter_processes()
        .filter_map(Result::ok)
        .map(|p| (p.th32ProcessID, p.th32ParentProcessID, p.szExeFile()))
        .collect();
    let own = std::process::id();
    let (_, parent, _) = all.iter().find(|(id, ..)| *id == own)?;
    all.iter().find(|(id, ..)| id == parent).map(|(_, _, name)| name.clone())
}
