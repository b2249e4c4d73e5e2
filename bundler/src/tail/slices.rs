//! Slices of a file by unchecked offsets.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// `len` bytes at `offset`, if they lie in the file.
pub fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// The length, as 64 bits.
pub fn len64(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
