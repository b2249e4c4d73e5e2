//! The weights of one model, wherever they are stored: a GGUF file, its splits, or entries of a bundle.
//!
//! Input: mapped files and the ranges of them that are GGUF files. Output: metadata and tensors by name, across all
//! splits. Knows nothing of architectures.

use super::strings::Strings;
use crate::kernels::{Matrix, MatrixError};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tealight_bundle::gguf::{Array, Gguf, GgufError, TensorInfo, Value};
use tealight_bundle::mapped::Mapped;

/// One GGUF file within a mapped file.
#[derive(Clone)]
pub struct Shard {
    /// What the shard is called in errors: a path, or a bundle entry.
    pub name: String,
    /// The mapped file that holds it.
    pub file: Arc<Mapped>,
    /// Its byte range in that file.
    pub range: Range<usize>,
}

/// The parsed weights of one model.
pub struct ModelFile {
    shards: Vec<(Shard, Gguf)>,
    tensors: HashMap<String, (usize, usize)>,
}

/// Weights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A shard is not a usable GGUF file.
    #[error("{name}: {error}")]
    Gguf {
        /// The shard.
        name: String,
        /// What is wrong with it.
        error: GgufError,
    },
    /// The shards do not make up one model.
    #[error(
        "{name}: found {found}, expected {expected}\nhint: keep all parts of a split model in one folder"
    )]
    Split {
        /// The shard.
        name: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A metadata value is missing or has the wrong type.
    #[error(
        "metadata `{key}`: {found}, expected {expected}\nhint: the file is damaged, or needs a newer tealight"
    )]
    Metadata {
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A tensor is missing.
    #[error(
        "tensor `{0}` is missing\nhint: the file may be incomplete, or made for another program"
    )]
    Missing(String),
    /// A tensor's shape does not match the metadata.
    #[error(
        "tensor `{name}`: shape {found:?}, expected {expected:?}\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape, fastest-varying dimension first.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor that the kernels cannot use.
    #[error("tensor `{name}` {error}\nhint: a newer tealight may support it")]
    Matrix {
        /// The tensor.
        name: String,
        /// Why.
        error: MatrixError,
    },
}

impl ModelFile {
    /// Parses the shards of one model, in order.
    ///
    /// # Errors
    /// When a shard is malformed, or they are not all the splits of one model.
    pub fn open(shards: Vec<Shard>) -> Result<Self, FileError> {
        let count = shards.len();
        let mut parsed = Vec::with_capacity(count);
        let mut tensors = HashMap::new();
        for (index, shard) in shards.into_iter().enumerate() {
            let bytes = shard.file.bytes().get(shard.range.clone()).unwrap_or_default();
            let gguf = Gguf::parse(bytes)
                .map_err(|error| FileError::Gguf { name: shard.name.clone(), error })?;
            let wrong = |found: String, expected: String| FileError::Split {
                name: shard.name.clone(),
                found,
                expected,
            };
            // Only the first part must state the count; some files omit it in the others.
            let splits = if index == 0 || gguf.get("split.count").is_some() {
                gguf.split_count()
            } else {
                count as u64
            };
            if splits != count as u64 {
                let found = format!("one of {splits} parts");
                return Err(wrong(found, format!("one of {count}, the number of files given")));
            }
            let number = gguf.get("split.no").and_then(Value::as_u64).unwrap_or(0);
            if count > 1 && number != index as u64 {
                let found = format!("part {}", number.saturating_add(1));
                return Err(wrong(found, format!("part {}", index + 1)));
            }
            for (at, tensor) in gguf.tensors().iter().enumerate() {
                if tensors.insert(tensor.name.clone(), (index, at)).is_some() {
                    let found = format!("a second tensor `{}`", tensor.name);
                    return Err(wrong(found, "each tensor in only one part".to_owned()));
                }
            }
            parsed.push((shard, gguf));
        }
        if let [(first, gguf), _, ..] = parsed.as_slice()
            && let Some(expected) = gguf.get("split.tensors.count").and_then(Value::as_u64)
            && expected != tensors.len() as u64
        {
            return Err(FileError::Split {
                name: first.name.clone(),
                found: format!("{} tensors in all parts", tensors.len()),
                expected: expected.to_string(),
            });
        }
        Ok(Self { shards: parsed, tensors })
    }

    /// The metadata, from the first shard.
    #[must_use]
    pub fn metadata(&self) -> &[(String, Value)] {
        self.shards.first().map_or(&[], |(_, gguf)| gguf.metadata())
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.shards.iter().flat_map(|(_, gguf)| gguf.tensors())
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let &(shard, at) = self.tensors.get(name)?;
        Some(&self.shards[shard].1.tensors()[at])
    }

    /// A two-dimensional tensor as a matrix over the mapped bytes.
    ///
    /// # Errors
    /// When it is missing, has another shape, or has a type without a kernel.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, FileError> {
        self.shaped(name, &[columns, rows], rows, columns)
    }

    /// A tensor with exactly these dimensions, ignoring those of 1, as a matrix; a vector is a one-row matrix.
    fn shaped(
        &self,
        name: &str,
        dims: &[usize],
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, FileError> {
        let &(shard, at) =
            self.tensors.get(name).ok_or_else(|| FileError::Missing(name.to_owned()))?;
        let (shard, gguf) = &self.shards[shard];
        let info = &gguf.tensors()[at];
        if without_ones(&info.dims) != without_ones(dims) {
            let (found, expected) = (info.dims.clone(), dims.to_vec());
            return Err(FileError::Shape { name: name.to_owned(), found, expected });
        }
        let start = shard.range.start;
        let range = start + info.range.start..start + info.range.end;
        Matrix::new(Arc::clone(&shard.file), range, info.dtype, rows, columns)
            .map_err(|error| FileError::Matrix { name: name.to_owned(), error })
    }

    /// A three-dimensional tensor as `count` matrices over the mapped bytes.
    ///
    /// # Errors
    /// As [`ModelFile::matrix`].
    pub fn matrices(
        &self,
        name: &str,
        count: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<Matrix>, FileError> {
        let whole = self.shaped(name, &[columns, rows, count], rows * count, columns)?;
        Ok((0..count).map(|i| whole.part(i * rows..(i + 1) * rows)).collect())
    }

    /// A metadata value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata().iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// A required whole number.
    ///
    /// # Errors
    /// When it is missing or not a non-negative whole number below 2³¹.
    pub fn number(&self, key: &str) -> Result<usize, FileError> {
        let value = self.get(key);
        let number = value.and_then(Value::as_u64).filter(|&n| n < 1 << 31);
        number
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| Self::unexpected(key, value, "a whole number below 2147483648"))
    }

    /// An optional whole number.
    ///
    /// # Errors
    /// When it is present but not a non-negative whole number below 2³¹.
    pub fn number_or(&self, key: &str, default: usize) -> Result<usize, FileError> {
        if self.get(key).is_none() { Ok(default) } else { self.number(key) }
    }

    /// An optional finite number.
    ///
    /// # Errors
    /// When it is present but not a finite number.
    #[expect(clippy::cast_possible_truncation, reason = "hyper-parameters are stored as f32")]
    pub fn float_or(&self, key: &str, default: f32) -> Result<f32, FileError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => match v.as_f64().filter(|x| x.is_finite()) {
                Some(x) => Ok(x as f32),
                None => Err(Self::unexpected(key, Some(v), "a finite number")),
            },
        }
    }

    /// A number for each of `n` layers: one shared by all, or an array.
    ///
    /// # Errors
    /// When it is missing, or not so many finite numbers.
    #[expect(clippy::cast_possible_truncation, reason = "hyper-parameters are stored as f32")]
    pub fn floats(&self, key: &str, n: usize) -> Result<Vec<f32>, FileError> {
        let given: Vec<f32> = if let Some((array, bytes)) = self.array(key) {
            array.numbers(bytes).map(|x| x as f32).take(n).collect()
        } else {
            let one = self.get(key).and_then(Value::as_f64);
            one.map(|x| vec![x as f32; n]).unwrap_or_default()
        };
        if given.len() == n && given.iter().all(|x| x.is_finite()) {
            return Ok(given);
        }
        Err(Self::unexpected(key, self.get(key), "a finite number, or one for each layer"))
    }

    /// An optional boolean.
    ///
    /// # Errors
    /// When it is present but not a boolean.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, FileError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| Self::unexpected(key, Some(v), "a boolean")),
        }
    }

    /// A string; `None` when it is missing or has another type.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// An array and the bytes it is read from; `None` when it is missing or has another type.
    #[must_use]
    pub fn array(&self, key: &str) -> Option<(&Array, &[u8])> {
        let (shard, gguf) = self.shards.first()?;
        let array = gguf.get(key)?.as_array()?;
        Some((array, shard.file.bytes().get(shard.range.clone())?))
    }

    /// A required array of strings.
    ///
    /// # Errors
    /// When it is missing or not an array of strings.
    pub fn strings(&self, key: &str) -> Result<Strings, FileError> {
        let found = self.shards.first().and_then(|(shard, gguf)| {
            Strings::new(&shard.file, &shard.range, gguf.get(key)?.as_array()?)
        });
        found.ok_or_else(|| Self::unexpected(key, self.get(key), "an array of strings"))
    }

    /// A fingerprint of the weights: SHA-256 over each tensor's name, type, shape, and samples of its bytes. The order of
    /// tensors and how files are split do not matter. Reads two pages of each tensor.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        const SAMPLE: usize = 256;
        let mut names: Vec<&String> = self.tensors.keys().collect();
        names.sort();
        let mut sum = Sha256::new();
        for name in names {
            let (shard, at) = self.tensors[name];
            let (shard, gguf) = &self.shards[shard];
            let info = &gguf.tensors()[at];
            let range = shard.range.start + info.range.start..shard.range.start + info.range.end;
            let bytes = shard.file.bytes().get(range).unwrap_or_default();
            sum.update(format!("{name} {} {:?} {}\n", info.dtype, info.dims, bytes.len()));
            let middle = bytes.len() / 2;
            sum.update(&bytes[..SAMPLE.min(bytes.len())]);
            sum.update(&bytes[middle..(middle + SAMPLE).min(bytes.len())]);
        }
        sum.finalize().into()
    }

    /// Total size of all tensors, in bytes.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.tensors().map(|t| t.range.len() as u64).sum()
    }

    pub(super) fn unexpected(
        key: &str,
        value: Option<&Value>,
        expected: &'static str,
    ) -> FileError {
        let found =
            value.map_or_else(|| "missing".to_owned(), |v| format!("found {}", v.describe()));
        FileError::Metadata { key: key.to_owned(), found, expected }
    }
}

/// Dimensions without those of 1, which carry no information.
fn without_ones(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|n| *n != 1).collect()
}
