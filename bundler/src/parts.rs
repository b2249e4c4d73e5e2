//! Finds all files of a split model from any one of them.
//!
//! Input: a GGUF file. Output: all parts of its model in order, mapped. The files' metadata decides (`split.count`,
//! `split.no`); names only tell where to look first. Knows nothing of tensors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::gguf::{Gguf, Value};
use crate::mapped::Mapped;

/// Most parts of one model; real ones have a few dozen at most.
pub const PARTS_MAX: usize = 10_000;

/// One file of a model.
#[derive(Debug, Clone)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub mapped: Arc<Mapped>,
}

/// Finds the files of the model that `given` is a part of; only `given` if it is whole, or is not a readable GGUF file.
///
/// # Errors
///
/// A part is missing, two files claim to be the same part, or a number in the metadata is out of range.
pub fn find(given: File) -> Result<Vec<File>, PartsError> {
    let Some(own) = Split::of(&given).filter(|own| own.count > 1) else { return Ok(vec![given]) };
    if own.count > PARTS_MAX as u64 {
        return Err(PartsError::TooMany { path: given.path, count: own.count });
    }
    let count = usize::try_from(own.count).unwrap_or(PARTS_MAX);
    let path = given.path.clone();
    let name = path.file_name().and_then(|name| name.to_str()).and_then(Name::of);
    let name = name.filter(|name| name.count == count);
    let number = own.number.or(name.as_ref().map(|name| name.number as u64 - 1)).unwrap_or(0);
    let number = usize::try_from(number).ok().filter(|&number| number < count);
    let Some(number) = number else {
        let number = own.number.unwrap_or(0).saturating_add(1);
        return Err(PartsError::Number { path: given.path, number, count });
    };

    let mut parts: Vec<Option<File>> = (0..count).map(|_| None).collect();
    if let Some(name) = &name {
        for (at, part) in parts.iter_mut().enumerate().filter(|&(at, _)| at != number) {
            let path = path.with_file_name(name.of_part(at + 1));
            // The reference checks only the number.
            *part = open(&path).filter(|file| {
                let split = Split::of(file).unwrap_or_default();
                split.number == Some(at as u64) && [0, own.count].contains(&split.count)
            });
        }
    }
    if let Some(part) = parts.get_mut(number) {
        *part = Some(given);
    }
    if parts.iter().any(Option::is_none) {
        // Another model in the folder may have as many parts and tensors. A file whose name agrees with its `split.no`
        // belongs to the model of that name. Unless the given file's name agrees too, that model is ours if it lacks
        // exactly the given part.
        let own_name = name.as_ref();
        let is_right = own_name.is_some_and(|name| name.number == number + 1);
        let is_of_another = |file: &File| {
            let Some(name) = file.path.file_name().and_then(|name| name.to_str()) else {
                return false;
            };
            let Some(name) = Name::of(name).filter(|name| name.count == count) else {
                return false;
            };
            let says = Split::of(file).and_then(|split| split.number);
            let fits = says == Some(name.number as u64 - 1);
            // With the same stem (only `.gguf` spelled differently) it is the same model.
            let same = own_name.is_some_and(|own| own.stem == name.stem);
            fits && !same
                && (is_right || file.path.with_file_name(name.of_part(number + 1)).exists())
        };
        look_around(&path, &own, &is_of_another, &mut parts)?;
    }
    let is_missing = |(at, part): (usize, &Option<File>)| part.is_none().then_some(at + 1);
    let missing: Vec<usize> = parts.iter().enumerate().filter_map(is_missing).collect();
    if missing.is_empty() {
        return Ok(parts.into_iter().flatten().collect());
    }
    let name = name.as_ref();
    let shown = missing.iter().take(5).map(|&number| match name {
        Some(name) => name.of_part(number),
        None => format!("part {number}"),
    });
    let missing_names = shown.collect::<Vec<_>>().join(", ");
    Err(PartsError::Missing { count, missing: missing.len(), names: missing_names, path })
}

/// Looks for missing parts among the other GGUF files in the folder, by their metadata.
fn look_around(
    path: &Path,
    own: &Split,
    is_of_another: &dyn Fn(&File) -> bool,
    parts: &mut [Option<File>],
) -> Result<(), PartsError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default();
    names.sort_unstable();
    let by_name: Vec<bool> = parts.iter().map(Option::is_some).collect();
    for name in names {
        let path = path.with_file_name(&name);
        if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
            continue;
        }
        let Some(file) = open(&path) else { continue };
        let Some(split) = Split::of(&file) else { continue };
        let number = split.number.and_then(|number| usize::try_from(number).ok());
        let Some(number) = number.filter(|&number| by_name.get(number) == Some(&false)) else {
            continue;
        };
        if (split.count, split.tensors) != (own.count, own.tensors) || is_of_another(&file) {
            continue;
        }
        if let Some(Some(other)) = parts.get(number) {
            let (first, second) = (other.path.clone(), path);
            return Err(PartsError::Twice { number: number + 1, first, second });
        }
        if let Some(part) = parts.get_mut(number) {
            *part = Some(file);
        }
    }
    Ok(())
}

fn open(path: &Path) -> Option<File> {
    let mapped = Arc::new(Mapped::open(path).ok()?);
    Some(File { path: path.to_owned(), mapped })
}

/// The `split.*` metadata of a part.
#[derive(Default)]
struct Split {
    /// Number of files; 0 if absent.
    count: u64,
    /// Index of this file, from 0.
    number: Option<u64>,
    /// Number of tensors in all files together.
    tensors: Option<u64>,
}

impl Split {
    /// `None` if the file can't be parsed.
    fn of(file: &File) -> Option<Split> {
        let gguf = Gguf::parse(file.mapped.bytes()).ok()?;
        let number = |key| gguf.get(key).and_then(Value::as_u64);
        Some(Split {
            count: number("split.count").unwrap_or(0),
            number: number("split.no"),
            tensors: number("split.tensors.count"),
        })
    }
}

/// A name such as `model-00001-of-00003.gguf`, as parts are published under.
#[derive(Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The text before the numbers.
    pub stem: &'a str,
    /// Which part, from 1.
    pub number: usize,
    /// Of how many.
    pub count: usize,
}

impl<'a> Name<'a> {
    /// `None` for any other name.
    #[must_use]
    pub fn of(name: &'a str) -> Option<Name<'a>> {
        let rest = name.strip_suffix(".gguf").or(name.strip_suffix(".GGUF"))?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let five_digits = |text: &str| {
            (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<usize>().ok())?
        };
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        ((1..=count).contains(&number) && count <= PARTS_MAX).then_some(Name {
            stem,
            number,
            count,
        })
    }

    /// The name of another part.
    #[must_use]
    pub fn of_part(&self, number: usize) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.stem, self.count)
    }
}

/// Why a model's files can't be collected.
#[derive(Debug, Error)]
pub enum PartsError {
    /// Some are missing.
    #[error(
        "{}: this model is split into {count} files; {missing} {} missing or damaged: {names}\nhint: put all of them in one folder",
        path.display(),
        if *missing == 1 { "is" } else { "are" }
    )]
    Missing {
        /// The file that was given.
        path: PathBuf,
        /// How many there should be.
        count: usize,
        /// How many are missing.
        missing: usize,
        /// The names of the first few missing ones.
        names: String,
    },
    /// Two files claim to be the same part.
    #[error(
        "{} and {} both claim to be part {number} of a model\nhint: keep the parts of each model in a separate folder",
        first.display(),
        second.display()
    )]
    Twice {
        /// Which part, from 1.
        number: usize,
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// A part number out of range.
    #[error("{}: the file claims to be part {number} of {count}\nhint: the file is damaged; fetch it again", path.display())]
    Number {
        /// The file.
        path: PathBuf,
        /// Which part, from 1.
        number: u64,
        /// Of how many.
        count: usize,
    },
    /// More parts than allowed.
    #[error("{}: the file claims to be one of {count} parts; at most {PARTS_MAX} are allowed", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many.
        count: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a GGUF file with these keys and no tensors; a key with `None` is left out.
    fn put(folder: &Path, name: &str, keys: [(&str, Option<u32>); 3]) {
        let keys: Vec<_> = keys.into_iter().filter_map(|(key, n)| Some((key, n?))).collect();
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend((keys.len() as u64).to_le_bytes());
        for (key, number) in keys {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(4_u32.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    fn part(folder: &Path, name: &str, number: u32, count: u32) {
        tensors(folder, name, number, count, 7);
    }

    fn tensors(folder: &Path, name: &str, number: u32, count: u32, tensors: u32) {
        let keys = [("split.no", Some(number)), ("split.count", Some(count))];
        put(folder, name, [keys[0], keys[1], ("split.tensors.count", Some(tensors))]);
    }

    fn found(folder: &Path, name: &str) -> Result<Vec<String>, PartsError> {
        let files = find(open(&folder.join(name)).unwrap())?;
        let name = |file: &File| file.path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(files.iter().map(name).collect())
    }

    #[test]
    fn part_names_are_recognized() {
        let name = Name::of("a-b-00002-of-00013.gguf").unwrap();
        assert_eq!(name, Name { stem: "a-b", number: 2, count: 13 });
        assert_eq!(name.of_part(13), "a-b-00013-of-00013.gguf");
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
            assert_eq!(Name::of(other), None, "{other}");
        }
    }

    #[test]
    fn any_part_finds_the_others_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let names = [1, 2, 3].map(|n| format!("m-0000{n}-of-00003.gguf"));
        (0..).zip(&names).for_each(|(n, name)| part(at, name, n, 3));
        // The extension may be in upper case.
        std::fs::rename(at.join(&names[1]), at.join("m-00002-of-00003.GGUF")).unwrap();
        let others = [names[0].as_str(), "m-00002-of-00003.GGUF", names[2].as_str()];
        for name in others {
            assert_eq!(found(at, name).unwrap(), others);
        }
        std::fs::rename(at.join(others[1]), at.join(&names[1])).unwrap();
        // A part of another model, under a name without numbers.
        part(at, "other.gguf", 1, 3);
        for name in &names {
            assert_eq!(found(at, name).unwrap(), names);
        }
        // Later parts of some models have only `split.no`.
        put(at, &names[1], [("split.no", Some(1)), ("a", None), ("b", None)]);
        assert_eq!(found(at, &names[0]).unwrap(), names);
    }

    #[test]
    fn an_unsplit_file_may_have_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let name = "m-00001-of-00003.gguf";
        for (number, count) in
            [(None, None), (Some(0), Some(1)), (Some(0), Some(0)), (None, Some(1))]
        {
            put(at, name, [("split.no", number), ("split.count", count), ("x", Some(1))]);
            assert_eq!(found(at, name).unwrap(), [name], "{number:?} {count:?}");
        }
        std::fs::write(at.join(name), "GGUF and nothing more").unwrap();
        assert_eq!(found(at, name).unwrap(), [name]);
    }

    #[test]
    fn renamed_parts_are_found_by_their_metadata() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        part(at, "z.gguf", 0, 3);
        part(at, "m-00002-of-00003 (1).gguf", 1, 3);
        part(at, "a.GGUF", 2, 3);
        part(at, "none.gguf.part", 1, 3);
        tensors(at, "other.gguf", 1, 3, 8);
        part(at, "four.gguf", 1, 4);
        std::fs::write(at.join("text.gguf"), "no model").unwrap();
        let expected = ["z.gguf", "m-00002-of-00003 (1).gguf", "a.GGUF"];
        for name in expected {
            assert_eq!(found(at, name).unwrap(), expected);
        }
        // Names in the wrong order.
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        part(at, "m-00001-of-00002.gguf", 1, 2);
        part(at, "m-00002-of-00002.gguf", 0, 2);
        let expected = ["m-00002-of-00002.gguf", "m-00001-of-00002.gguf"];
        assert_eq!(found(at, "m-00001-of-00002.gguf").unwrap(), expected);
        // Two files for the same part: an error, not a guess.
        part(at, "copy.gguf", 0, 2);
        let error = found(at, "m-00001-of-00002.gguf").unwrap_err().to_string();
        assert!(error.contains("copy.gguf") && error.contains("part 1"), "{error}");
        assert_eq!(found(at, "copy.gguf").unwrap(), ["copy.gguf", "m-00001-of-00002.gguf"]);
    }

    #[test]
    fn parts_of_another_model_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for (number, name) in (0..).zip(["b-00001-of-00002.gguf", "b-00002-of-00002.gguf"]) {
            part(at, name, number, 2);
        }
        part(at, "a-00001-of-00002.gguf", 0, 2);
        assert!(found(at, "a-00001-of-00002.gguf").is_err());
        part(at, "copy.gguf", 0, 2);
        assert!(found(at, "copy.gguf").is_err());
        // But if that model lacks this part, the file is taken for it.
        std::fs::remove_file(at.join("b-00001-of-00002.gguf")).unwrap();
        std::fs::remove_file(at.join("a-00001-of-00002.gguf")).unwrap();
        let expected = ["copy.gguf", "b-00002-of-00002.gguf"];
        assert_eq!(found(at, "copy.gguf").unwrap(), expected);
        assert_eq!(found(at, "b-00002-of-00002.gguf").unwrap(), expected);
    }

    #[test]
    fn missing_parts_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        part(at, "m-00002-of-00003.gguf", 1, 3);
        let error = found(at, "m-00002-of-00003.gguf").unwrap_err().to_string();
        assert!(error.contains("m-00001-of-00003.gguf, m-00003-of-00003.gguf"), "{error}");
        part(at, "m.gguf", 0, 2);
        let error = found(at, "m.gguf").unwrap_err().to_string();
        assert!(error.contains("1 is missing or damaged: part 2\nhint: "), "{error}");
        for (number, count) in [(5, 3), (0, 4_000_000_000)] {
            part(at, "x.gguf", number, count);
            let error = found(at, "x.gguf").unwrap_err().to_string();
            assert!(error.contains("the file claims to be"), "{error}");
        }
    }
}
