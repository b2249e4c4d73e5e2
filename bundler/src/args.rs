//! Default arguments of a bundle, in llamafile's `.args` format.
//!
//! Input: the text of the `.args` entry. Output: the arguments, and where among them the user's own go. Knows nothing
//! of what an argument means.
//!
//! One argument per line, taken literally (no quoting; spaces are part of it). A trailing `\r` and empty lines are
//! dropped. A line `...` marks where the user's own arguments go. Without one they follow the bundle's, so that they
//! are never lost and the later of two settings is the user's; llamafile drops its own arguments in that case.

use thiserror::Error;

/// The longest `.args` accepted.
pub const ARGS_BYTES_MAX: usize = 64 * 1024;

/// Default arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// Those before the user's own.
    pub before: Vec<String>,
    /// Those after the user's own.
    pub after: Vec<String>,
}

impl Args {
    /// Parses the `.args` format.
    ///
    /// # Errors
    ///
    /// It is too long, not UTF-8, has a NUL, or has more than one `...` line.
    pub fn parse(bytes: &[u8]) -> Result<Args, ArgsError> {
        if bytes.len() > ARGS_BYTES_MAX {
            return Err(ArgsError::TooLong { found: bytes.len() });
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|e| ArgsError::NotUtf8 { offset: e.valid_up_to() })?;
        // Notepad writes a byte-order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut args = Args::default();
        let mut marker_line = None;
        for (line, argument) in (1..).zip(text.lines()) {
            if argument.contains('\0') {
                return Err(ArgsError::Nul { line });
            }
            match (argument, marker_line) {
                ("", _) => {}
                ("...", None) => marker_line = Some(line),
                ("...", Some(first)) => {
                    return Err(ArgsError::TwoMarkers { first, second: line });
                }
                (_, None) => args.before.push(argument.to_owned()),
                (_, Some(_)) => args.after.push(argument.to_owned()),
            }
        }
        Ok(args)
    }

    /// The whole argument list (without the program's name), with the user's own inserted.
    pub fn around<T: From<String>>(&self, user: impl IntoIterator<Item = T>) -> Vec<T> {
        let own = |part: &[String]| part.iter().cloned().map(T::from).collect::<Vec<_>>();
        own(&self.before).into_iter().chain(user).chain(own(&self.after)).collect()
    }
}

/// Why default arguments were not accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ArgsError {
    /// Over [`ARGS_BYTES_MAX`].
    #[error("arguments: {found} bytes, at most {ARGS_BYTES_MAX} are allowed")]
    TooLong {
        /// The length found.
        found: usize,
    },
    /// Not UTF-8.
    #[error(
        "arguments: not UTF-8 at byte {offset}\nhint: save the file as UTF-8, one argument per line"
    )]
    NotUtf8 {
        /// The first bad byte.
        offset: usize,
    },
    /// A NUL, which no system can pass in an argument.
    #[error("arguments: line {line} has a NUL character")]
    Nul {
        /// The line, from 1.
        line: usize,
    },
    /// A second `...` line.
    #[error("arguments: `...` is on line {first} and again on line {second}; only one is allowed")]
    TwoMarkers {
        /// The first, from 1.
        first: usize,
        /// The second, from 1.
        second: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_arguments_replace_the_dots() {
        let args =
            Args::parse("\u{feff}--temp\r\n0.2\r\n...\n--port\n80 80\n\n".as_bytes()).unwrap();
        assert_eq!(args.around(["x".to_owned()]), ["--temp", "0.2", "x", "--port", "80 80"]);
        let plain = Args::parse(b"--temp\n0.2").unwrap();
        assert_eq!(plain.around(["x".to_owned()]), ["--temp", "0.2", "x"]);
        assert_eq!(Args::parse(b"").unwrap(), Args::default());
    }

    #[test]
    fn nul_bad_utf8_two_markers_and_length_are_refused() {
        assert_eq!(Args::parse(b"a\n\0"), Err(ArgsError::Nul { line: 2 }));
        assert_eq!(Args::parse(b"ab\xff"), Err(ArgsError::NotUtf8 { offset: 2 }));
        assert_eq!(Args::parse(b"...\nx\n..."), Err(ArgsError::TwoMarkers { first: 1, second: 3 }));
        assert_eq!(
            Args::parse(&vec![b'a'; ARGS_BYTES_MAX + 1]),
            Err(ArgsError::TooLong { found: ARGS_BYTES_MAX + 1 })
        );
    }
}
