//! What is copied into a bundle.

use std::ops::Range;
use std::path::Path;

/// Bytes of a file that go into the bundle unchanged.
pub struct Source<'a> {
    pub path: &'a Path,
    pub offset: u64,
    pub bytes: u64,
    /// What its SHA-256 must be, if that is known.
    pub sha256: Option<[u8; 32]>,
}

impl<'a> Source<'a> {
    /// A part of a file, whatever is in it.
    pub fn part_of(path: &'a Path, range: Range<u64>) -> Source<'a> {
        Source { path, offset: range.start, bytes: range.end - range.start, sha256: None }
    }
}
