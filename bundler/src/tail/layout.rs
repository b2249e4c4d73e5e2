//! The layout of a bundle, written once: what the writer emits is what the reader expects.
//!
//! Input: facts about an entry (name, length, CRC-32, offset). Output: the exact bytes of zip records; and the reverse.
//! Knows nothing of files, roles or the manifest.
//!
//! The reader takes the few *facts* out of a record ([`decode_central`], [`decode_ends`]), encodes them again, and
//! compares: a record is accepted only if it is, byte for byte, what this module would have written. So each record is
//! described once, and no field goes unchecked.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::hint::black_box;

/// The version of the format that this crate writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// The head entry and the data of every weights entry begin at a multiple of this: 64 KiB is Windows' allocation
/// granularity, and a multiple of every page size in use.
pub const BOUNDARY: u64 = 64 * 1024;
/// The rewritable part begins at a multiple of this, so that rewriting it never touches a disk sector that also holds
/// weights, or the end record that is valid at that moment.
pub const SECTOR: u64 = 4096;

/// The first entry. It is found without the directory, so it tells a truncated bundle from an ordinary file.
pub const HEAD_NAME: &str = "head.tealight";
/// The last entry.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The folder in the zip with the executables for other systems.
pub const RUNTIME_FOLDER: &str = "runtime/";
/// The folder in the zip with the weights.
pub const WEIGHTS_FOLDER: &str = "weights/";
/// The folder in the zip with the chat page.
pub const WEB_FOLDER: &str = "web/";
/// The folder in the zip with licence texts.
pub const LICENSE_FOLDER: &str = "license/";
/// What was read of a system prompt, for the runtime; the first entry behind the weights.
pub const PROMPT_CACHE_NAME: &str = "prompt-cache.kv";
/// How far its data lies behind a multiple of 64: after its header, which begins at a sector.
pub const PROMPT_CACHE_SHIFT: usize = (LOCAL_LEN as usize + PROMPT_CACHE_NAME.len()) % 64;
/// Default arguments, in llamafile's form (see [`crate::args`]).
pub const ARGS_NAME: &str = ".args";
/// The system prompt, UTF-8.
pub const SYSTEM_PROMPT_NAME: &str = "system-prompt.txt";
/// The chat template, Jinja, UTF-8.
pub const CHAT_TEMPLATE_NAME: &str = "chat-template.jinja";

/// Longest runtime: the head is searched for at boundaries up to here.
pub const RUNTIME_BYTES_MAX: u64 = 512 << 20;
/// Most entries in one bundle.
pub const ENTRIES_MAX: u64 = 65_536;
/// Longest entry name, in UTF-8 bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// Longest directory record: 46 bytes, a name, and a zip64 field with a size, a packed size and an offset.
pub const CENTRAL_BYTES_MAX: u64 = 46 + NAME_BYTES_MAX as u64 + 28;
/// Largest entry behind the weights.
pub const SMALL_BYTES_MAX: u64 = 16 << 20;
/// Most bytes in all entries behind the weights together.
pub const SMALL_TOTAL_BYTES_MAX: u64 = 64 << 20;
/// Largest prompt cache, which does not count among these.
pub const PROMPT_CACHE_BYTES_MAX: u64 = 1 << 30;
/// Largest manifest.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest rewritable part: the small entries with their headers, the directory, the end records.
pub const TAIL_BYTES_MAX: u64 = (96 << 20) + PROMPT_CACHE_BYTES_MAX;
/// How far before the end of the file an end record is searched for. An interrupted rewrite leaves at most a gap and a
/// new tail (each no longer than a tail) behind the valid one.
pub const SCAN_BYTES_MAX: u64 = 2 * TAIL_BYTES_MAX + 4 * SECTOR;

/// The records' signatures, each XORed with [`MASK`]. A plain signature in an executable's code or data misleads 7-Zip,
/// which takes the first one in a file for the start of the zip; and this code is part of the runtime.
const LOCAL_MASKED: u32 = 0x0403_4b50 ^ MASK;
const CENTRAL_MASKED: u32 = 0x0201_4b50 ^ MASK;
const END64_MASKED: u32 = 0x0606_4b50 ^ MASK;
const LOCATOR_MASKED: u32 = 0x0706_4b50 ^ MASK;
const END_MASKED: u32 = 0x0605_4b50 ^ MASK;
const MASK: u32 = 0x7ea1_197e;

/// Removes the mask at run time; `black_box` keeps the compiler from doing it in advance.
fn unmask(masked: u32) -> u32 {
    masked ^ black_box(MASK)
}

/// The end record's signature, as bytes in the file.
pub(super) fn end_signature() -> [u8; 4] {
    unmask(END_MASKED).to_le_bytes()
}

const LOCAL_LEN: u64 = 30;
const END64_LEN: u64 = 56;
const LOCATOR_LEN: u64 = 20;
/// The end record itself (without a comment, which a bundle never has).
pub(super) const END_LEN: u64 = 22;
/// The three records that close a bundle.
pub(super) const ENDS_LEN: u64 = END64_LEN + LOCATOR_LEN + END_LEN;

/// Bit 11: names are UTF-8. Every entry has exactly this flag.
const FLAGS: u16 = 1 << 11;
const FLAG_ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// The oldest date that a zip can hold: 1980-01-01, 00:00.
const DATE: u16 = 1 << 5 | 1;
const TIME: u16 = 0;
const NEEDS_PLAIN: u16 = 20;
const NEEDS_ZIP64: u16 = 45;
/// Made on Unix (3) by a program that knows zip 4.5, so that `external attributes` are a Unix mode.
const MADE_BY: u16 = 3 << 8 | NEEDS_ZIP64;
const MODE: u32 = 0o100_644 << 16;
const ZIP64_EXTRA: u16 = 1;
/// A 32-bit field that says "see the zip64 field".
const ESCAPE32: u32 = u32::MAX;
const ESCAPE16: u16 = u16::MAX;

const HEAD_MAGIC: &[u8; 8] = b"tealight";
/// Length of the head entry's data: magic, version, a reserved field, then three offsets.
pub(super) const HEAD_DATA_LEN: u64 = 8 + 4 + 4 + 3 * 8;

/// `offset` rounded up to a multiple of `to`.
pub(super) fn align_up(offset: u64, to: u64) -> Option<u64> {
    offset.checked_next_multiple_of(to)
}

/// One entry, as zip records describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    pub name: &'a str,
    pub bytes: u64,
    pub crc32: u32,
    pub header_offset: u64,
}

impl Member<'_> {
    /// The length of the header before the entry's data.
    pub fn local_len(&self) -> u64 {
        local_len(self.name, self.bytes)
    }

    /// The header right before the entry's data.
    pub fn local(&self) -> Vec<u8> {
        let zip64 = self.bytes >= u64::from(ESCAPE32);
        let size32 = u32::try_from(self.bytes).unwrap_or(ESCAPE32);
        let mut out = Vec::with_capacity(64);
        put32(&mut out, unmask(LOCAL_MASKED));
        put16(&mut out, if zip64 { NEEDS_ZIP64 } else { NEEDS_PLAIN });
        put16(&mut out, FLAGS);
        put16(&mut out, 0); // method: stored
        put16(&mut out, TIME);
        put16(&mut out, DATE);
        put32(&mut out, self.crc32);
        put32(&mut out, size32);
        put32(&mut out, size32);
        put16(&mut out, short(self.name.len()));
        put16(&mut out, if zip64 { 20 } else { 0 });
        out.extend_from_slice(self.name.as_bytes());
        if zip64 {
            put16(&mut out, ZIP64_EXTRA);
            put16(&mut out, 16);
            put64(&mut out, self.bytes);
            put64(&mut out, self.bytes);
        }
        out
    }

    /// The entry's record in the central directory.
    pub fn central(&self) -> Vec<u8> {
        let big_size = self.bytes >= u64::from(ESCAPE32);
        let big_offset = self.header_offset >= u64::from(ESCAPE32);
        let size32 = u32::try_from(self.bytes).unwrap_or(ESCAPE32);
        let mut extra = Vec::new();
        if big_size {
            put64(&mut extra, self.bytes);
            put64(&mut extra, self.bytes);
        }
        if big_offset {
            put64(&mut extra, self.header_offset);
        }
        let zip64 = !extra.is_empty();
        let mut out = Vec::with_capacity(96);
        put32(&mut out, unmask(CENTRAL_MASKED));
        put16(&mut out, MADE_BY);
        put16(&mut out, if zip64 { NEEDS_ZIP64 } else { NEEDS_PLAIN });
        put16(&mut out, FLAGS);
        put16(&mut out, 0); // method: stored
        put16(&mut out, TIME);
        put16(&mut out, DATE);
        put32(&mut out, self.crc32);
        put32(&mut out, size32);
        put32(&mut out, size32);
        put16(&mut out, short(self.name.len()));
        put16(&mut out, if zip64 { short(extra.len().saturating_add(4)) } else { 0 });
        put16(&mut out, 0); // comment length
        put16(&mut out, 0); // disk
        put16(&mut out, 0); // internal attributes
        put32(&mut out, MODE);
        put32(&mut out, u32::try_from(self.header_offset).unwrap_or(ESCAPE32));
        out.extend_from_slice(self.name.as_bytes());
        if zip64 {
            put16(&mut out, ZIP64_EXTRA);
            put16(&mut out, short(extra.len()));
            out.extend_from_slice(&extra);
        }
        out
    }
}

/// The length of the header before the data of an entry with this name and length.
pub(super) fn local_len(name: &str, bytes: u64) -> u64 {
    let extra = if bytes >= u64::from(ESCAPE32) { 20 } else { 0 };
    LOCAL_LEN.saturating_add(name.len() as u64).saturating_add(extra)
}

/// A central record as found; nothing in it has been checked yet.
#[derive(Debug)]
pub(super) struct RawCentral<'a> {
    pub flags: u16,
    pub method: u16,
    pub crc32: u32,
    pub packed_bytes: u64,
    pub bytes: u64,
    pub header_offset: u64,
    pub name: &'a [u8],
    /// The whole record, to be compared with what this module would write.
    pub record: &'a [u8],
}

impl RawCentral<'_> {
    pub fn is_encrypted(&self) -> bool {
        self.flags & FLAG_ENCRYPTED != 0
    }

    pub fn has_descriptor(&self) -> bool {
        self.flags & FLAG_DESCRIPTOR != 0
    }
}

/// Decodes the first central record of `directory`. `None`: there is no whole record.
pub(super) fn decode_central(directory: &[u8]) -> Option<RawCentral<'_>> {
    let mut fields = Fields(directory);
    if fields.u32()? != unmask(CENTRAL_MASKED) {
        return None;
    }
    fields.take(4)?; // made by, needs
    let flags = fields.u16()?;
    let method = fields.u16()?;
    fields.take(4)?; // time, date
    let crc32 = fields.u32()?;
    let packed32 = fields.u32()?;
    let size32 = fields.u32()?;
    let name_len = fields.u16()?;
    let extra_len = fields.u16()?;
    let comment_len = fields.u16()?;
    fields.take(8)?; // disk, attributes
    let offset32 = fields.u32()?;
    let name = fields.take(name_len.into())?;
    let mut extra = Fields(fields.take(extra_len.into())?);
    fields.take(comment_len.into())?;
    let record = directory.get(..directory.len().checked_sub(fields.0.len())?)?;

    // The zip64 field holds the values that did not fit, in this order.
    let mut wide =
        if extra.u16() == Some(ZIP64_EXTRA) && extra.u16().is_some() { extra } else { Fields(&[]) };
    let mut widen = |narrow: u32| {
        if narrow == ESCAPE32 { wide.u64() } else { Some(narrow.into()) }
    };
    let bytes = widen(size32)?;
    let packed_bytes = widen(packed32)?;
    let header_offset = widen(offset32)?;
    Some(RawCentral { flags, method, crc32, packed_bytes, bytes, header_offset, name, record })
}

/// Where the central directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub entries: u64,
    pub directory_offset: u64,
    pub directory_bytes: u64,
}

impl Ends {
    /// The three closing records: zip64 end record, its locator, end record. All three are always written, even in a
    /// small bundle, so that there is one form to read.
    pub fn encode(&self) -> Vec<u8> {
        let end64_offset = self.directory_offset.saturating_add(self.directory_bytes);
        let count16 = u16::try_from(self.entries).unwrap_or(ESCAPE16);
        let mut out = Vec::with_capacity(128);
        put32(&mut out, unmask(END64_MASKED));
        put64(&mut out, END64_LEN.saturating_sub(12)); // the length of what follows this field
        put16(&mut out, MADE_BY);
        put16(&mut out, NEEDS_ZIP64);
        put32(&mut out, 0); // this disk
        put32(&mut out, 0); // the directory's disk
        put64(&mut out, self.entries); // on this disk
        put64(&mut out, self.entries);
        put64(&mut out, self.directory_bytes);
        put64(&mut out, self.directory_offset);

        put32(&mut out, unmask(LOCATOR_MASKED));
        put32(&mut out, 0); // the zip64 end record's disk
        put64(&mut out, end64_offset);
        put32(&mut out, 1); // disks in all

        put32(&mut out, unmask(END_MASKED));
        put16(&mut out, 0); // this disk
        put16(&mut out, 0); // the directory's disk
        put16(&mut out, count16);
        put16(&mut out, count16);
        put32(&mut out, u32::try_from(self.directory_bytes).unwrap_or(ESCAPE32));
        put32(&mut out, u32::try_from(self.directory_offset).unwrap_or(ESCAPE32));
        put16(&mut out, 0); // comment length
        out
    }
}

/// Decodes the closing records (`records` is [`ENDS_LEN`] bytes long). `None`: these are no closing records.
pub(super) fn decode_ends(records: &[u8]) -> Option<Ends> {
    let mut fields = Fields(records);
    if fields.u32()? != unmask(END64_MASKED) {
        return None;
    }
    fields.take(28)?; // length, versions, disks, entries on this disk
    let entries = fields.u64()?;
    let directory_bytes = fields.u64()?;
    let directory_offset = fields.u64()?;
    Some(Ends { entries, directory_offset, directory_bytes })
}

/// The facts in the head entry. All three are offsets from the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadFacts {
    /// Where the runtime ends; the head is at the next boundary.
    pub runtime_end: u64,
    /// Where the weights end.
    pub weights_end: u64,
    /// Where the rewritable part belongs.
    pub tail_start: u64,
}

impl HeadFacts {
    /// The data of the head entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(HEAD_MAGIC);
        put32(&mut out, FORMAT);
        put32(&mut out, 0); // reserved
        put64(&mut out, self.runtime_end);
        put64(&mut out, self.weights_end);
        put64(&mut out, self.tail_start);
        out
    }
}

/// Decodes the head entry's data: its format version and the facts, which mean something only if the version is ours.
pub(super) fn decode_head(data: &[u8]) -> Option<(u32, HeadFacts)> {
    let mut fields = Fields(data);
    if fields.take(8)? != HEAD_MAGIC {
        return None;
    }
    let format = fields.u32()?;
    fields.take(4)?;
    let facts = HeadFacts {
        runtime_end: fields.u64()?,
        weights_end: fields.u64()?,
        tail_start: fields.u64()?,
    };
    Some((format, facts))
}

/// Whether the bytes begin like the head entry, so that it is worth checking.
pub(super) fn looks_like_head(bytes: &[u8]) -> bool {
    let mut fields = Fields(bytes);
    fields.u32() == Some(unmask(LOCAL_MASKED))
        && fields.take(26).is_some()
        && fields.take(HEAD_NAME.len()) == Some(HEAD_NAME.as_bytes())
}

/// Whether a name is allowed in a bundle: a relative path with one and the same meaning on every system.
///
/// # Errors
///
/// Why it is not, as the end of the sentence "the name …".
pub fn check_name(name: &str) -> Result<(), &'static str> {
    const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("is longer than 1024 bytes");
    }
    if name.contains('\\') {
        return Err("has a backslash");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|'))
    {
        return Err("has a character that some systems do not allow in file names");
    }
    if name.starts_with('/') {
        return Err("is an absolute path");
    }
    for part in name.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err("does not stay inside its folder");
        }
        if part.ends_with(['.', ' ']) {
            return Err("has a part that ends in a dot or a space, which Windows drops");
        }
        let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_lowercase();
        let port = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
        let is_port = port.is_some_and(|n| matches!(n.as_bytes(), [b'1'..=b'9']));
        if is_port || DEVICES.contains(&stem.as_str()) {
            return Err("has a part that is a device name on Windows");
        }
    }
    Ok(())
}

/// Reads little-endian fields from the front of a slice; `None` once it is too short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A length that [`NAME_BYTES_MAX`] keeps far below 64 KiB.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes and offsets on both sides of the 32-bit escape value, which itself must be escaped.
    const EDGES: [u64; 6] = [0, 1, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000, 0x2_1234_5678];

    #[test]
    fn central_record_round_trips_on_both_sides_of_four_gib() {
        for bytes in EDGES {
            for header_offset in EDGES {
                let member =
                    Member { name: "weights/ü.gguf", bytes, crc32: 0xdead_beef, header_offset };
                let record = member.central();
                let raw = decode_central(&record).expect("a whole record");
                assert_eq!(
                    (raw.bytes, raw.packed_bytes, raw.header_offset),
                    (bytes, bytes, header_offset)
                );
                assert_eq!(raw.crc32, member.crc32);
                assert_eq!(raw.record, record);
                assert_eq!(member.local().len() as u64, member.local_len());
            }
        }
    }

    #[test]
    fn end_records_round_trip() {
        for directory_offset in EDGES {
            let ends = Ends { entries: 70_000, directory_offset, directory_bytes: 17 };
            let records = ends.encode();
            assert_eq!(records.len() as u64, ENDS_LEN);
            assert_eq!(decode_ends(&records), Some(ends));
        }
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "web/../../x",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "C:x",
            "C:/x",
            "a\0b",
            "a\nb",
            "web/nul",
            "NUL.txt",
            "com1",
            "lpt9.log",
            "a.",
            "a /b",
            "a?b",
            &"x".repeat(1025),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in [
            ".args",
            "web/index.html",
            "weights/ünï-00001-of-00002.gguf",
            "com0",
            "com10",
            "console",
            "a..b",
            "..a",
        ] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
    }
}
