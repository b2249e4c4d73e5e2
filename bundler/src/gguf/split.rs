//! Splits a model into GGUF files of limited length, as llama.cpp's `llama-gguf-split` does.
//!
//! Input: the parsed files of one model, and the limit. Output: for each new file its header, and which byte ranges of
//! the old files follow. Opens no file and copies no tensor.
//!
//! The first part has all metadata. Every part has `split.no` (from 0), `split.count` and `split.tensors.count`, and
//! whole tensors in their old order.

use std::ops::Range;

use thiserror::Error;

use super::{ALIGNMENT_DEFAULT, Gguf, MAGIC, TensorInfo};

/// GGUF type numbers of the values written here.
const UINT16: u32 = 2;
const UINT32: u32 = 4;
const INT32: u32 = 5;
/// The most that `split.count` (16 bits) and the five digits in file names can hold.
const PARTS_MAX: usize = 65_535;

/// One new file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsPart {
    /// Metadata and tensor directory, up to the first tensor's data.
    pub header: Vec<u8>,
    /// The tensor data that follows.
    pub pieces: Vec<Piece>,
}

/// One tensor's bytes, and the padding after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index of the old file that holds it.
    pub file: usize,
    /// Its range in that file.
    pub range: Range<usize>,
    /// Number of zero bytes that follow.
    pub padding: u64,
}

impl WeightsPart {
    /// The length of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let piece = |piece: &Piece| (piece.range.len() as u64).saturating_add(piece.padding);
        self.pieces.iter().map(piece).fold(self.header.len() as u64, u64::saturating_add)
    }
}

/// Splits a model into as few files of at most `most` bytes as the tensors' order allows. `files` holds the bytes of
/// each old file and its parsed header.
///
/// # Errors
///
/// The metadata or one tensor alone is longer than `most`, or there would be too many files.
pub fn split(files: &[(&[u8], &Gguf)], most: u64) -> Result<Vec<WeightsPart>, SplitError> {
    let Some((first_bytes, first)) = files.first() else { return Ok(Vec::new()) };
    let alignment = first.alignment;
    let mut all = Keys::default();
    for ((key, _), range) in first.metadata.iter().zip(&first.metadata_ranges) {
        if !key.starts_with("split.") {
            all.put(first_bytes.get(range.clone()).unwrap_or_default());
        }
    }
    let mut others = Keys::default();
    if alignment != ALIGNMENT_DEFAULT {
        others.put_number("general.alignment", UINT32, &low32(alignment).to_le_bytes());
    }

    let tensors: Vec<_> = files
        .iter()
        .enumerate()
        .flat_map(|(file, (_, gguf))| gguf.tensors.iter().map(move |tensor| (file, tensor)))
        .collect();
    let mut parts: Vec<Draft<'_>> = vec![Draft::new(&all, alignment)];
    for (file, tensor) in &tensors {
        let fits = parts.last_mut().is_some_and(|part| part.take(*file, tensor, most));
        if !fits {
            let mut part = Draft::new(&others, alignment);
            if !part.take(*file, tensor, most) {
                return Err(SplitError::Tensor {
                    name: tensor.name.clone(),
                    bytes: tensor.range.len() as u64,
                    most,
                });
            }
            parts.push(part);
        }
    }
    if parts.first().is_some_and(|part| part.header_bytes() > most) {
        return Err(SplitError::Metadata { most });
    }
    let count = parts.len();
    if count > PARTS_MAX {
        return Err(SplitError::Parts { found: count, most: PARTS_MAX });
    }
    let version = first.version;
    let finish = |(number, part): (usize, Draft<'_>)| {
        part.finish(version, number, count, tensors.len(), alignment)
    };
    Ok(parts.into_iter().enumerate().map(finish).collect())
}

/// Why a model cannot be split.
#[derive(Debug, Error)]
pub enum SplitError {
    /// A tensor is over the limit; tensors are never split.
    #[error(
        "tensor `{name}` alone is {bytes} bytes, but a file can be at most {most}\n\
         hint: format the stick as exFAT, which allows larger files, or use smaller weights"
    )]
    Tensor {
        /// Its name.
        name: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// The metadata is over the limit; it is never split either.
    #[error("the metadata alone is larger than the {most} bytes that a file can have")]
    Metadata {
        /// The limit.
        most: u64,
    },
    /// More files than can be numbered.
    #[error("the weights would be split into {found} files; at most {most} are allowed")]
    Parts {
        /// How many.
        found: usize,
        /// The limit.
        most: usize,
    },
}

/// Encoded metadata.
#[derive(Debug, Default, Clone)]
struct Keys {
    bytes: Vec<u8>,
    count: u64,
}

impl Keys {
    fn put(&mut self, key_and_value: &[u8]) {
        self.bytes.extend_from_slice(key_and_value);
        self.count = self.count.saturating_add(1);
    }

    fn put_number(&mut self, key: &str, kind: u32, value: &[u8]) {
        let mut out = string(key);
        out.extend(kind.to_le_bytes());
        out.extend_from_slice(value);
        self.put(&out);
    }

    /// Adds the `split.*` keys of a part. The encoded length does not depend on the numbers.
    fn of_part(mut self, number: usize, count: usize, tensors: usize) -> Keys {
        let short = |value| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
        self.put_number("split.no", UINT16, &short(number));
        self.put_number("split.count", UINT16, &short(count));
        let tensors = i32::try_from(tensors).unwrap_or(i32::MAX);
        self.put_number("split.tensors.count", INT32, &tensors.to_le_bytes());
        self
    }
}

/// A part being filled.
struct Draft<'a> {
    keys: Keys,
    keys_bytes: u64,
    alignment: u64,
    tensors: Vec<(usize, &'a TensorInfo)>,
    directory_bytes: u64,
    data_bytes: u64,
}

impl<'a> Draft<'a> {
    fn new(keys: &Keys, alignment: u64) -> Draft<'a> {
        Draft {
            keys: keys.clone(),
            keys_bytes: keys.clone().of_part(0, 0, 0).bytes.len() as u64,
            alignment,
            tensors: Vec::new(),
            directory_bytes: 0,
            data_bytes: 0,
        }
    }

    /// Adds a tensor if the file stays within `most` bytes; returns whether it did.
    fn take(&mut self, file: usize, tensor: &'a TensorInfo, most: u64) -> bool {
        let row = directory_row(tensor, 0).len() as u64;
        let directory_bytes = self.directory_bytes.saturating_add(row);
        let data_bytes = self.data_bytes.saturating_add(aligned(tensor, self.alignment));
        if header_bytes(self.keys_bytes, directory_bytes, self.alignment).saturating_add(data_bytes)
            > most
        {
            return false;
        }
        self.tensors.push((file, tensor));
        (self.directory_bytes, self.data_bytes) = (directory_bytes, data_bytes);
        true
    }

    fn header_bytes(&self) -> u64 {
        header_bytes(self.keys_bytes, self.directory_bytes, self.alignment)
    }

    fn finish(
        self,
        version: u32,
        number: usize,
        count: usize,
        all_tensors: usize,
        alignment: u64,
    ) -> WeightsPart {
        let header_bytes = self.header_bytes();
        let keys = self.keys.of_part(number, count, all_tensors);
        let mut header = MAGIC.to_vec();
        header.extend(version.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend(keys.count.to_le_bytes());
        header.extend(keys.bytes);
        let mut offset = 0_u64;
        let mut pieces = Vec::with_capacity(self.tensors.len());
        for (file, tensor) in self.tensors {
            header.extend(directory_row(tensor, offset));
            let whole = aligned(tensor, alignment);
            let padding = whole.saturating_sub(tensor.range.len() as u64);
            pieces.push(Piece { file, range: tensor.range.clone(), padding });
            offset = offset.saturating_add(whole);
        }
        header.resize(usize::try_from(header_bytes).unwrap_or(header.len()), 0);
        WeightsPart { header, pieces }
    }
}

/// Length of magic, version and the two counts (24 bytes), metadata and directory, rounded up to the alignment.
fn header_bytes(keys_bytes: u64, directory_bytes: u64, alignment: u64) -> u64 {
    let end = 24_u64.saturating_add(keys_bytes).saturating_add(directory_bytes);
    end.checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
}

fn aligned(tensor: &TensorInfo, alignment: u64) -> u64 {
    (tensor.range.len() as u64).checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
}

fn directory_row(tensor: &TensorInfo, offset: u64) -> Vec<u8> {
    let mut row = string(&tensor.name);
    row.extend(low32(tensor.dims.len() as u64).to_le_bytes());
    tensor.dims.iter().for_each(|&dim| row.extend((dim as u64).to_le_bytes()));
    row.extend(tensor.dtype.id().to_le_bytes());
    row.extend(offset.to_le_bytes());
    row
}

fn string(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.bytes());
    out
}

fn low32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]

    use super::*;
    use crate::gguf::Value;

    /// A GGUF file with this alignment and a tensor for each length in bytes; tensor `n` is filled with `n + 1`.
    fn file(alignment: u64, tensors: &[usize]) -> Vec<u8> {
        let mut keys = Keys::default();
        keys.put_number("general.alignment", UINT32, &low32(alignment).to_le_bytes());
        keys.put_number("a.number", INT32, &7_i32.to_le_bytes());
        let mut out = MAGIC.to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend(keys.count.to_le_bytes());
        out.extend(keys.bytes);
        let align = |len: usize| len.next_multiple_of(usize::try_from(alignment).unwrap());
        let mut offset = 0;
        for (number, &bytes) in tensors.iter().enumerate() {
            let dims = vec![bytes];
            let dtype = crate::gguf::DType::I8;
            let range = 0..bytes;
            let info = TensorInfo { name: format!("t{number}"), dtype, dims, range };
            out.extend(directory_row(&info, offset as u64));
            offset += align(bytes);
        }
        out.resize(align(out.len()), 0);
        for (number, &bytes) in tensors.iter().enumerate() {
            out.extend(vec![u8::try_from(number).unwrap() + 1; bytes]);
            out.resize(align(out.len()), 0);
        }
        out
    }

    fn write(part: &WeightsPart, files: &[&[u8]]) -> Vec<u8> {
        let mut out = part.header.clone();
        for piece in &part.pieces {
            out.extend_from_slice(&files[piece.file][piece.range.clone()]);
            out.resize(out.len() + usize::try_from(piece.padding).unwrap(), 0);
        }
        out
    }

    #[test]
    fn parts_hold_everything_in_order_and_none_is_too_long() {
        for alignment in [32, 64] {
            // Lengths around the alignment, and one that needs a part of its own.
            let source = file(alignment, &[100, 31, 32, 33, 1, 600, 5]);
            let gguf = Gguf::parse(&source).unwrap();
            for most in [1000, 1200, 10_000] {
                let parts = split(&[(&source, &gguf)], most).unwrap();
                assert_eq!(parts.len() == 1, most == 10_000);
                let mut found = Vec::new();
                for (number, part) in parts.iter().enumerate() {
                    let bytes = write(part, &[&source]);
                    assert_eq!(bytes.len() as u64, part.bytes());
                    assert!(part.bytes() <= most);
                    let gguf = Gguf::parse(&bytes).unwrap();
                    let key = |key: &str| gguf.get(key).and_then(Value::as_u64).unwrap();
                    assert_eq!(key("split.no"), number as u64);
                    assert_eq!(key("split.count"), parts.len() as u64);
                    assert_eq!(key("split.tensors.count"), 7);
                    assert_eq!(gguf.get("a.number").is_some(), number == 0);
                    assert!(!gguf.tensors().is_empty());
                    for tensor in gguf.tensors() {
                        found.push((tensor.name.clone(), bytes[tensor.range.clone()].to_vec()));
                    }
                }
                let expected: Vec<_> = gguf
                    .tensors()
                    .iter()
                    .map(|tensor| (tensor.name.clone(), source[tensor.range.clone()].to_vec()))
                    .collect();
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn parts_can_be_split_again_and_joined() {
        let source = file(32, &[100, 200, 300, 400]);
        let gguf = Gguf::parse(&source).unwrap();
        let parts = split(&[(&source, &gguf)], 900).unwrap();
        let written: Vec<_> = parts.iter().map(|part| write(part, &[&source])).collect();
        assert!(written.len() > 1);
        let parsed: Vec<_> = written.iter().map(|bytes| Gguf::parse(bytes).unwrap()).collect();
        let files: Vec<_> = written.iter().map(Vec::as_slice).zip(&parsed).collect();
        let joined = split(&files, 10_000).unwrap();
        let slices: Vec<_> = written.iter().map(Vec::as_slice).collect();
        let again = write(&joined[0], &slices);
        let all = split(&[(&source, &gguf)], 10_000).unwrap();
        assert_eq!(again, write(&all[0], &[&source]));
    }

    #[test]
    fn what_cannot_be_split_is_named() {
        let source = file(32, &[10, 5000]);
        let gguf = Gguf::parse(&source).unwrap();
        let error = split(&[(&source, &gguf)], 4000).unwrap_err().to_string();
        assert!(error.contains("tensor `t1` alone is 5000 bytes") && error.contains("exFAT"));
        let error = split(&[(&source, &gguf)], 100).unwrap_err();
        assert!(matches!(error, SplitError::Tensor { .. } | SplitError::Metadata { .. }));
    }
}
