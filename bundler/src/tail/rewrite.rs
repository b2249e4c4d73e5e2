//! Replaces the part behind the weights so that a crash at any moment leaves the old state or the new one, whole.
//!
//! Input: an open file, where its parts lie, and two versions of the new part, for its temporary place and for its
//! final place; they differ in their offsets. Output: the changed file. Knows nothing of the part's contents.
//!
//! ```text
//!   weights | old                                    the reader takes
//! 1 weights | old … | new'        append, sync        old until the last byte of new', then new'
//! 2 weights | new … | new'        overwrite, sync     new'
//! 3 weights | new                 shorten, sync       new
//! ```
//!
//! `new'` begins in a disk sector of its own, behind everything else and far enough back that `new` does not reach it.

use std::fs::File;
use std::io;

use thiserror::Error;

use super::layout::{SECTOR, align_up};

/// The file operations that rewriting needs.
pub trait Disk {
    /// Writes all bytes at the offset.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Sets the file's length.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
    /// Returns when everything so far is on the medium.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Why the part was not replaced.
#[derive(Debug, Error)]
pub enum RewriteError {
    /// The old state is still valid.
    #[error("nothing was changed: {0}")]
    Unchanged(io::Error),
    /// The new state is valid, but the file was not tidied.
    #[error(
        "the change was made, but cleaning up the file failed: {0}\nhint: the next `set` cleans it up"
    )]
    Untidy(io::Error),
    /// The file would pass 2^64 bytes.
    #[error("the file would be larger than 2^64 bytes")]
    TooLong,
}

/// The temporary place of the new part, given its final place (`tail_start`), its length, and where the part that is
/// valid now ends.
#[must_use]
pub fn passing_place(tail_start: u64, new_bytes: u64, valid_end: u64) -> Option<u64> {
    align_up(tail_start.checked_add(new_bytes)?.max(valid_end), SECTOR)
}

/// Replaces everything from `tail_start` on. `passing` is the new part made for [`passing_place`], `new` the one made
/// for `tail_start` (their lengths differ if only one of them passes 4 GiB).
///
/// # Errors
///
/// The system refused to write; the error says which state is valid.
pub fn rewrite(
    disk: &mut impl Disk,
    tail_start: u64,
    valid_end: u64,
    passing: &[u8],
    new: &[u8],
) -> Result<(), RewriteError> {
    let new_bytes = new.len() as u64;
    let place = passing_place(tail_start, new_bytes, valid_end).ok_or(RewriteError::TooLong)?;
    let new_end = tail_start.checked_add(new_bytes).ok_or(RewriteError::TooLong)?;

    // Leftovers of an earlier interruption behind the valid part could be mistaken for a tail.
    let append = |disk: &mut dyn Disk| -> io::Result<()> {
        disk.set_len(valid_end)?;
        disk.sync()?;
        disk.write_at(place, passing)?;
        disk.sync()
    };
    if let Err(error) = append(disk) {
        // Best effort: a file that stays longer is valid too.
        let _ = disk.set_len(valid_end);
        return Err(RewriteError::Unchanged(error));
    }
    let settle = |disk: &mut dyn Disk| -> io::Result<()> {
        disk.write_at(tail_start, new)?;
        disk.sync()?;
        disk.set_len(new_end)?;
        disk.sync()
    };
    settle(disk).map_err(RewriteError::Untidy)
}
