//! Finds and checks the tail of a bundle.
//!
//! Input: the bytes of a whole file, possibly hostile. Output: a [`Tail`] whose ranges all lie in the file, or `None`
//! for an ordinary file, or an error that says what is wrong and where. Only the head, the directory and the small
//! entries are read, never the weights.
//!
//! In an executable for macOS ([`crate::macho`]) all this happens within the tail's segment, and "the file" ends where
//! the tail does.
//!
//! The order: first the head entry (found through the directory, else by probing), which marks the file as a bundle;
//! then the end record at the end of the file; if that one does not check out, the last one before it that does. The
//! latter is needed after an interrupted rewrite (see [`super::rewrite`]).

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::error::TailError;
use super::head::Head;
use super::layout::{self, ENDS_LEN, Ends, HEAD_NAME, MANIFEST_NAME, Member};
use super::places::{Places, agree, check_small, no_manifest};
use super::slices::{len64, part};
use super::{Entry, Role, Tail};
use crate::macho;
use crate::manifest::Manifest;

/// How many earlier end records are fully checked. An interrupted rewrite leaves at most two; more are an attack.
const CANDIDATES_MAX: usize = 16;

/// Reads the tail of a file. `Ok(None)`: an ordinary file, not a bundle.
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

/// Checks again that the file holds this `tail`.
pub(crate) fn recheck(bytes: &[u8], tail: &Tail) -> Result<(), TailError> {
    let Extent { bytes, front_end } = Extent::of(bytes)?;
    let mut head = Head::at(bytes, tail.head_offset)?;
    head.must_follow(front_end)?;
    let again = RawTail::at(bytes, tail.end)?.check(bytes, &head)?;
    if again == *tail { Ok(()) } else { Err(TailError::Changed) }
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

/// Finds the head through the directory's first record, else by probing. `None`: there is no head, so this is not a
/// bundle.
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
            // A program that writes heads may contain such bytes too; a valid head further on wins.
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    damage.map_or(Ok(None), Err)
}

/// Where earlier end records may end, from the last to the first.
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

/// Closing records that are complete and self-consistent; the directory has not been checked yet.
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
            wrong("98 bytes of end records", format!("{} bytes in all", bytes.len()))
        })?;
        let ends = layout::decode_ends(records).ok_or_else(|| {
            let start = records.get(..8).unwrap_or_default();
            wrong("a zip64 end record", format!("`{}`", start.escape_ascii()))
        })?;
        let expected = ends.encode();
        if let Some(at) = expected.iter().zip(records).position(|(a, b)| a != b) {
            return Err(wrong(
                "end records that agree with each other",
                format!("a mismatch at their byte {at}"),
            ));
        }
        let directory =
            |what, expected, found| TailError::Directory { offset, what, expected, found };
        if ends.entries > layout::ENTRIES_MAX {
            return Err(directory("too many entries", layout::ENTRIES_MAX, ends.entries));
        }
        let most = ends.entries.saturating_mul(layout::CENTRAL_BYTES_MAX);
        if ends.directory_bytes > most {
            return Err(directory("it is too long", most, ends.directory_bytes));
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
                what: "the part after the weights is too long",
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

    /// The directory's records: each exactly as this crate writes it, with a safe and unique name.
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
            let raw = layout::decode_central(rest)
                .ok_or(wrong("it is incomplete or not a directory record"))?;
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
                    what: "it is stored, but its two sizes differ",
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
                return Err(wrong("a field has a value that this format does not allow"));
            }
            rest = rest.get(raw.record.len()..).unwrap_or_default();
            records.push(record);
        }
        if records.len() as u64 != entries {
            return Err(TailError::Directory {
                offset: directory_offset,
                what: "it has the wrong number of records",
                expected: entries,
                found: records.len() as u64,
            });
        }
        Ok(records)
    }
}

/// A well-formed directory record; its offset has not been checked yet.
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
