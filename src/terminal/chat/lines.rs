//! Reads the entries of a terminal chat: with a line editor for a person at a terminal, as plain lines from pipes and
//! from terminals that can't move a cursor.
//!
//! Input: keys or bytes. Output: the text of an entry, of one line or several.

use super::super::show;
use super::entry::is_open;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Helper};
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use tealight_bundle::shown::say;

/// Most entries that the arrow keys recall.
const HISTORY_MAX: usize = 1000;

/// The next entry, or the reason that there is none.
pub enum Typed {
    /// An entry.
    Text(String),
    /// Ctrl-C: what was typed so far is discarded.
    Cancelled,
    /// The end of the input.
    End,
}

/// The source of entries.
pub enum Lines {
    /// A person with a line editor.
    Edited(Box<Editor>),
    /// Plain lines, with a prompt before each if a person types them.
    Plain { prompt: bool },
}

impl Lines {
    /// Reads entries from standard input. `history` keeps them from one chat to the next.
    pub fn new(history: Option<&Path>) -> Self {
        let person = io::stdin().is_terminal();
        if person && io::stdout().is_terminal() && has_cursor() {
            match Editor::new(history) {
                Ok(editor) => return Self::Edited(Box::new(editor)),
                Err(error) => say(format_args!("note: line editing is not available: {error}")),
            }
        }
        Self::Plain { prompt: person }
    }

    /// Waits for the next entry.
    pub fn next(&mut self) -> io::Result<Typed> {
        match self {
            Self::Edited(editor) => editor.next(),
            Self::Plain { prompt } => plain(*prompt),
        }
    }
}

/// Whether the terminal can move its cursor. Windows terminals can.
fn has_cursor() -> bool {
    cfg!(windows) || std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

/// Reads a line, or the lines from one mark to the next.
fn plain(prompt: bool) -> io::Result<Typed> {
    let mut text = String::new();
    loop {
        if prompt {
            show(if text.is_empty() { "> " } else { "… " })?;
        }
        let mut bytes = Vec::new();
        if io::stdin().lock().read_until(b'\n', &mut bytes)? == 0 {
            return Ok(if text.is_empty() { Typed::End } else { Typed::Text(text) });
        }
        // Invalid UTF-8 becomes U+FFFD.
        text.push_str(&String::from_utf8_lossy(&bytes));
        if !is_open(&text) {
            return Ok(Typed::Text(text));
        }
    }
}

/// The line editor. It reads keys one by one, so that no line is too long for the terminal, and takes a paste in one
/// piece.
pub struct Editor {
    lines: rustyline::Editor<Marks, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    fn new(history: Option<&Path>) -> Result<Self, ReadlineError> {
        let config = Config::builder().max_history_size(HISTORY_MAX)?.build();
        let mut lines = rustyline::Editor::with_config(config)?;
        lines.set_helper(Some(Marks));
        let mut editor = Self { lines, history: history.map(Path::to_owned) };
        if let Some(path) = history
            && let Err(error) = editor.lines.load_history(path)
            && !matches!(&error, ReadlineError::Io(e) if e.kind() == io::ErrorKind::NotFound)
        {
            // If the file can't be read as a history, it must not be written as one.
            say(format_args!("warning: --history {}: {error}", path.display()));
            editor.history = None;
        }
        Ok(editor)
    }

    fn next(&mut self) -> io::Result<Typed> {
        loop {
            match self.lines.readline("> ") {
                Ok(text) => {
                    self.remember(&text);
                    return Ok(Typed::Text(text));
                }
                Err(ReadlineError::Interrupted) => return Ok(Typed::Cancelled),
                Err(ReadlineError::Eof) => return Ok(Typed::End),
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    say(format_args!("the line was not valid UTF-8 and has been discarded"));
                }
                Err(ReadlineError::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn remember(&mut self, text: &str) {
        if text.trim().is_empty() || !self.lines.add_history_entry(text).unwrap_or(false) {
            return;
        }
        if let Some(path) = &self.history
            && let Err(error) = self.lines.append_history(path)
        {
            say(format_args!("warning: --history {}: {error}", path.display()));
            self.history = None;
        }
    }
}

/// Decides when an entry is complete: between two marks, Enter begins a new line.
struct Marks;

impl Validator for Marks {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let open = is_open(context.input());
        Ok(if open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Marks {
    type Candidate = String;
}

impl Hinter for Marks {
    type Hint = String;
}

impl Highlighter for Marks {}

impl Helper for Marks {}
