//! Executables for macOS: a bundle's tail has a segment of its own, and a signature covers all of it.
//!
//! Input: the bytes of a Mach-O file, possibly hostile. Output: where the tail is ([`tail_place`]); a new header with a
//! segment for a tail ([`Image`]); a signature, or whether one is valid ([`signature`]). Knows nothing of the tail's
//! contents.
//!
//! ```text
//! 0            header, load commands (changed), code and data (unchanged)
//! front_end    the segment __TEALIGHT: zeros, tail, zeros
//! + n × 16 KiB the segment __LINKEDIT: symbols and the like, moved; then the signature, which ends the file
//! ```
//!
//! Data after a Mach-O file is not covered by its signature, and Apple silicon runs nothing without a valid one. The
//! linker's tables refer to code and data by address; these do not move, so the tables stay correct. The tables
//! themselves move. Load commands locate them by file offset; every such command is known here and adjusted, and an
//! unknown one is refused. The signature is "ad hoc", as linkers make it: it names no signer, but detects damage.
//! Formats: Apple's `mach-o/loader.h` and `cs_blobs.h`.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod image;
pub mod signature;

use std::ops::Range;

pub use image::{Image, MachError, Placed};

/// The segment that holds the tail.
pub const SEGMENT: &str = "__TEALIGHT";
/// Its only section: from the end of code and data to the end of the tail.
pub const SECTION: &str = "__tail";
/// Segment alignment: the page size of Apple silicon.
const PAGE: u64 = 16 * 1024;

const MAGIC_64: u32 = 0xfeed_facf;
const HEADER_LEN: usize = 32;
const LC_SEGMENT_64: u32 = 0x19;
const LC_CODE_SIGNATURE: u32 = 0x1d;
const SEGMENT_LEN: usize = 72;
const SECTION_LEN: usize = 80;
const LINKEDIT: &str = "__LINKEDIT";

/// Where the tail of a bundle for macOS is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPlace {
    /// From the end of code and data to the end of the tail.
    pub range: Range<u64>,
    /// Where the file ends according to its load commands.
    pub file_end: u64,
}

/// Finds the tail. `None`: the file is not a Mach-O executable, or has no tail in a segment.
#[must_use]
pub fn tail_place(bytes: &[u8]) -> Option<TailPlace> {
    let mut range = None;
    let mut file_end = 0;
    for command in Commands::of(bytes)? {
        let Some(segment) = Segment::of(command?) else { continue };
        file_end = segment.file_offset.checked_add(segment.file_bytes)?.max(file_end);
        if segment.name == name16(SEGMENT) {
            let section = segment.sections().next()?;
            let offset = u64::from(section.file_offset);
            range = Some(offset..offset.checked_add(section.bytes)?);
        }
    }
    Some(TailPlace { range: range?, file_end })
}

/// Iterator over the load commands of a 64-bit Mach-O file; ends with `None` in place of one that does not fit.
struct Commands<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Commands<'a> {
    /// `None`: not a little-endian 64-bit Mach-O file, or its commands do not fit into it.
    fn of(bytes: &'a [u8]) -> Option<Commands<'a>> {
        if u32_at(bytes, 0)? != MAGIC_64 {
            return None;
        }
        let (count, len) = (u32_at(bytes, 16)?, u32_at(bytes, 20)?);
        let rest = bytes.get(HEADER_LEN..)?.get(..usize::try_from(len).ok()?)?;
        Some(Commands { rest, left: count })
    }

    fn take(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(u32_at(self.rest, 4)?).ok()?;
        // A command has at least two fields; a length of 0 would make no progress.
        if len < 8 {
            return None;
        }
        let (command, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(command)
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        self.left = self.left.checked_sub(1)?;
        let command = self.take();
        if command.is_none() {
            self.left = 0;
        }
        Some(command)
    }
}

/// The fields of a segment command.
struct Segment<'a> {
    name: [u8; 16],
    address: u64,
    memory_bytes: u64,
    file_offset: u64,
    file_bytes: u64,
    sections: &'a [u8],
}

/// The fields of a section entry that are used.
struct Section {
    bytes: u64,
    file_offset: u32,
    flags: u32,
}

impl<'a> Segment<'a> {
    /// `None`: not a segment command.
    fn of(command: &'a [u8]) -> Option<Segment<'a>> {
        if u32_at(command, 0)? != LC_SEGMENT_64 {
            return None;
        }
        Some(Segment {
            name: *command.get(8..)?.first_chunk()?,
            address: u64_at(command, 24)?,
            memory_bytes: u64_at(command, 32)?,
            file_offset: u64_at(command, 40)?,
            file_bytes: u64_at(command, 48)?,
            sections: command.get(SEGMENT_LEN..)?,
        })
    }

    fn sections(&self) -> impl Iterator<Item = Section> {
        self.sections.chunks_exact(SECTION_LEN).filter_map(|section| {
            Some(Section {
                bytes: u64_at(section, 40)?,
                file_offset: u32_at(section, 48)?,
                flags: u32_at(section, 64)?,
            })
        })
    }
}

/// A name in a zero-padded field of 16 bytes.
fn name16(name: &str) -> [u8; 16] {
    let mut field = [0; 16];
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    field
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|field| u64::from_le_bytes(*field))
}
