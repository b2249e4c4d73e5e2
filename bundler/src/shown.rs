//! Makes text safe for a terminal, where escape sequences can paint, move the cursor, type and rename, and marks can
//! change the direction of writing.
//!
//! Input: any text, from a model, a file or a request. Output: the text with such characters escaped as in JSON
//! (`\u001b` for ESC), so that a JSON report keeps its meaning. Both programs print everything through this module;
//! only an answer to a file or a pipe keeps its exact bytes.

use std::borrow::Cow;
use std::fmt::{Arguments, Write as _};
use std::io::{self, IsTerminal as _, Write};

/// Escapes the characters that act on a terminal.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A Windows line end, which may arrive in two pieces: drop the `\r`.
            '\r' if matches!(chars.peek(), Some('\n') | None) => {}
            c if acts(c) => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether a character acts on a terminal or on the text around it: C0 except tab and line feed, DEL, C1, and the marks
/// that open, override and close a direction of writing. Marks that merely have a direction (U+200E, U+200F, U+061C)
/// are part of honest text and affect only their neighbours.
fn acts(c: char) -> bool {
    let kept = matches!(c, '\n' | '\t');
    (c.is_control() && !kept) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints a line on stderr; failing to do so is not an error.
pub fn say(text: Arguments<'_>) {
    let text = text.to_string();
    let _ = writeln!(io::stderr(), "{}", shown(&text));
}

/// Prints a report. A closed pipe is success.
///
/// # Errors
///
/// The text is lost, for example on a full disk.
pub fn report(text: &str) -> io::Result<()> {
    closed_is_success(print(&shown(text)))
}

/// Prints clap's output: help on stdout, in colours on a terminal, and errors, which quote what was typed, on stderr.
///
/// # Errors
///
/// As [`report`].
pub fn usage(error: &clap::Error) -> io::Result<()> {
    let text = error.render();
    if error.use_stderr() {
        say(format_args!("{}", text.to_string().trim_end()));
        return Ok(());
    }
    let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if colours
        && io::stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|t| t != "dumb")
    {
        // The program's own text, so there is nothing to escape.
        return closed_is_success(print(&text.ansi().to_string()));
    }
    report(&text.to_string())
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    // Text left in the buffer is silently lost when the process ends.
    out.flush()
}

fn closed_is_success(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A writer for answers: escaped on a terminal, exact bytes elsewhere.
pub struct Answers<W> {
    out: W,
    terminal: bool,
    /// The first bytes of an incomplete character.
    begun: Vec<u8>,
}

/// Stdout, for answers.
#[must_use]
pub fn answers() -> Answers<io::StdoutLock<'static>> {
    Answers::new(io::stdout().lock(), io::stdout().is_terminal())
}

impl<W: Write> Answers<W> {
    /// A writer to `out`; `terminal` says whether that is a terminal.
    pub fn new(out: W, terminal: bool) -> Answers<W> {
        Answers { out, terminal, begun: Vec::new() }
    }

    /// Writes the program's own escape sequences, such as colours, unescaped.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn own(&mut self, marks: &'static str) -> io::Result<()> {
        self.out.write_all(marks.as_bytes())
    }
}

impl<W: Write> Write for Answers<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.terminal {
            return self.out.write(bytes);
        }
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut rest = all.as_slice();
        loop {
            let (whole, wrong) = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.out.write_all(shown(text).as_bytes())?;
                    return Ok(bytes.len());
                }
                Err(error) => (error.valid_up_to(), error.error_len()),
            };
            let (text, after) = rest.split_at(whole);
            self.out.write_all(shown(&String::from_utf8_lossy(text)).as_bytes())?;
            let Some(wrong) = wrong else {
                after.clone_into(&mut self.begun);
                return Ok(bytes.len());
            };
            // An invalid byte may be a control character to an older terminal.
            let (wrong, after) = after.split_at(wrong);
            for byte in wrong {
                write!(self.out, "\\x{byte:02x}")?;
            }
            rest = after;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
        let hostile = [
            ("\x1b[31mred\x1b]0;title\x07", "\\u001b[31mred\\u001b]0;title\\u0007"),
            ("a\rb\u{8}c\u{7f}\0", "a\\u000db\\u0008c\\u007f\\u0000"),
            ("\u{9b}2J\u{85}", "\\u009b2J\\u0085"),
            ("\u{202e}cod.exe\u{2066}\u{2069}", "\\u202ecod.exe\\u2066\\u2069"),
        ];
        for (text, wanted) in hostile {
            assert_eq!(shown(text), wanted);
        }
        for honest in ["tab\tand\nline", "naïve 😀 日本語", "שלום\u{200f} مرحبا", "\\x1b[0m"]
        {
            assert!(matches!(shown(honest), Cow::Borrowed(same) if same == honest), "{honest:?}");
        }
        assert_eq!(shown("two\r\nlines\r"), "two\nlines");
        for c in (0..0x11_0000).filter_map(char::from_u32) {
            let text = c.to_string();
            assert!(!shown(&text).contains(acts), "{c:?}");
        }
    }

    #[test]
    fn escaped_json_keeps_its_meaning() {
        let text = serde_json::json!({ "a": "\u{9b}\x1b\u{202e}\u{7f}\r\n\t" }).to_string();
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown(&text)), read(&text));
        assert!(!shown(&text).contains(acts));
    }

    #[test]
    fn answers_are_exact_except_on_a_terminal_for_any_chunking() {
        let text = "tea \u{9b}31m\x1b[0m 🍵\r\nend".as_bytes();
        let bytes = [text, b"\xff\x9b\xe2\x82", b"\n"].concat();
        let written = |terminal, size| {
            let mut out = Answers::new(Vec::new(), terminal);
            bytes.chunks(size).for_each(|chunk| out.write_all(chunk).unwrap());
            out.out
        };
        let wanted = "tea \\u009b31m\\u001b[0m 🍵\nend\\xff\\x9b\\xe2\\x82\n";
        for size in 1..bytes.len() {
            assert_eq!(written(false, size), bytes);
            assert_eq!(String::from_utf8(written(true, size)).unwrap(), wanted);
        }
    }
}
