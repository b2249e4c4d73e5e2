//! The window a program speaks in: who sees what it says, and for how long.

use std::io::{IsTerminal as _, stderr, stdin, stdout};

/// Whether nobody sees what is said: no terminal, and no program that reads it either. So it is when a
/// file manager starts a program on Linux.
#[must_use]
pub fn is_unseen() -> bool {
    !(stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal() || is_read())
}

/// Keeps a window that would close with the program, and the last words with it, until Enter is pressed.
/// Elsewhere it does nothing.
pub fn hold() {
    if is_own_window() && stdin().is_terminal() && stderr().is_terminal() {
        // The program's own words, without a line break: `shown::say` is for what comes from elsewhere.
        eprint!("\nPress Enter to close this window. ");
        let _ = stdin().read_line(&mut String::new());
    }
}

/// How the terminal treats keys, to be put back after a line editor that had no time to.
pub struct TerminalMode {
    #[cfg(unix)]
    found: Option<rustix::termios::Termios>,
}

impl TerminalMode {
    /// That of the terminal on stdin, if it is one.
    #[must_use]
    pub fn now() -> Self {
        Self {
            #[cfg(unix)]
            found: rustix::termios::tcgetattr(stdin()).ok(),
        }
    }

    /// Puts it back if it is another one now. (A console of Windows does so by itself.)
    pub fn restore(&self) {
        #[cfg(unix)]
        {
            use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
            use std::io::Write as _;
            let Some(found) = &self.found else { return };
            let edits =
                |mode: &rustix::termios::Termios| !mode.local_modes.contains(LocalModes::ICANON);
            if tcgetattr(stdin()).is_ok_and(|now| edits(&now)) && !edits(found) {
                // Pastes without marks around them, and the cursor on a line of its own.
                let _ = stdout().write_all(b"\x1b[?2004l\n").and_then(|()| stdout().flush());
                let _ = tcsetattr(stdin(), OptionalActions::Now, found);
            }
        }
    }
}

/// A pipe has a program at its other end.
#[cfg(unix)]
fn is_read() -> bool {
    use rustix::fs::{FileType, fstat};
    let pipe = |found: rustix::io::Result<rustix::fs::Stat>| {
        found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
    };
    pipe(fstat(stderr())) || pipe(fstat(stdout()))
}

/// There a console program always has a console.
#[cfg(not(unix))]
fn is_read() -> bool {
    true
}

/// Windows gives a console of its own to what the Explorer starts, and closes it with the program. (macOS
/// keeps the window of its Terminal open.)
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
