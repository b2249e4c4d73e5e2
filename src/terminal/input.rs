//! A text that is measured: read to its last byte, unlike a prompt.

use anyhow::Context as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest text. Its tokens take four bytes each.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// The text in a file; `-` or none: on standard input.
///
/// # Errors
/// When it cannot be read, is too long, or is no UTF-8.
pub fn text(path: Option<&Path>) -> anyhow::Result<String> {
    match path.filter(|path| *path != Path::new("-")) {
        None => read(io::stdin().lock(), "standard input"),
        Some(path) => {
            let name = format!("--file {}", path.display());
            read(File::open(path).with_context(|| name.clone())?, &name)
        }
    }
}

fn read(source: impl Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    source.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
    anyhow::ensure!(
        bytes.len() as u64 <= TEXT_BYTES_MAX,
        "{name}: found more than {TEXT_BYTES_MAX} bytes, expected at most that\nhint: cut the text into parts"
    );
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!(
            "{name}: byte {at} begins no UTF-8 character, expected text in UTF-8\nhint: convert the file, for example with iconv"
        )
    })
}
