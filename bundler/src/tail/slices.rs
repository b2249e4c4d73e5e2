//! Parts of a file by offsets that nobody has checked.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// So many bytes at an offset, if they lie in the file.
pub fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// How many bytes there are.
pub fn len64(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
