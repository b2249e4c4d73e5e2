//! The weights to bundle.
//!
//! Input: the path of a GGUF file, or of one part of a split one. Output: all its parts, in order, each checked to be
//! whole. Knows nothing of what the tensors mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tealight_bundle::Mapped;
use tealight_bundle::gguf::Gguf;
use tealight_bundle::parts::{self, File, Name};
use tealight_bundle::tail::layout::WEIGHTS_FOLDER;

use super::source::Source;

/// One GGUF file.
#[derive(Debug, PartialEq, Eq)]
pub struct Shard {
    pub path: PathBuf,
    pub bytes: u64,
}

impl Shard {
    /// The name of its entry in a bundle.
    pub fn entry_name(&self) -> Result<String> {
        let name = utf8_name(&self.path)?;
        // Ollama keeps GGUF files under names without an ending.
        let ending = if name.to_ascii_lowercase().ends_with(".gguf") { "" } else { ".gguf" };
        Ok(format!("{WEIGHTS_FOLDER}{name}{ending}"))
    }

    /// The whole file.
    pub fn source(&self) -> Source<'_> {
        Source::part_of(&self.path, 0..self.bytes)
    }
}

/// Finds all parts of the weights and checks each.
pub fn find(path: &Path) -> Result<Vec<Shard>> {
    let mapped = Arc::new(Mapped::open(path).context("the weights")?);
    let files = parts::find(File { path: path.to_owned(), mapped }).context("the weights")?;
    files.iter().map(check).collect()
}

/// The part that the names of the weights' files have in common.
pub fn stem(path: &Path) -> Result<&str> {
    let name = utf8_name(path)?;
    let whole = name.strip_suffix(".gguf").or(name.strip_suffix(".GGUF")).unwrap_or(name);
    Ok(Name::of(name).map_or(whole, |part| part.stem))
}

/// The name of part `number` (from 1) of `count`; a single file has no number.
pub fn shard_name(stem: &str, number: usize, count: usize) -> String {
    if count == 1 {
        format!("{stem}.gguf")
    } else {
        format!("{stem}-{number:05}-of-{count:05}.gguf")
    }
}

/// Checks a file's header; the tensors' bytes are not read.
fn check(file: &File) -> Result<Shard> {
    let File { path, mapped } = file;
    Gguf::parse(mapped.bytes()).with_context(|| format!("the weights {}", path.display()))?;
    Ok(Shard { path: path.clone(), bytes: mapped.bytes().len() as u64 })
}

/// A file's name, which must be UTF-8 in a bundle.
pub fn utf8_name(path: &Path) -> Result<&str> {
    let name = path
        .file_name()
        .with_context(|| format!("{}: the path has no file name", path.display()))?;
    name.to_str().with_context(|| {
        format!("{}: the file name is not UTF-8\nhint: rename the file", path.display())
    })
}
