//! Text files that settings name, and backslash escapes.

use super::setting::Wrong;
use std::io::Read as _;
use std::path::Path;

/// Largest text file that a flag may name.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Reads a text file of bounded size.
///
/// # Errors
/// When it cannot be read, is too large, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Wrong> {
    let fail = |error: String| Wrong::File { path: path.display().to_string(), error };
    let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut text = String::new();
    // Bound the bytes read, not the size the file system reports: a device has none.
    let read = file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|e| fail(e.to_string()))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(fail(format!("larger than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), ToOwned::to_owned))
}

/// The text of a file without its final line break, which editors and `echo` add.
#[must_use]
pub fn without_last_break(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

/// Expands the backslash escapes of a prompt as llama.cpp does: `\n`, `\r`, `\t`, the two quotes, the backslash, and
/// `\xHH` for a byte. Others stay as they are. Each byte that then is not valid UTF-8 becomes U+FFFD, as in llama.cpp's
/// tokenizer.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [quoted @ (b'\\' | b'"' | b'\''), after @ ..]) => (*quoted, after),
            (b'\\', [b'x', high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (byte, &rest[1..]),
            },
            _ => (byte, after),
        };
        out.push(byte);
        rest = after;
    }
    let mut text = String::with_capacity(out.len());
    for chunk in out.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of llama.cpp's `string_process_escapes`.
    #[test]
    fn escapes_match_llama_cpp() {
        for (typed, meant) in [
            (r#"\n\r\t\'\"\\"#, "\n\r\t'\"\\"),
            (r"\x41\x0a\xe2\x82\xac", "A\n€"),
            (r"\x4\x4G\x", r"\x4\x4G\x"),
            (r"\q\u0041\", r"\q\u0041\"),
            (r"\\n", r"\n"),
            (r"\x5cn", r"\n"),
            (r"a\xffb\xe2\x82", "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("é\\né", "é\né"),
            ("", ""),
        ] {
            assert_eq!(unescape(typed), meant, "{typed}");
        }
    }

    #[test]
    fn only_the_final_line_break_is_removed() {
        for (text, wanted) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("\n", ""), ("a", "a")]
        {
            assert_eq!(without_last_break(text), wanted);
        }
    }
}
