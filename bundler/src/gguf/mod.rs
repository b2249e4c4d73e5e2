//! The GGUF file format, read in place.
//!
//! Input: the bytes of one GGUF file (version 2 or 3, little-endian), which may be hostile.
//! Output: [`Gguf`], metadata and tensor *ranges* that are known to lie inside those bytes.
//! Knows nothing of what a tensor or a key means, and copies no tensor.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cursor;
mod dtype;
pub mod split;
mod value;

pub use dtype::DType;
pub use value::{Array, ElementType, Value};

use cursor::Cursor;
use std::collections::HashSet;
use std::ops::Range;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Most metadata keys accepted; real files have under a hundred.
const METADATA_MAX: u64 = 1 << 16;
/// Most tensors accepted; real files have under ten thousand.
const TENSORS_MAX: u64 = 1 << 17;
/// Longest key or tensor name in bytes; the format text allows 65,535 for keys.
const NAME_BYTES_MAX: u64 = 65_535;
/// Longest single string value in bytes (a chat template is tens of kilobytes).
const STRING_BYTES_MAX: u64 = 16 << 20;
/// Tensor data alignment when `general.alignment` is absent.
const ALIGNMENT_DEFAULT: u64 = 32;

/// A parsed GGUF file: everything but the bytes themselves.
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    metadata: Vec<(String, Value)>,
    /// Byte range of each key with its value in the file.
    metadata_ranges: Vec<Range<usize>>,
    alignment: u64,
    tensors: Vec<TensorInfo>,
}

/// One tensor: its name, type, shape and byte range in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, for example `blk.0.attn_q.weight`.
    pub name: String,
    /// Storage type.
    pub dtype: DType,
    /// Shape as GGUF writes it: the fastest-varying dimension first (`[columns, rows]`).
    pub dims: Vec<usize>,
    /// Range of the data, in bytes from the start of the file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Number of elements: the product of the dimensions (checked when the file was read).
    #[must_use]
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Why a GGUF file was rejected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GgufError {
    /// The magic number is missing.
    #[error("not a GGUF file: it begins with {found:02x?}, expected 47 47 55 46 (\"GGUF\")")]
    Magic {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// A version this reader does not know.
    #[error("GGUF version {found} at offset 4: expected 2 or 3\nhint: {hint}")]
    Version {
        /// The version number found.
        found: u32,
        /// What to do about it.
        hint: &'static str,
    },
    /// The file ends early.
    #[error(
        "{what} at offset {offset}: needs {needed} bytes, file has {left} left\nhint: the download may be incomplete"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Its offset in the file.
        offset: usize,
        /// Bytes needed.
        needed: u64,
        /// Bytes that remain.
        left: usize,
    },
    /// A value that is not allowed.
    #[error(
        "{what} at offset {offset}: found {found}, expected {expected}\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Value {
        /// What was being read.
        what: String,
        /// Its offset in the file.
        offset: usize,
        /// What was found.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A tensor whose data does not fit the file.
    #[error(
        "tensor `{name}`: needs {needed} bytes at offset {offset}, file has {left} left\nhint: the download may be incomplete"
    )]
    TensorOutside {
        /// Tensor name.
        name: String,
        /// Bytes needed.
        needed: u64,
        /// Where its data should begin, from the start of the file.
        offset: u64,
        /// Bytes from there to the end of the file.
        left: u64,
    },
    /// A tensor whose type, shape or offset is invalid.
    #[error(
        "tensor `{name}`: {found}, expected {expected}\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Tensor {
        /// Tensor name.
        name: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Two tensors claim the same bytes.
    #[error(
        "tensors `{first}` and `{second}` overlap at offset {offset}\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The tensor that begins inside it.
        second: String,
        /// Where the second begins.
        offset: usize,
    },
    /// A name used twice.
    #[error(
        "{what} `{name}` occurs twice\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Duplicate {
        /// `metadata key` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Gguf {
    /// Reads the header, metadata and tensor directory of `bytes`, which must be one whole GGUF file.
    ///
    /// # Errors
    /// [`GgufError`] when anything is malformed, too large, overlapping or outside the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(bytes);
        let version = header(&mut cursor)?;
        let tensor_count = bounded(&mut cursor, "tensor count", TENSORS_MAX)?;
        let metadata_count = bounded(&mut cursor, "metadata count", METADATA_MAX)?;

        let (metadata, metadata_ranges) = read_metadata(&mut cursor, metadata_count)?;
        let alignment = alignment(&metadata)?;
        let raw = read_directory(&mut cursor, tensor_count)?;

        let data_start = u64::try_from(cursor.offset())
            .unwrap_or(u64::MAX)
            .checked_next_multiple_of(alignment)
            .unwrap_or(u64::MAX);
        let tensors = place(raw, data_start, alignment, bytes.len())?;
        Ok(Self { version, metadata, metadata_ranges, alignment, tensors })
    }

    /// The format version, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata in file order.
    #[must_use]
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }

    /// The value of a metadata key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// All tensors in file order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Number of files this model was split into (`split.count`), 1 for a whole one.
    #[must_use]
    pub fn split_count(&self) -> u64 {
        self.get("split.count").and_then(Value::as_u64).unwrap_or(1).max(1)
    }
}

fn header(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let found = cursor.rest().get(..4).unwrap_or(cursor.rest());
    if found != MAGIC {
        return Err(GgufError::Magic { found: found.to_vec() });
    }
    cursor.take(4, "magic")?;
    let version = cursor.u32("version")?;
    let hint = match version {
        2 | 3 => return Ok(version),
        1 => "convert the file again with a current llama.cpp",
        v if matches!(v.swap_bytes(), 1..=3) => {
            "this is a big-endian file; convert it to little-endian"
        }
        _ => "a newer tealight may read it",
    };
    Err(GgufError::Version { found: version, hint })
}

fn bounded(cursor: &mut Cursor<'_>, what: &str, max: u64) -> Result<u64, GgufError> {
    let offset = cursor.offset();
    let found = cursor.u64(what)?;
    if found > max {
        return Err(GgufError::Value {
            what: what.to_owned(),
            offset,
            found: found.to_string(),
            expected: format!("at most {max}"),
        });
    }
    Ok(found)
}

/// Key-value pairs, and the byte range of each.
type Metadata = (Vec<(String, Value)>, Vec<Range<usize>>);

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, GgufError> {
    let mut metadata = Vec::new();
    let mut ranges = Vec::new();
    let mut seen = HashSet::new();
    for index in 0..count {
        let start = cursor.offset();
        let key = cursor.name(&format!("metadata key {index}"), NAME_BYTES_MAX)?;
        if !seen.insert(key.clone()) {
            return Err(GgufError::Duplicate { what: "metadata key", name: key });
        }
        let value = value::read(cursor, &key, STRING_BYTES_MAX)?;
        metadata.push((key, value));
        ranges.push(start..cursor.offset());
    }
    Ok((metadata, ranges))
}

fn alignment(metadata: &[(String, Value)]) -> Result<u64, GgufError> {
    let Some((_, value)) = metadata.iter().find(|(k, _)| k == "general.alignment") else {
        return Ok(ALIGNMENT_DEFAULT);
    };
    match value.as_u64() {
        Some(a) if a.is_power_of_two() && a <= 1 << 20 => Ok(a),
        _ => Err(GgufError::Value {
            what: "metadata `general.alignment`".to_owned(),
            offset: 0,
            found: value.describe(),
            expected: "a power of two up to 1048576".to_owned(),
        }),
    }
}

/// A tensor directory row whose data range has not been checked yet.
struct RawTensor {
    name: String,
    dtype: DType,
    dims: Vec<usize>,
    offset: u64,
}

fn read_directory(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<RawTensor>, GgufError> {
    let mut rows = Vec::new();
    let mut seen = HashSet::new();
    for index in 0..count {
        let name = cursor.name(&format!("name of tensor {index}"), NAME_BYTES_MAX)?;
        if !seen.insert(name.clone()) {
            return Err(GgufError::Duplicate { what: "tensor", name });
        }
        let wrong = |found: String, expected: &str| GgufError::Tensor {
            name: name.clone(),
            found,
            expected: expected.to_owned(),
        };
        let n_dims = cursor.u32("number of dimensions")?;
        if n_dims > 4 {
            return Err(wrong(format!("{n_dims} dimensions"), "at most 4"));
        }
        let mut dims = Vec::with_capacity(4);
        for _ in 0..n_dims {
            let dim = cursor.u64("dimension")?;
            // A dimension is also a count of elements in memory, so it has to fit an i64.
            match usize::try_from(dim) {
                Ok(d) if d > 0 && i64::try_from(d).is_ok() => dims.push(d),
                _ => return Err(wrong(format!("a dimension of {dim}"), "1 to 2^63 - 1")),
            }
        }
        if dims.is_empty() {
            // A scalar, which the reference reads as one element.
            dims.push(1);
        }
        let id = cursor.u32("tensor type")?;
        let dtype = DType::from_id(id).ok_or_else(|| {
            wrong(format!("type number {id}"), "a known ggml type (a newer tealight may know it)")
        })?;
        let offset = cursor.u64("tensor offset")?;
        rows.push(RawTensor { name, dtype, dims, offset });
    }
    Ok(rows)
}

fn place(
    rows: Vec<RawTensor>,
    data_start: u64,
    alignment: u64,
    file_bytes: usize,
) -> Result<Vec<TensorInfo>, GgufError> {
    let file_bytes = file_bytes as u64;
    let mut tensors = Vec::with_capacity(rows.len());
    for RawTensor { name, dtype, dims, offset } in rows {
        let Some(needed) = dtype.bytes_of(&dims) else {
            return Err(GgufError::Tensor {
                name,
                found: format!("shape {dims:?} of {dtype}"),
                expected: format!(
                    "rows of a multiple of {} elements and fewer than 2^63 bytes",
                    dtype.block_elements()
                ),
            });
        };
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Tensor {
                name,
                found: format!("offset {offset}"),
                expected: format!("a multiple of the alignment {alignment}"),
            });
        }
        let start = data_start.saturating_add(offset);
        let end = start.saturating_add(needed);
        if end > file_bytes {
            let left = file_bytes.saturating_sub(start);
            return Err(GgufError::TensorOutside { name, needed, offset: start, left });
        }
        // Both are at most the length of a slice, so they fit a usize.
        let range = usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        tensors.push(TensorInfo { name, dtype, dims, range });
    }
    no_overlap(&tensors)?;
    Ok(tensors)
}

fn no_overlap(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| (t.range.start, t.range.end));
    for (a, b) in order.iter().zip(order.iter().skip(1)) {
        if b.range.start < a.range.end {
            return Err(GgufError::Overlap {
                first: a.name.clone(),
                second: b.name.clone(),
                offset: b.range.start,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
