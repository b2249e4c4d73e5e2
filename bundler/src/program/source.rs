//! Data to copy into a bundle.

use std::ops::Range;
use std::path::Path;

/// Bytes of a file that go into the bundle unchanged.
pub struct Source<'a> {
    pub path: &'a Path,
    pub offset: u64,
    pub bytes: u64,
    /// The expected SHA-256, if known.
    pub sha256: Option<[u8; 32]>,
}

impl<'a> Source<'a> {
    /// A range of a file, with no expected SHA-256.
    pub fn part_of(path: &'a Path, range: Range<u64>) -> Source<'a> {
        Source { path, offset: range.start, bytes: range.end - range.start, sha256: None }
    }
}
