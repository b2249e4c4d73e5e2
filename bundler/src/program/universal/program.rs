//! A program in a file for every system, behind the one in front.

use std::path::PathBuf;

use tealight_bundle::tail::Role;
use tealight_bundle::tail::layout::RUNTIME_FOLDER;
use tealight_bundle::tail::write::TailPart;

use crate::program::source::Source;
use crate::program::target::Target;

/// A program for another system than the one in front.
pub struct Program {
    pub target: Target,
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: [u8; 32],
    /// Checksum as printed by `cksum`, which every system has.
    pub cksum: u32,
}

impl Program {
    /// The program as a part of a bundle.
    pub fn part(&self) -> TailPart {
        let name = format!("{RUNTIME_FOLDER}{}", self.target.runtime_name());
        TailPart { name, role: Role::Runtime, bytes: self.bytes }
    }

    /// Its bytes.
    pub fn source(&self) -> Source<'_> {
        let sha256 = Some(self.sha256);
        Source { sha256, ..Source::part_of(&self.path, 0..self.bytes) }
    }
}
