//! The weights that are to be bundled.
//!
//! Enters: the path of a GGUF file, or of one part of a split one. Leaves: all its parts, in order, each checked to be
//! whole. Knows nothing of what the tensors mean.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tealight_bundle::Mapped;
use tealight_bundle::gguf::{Gguf, Value};
use tealight_bundle::tail::layout::WEIGHTS_FOLDER;

use super::write::Source;

/// Parts of one model; real ones have a few dozen at most.
const PARTS_MAX: usize = 10_000;

/// One GGUF file.
#[derive(Debug, PartialEq, Eq)]
pub struct Shard {
    pub path: PathBuf,
    pub bytes: u64,
}

impl Shard {
    /// The name of its entry.
    pub fn entry_name(&self) -> Result<String> {
        let name = utf8_name(&self.path)?;
        // Ollama keeps GGUF files under names without an ending.
        let ending = if name.to_ascii_lowercase().ends_with(".gguf") { "" } else { ".gguf" };
        Ok(format!("{WEIGHTS_FOLDER}{name}{ending}"))
    }

    /// All of it.
    pub fn source(&self) -> Source<'_> {
        Source::part_of(&self.path, 0..self.bytes)
    }
}

/// Finds all parts of the weights and checks each.
pub fn find(path: &Path) -> Result<Vec<Shard>> {
    let Some(split) = path.file_name().and_then(OsStr::to_str).and_then(Split::of) else {
        return Ok(vec![check(path, None)?]);
    };
    let paths: Vec<PathBuf> =
        (1..=split.count).map(|number| path.with_file_name(split.name(number))).collect();
    let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().take(5).map(|path| path.display().to_string()).collect();
        let more = missing.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        bail!(
            "the weights are split into {} files, of which {} missing: {}{more}\nhint: put all of them into one folder",
            split.count,
            if missing.len() == 1 { "one is" } else { "some are" },
            names.join(", ")
        );
    }
    (1..).zip(&paths).map(|(number, path)| check(path, Some((number, split.count)))).collect()
}

/// A name such as `model-00001-of-00003.gguf`.
#[derive(Debug, PartialEq, Eq)]
struct Split<'a> {
    stem: &'a str,
    count: usize,
}

impl<'a> Split<'a> {
    fn of(name: &'a str) -> Option<Split<'a>> {
        let rest = name.strip_suffix(".gguf")?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let five_digits = |text: &str| {
            (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<usize>().ok())?
        };
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        ((1..=count).contains(&number) && count <= PARTS_MAX).then_some(Split { stem, count })
    }

    fn name(&self, number: usize) -> String {
        shard_name(self.stem, number, self.count)
    }
}

/// What the names of the weights' files have in common.
pub fn stem(path: &Path) -> Result<&str> {
    let name = utf8_name(path)?;
    let whole = name.strip_suffix(".gguf").or(name.strip_suffix(".GGUF")).unwrap_or(name);
    Ok(Split::of(name).map_or(whole, |split| split.stem))
}

/// How part `number` (from 1) of `count` is called; a single one has no number.
pub fn shard_name(stem: &str, number: usize, count: usize) -> String {
    if count == 1 {
        format!("{stem}.gguf")
    } else {
        format!("{stem}-{number:05}-of-{count:05}.gguf")
    }
}

/// Maps a GGUF file and looks through its header; the tensors' bytes stay unread.
fn check(path: &Path, part: Option<(usize, usize)>) -> Result<Shard> {
    let mapped = Mapped::open(path).context("the weights")?;
    let gguf =
        Gguf::parse(mapped.bytes()).with_context(|| format!("the weights {}", path.display()))?;
    let number = |key| gguf.get(key).and_then(Value::as_u64);
    let (at, of) = part.map_or((1, 1), |(at, of)| (at as u64, of as u64));
    let count = number("split.count").filter(|&count| count > 0).unwrap_or(of);
    ensure!(
        count == of,
        "{}: the file says that it is one of {count} parts, its name says {of}\n\
         hint: give it back the name it was published under, such as name-00001-of-{count:05}.gguf",
        path.display()
    );
    let place = number("split.no").map_or(at, |from_zero| from_zero.saturating_add(1));
    ensure!(
        place == at,
        "{}: the file says that it is part {place}, its name says {at}\nhint: give it back its published name",
        path.display()
    );
    Ok(Shard { path: path.to_owned(), bytes: mapped.bytes().len() as u64 })
}

/// A file's name, which a bundle can only hold as UTF-8.
pub fn utf8_name(path: &Path) -> Result<&str> {
    let name = path.file_name().with_context(|| format!("{}: no file name", path.display()))?;
    name.to_str().with_context(|| {
        format!("{}: the file's name is not UTF-8\nhint: rename it", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_names_are_told_from_others() {
        let split = Split::of("a-b-00002-of-00013.gguf").unwrap();
        assert_eq!(split, Split { stem: "a-b", count: 13 });
        assert_eq!(split.name(13), "a-b-00013-of-00013.gguf");
        for other in [
            "a.gguf",
            "a-1-of-2.gguf",
            "a-00003-of-00002.gguf",
            "a-00000-of-00002.gguf",
            "a-+0001-of-00002.gguf",
            "a-00001-of-00002.bin",
            "00001-of-00002.gguf",
            "a-00001-of-99999.gguf",
        ] {
            assert_eq!(Split::of(other), None, "{other}");
        }
    }
}
