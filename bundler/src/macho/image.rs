//! The parts of a Mach-O executable that change when a tail is inserted: header and load commands.

use std::ops::Range;

use thiserror::Error;

use super::{
    Commands, HEADER_LEN, LC_CODE_SIGNATURE, LINKEDIT, PAGE, SECTION, SECTION_LEN, SEGMENT,
    SEGMENT_LEN, Segment, name16, signature, u32_at,
};

const EXECUTE: u32 = 2;
const READ_ONLY: u32 = 1;
/// Alignment of the tables in `__LINKEDIT`, and of the signature.
const LINKEDIT_ALIGN: u64 = 16;

const LC_SYMTAB: u32 = 0x2;
const LC_DYSYMTAB: u32 = 0xb;
const LC_DYLD_INFO: u32 = 0x22;
const LC_DYLD_INFO_ONLY: u32 = 0x8000_0022;

/// Commands of the form `offset, bytes` (except the signature): split info, function starts, data in code, signing
/// requirements, optimization hints, exports trie, chained fixups, atoms, function variants and their fixups.
const LINKEDIT_DATA: [u32; 10] =
    [0x1e, 0x26, 0x29, 0x2b, 0x2e, 0x8000_0033, 0x8000_0034, 0x36, 0x37, 0x38];

/// Commands without an offset into the data that moves: threads, dynamic libraries and linker, sub-frameworks,
/// routines, UUID, rpaths, minimum versions, environment, source version, linker options, build version, entry point
/// (its offset is into the code).
const WITHOUT_OFFSET: [u32; 20] = [
    0x4,
    0x5,
    0xc,
    0xd,
    0xe,
    0xf,
    0x12,
    0x14,
    0x1a,
    0x1b,
    0x24,
    0x27,
    0x2a,
    0x2d,
    0x32,
    0x8000_0018,
    0x8000_001c,
    0x8000_001f,
    0x8000_0023,
    0x8000_0028,
];

/// An executable that can take a tail.
#[derive(Debug, Clone)]
pub struct Image {
    /// The header, and the commands except those of the tail and the signature.
    header: [u8; HEADER_LEN],
    commands: Vec<Vec<u8>>,
    /// Length of header and commands in the file; `room` is how long they may become.
    header_bytes: usize,
    room: u64,
    front_end: u64,
    text_bytes: u64,
    /// Range of `__LINKEDIT` in the file, without a signature.
    linkedit: Range<u64>,
    /// The address where code and data end.
    address: u64,
}

/// The layout of a file with a tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The start of the file: header and load commands.
    pub header: Vec<u8>,
    /// Offset of the moved `__LINKEDIT`; zeros fill the gap between the tail and it.
    pub linkedit: u64,
    /// Offset of the signature; zeros fill the gap before it.
    pub signature: u64,
    /// The length of the whole file.
    pub file_bytes: u64,
}

impl Image {
    /// Parses a whole executable. If it already has a tail, that one is ignored.
    ///
    /// # Errors
    ///
    /// It is not an executable that this module can change.
    pub fn parse(bytes: &[u8]) -> Result<Image, MachError> {
        let malformed = |what| MachError::Malformed { what };
        match bytes.first_chunk() {
            Some([0xca, 0xfe, 0xba, 0xbe | 0xbf]) => return Err(MachError::Fat),
            Some([0xcf, 0xfa, 0xed, 0xfe]) => {}
            _ => return Err(malformed("it is not a 64-bit Mach-O file")),
        }
        let header = *bytes.first_chunk().ok_or(malformed("it ends within its header"))?;
        if u32_at(bytes, 12) != Some(EXECUTE) {
            return Err(malformed("it is a library or an object file, not a program"));
        }
        let all = Commands::of(bytes).ok_or(malformed("its load commands extend past its end"))?;
        let mut found = Found::default();
        let mut commands = Vec::new();
        let mut header_bytes = HEADER_LEN;
        for command in all {
            let command = command.ok_or(malformed("a load command is truncated"))?;
            header_bytes = header_bytes.saturating_add(command.len());
            if found.look(command)? {
                commands.push(command.to_vec());
            }
        }
        found.into_image(bytes, header, commands, header_bytes)
    }

    /// Offset where code and data end and the tail's segment begins.
    #[must_use]
    pub fn front_end(&self) -> u64 {
        self.front_end
    }

    /// The bytes of the executable that move behind the tail.
    #[must_use]
    pub fn moved(&self) -> Range<u64> {
        self.linkedit.clone()
    }

    /// Length of the code segment (`__TEXT`) in the file, which the signature records.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Lays out the file with a tail that ends at `tail_end`.
    ///
    /// # Errors
    ///
    /// There is no room for another load command, or the file would be too long.
    pub fn place(&self, tail_end: u64) -> Result<Placed, MachError> {
        let too_long = || MachError::TooLong { most: u64::from(u32::MAX) };
        let section_bytes = tail_end.saturating_sub(self.front_end);
        let segment_bytes = section_bytes.checked_next_multiple_of(PAGE).ok_or_else(too_long)?;
        let linkedit = self.front_end.checked_add(segment_bytes).ok_or_else(too_long)?;
        let moved_bytes = self.linkedit.end.saturating_sub(self.linkedit.start);
        let signature = linkedit
            .checked_add(moved_bytes)
            .and_then(|end| end.checked_next_multiple_of(LINKEDIT_ALIGN))
            .ok_or_else(too_long)?;
        let signature_bytes = signature::len(signature);
        let file_bytes = signature.checked_add(signature_bytes).ok_or_else(too_long)?;
        // All offsets below are 32-bit, and none is beyond the end of the file.
        u32::try_from(file_bytes).map_err(|_| too_long())?;

        let mut out = Vec::new();
        let mut count = 2_u32;
        for command in &self.commands {
            let segment = Segment::of(command);
            if segment.is_some_and(|segment| segment.name == name16(LINKEDIT)) {
                self.put_tail_segment(&mut out, section_bytes, segment_bytes);
                let mut command = command.clone();
                let bytes = file_bytes.saturating_sub(linkedit);
                set64(&mut command, 24, self.address.saturating_add(segment_bytes));
                set64(&mut command, 32, bytes.next_multiple_of(PAGE));
                set64(&mut command, 40, linkedit);
                set64(&mut command, 48, bytes);
                out.extend(command);
            } else {
                out.extend(self.moved_command(command, linkedit).ok_or_else(too_long)?);
            }
            count = count.saturating_add(1);
        }
        for field in [LC_CODE_SIGNATURE, 16, low32(signature), low32(signature_bytes)] {
            out.extend(field.to_le_bytes());
        }

        let needed = HEADER_LEN.saturating_add(out.len()) as u64;
        if needed > self.room {
            let header_bytes = self.header_bytes as u64;
            return Err(MachError::NoRoom {
                needed: needed.saturating_sub(header_bytes),
                free: self.room.saturating_sub(header_bytes),
            });
        }
        let mut header = self.header.to_vec();
        set32(&mut header, 16, count);
        set32(&mut header, 20, low32(out.len() as u64));
        header.extend(out);
        // Zero out the rest of a header that was longer before.
        header.resize(header.len().max(self.header_bytes), 0);
        Ok(Placed { header, linkedit, signature, file_bytes })
    }

    fn put_tail_segment(&self, out: &mut Vec<u8>, section_bytes: u64, segment_bytes: u64) {
        let mut put32 = |value: u32| out.extend(value.to_le_bytes());
        put32(super::LC_SEGMENT_64);
        put32(low32((SEGMENT_LEN as u64).saturating_add(SECTION_LEN as u64)));
        out.extend(name16(SEGMENT));
        for field in [self.address, segment_bytes, self.front_end, segment_bytes] {
            out.extend(field.to_le_bytes());
        }
        // Maximum and initial protection, one section, no flags.
        for field in [READ_ONLY, READ_ONLY, 1, 0] {
            out.extend(field.to_le_bytes());
        }
        out.extend(name16(SECTION));
        out.extend(name16(SEGMENT));
        for field in [self.address, section_bytes] {
            out.extend(field.to_le_bytes());
        }
        // Offset, alignment as a power of two; no relocations; a regular section.
        for field in [low32(self.front_end), PAGE.trailing_zeros(), 0, 0, 0, 0, 0, 0] {
            out.extend(field.to_le_bytes());
        }
    }

    /// A command with its offsets into `__LINKEDIT` adjusted to a segment that begins at `linkedit`.
    fn moved_command(&self, command: &[u8], linkedit: u64) -> Option<Vec<u8>> {
        let fields: &[usize] = match u32_at(command, 0)? {
            LC_SYMTAB => &[8, 16],
            LC_DYSYMTAB => &[32, 40, 48, 56, 64, 72],
            LC_DYLD_INFO | LC_DYLD_INFO_ONLY => &[8, 16, 24, 32, 40],
            id if LINKEDIT_DATA.contains(&id) => &[8],
            _ => &[],
        };
        let mut command = command.to_vec();
        for &at in fields {
            let offset = u64::from(u32_at(&command, at)?);
            // 0 means that there is no such table.
            if let Some(inside) = offset.checked_sub(self.linkedit.start) {
                set32(&mut command, at, u32::try_from(linkedit.checked_add(inside)?).ok()?);
            }
        }
        Some(command)
    }
}

/// Facts from the load commands, not yet checked for consistency.
#[derive(Default)]
struct Found {
    text_bytes: Option<u64>,
    linkedit: Option<Place>,
    tail: Option<Place>,
    signature: Option<Range<u64>>,
    /// End of the other segments, in the file and in memory; `room` is where the first content after the commands
    /// begins.
    others: Place,
    room: Option<u64>,
}

/// A segment's place in the file and in memory.
#[derive(Default, Clone, Copy)]
struct Place {
    file_offset: u64,
    file_end: u64,
    address: u64,
    memory_end: u64,
}

impl Found {
    /// Records a command; returns whether to keep it.
    fn look(&mut self, command: &[u8]) -> Result<bool, MachError> {
        let malformed = |what| MachError::Malformed { what };
        if let Some(segment) = Segment::of(command) {
            return self.look_at_segment(&segment);
        }
        let id = u32_at(command, 0).unwrap_or_default();
        let least = match id {
            LC_CODE_SIGNATURE => {
                let field = |at| u32_at(command, at).map(u64::from);
                let (offset, bytes) =
                    field(8).zip(field(12)).ok_or(malformed("a load command is too short"))?;
                self.signature = Some(offset..offset.saturating_add(bytes));
                return Ok(false);
            }
            LC_SYMTAB => 24,
            LC_DYSYMTAB => 80,
            LC_DYLD_INFO | LC_DYLD_INFO_ONLY => 48,
            id if LINKEDIT_DATA.contains(&id) => 16,
            id if WITHOUT_OFFSET.contains(&id) => 8,
            id => return Err(MachError::Unknown { id }),
        };
        if command.len() < least {
            return Err(malformed("a load command is too short"));
        }
        Ok(true)
    }

    fn look_at_segment(&mut self, segment: &Segment<'_>) -> Result<bool, MachError> {
        /// Section types that take no room in a file.
        const ZERO_FILL: [u32; 3] = [0x1, 0xc, 0x12];
        let wraps = MachError::Malformed { what: "the end of a segment overflows" };
        let file_end = segment.file_offset.checked_add(segment.file_bytes);
        let memory_end = segment.address.checked_add(segment.memory_bytes);
        let (Some(file_end), Some(memory_end)) = (file_end, memory_end) else { return Err(wraps) };
        let place = Place {
            file_offset: segment.file_offset,
            file_end,
            address: segment.address,
            memory_end,
        };
        if segment.name == name16(LINKEDIT) {
            self.linkedit = Some(place);
            return Ok(true);
        }
        if segment.name == name16(SEGMENT) {
            self.tail = Some(place);
            return Ok(false);
        }
        if segment.name == name16("__TEXT") {
            self.text_bytes = Some(segment.file_bytes);
        }
        self.others.file_end = self.others.file_end.max(file_end);
        self.others.memory_end = self.others.memory_end.max(memory_end);
        for section in segment.sections() {
            if section.bytes > 0 && !ZERO_FILL.contains(&(section.flags & 0xff)) {
                let offset = u64::from(section.file_offset);
                self.room = Some(self.room.map_or(offset, |room| room.min(offset)));
            }
        }
        Ok(true)
    }

    fn into_image(
        self,
        bytes: &[u8],
        header: [u8; HEADER_LEN],
        commands: Vec<Vec<u8>>,
        header_bytes: usize,
    ) -> Result<Image, MachError> {
        let malformed = |what| MachError::Malformed { what };
        let linkedit = self.linkedit.ok_or(malformed("it has no segment `__LINKEDIT`"))?;
        let text_bytes = self.text_bytes.ok_or(malformed("it has no segment `__TEXT`"))?;
        // The new tail goes where `__LINKEDIT` was, or replaces the old tail.
        let front = self.tail.unwrap_or(linkedit);
        if linkedit.file_end != bytes.len() as u64 {
            return Err(malformed(
                "it does not end with `__LINKEDIT`: it is truncated, or something follows it",
            ));
        }
        if self.others.file_end > front.file_offset || self.others.memory_end > front.address {
            return Err(malformed("`__LINKEDIT` is not its last segment"));
        }
        if self.tail.is_some_and(|tail| {
            tail.file_end != linkedit.file_offset || tail.memory_end != linkedit.address
        }) {
            return Err(malformed("its tail does not end where `__LINKEDIT` begins"));
        }
        let unsigned_end = match self.signature {
            None => linkedit.file_end,
            Some(signature)
                if signature.end == linkedit.file_end
                    && signature.start >= linkedit.file_offset =>
            {
                signature.start
            }
            Some(_) => return Err(malformed("its signature is not at its end")),
        };
        let room = self.room.unwrap_or(text_bytes).min(text_bytes);
        let gap = usize::try_from(room).ok().and_then(|room| bytes.get(header_bytes..room));
        if gap.is_none_or(|gap| gap.iter().any(|&byte| byte != 0)) {
            return Err(malformed("the space after its load commands is in use"));
        }
        Ok(Image {
            header,
            commands,
            header_bytes,
            room,
            front_end: front.file_offset,
            text_bytes,
            linkedit: linkedit.file_offset..unsigned_end,
            address: front.address,
        })
    }
}

/// Why an executable for macOS cannot take a tail.
#[derive(Debug, Error)]
pub enum MachError {
    /// Several executables in one file.
    #[error(
        "a universal executable (several architectures in one file) cannot hold the weights\n\
         hint: use the one for arm64 or x86-64 alone, or extract one: lipo tealight -thin arm64 -output tealight-arm64"
    )]
    Fat,
    /// Not in a form that this module can change.
    #[error("this executable cannot be bundled: {what}\nhint: use one made by `make dist`")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// An unknown command, which might hold an offset.
    #[error(
        "unknown load command {id:#x}, which may hold an offset that would become wrong\n\
         hint: use a runtime made by `make dist`, or --pair and no other settings, which leaves it unchanged"
    )]
    Unknown {
        /// Its number.
        id: u32,
    },
    /// Too little room between the commands and the code.
    #[error(
        "no room for another load command: needs {needed} bytes, {free} are free\n\
         hint: build the runtime with the linker option -headerpad 0x1000, or use --pair and no other settings, \
         which leaves it unchanged"
    )]
    NoRoom {
        /// How many more bytes the header needs.
        needed: u64,
        /// How many zero bytes follow it.
        free: u64,
    },
    /// Too long for 32-bit offsets.
    #[error("a signed macOS executable can be at most {most} bytes")]
    TooLong {
        /// The limit.
        most: u64,
    },
}

fn low32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn set32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = value.to_le_bytes();
    }
}

fn set64(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = value.to_le_bytes();
    }
}
