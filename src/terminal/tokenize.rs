//! `tealight tokenize`: a text as tokens.

use crate::cli::TokenizeFlags;
use crate::config::unescape;
use crate::model::{ModelFile, Shard};
use crate::tokenizer::Tokenizer;
use anyhow::Context as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// Longest text. Its tokens take four bytes each.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// Prints the tokens of the text that `flags` name, by the vocabulary in `shards`.
///
/// # Errors
/// When the vocabulary or the text cannot be read, or nothing can be written.
pub fn tokenize(shards: Vec<Shard>, flags: &TokenizeFlags) -> anyhow::Result<()> {
    let name = shards.first().map_or_else(String::new, |shard| shard.name.clone());
    let file = ModelFile::open(shards)?;
    let tokenizer = Tokenizer::new(&file).with_context(|| name)?;
    // Read after the vocabulary: a wrong file is said before somebody types a text.
    let text = text(flags)?;
    let text = if flags.escape { unescape(&text) } else { text };
    let special = tokenizer.adds_bos() && !flags.no_bos;
    let ids = tokenizer.encode(&text, special, !flags.no_parse_special);
    if special
        && !flags.quiet
        && ids.len() > 1
        && ids[0] == ids[1]
        && tokenizer.bos() == Some(ids[0])
    {
        eprintln!(
            "warning: the text begins with a BOS token of its own, so there are two now; --no-bos adds none"
        );
    }
    match print(&mut BufWriter::new(io::stdout().lock()), &tokenizer, &ids, flags) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("writing to stdout"),
        _ => Ok(()),
    }
}

fn print(
    out: &mut impl Write,
    tokenizer: &Tokenizer,
    ids: &[u32],
    flags: &TokenizeFlags,
) -> io::Result<()> {
    if flags.ids {
        out.write_all(b"[")?;
        for (index, id) in ids.iter().enumerate() {
            write!(out, "{}{id}", if index == 0 { "" } else { ", " })?;
        }
        out.write_all(b"]\n")?;
    } else {
        let mut piece = Vec::new();
        for &id in ids {
            piece.clear();
            tokenizer.piece(id, true, &mut piece);
            write!(out, "{id:6} -> '")?;
            // A console of Windows takes no half characters.
            if cfg!(windows) && std::str::from_utf8(&piece).is_err() {
                let hex: Vec<String> = piece.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(out, "<{}>' (utf-8 decode failure)", hex.join(" "))?;
            } else {
                out.write_all(&piece)?;
                out.write_all(b"'\n")?;
            }
        }
    }
    if flags.show_count {
        writeln!(out, "Total number of tokens: {}", ids.len())?;
    }
    out.flush()
}

/// The text, to the last byte.
fn text(flags: &TokenizeFlags) -> anyhow::Result<String> {
    if let Some(prompt) = &flags.prompt {
        return Ok(prompt.clone());
    }
    match flags.file.as_deref().filter(|path| *path != Path::new("-")) {
        None => read(io::stdin().lock(), "standard input"),
        Some(path) => {
            let file = File::open(path).with_context(|| format!("--file {}", path.display()))?;
            read(file, &format!("--file {}", path.display()))
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
        anyhow::anyhow!("{name}: byte {at} begins no UTF-8 character, expected text in UTF-8\nhint: convert the file, for example with iconv")
    })
}
