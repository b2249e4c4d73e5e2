//! The tail of a bundle: a zip after the executable, whose offsets count from the start of the file.
//!
//! Input: a file's bytes ([`read()`]), or what should be in a file ([`write`]). Output: a checked [`Tail`] (names,
//! roles and ranges, no borrows), or the bytes of a tail. Knows nothing of GGUF, models or chats.
//!
//! The format is described in `docs/bundle-format.md` and laid out in [`layout`], which both directions use.

mod error;
mod head;
pub mod layout;
mod places;
mod read;
pub mod rewrite;
mod slices;
pub mod write;

use std::ops::Range;

use crate::manifest::Manifest;
pub use crate::manifest::Role;
pub use error::TailError;
pub use read::read;
pub(crate) use read::recheck;

/// The verified structure of a bundle. The bytes of the runtime and of the weights are not verified yet: see
/// [`crate::verify()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    manifest: Manifest,
    entries: Vec<Entry>,
    head: layout::HeadFacts,
    head_offset: u64,
    in_segment: bool,
    /// Where the small entries begin; `head.tail_start` unless a rewrite was interrupted.
    start: u64,
    /// Where the end record ends.
    end: u64,
    file_bytes: u64,
}

impl Tail {
    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every entry, in the order of the file: head, weights, small entries, manifest.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of that name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The entries of that role, in the order of the file.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.role == role)
    }

    /// Number of bytes left over from an interrupted rewrite; the next one removes them.
    #[must_use]
    pub fn leftover_bytes(&self) -> u64 {
        let before = self.start.saturating_sub(self.head.tail_start);
        before.saturating_add(self.file_bytes.saturating_sub(self.end))
    }

    /// Whether the tail is inside an executable for macOS, which continues after it.
    #[must_use]
    pub fn in_segment(&self) -> bool {
        self.in_segment
    }

    /// End offset of the executable bytes before the tail.
    #[must_use]
    pub fn runtime_end(&self) -> u64 {
        self.head.runtime_end
    }

    /// Where the weights end.
    #[must_use]
    pub fn weights_end(&self) -> u64 {
        self.head.weights_end
    }

    /// Where the rewritable part belongs.
    #[must_use]
    pub fn tail_start(&self) -> u64 {
        self.head.tail_start
    }

    /// Range of the small entries, the directory and the end records.
    #[must_use]
    pub fn small_part(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// One entry of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name in the zip: relative, with `/`, safe on every system.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Range of its data, within the file that was read.
    pub range: Range<usize>,
    /// The expected SHA-256.
    pub sha256: [u8; 32],
    /// The expected CRC-32.
    pub crc32: u32,
}

impl Entry {
    /// Its length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.range.len() as u64
    }

    pub(crate) fn member(&self) -> layout::Member<'_> {
        let header = layout::local_len(&self.name, self.bytes());
        layout::Member {
            name: &self.name,
            bytes: self.bytes(),
            crc32: self.crc32,
            header_offset: (self.range.start as u64).saturating_sub(header),
        }
    }
}
