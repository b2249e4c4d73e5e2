//! The tail of a bundle: an executable, then a zip whose offsets count from the start of the file.
//!
//! Enters: a file's bytes ([`read()`]), or what should be in a file ([`write`]). Leaves: a checked [`Tail`] (names, roles
//! and ranges, no borrows), or the bytes of a tail. Knows nothing of GGUF, of models, or of the chat.
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

/// The verified structure of a bundle. What is not verified at this point are the bytes of the runtime and of the
/// weights: see [`crate::verify()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    manifest: Manifest,
    entries: Vec<Entry>,
    head: layout::HeadFacts,
    head_offset: u64,
    in_segment: bool,
    /// Where the small entries begin; `head.tail_start` unless a rewrite was interrupted.
    start: u64,
    /// Behind the end record.
    end: u64,
    file_bytes: u64,
}

impl Tail {
    /// What is in the bundle, and what for.
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

    /// The entries of that role, in their order.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.role == role)
    }

    /// Bytes that belong to nothing: what an interrupted rewrite left. The next one removes them.
    #[must_use]
    pub fn leftover_bytes(&self) -> u64 {
        let before = self.start.saturating_sub(self.head.tail_start);
        before.saturating_add(self.file_bytes.saturating_sub(self.end))
    }

    /// Whether the tail stands within an executable for macOS, which goes on behind it.
    #[must_use]
    pub fn in_segment(&self) -> bool {
        self.in_segment
    }

    /// Where the executable in front ends (or what of it is in front); it begins at 0.
    #[must_use]
    pub fn runtime_end(&self) -> u64 {
        self.head.runtime_end
    }

    /// Where the weights end.
    #[must_use]
    pub fn weights_end(&self) -> u64 {
        self.head.weights_end
    }

    /// Where the part that is rewritten belongs.
    #[must_use]
    pub fn tail_start(&self) -> u64 {
        self.head.tail_start
    }

    /// Where the small entries are, with the directory and the end records.
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
    /// Its data: a range that lies in the file that was read.
    pub range: Range<usize>,
    /// What its SHA-256 should be.
    pub sha256: [u8; 32],
    /// What its CRC-32 should be.
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
