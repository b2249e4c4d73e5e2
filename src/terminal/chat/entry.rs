//! Parses the entries of a terminal chat.
//!
//! Input: the text that was typed or piped. Output: a command, a question, or a misspelt command. Knows nothing of
//! terminals.

/// Marks the start and the end of a multi-line text.
const MARK: &str = "\"\"\"";

/// The commands, without their slash.
pub const COMMANDS: &[&str] = &[
    "help", "?", "bye", "exit", "clear", "set", "show", "save", "load", "regen", "undo", "stats",
    "upload",
];

/// The meaning of an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<'t> {
    /// Nothing.
    Empty,
    /// A command, and what follows it.
    Command(&'t str, &'t str),
    /// A single word after a slash that is not a command.
    Unknown(&'t str),
    /// A question.
    Question(&'t str),
}

/// Parses an entry. Only a known word after the slash of a single line is a command: paths and code comments begin with
/// a slash as well.
pub fn read(typed: &str) -> Entry<'_> {
    if let Some(inside) = typed.trim_start().strip_prefix(MARK) {
        return match quoted(inside) {
            text if text.trim().is_empty() => Entry::Empty,
            text => Entry::Question(text),
        };
    }
    let text = typed.trim();
    if text.is_empty() {
        return Entry::Empty;
    }
    if text.contains('\n') {
        // The first line keeps its indentation too.
        let before = typed.len() - typed.trim_start().len();
        let first = typed[..before].rfind('\n').map_or(0, |at| at + 1);
        return Entry::Question(typed[first..].trim_end());
    }
    if let Some(command) = text.strip_prefix('/') {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        if COMMANDS.contains(&name) {
            return Entry::Command(name, rest.trim());
        }
        let word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
        if rest.is_empty() && word(name) {
            return Entry::Unknown(name);
        }
    }
    Entry::Question(text)
}

/// Whether a multi-line text has begun and not ended.
pub fn is_open(typed: &str) -> bool {
    let inside = typed.trim_start().strip_prefix(MARK);
    inside.is_some_and(|inside| !inside.trim_end().ends_with(MARK))
}

/// The text between the marks, or up to the end of the input: verbatim, without the line breaks that belong to the
/// marks.
fn quoted(inside: &str) -> &str {
    let inside = inside.trim_end().strip_suffix(MARK).unwrap_or(inside);
    let inside =
        inside.strip_prefix("\r\n").or_else(|| inside.strip_prefix('\n')).unwrap_or(inside);
    inside.strip_suffix("\r\n").or_else(|| inside.strip_suffix('\n')).unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_words_after_a_slash_are_commands() {
        assert_eq!(read("/bye\n"), Entry::Command("bye", ""));
        assert_eq!(read(" /set  seed 5 "), Entry::Command("set", "seed 5"));
        assert_eq!(read("/?"), Entry::Command("?", ""));
        for known in COMMANDS {
            assert_eq!(read(&format!("/{known}")), Entry::Command(known, ""));
        }
        for unknown in ["cler", "Help", "nonsense"] {
            assert_eq!(read(&format!("/{unknown}\r\n")), Entry::Unknown(unknown));
        }
        for question in [
            "/etc/hosts has which lines?",
            "/etc/hosts",
            "// TODO: what does this comment mean?",
            "//",
            "/",
            "/* a comment */",
            "/usr is which folder?",
            "/2 + 1",
            "/help/me",
            "/x-y",
            "a /bye",
        ] {
            assert_eq!(read(question), Entry::Question(question));
        }
        assert_eq!(read("/bye\nor not?"), Entry::Question("/bye\nor not?"));
        for nothing in ["", " \t\n", "\r\n", "\"\"\"\"\"\"", "\"\"\"\n \n\"\"\""] {
            assert_eq!(read(nothing), Entry::Empty, "{nothing:?}");
        }
    }

    #[test]
    fn multi_line_texts_keep_their_indentation() {
        let asked = |typed| match read(typed) {
            Entry::Question(text) => text,
            other => panic!("{typed:?}: {other:?}"),
        };
        assert_eq!(asked("\"\"\"\n    if x:\n        y\n\"\"\"\n"), "    if x:\n        y");
        assert_eq!(asked("\"\"\"\r\n\ta\r\n\"\"\"  \r\n"), "\ta");
        assert_eq!(asked("\"\"\"  a\n  b\"\"\""), "  a\n  b");
        assert_eq!(asked("\"\"\"\n\n  a\n\n\"\"\""), "\n  a\n");
        assert_eq!(asked("\"\"\"/bye\"\"\""), "/bye");
        assert_eq!(asked("\"\"\"\n  no end"), "  no end");
        assert_eq!(asked("\n\n  def f():\n    pass\n\n"), "  def f():\n    pass");
        assert_eq!(asked("  one line  "), "one line");
    }

    #[test]
    fn a_multi_line_text_is_open_until_its_mark() {
        for open in ["\"\"\"", " \"\"\"a\nb", "\"\"\"\n\"\"\"x\n", "\"\"\"\""] {
            assert!(is_open(open), "{open:?}");
        }
        for closed in ["", "a", "a\"\"\"", "\"\"\"a\"\"\"", "\"\"\"\na\n\"\"\" \n", "\"\"\"\"\"\""]
        {
            assert!(!is_open(closed), "{closed:?}");
        }
    }
}
