//! Reads text from files and standard input, whole or not at all.

use crate::settings::without_last_break;
use anyhow::Context as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest text to measure or tokenize. Its tokens take four bytes each.
const TEXT_BYTES_MAX: u64 = 256 << 20;
/// Longest prompt.
const PROMPT_BYTES_MAX: u64 = 64 << 20;

/// Reads the text of a file, to its last byte; `-` or `None`: standard input.
///
/// # Errors
/// When it cannot be read, is too long, or is not UTF-8.
pub fn text(path: Option<&Path>) -> anyhow::Result<String> {
    open(path, TEXT_BYTES_MAX)
}

/// Reads a prompt from a file, without a leading byte order mark and a final line break; `-`: from standard input.
///
/// # Errors
/// As [`text`].
pub fn prompt(path: &Path) -> anyhow::Result<String> {
    let text = open(Some(path), PROMPT_BYTES_MAX)?;
    Ok(without_last_break(text.strip_prefix('\u{feff}').unwrap_or(&text)).to_owned())
}

fn open(path: Option<&Path>, bytes_max: u64) -> anyhow::Result<String> {
    match path.filter(|path| *path != Path::new("-")) {
        None => read(io::stdin().lock(), "standard input", bytes_max),
        Some(path) => {
            let name = format!("--file {}", path.display());
            read(File::open(path).with_context(|| name.clone())?, &name, bytes_max)
        }
    }
}

fn read(source: impl Read, name: &str, bytes_max: u64) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    source.take(bytes_max + 1).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
    anyhow::ensure!(
        bytes.len() as u64 <= bytes_max,
        "{name}: found more than {bytes_max} bytes of text\nhint: split the text into parts"
    );
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!(
            "{name}: found invalid UTF-8 at byte {at}, expected UTF-8 text\nhint: convert the file, for example with iconv"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_whole_or_refused() {
        let with = |bytes: &[u8]| read(bytes, "there", 8).map_err(|e| e.to_string());
        assert_eq!(with(b"12345678").unwrap(), "12345678");
        assert!(with(b"123456789").unwrap_err().contains("more than 8 bytes"));
        assert!(with(b"ab\xff").unwrap_err().contains("byte 2"));
        assert!(with(b"ab\xe2\x82").unwrap_err().contains("byte 2"));
        assert_eq!(with(b"a\0b\r\n").unwrap(), "a\0b\r\n");
    }

    #[test]
    fn a_prompt_loses_its_bom_and_final_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompt");
        for (bytes, wanted) in
            [("\u{feff}tea\r\n", "tea"), (" tea \n\n", " tea \n"), ("tea", "tea")]
        {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(prompt(&path).unwrap(), wanted);
            assert_eq!(text(Some(&path)).unwrap(), bytes);
        }
    }
}
