//! Ignored request fields: reported once on stderr, and in a header of each answer.
//!
//! The names come from the client: they may be long, many, and contain anything.

use super::error::ApiError;
use super::http::Reply;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

/// The header that lists them.
const HEADER: &str = "x-ignored-fields";
/// Most characters of a name that are shown.
const NAME_CHARS_MAX: usize = 64;
/// Longest header value in bytes.
const HEADER_BYTES_MAX: usize = 1024;
/// Most different names reported on stderr while the program runs.
const TOLD_MAX: usize = 256;

/// The ignored fields of a request, each with the reason.
#[derive(Debug, Default)]
#[must_use]
pub struct Ignored(Vec<(String, String)>);

impl Ignored {
    /// Adds one.
    pub fn add(&mut self, name: &str, why: String) {
        self.0.push((name.to_owned(), why));
    }

    /// Makes ignored fields an error.
    ///
    /// # Errors
    /// When there are any: about the first.
    pub fn refused(self) -> Result<Self, ApiError> {
        match self.0.first() {
            None => Ok(self),
            Some((name, why)) => Err(ApiError::bad(why.clone()).with_param(name)),
        }
    }

    /// Warns on stderr, unless `quiet`, and lists the fields in the answer's header.
    pub fn tell(self, quiet: bool, reply: &mut Reply) {
        if !quiet {
            for line in news(&TOLD, &self.0) {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
        if let Some(value) = self.header() {
            reply.header(HEADER, &value);
        }
    }

    /// The header's value: as many names as fit, with unsafe characters replaced by `?`.
    pub fn header(&self) -> Option<String> {
        const MORE: &str = ", ...";
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let mut value = String::new();
        for (name, _) in &self.0 {
            let name = name.chars().take(NAME_CHARS_MAX).map(|c| if plain(c) { c } else { '?' });
            let between = if value.is_empty() { "" } else { ", " };
            let next = format!("{between}{}", name.collect::<String>());
            if value.len() + next.len() + MORE.len() > HEADER_BYTES_MAX {
                value.push_str(MORE);
                break;
            }
            value.push_str(&next);
        }
        (!self.0.is_empty()).then_some(value)
    }
}

/// A name for display: shortened, control characters escaped.
pub fn shown(name: &str) -> String {
    let mut shown: String =
        name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The names reported since the program began.
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Warnings about names that have not been reported yet.
fn news(told: &Mutex<BTreeSet<String>>, ignored: &[(String, String)]) -> Vec<String> {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let mut news = Vec::new();
    for (name, why) in ignored {
        if told.len() >= TOLD_MAX {
            break;
        }
        if told.insert(shown(name)) {
            news.push(format!("warning: ignored a request field: {why}"));
        }
        if told.len() == TOLD_MAX {
            news.push("warning: further ignored fields are not reported".to_owned());
        }
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(names: &[&str]) -> Ignored {
        let mut all = Ignored::default();
        names.iter().for_each(|name| all.add(name, format!("unknown `{}`", shown(name))));
        all
    }

    #[test]
    fn the_header_is_bounded_and_has_no_special_characters() {
        assert_eq!(ignored(&[]).header(), None);
        let hostile = ["a\r\nSet-Cookie: x=1", "b\u{0}, c", "é\u{202e}", ""];
        let value = ignored(&hostile).header().unwrap();
        assert_eq!(value, "a??Set-Cookie??x?1, b???c, ??, ");
        let long = "n".repeat(10_000);
        let many: Vec<&str> = std::iter::repeat_n(long.as_str(), 1000).collect();
        let value = ignored(&many).header().unwrap();
        assert!(value.len() <= HEADER_BYTES_MAX && value.ends_with("n, ..."), "{value}");
    }

    #[test]
    fn each_name_is_reported_once_up_to_a_limit() {
        let told = Mutex::default();
        assert_eq!(news(&told, &ignored(&["a", "b", "a"]).0).len(), 2);
        assert!(news(&told, &ignored(&["b"]).0).is_empty());
        let said = news(&told, &ignored(&["\u{1b}[2J\n\u{202e}"]).0);
        assert!(said[0].chars().all(|c| !c.is_control() && c != '\u{202e}'), "{said:?}");
        let names: Vec<String> = (0..1000).map(|i| format!("{i}{}", "x".repeat(1000))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(news(&told, &ignored(&names).0).len(), TOLD_MAX - 3 + 1);
        assert!(news(&told, &ignored(&["another"]).0).is_empty());
        let kept = told.lock().unwrap();
        assert!(kept.len() == TOLD_MAX && kept.iter().all(|name| name.len() < 300));
    }
}
