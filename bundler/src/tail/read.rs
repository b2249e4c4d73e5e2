//! Finds and checks the tail of a bundle.
//!
//! Enters: the bytes of a whole file, as hostile as they come. Leaves: a [`Tail`], whose every range lies in the file,
//! or the word that this is an ordinary file, or what is wrong and where. Weights are not looked at: only the head, the
//! directory and the small entries are read.
//!
//! In an executable for macOS ([`crate::macho`]) all this happens within the segment of the tail, and "the file" ends where
//! that tail does.
//!
//! The order of work: the head entry (by the directory, else by probing) says that this is a bundle at all; then the
//! end record at the end of the file; then, if that one does not check out whole, the last one before it that does. An
//! interrupted rewrite (see [`super::rewrite`]) needs the latter.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::ops::Range;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::layout::{self, ENDS_LEN, Ends, HEAD_NAME, HeadFacts, MANIFEST_NAME, Member};
use super::{Entry, Role, Tail};
use crate::macho;
use crate::manifest::{Manifest, ManifestError};

/// How many end records are checked whole. An interrupted rewrite leaves two at most; the rest is somebody's game.
const CANDIDATES_MAX: usize = 16;

/// Reads the tail of a file. `Ok(None)`: an ordinary file, which is no bundle.
///
/// # Errors
///
/// It is a bundle, but truncated, damaged, hostile, or of another format version.
pub fn read(bytes: &[u8]) -> Result<Option<Tail>, TailError> {
    let Extent { bytes, front_end } = Extent::of(bytes)?;
    let at_end = RawTail::at(bytes, len64(bytes));
    let Some(mut head) = find_head(bytes, at_end.as_ref().ok())? else {
        return Ok(None);
    };
    head.must_follow(front_end)?;
    let at_end_error = match at_end.and_then(|raw| raw.check(bytes, &head)) {
        Ok(tail) => return Ok(Some(tail)),
        Err(error) => error,
    };
    if len64(bytes) < head.facts.weights_end {
        return Err(TailError::Truncated {
            file_bytes: len64(bytes),
            weights_end: head.facts.weights_end,
        });
    }
    let earlier = earlier_ends(bytes, head.facts.tail_start)
        .filter_map(|end| RawTail::at(bytes, end).ok())
        .take(CANDIDATES_MAX)
        .find_map(|raw| raw.check(bytes, &head).ok());
    earlier.map(Some).ok_or(at_end_error)
}

/// Checks again that `tail` is what stands in the file.
pub(crate) fn recheck(bytes: &[u8], tail: &Tail) -> Result<(), TailError> {
    let Extent { bytes, front_end } = Extent::of(bytes)?;
    let mut head = Head::at(bytes, tail.head_offset)?;
    head.must_follow(front_end)?;
    let again = RawTail::at(bytes, tail.end)?.check(bytes, &head)?;
    if again == *tail { Ok(()) } else { Err(TailError::Changed) }
}

/// Why a file that is a bundle was not accepted.
#[derive(Debug, Error)]
pub enum TailError {
    /// It ends within the weights.
    #[error(
        "the bundle is truncated: the file has {file_bytes} bytes, the weights alone end at byte {weights_end}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    Truncated {
        /// The file's length.
        file_bytes: u64,
        /// Where the weights should end.
        weights_end: u64,
    },
    /// It ends within the head.
    #[error(
        "the bundle is truncated: the file has {file_bytes} bytes and ends within its head, at byte {offset}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    TruncatedHead {
        /// The file's length.
        file_bytes: u64,
        /// Where the head begins.
        offset: u64,
    },
    /// An executable for macOS ends before the end that it names.
    #[error(
        "the bundle is truncated: the file has {file_bytes} bytes, its last part ends at byte {expected}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    TruncatedExecutable {
        /// The file's length.
        file_bytes: u64,
        /// What its load commands say.
        expected: u64,
    },
    /// The head is not as it was written.
    #[error(
        "the bundle's head at byte {offset} is damaged: {what}\nhint: the file changed after it was made; fetch it again"
    )]
    Head {
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The head is of another format version.
    #[error(
        "the bundle is of format {found}, this program reads format {}\n\
         hint: the bundle was made by another version; take a tealight of that version",
        layout::FORMAT
    )]
    Format {
        /// The version it names.
        found: u32,
    },
    /// No complete set of closing records.
    #[error(
        "the bundle's end record is missing or damaged: at byte {offset}, {expected} expected, found {found}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    Ends {
        /// Where the records should stand.
        offset: u64,
        /// What should stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// The directory as a whole.
    #[error(
        "the bundle's directory at byte {offset}: {what}, expected {expected}, found {found}\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Directory {
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
        /// What the format asks for.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A record of the directory.
    #[error(
        "the bundle's directory, record {index} at byte {offset}: {what}\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Record {
        /// Which, from 0.
        index: usize,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A name that could lead out of a folder, or that is not one.
    #[error(
        "entry `{name}`: the name {why}\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Name {
        /// The name, escaped.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// The same name twice.
    #[error(
        "entry `{name}` is there twice\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A compressed entry.
    #[error(
        "entry `{name}` is compressed (method {method}); a bundle holds stored entries only\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Compressed {
        /// The name.
        name: String,
        /// The zip method.
        method: u16,
    },
    /// An encrypted entry.
    #[error(
        "entry `{name}` is encrypted; a bundle holds plain entries only\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Encrypted {
        /// The name.
        name: String,
    },
    /// Sizes that stand behind the data.
    #[error(
        "entry `{name}` has a data descriptor; in a bundle the sizes stand before the data\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Descriptor {
        /// The name.
        name: String,
    },
    /// A number that does not fit.
    #[error(
        "entry `{name}`: {what}, expected {expected}, found {found}\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Entry {
        /// The name.
        name: String,
        /// What is wrong.
        what: &'static str,
        /// What the format or the manifest asks for.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A small entry's content.
    #[error(
        "entry `{name}` is damaged: CRC-32 {expected:08x} expected, {found:08x} found\n\
         hint: the file changed after it was made; fetch it again"
    )]
    Crc {
        /// The name.
        name: String,
        /// What the directory says.
        expected: u32,
        /// What the data gives.
        found: u32,
    },
    /// A role that does not fit the place.
    #[error(
        "entry `{name}`: role {role} cannot stand {place}\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Role {
        /// The name.
        name: String,
        /// The role in the manifest.
        role: Role,
        /// Where it stands.
        place: &'static str,
    },
    /// In one of directory and manifest only.
    #[error(
        "entry `{name}` is in the {present}, not in the {absent}\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Missing {
        /// The name.
        name: String,
        /// Where it is.
        present: &'static str,
        /// Where it is not.
        absent: &'static str,
    },
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Another file than the one the tail was read from.
    #[error(
        "the file changed since it was opened\nhint: the file is damaged, or another program changed it; get it again"
    )]
    Changed,
}

/// How much of a file to look at.
struct Extent<'a> {
    /// Up to the end of the tail, or of the file.
    bytes: &'a [u8],
    /// In an executable for macOS that holds its tail in a segment: where that segment begins.
    front_end: Option<u64>,
}

impl<'a> Extent<'a> {
    fn of(bytes: &'a [u8]) -> Result<Extent<'a>, TailError> {
        let Some(place) = macho::tail_place(bytes) else {
            return Ok(Extent { bytes, front_end: None });
        };
        let end = usize::try_from(place.range.end).ok();
        match end.and_then(|end| bytes.get(..end)) {
            Some(upto) if place.file_end <= len64(bytes) => {
                Ok(Extent { bytes: upto, front_end: Some(place.range.start) })
            }
            _ => Err(TailError::TruncatedExecutable {
                file_bytes: len64(bytes),
                expected: place.file_end.max(place.range.end),
            }),
        }
    }
}

/// A head entry whose every byte has been checked.
#[derive(Debug, Clone, Copy)]
struct Head {
    offset: u64,
    crc32: u32,
    facts: HeadFacts,
    /// Whether a part of the executable stands behind the tail.
    in_segment: bool,
}

impl Head {
    fn at(bytes: &[u8], offset: u64) -> Result<Head, TailError> {
        let damaged = |what| TailError::Head { offset, what };
        let header_len = layout::local_len(HEAD_NAME, layout::HEAD_DATA_LEN);
        let data_offset =
            offset.checked_add(header_len).ok_or(damaged("its place is beyond any file"))?;
        let (Some(header), Some(data)) =
            (part(bytes, offset, header_len), part(bytes, data_offset, layout::HEAD_DATA_LEN))
        else {
            return Err(TailError::TruncatedHead { file_bytes: len64(bytes), offset });
        };
        let (format, facts) =
            layout::decode_head(data).ok_or(damaged("it does not begin with `tealight`"))?;
        if format != layout::FORMAT {
            return Err(TailError::Format { found: format });
        }
        let crc32 = crc32fast::hash(data);
        let member =
            Member { name: HEAD_NAME, bytes: layout::HEAD_DATA_LEN, crc32, header_offset: offset };
        if member.local() != header || facts.encode() != data {
            return Err(damaged("its header or its CRC-32 is not as written"));
        }
        let head_end = data_offset.checked_add(layout::HEAD_DATA_LEN);
        if layout::align_up(facts.runtime_end, layout::BOUNDARY) != Some(offset)
            || facts.runtime_end > layout::RUNTIME_BYTES_MAX
            || head_end.is_none_or(|end| end > facts.weights_end)
            || layout::align_up(facts.weights_end, layout::SECTOR) != Some(facts.tail_start)
        {
            return Err(damaged("its offsets contradict each other"));
        }
        Ok(Head { offset, crc32, facts, in_segment: false })
    }

    /// Where a segment holds the tail, the runtime ends where the segment begins.
    fn must_follow(&mut self, front_end: Option<u64>) -> Result<(), TailError> {
        self.in_segment = front_end.is_some();
        if front_end.is_some_and(|front_end| front_end != self.facts.runtime_end) {
            let what = "it does not belong to the segment that it stands in";
            return Err(TailError::Head { offset: self.offset, what });
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        let header_len = layout::local_len(HEAD_NAME, layout::HEAD_DATA_LEN);
        self.offset.saturating_add(header_len).saturating_add(layout::HEAD_DATA_LEN)
    }
}

/// The head by the directory's first record; without one, by probing. `None`: there is none, so this is no bundle.
fn find_head(bytes: &[u8], at_end: Option<&RawTail>) -> Result<Option<Head>, TailError> {
    let first =
        at_end.and_then(|raw| part(bytes, raw.ends.directory_offset, raw.ends.directory_bytes));
    if let Some(record) = first.and_then(layout::decode_central)
        && record.name == HEAD_NAME.as_bytes()
    {
        return Head::at(bytes, record.header_offset).map(Some);
    }
    let mut damage = None;
    let last = len64(bytes).min(layout::RUNTIME_BYTES_MAX);
    for offset in (0..=last).step_by(usize::try_from(layout::BOUNDARY).unwrap_or(usize::MAX)) {
        let probe =
            usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        if !layout::looks_like_head(probe) {
            continue;
        }
        match Head::at(bytes, offset) {
            Ok(head) => return Ok(Some(head)),
            // The bytes of a head may also stand in a program that writes heads; a sound one further on wins.
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    damage.map_or(Ok(None), Err)
}

/// Where end records may end, from the last to the first.
fn earlier_ends(bytes: &[u8], tail_start: u64) -> impl Iterator<Item = u64> {
    let floor = tail_start.max(len64(bytes).saturating_sub(layout::SCAN_BYTES_MAX));
    let floor = usize::try_from(floor).unwrap_or(usize::MAX);
    let area = bytes.get(floor..).unwrap_or_default();
    let signature = layout::end_signature();
    (0..area.len())
        .rev()
        .filter(move |&at| area.get(at..).is_some_and(|rest| rest.starts_with(&signature)))
        .map(move |at| (at as u64).saturating_add(floor as u64).saturating_add(layout::END_LEN))
}

/// Closing records that are whole and consistent in themselves; the directory has not been looked at.
#[derive(Debug)]
struct RawTail {
    ends: Ends,
    end: u64,
}

impl RawTail {
    /// The closing records that end at `end`.
    fn at(bytes: &[u8], end: u64) -> Result<RawTail, TailError> {
        let offset = end.saturating_sub(ENDS_LEN);
        let wrong = |expected, found: String| TailError::Ends { offset, expected, found };
        let records = part(bytes, offset, ENDS_LEN).ok_or_else(|| {
            wrong("98 bytes of closing records", format!("{} bytes in all", bytes.len()))
        })?;
        let ends = layout::decode_ends(records).ok_or_else(|| {
            let start = records.get(..8).unwrap_or_default();
            wrong("a zip64 end record", format!("`{}`", start.escape_ascii()))
        })?;
        let expected = ends.encode();
        if let Some(at) = expected.iter().zip(records).position(|(a, b)| a != b) {
            return Err(wrong(
                "records that agree with each other",
                format!("a difference at their byte {at}"),
            ));
        }
        let directory =
            |what, expected, found| TailError::Directory { offset, what, expected, found };
        if ends.entries > layout::ENTRIES_MAX {
            return Err(directory("too many entries", layout::ENTRIES_MAX, ends.entries));
        }
        if ends.directory_bytes > layout::TAIL_BYTES_MAX {
            return Err(directory("it is too long", layout::TAIL_BYTES_MAX, ends.directory_bytes));
        }
        if ends.directory_offset.checked_add(ends.directory_bytes) != Some(offset) {
            return Err(directory(
                "it does not end where the end record begins",
                offset,
                ends.directory_offset.saturating_add(ends.directory_bytes),
            ));
        }
        Ok(RawTail { ends, end })
    }

    /// Checks directory, small entries and manifest: the only way to a [`Tail`].
    fn check(&self, bytes: &[u8], head: &Head) -> Result<Tail, TailError> {
        let file_bytes = len64(bytes);
        let records = self.records(bytes)?;
        let members: Vec<Member<'_>> = records.iter().map(Record::member).collect();
        let places = Places::of(&members, head, self.ends.directory_offset)?;
        let start = places.start;
        if self.end.saturating_sub(start) > layout::TAIL_BYTES_MAX {
            return Err(TailError::Directory {
                offset: start,
                what: "the part behind the weights is too long",
                expected: layout::TAIL_BYTES_MAX,
                found: self.end.saturating_sub(start),
            });
        }
        for (member, range) in members.iter().zip(&places.ranges).skip(places.big_end) {
            check_small(bytes, member, range)?;
        }
        let (manifest_member, listed) = members.split_last().ok_or_else(|| no_manifest(&[]))?;
        let manifest_range = places.ranges.last().cloned().unwrap_or_default();
        let manifest_bytes = bytes.get(manifest_range.clone()).unwrap_or_default();
        let manifest = Manifest::parse(manifest_bytes)?;
        agree(&manifest, listed, places.big_end, head)?;

        let own = manifest.entries.iter().filter(|entry| !entry.external);
        let mut entries: Vec<Entry> = own
            .zip(places.ranges)
            .zip(listed)
            .map(|((entry, range), member)| Entry {
                name: entry.name.clone(),
                role: entry.role,
                range,
                sha256: entry.sha256.0,
                crc32: member.crc32,
            })
            .collect();
        entries.push(Entry {
            name: MANIFEST_NAME.to_owned(),
            role: Role::Manifest,
            range: manifest_range,
            sha256: Sha256::digest(manifest_bytes).into(),
            crc32: manifest_member.crc32,
        });
        Ok(Tail {
            manifest,
            entries,
            head: head.facts,
            head_offset: head.offset,
            in_segment: head.in_segment,
            start,
            end: self.end,
            file_bytes,
        })
    }

    /// The directory's records: each exactly as this crate writes it, with a safe name that is there once.
    fn records<'a>(&self, bytes: &'a [u8]) -> Result<Vec<Record<'a>>, TailError> {
        let Ends { entries, directory_offset, directory_bytes } = self.ends;
        let whole = part(bytes, directory_offset, directory_bytes).unwrap_or_default();
        let mut rest = whole;
        let mut records = Vec::new();
        let mut names = HashSet::new();
        while !rest.is_empty() {
            let index = records.len();
            let offset = directory_offset.saturating_add(len64(whole).saturating_sub(len64(rest)));
            let wrong = |what| TailError::Record { index, offset, what };
            let raw = layout::decode_central(rest).ok_or(wrong("no whole record stands here"))?;
            let escaped = || raw.name.escape_ascii().to_string();
            let name = std::str::from_utf8(raw.name)
                .map_err(|_| TailError::Name { name: escaped(), why: "is not UTF-8" })?;
            layout::check_name(name).map_err(|why| TailError::Name { name: escaped(), why })?;
            if !names.insert(name) {
                return Err(TailError::Duplicate { name: name.to_owned() });
            }
            let name_owned = || name.to_owned();
            if raw.is_encrypted() {
                return Err(TailError::Encrypted { name: name_owned() });
            }
            if raw.has_descriptor() {
                return Err(TailError::Descriptor { name: name_owned() });
            }
            if raw.method != 0 {
                return Err(TailError::Compressed { name: name_owned(), method: raw.method });
            }
            if raw.packed_bytes != raw.bytes {
                return Err(TailError::Entry {
                    name: name_owned(),
                    what: "it is stored, so its two sizes must be equal",
                    expected: raw.bytes,
                    found: raw.packed_bytes,
                });
            }
            let record = Record {
                name,
                bytes: raw.bytes,
                crc32: raw.crc32,
                header_offset: raw.header_offset,
            };
            if record.member().central() != raw.record {
                return Err(wrong("a field has a value that this format does not use"));
            }
            rest = rest.get(raw.record.len()..).unwrap_or_default();
            records.push(record);
        }
        if records.len() as u64 != entries {
            return Err(TailError::Directory {
                offset: directory_offset,
                what: "the number of its records",
                expected: entries,
                found: records.len() as u64,
            });
        }
        Ok(records)
    }
}

/// A directory record that is well-formed; its place has not been looked at.
struct Record<'a> {
    name: &'a str,
    bytes: u64,
    crc32: u32,
    header_offset: u64,
}

impl<'a> Record<'a> {
    fn member(&self) -> Member<'a> {
        Member {
            name: self.name,
            bytes: self.bytes,
            crc32: self.crc32,
            header_offset: self.header_offset,
        }
    }
}

/// Where the data of each entry lies. Every place but one (the start of the small part) follows from the sizes, so
/// nothing can overlap.
struct Places {
    ranges: Vec<Range<usize>>,
    /// How many entries stand before the small part.
    big_end: usize,
    start: u64,
}

impl Places {
    fn of(members: &[Member<'_>], head: &Head, directory_offset: u64) -> Result<Places, TailError> {
        let (first, others) = members.split_first().ok_or_else(|| no_head(head))?;
        if first.name != HEAD_NAME
            || first.crc32 != head.crc32
            || first.bytes != layout::HEAD_DATA_LEN
        {
            return Err(no_head(head));
        }
        expect(
            first,
            "its header does not stand at the boundary",
            head.offset,
            first.header_offset,
        )?;
        let in_weights = |member: &Member<'_>| member.header_offset < head.facts.weights_end;
        let (big, small) = others.split_at(others.iter().take_while(|m| in_weights(m)).count());

        let mut ranges = vec![data_range(first, first.header_offset)?];
        ranges.extend(place_big(big, head)?);
        let big_end = ranges.len();
        let start = small.first().map_or(directory_offset, |member| member.header_offset);
        let tail_start = head.facts.tail_start;
        if start < tail_start || layout::align_up(start, layout::SECTOR) != Some(start) {
            return Err(TailError::Directory {
                offset: start,
                what: "the start of the small entries",
                expected: tail_start,
                found: start,
            });
        }
        ranges.extend(place_small(small, start, directory_offset)?);
        match small.last() {
            Some(last) if last.name == MANIFEST_NAME => Ok(Places { ranges, big_end, start }),
            _ => Err(no_manifest(members)),
        }
    }
}

/// The weights: each one's data at the next boundary that leaves room for its header, the last to end where the head
/// says.
fn place_big(members: &[Member<'_>], head: &Head) -> Result<Vec<Range<usize>>, TailError> {
    let mut ranges = Vec::with_capacity(members.len());
    let mut end = head.end();
    for big in members {
        let after_header = end.saturating_add(big.local_len());
        let data = layout::align_up(after_header, layout::BOUNDARY).unwrap_or(u64::MAX);
        let header = data.saturating_sub(big.local_len());
        expect(big, "its header's place", header, big.header_offset)?;
        ranges.push(data_range(big, header)?);
        end = data.saturating_add(big.bytes);
    }
    if end == head.facts.weights_end {
        return Ok(ranges);
    }
    Err(TailError::Directory {
        offset: head.offset,
        what: "the end of the weights by the head and by the directory",
        expected: head.facts.weights_end,
        found: end,
    })
}

/// The small entries: one behind the other, then the directory, and none too long.
fn place_small(
    members: &[Member<'_>],
    start: u64,
    directory_offset: u64,
) -> Result<Vec<Range<usize>>, TailError> {
    let mut ranges = Vec::with_capacity(members.len());
    let mut end = start;
    let mut total = 0_u64;
    for small in members {
        expect(small, "its header does not follow the entry before it", end, small.header_offset)?;
        let most = match small.name {
            MANIFEST_NAME => layout::MANIFEST_BYTES_MAX,
            _ => layout::SMALL_BYTES_MAX,
        };
        total = total.saturating_add(small.bytes);
        let too_long = |what, expected, found| TailError::Entry {
            name: small.name.to_owned(),
            what,
            expected,
            found,
        };
        if small.bytes > most {
            return Err(too_long(
                "it is too long for an entry behind the weights",
                most,
                small.bytes,
            ));
        }
        if total > layout::SMALL_TOTAL_BYTES_MAX {
            let what = "the entries up to this one are too long together";
            return Err(too_long(what, layout::SMALL_TOTAL_BYTES_MAX, total));
        }
        ranges.push(data_range(small, end)?);
        end = end.saturating_add(small.local_len()).saturating_add(small.bytes);
    }
    if end == directory_offset {
        return Ok(ranges);
    }
    Err(TailError::Directory {
        offset: end,
        what: "it does not follow the last entry",
        expected: end,
        found: directory_offset,
    })
}

fn expect(
    member: &Member<'_>,
    what: &'static str,
    expected: u64,
    found: u64,
) -> Result<(), TailError> {
    if expected == found {
        return Ok(());
    }
    Err(TailError::Entry { name: member.name.to_owned(), what, expected, found })
}

fn data_range(member: &Member<'_>, header_offset: u64) -> Result<Range<usize>, TailError> {
    let start = header_offset.checked_add(member.local_len());
    let end = start.and_then(|start| start.checked_add(member.bytes));
    let as_usize = |offset: Option<u64>| offset.and_then(|offset| usize::try_from(offset).ok());
    match (as_usize(start), as_usize(end)) {
        (Some(start), Some(end)) => Ok(start..end),
        _ => Err(TailError::Entry {
            name: member.name.to_owned(),
            what: "it ends beyond what this system can address",
            expected: usize::MAX as u64,
            found: member.bytes,
        }),
    }
}

/// A small entry's header stands as written and its data has its CRC-32.
fn check_small(bytes: &[u8], member: &Member<'_>, range: &Range<usize>) -> Result<(), TailError> {
    let header = part(bytes, member.header_offset, member.local_len()).unwrap_or_default();
    if header != member.local() {
        return Err(TailError::Entry {
            name: member.name.to_owned(),
            what: "the header before its data differs from the directory, in its byte",
            expected: member.local_len(),
            found: first_difference(&member.local(), header),
        });
    }
    let found = crc32fast::hash(bytes.get(range.clone()).unwrap_or_default());
    if found != member.crc32 {
        return Err(TailError::Crc { name: member.name.to_owned(), expected: member.crc32, found });
    }
    Ok(())
}

/// Directory and manifest list the same entries, and each role may stand where it does.
fn agree(
    manifest: &Manifest,
    listed: &[Member<'_>],
    big_end: usize,
    head: &Head,
) -> Result<(), TailError> {
    let own: Vec<_> = manifest.entries.iter().filter(|entry| !entry.external).collect();
    for (index, member) in listed.iter().enumerate() {
        let name = || member.name.to_owned();
        let entry = own.get(index).filter(|entry| entry.name == member.name).ok_or_else(|| {
            TailError::Missing {
                name: name(),
                present: "directory",
                absent: "manifest at that place",
            }
        })?;
        expect(member, "its length by the manifest", entry.bytes, member.bytes)?;
        let place = match index {
            0 => "at the head",
            _ if index < big_end => "among the weights",
            _ => "behind the weights",
        };
        let fits = match entry.role {
            Role::Head => index == 0,
            Role::Manifest => false,
            Role::Other => index > 0,
            role => index > 0 && role.is_big() == (index < big_end),
        };
        if !fits {
            return Err(TailError::Role { name: name(), role: entry.role, place });
        }
    }
    if let Some(entry) = own.get(listed.len()) {
        return Err(TailError::Missing {
            name: entry.name.clone(),
            present: "manifest",
            absent: "directory",
        });
    }
    let mut external_names = HashSet::new();
    for entry in manifest.entries.iter().filter(|entry| entry.external) {
        let refuse = |why| TailError::Name { name: entry.name.escape_default().to_string(), why };
        layout::check_name(&entry.name).map_err(refuse)?;
        if entry.name.contains('/') {
            return Err(refuse("is not that of a file beside the executable"));
        }
        if !external_names.insert(&entry.name) {
            return Err(TailError::Duplicate { name: entry.name.clone() });
        }
        if !entry.role.is_big() && entry.role != Role::Other {
            return Err(TailError::Role {
                name: entry.name.clone(),
                role: entry.role,
                place: "outside the bundle",
            });
        }
    }
    // Of an executable around its tail, the part behind it counts too.
    let fits = if head.in_segment {
        manifest.runtime.bytes >= head.facts.runtime_end
    } else {
        manifest.runtime.bytes == head.facts.runtime_end
    };
    if !fits {
        return Err(TailError::Directory {
            offset: head.offset,
            what: "the end of the runtime by the head and by the manifest",
            expected: head.facts.runtime_end,
            found: manifest.runtime.bytes,
        });
    }
    Ok(())
}

fn no_head(head: &Head) -> TailError {
    TailError::Record {
        index: 0,
        offset: head.offset,
        what: "the first record is not that of the head at this offset",
    }
}

fn no_manifest(members: &[Member<'_>]) -> TailError {
    let name = members.last().map_or_else(String::new, |member| member.name.to_owned());
    TailError::Name { name, why: "stands last, where `manifest.json` must" }
}

fn first_difference(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).take_while(|(a, b)| a == b).count() as u64
}

fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

fn len64(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
