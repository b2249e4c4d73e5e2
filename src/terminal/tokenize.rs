//! `tealight tokenize`: prints the tokens of a text.

use super::input;
use crate::cli::TokenizeFlags;
use crate::model::{ModelFile, Shard};
use crate::settings::{Config, unescape};
use crate::tokenizer::Tokenizer;
use anyhow::Context as _;
use std::io::{self, BufWriter, Write};
use tealight_bundle::shown::{answers, say};

/// Prints the tokens of the text that `flags` name, with the vocabulary in `shards`.
///
/// # Errors
/// When the vocabulary or the text cannot be read, or the output cannot be written.
pub fn tokenize(shards: Vec<Shard>, flags: &TokenizeFlags, config: &Config) -> anyhow::Result<()> {
    let name = shards.first().map_or_else(String::new, |shard| shard.name.clone());
    let file = ModelFile::open(shards)?;
    let tokenizer = Tokenizer::new(&file).with_context(|| name)?;
    if !config.quiet {
        tokenizer.warnings().iter().for_each(|warning| say(format_args!("warning: {warning}")));
    }
    // Read after the vocabulary, so that a wrong file is reported before somebody types a text.
    let text = match &flags.prompt {
        Some(text) => text.clone(),
        None => input::text(flags.file.as_deref())?,
    };
    let special = tokenizer.adds_bos() && !flags.no_bos;
    let encode = |text: &str| tokenizer.encode(text, special, !flags.no_parse_special);
    if flags.json_lines {
        return written(json_lines(&mut BufWriter::new(answers()), &text, &encode)?);
    }
    let text = if flags.escape { unescape(&text) } else { text };
    let ids = encode(&text);
    if special
        && !config.quiet
        && ids.len() > 1
        && ids[0] == ids[1]
        && tokenizer.bos() == Some(ids[0])
    {
        say(format_args!(
            "warning: the text already begins with a BOS token, so there are two now; use --no-bos to add none"
        ));
    }
    written(print(&mut BufWriter::new(answers()), &tokenizer, &ids, flags))
}

/// A closed pipe counts as success.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("writing to stdout"),
        _ => Ok(()),
    }
}

/// Prints the ids of each text, one line each. The outer error is in the input, the inner one in writing.
fn json_lines(
    out: &mut impl Write,
    texts: &str,
    encode: &dyn Fn(&str) -> Vec<u32>,
) -> anyhow::Result<io::Result<()>> {
    for (index, line) in texts.lines().enumerate() {
        let text: String = serde_json::from_str(line)
            .with_context(|| format!("line {}: expected a JSON string", index + 1))?;
        if let Err(error) = ids(out, &encode(&text)) {
            return Ok(Err(error));
        }
    }
    Ok(out.flush())
}

/// `[1, 2, 3]`
fn ids(out: &mut impl Write, ids: &[u32]) -> io::Result<()> {
    out.write_all(b"[")?;
    for (index, id) in ids.iter().enumerate() {
        write!(out, "{}{id}", if index == 0 { "" } else { ", " })?;
    }
    out.write_all(b"]\n")
}

fn print(
    out: &mut impl Write,
    tokenizer: &Tokenizer,
    tokens: &[u32],
    flags: &TokenizeFlags,
) -> io::Result<()> {
    if flags.ids {
        ids(out, tokens)?;
    } else {
        let mut piece = Vec::new();
        for &id in tokens {
            piece.clear();
            tokenizer.piece(id, true, &mut piece);
            write!(out, "{id:6} -> '")?;
            // A Windows console does not accept partial characters.
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
        writeln!(out, "Total number of tokens: {}", tokens.len())?;
    }
    out.flush()
}
