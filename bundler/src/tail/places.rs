//! Locates the entries of a directory, and checks that directory, manifest and small entries agree.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::ops::Range;

use super::Role;
use super::error::TailError;
use super::head::Head;
use super::layout::{self, HEAD_NAME, MANIFEST_NAME, Member, PROMPT_CACHE_NAME};
use super::slices::part;
use crate::manifest::Manifest;

/// Where the data of each entry lies. Every offset except the start of the small part follows from the sizes, so
/// nothing can overlap.
pub struct Places {
    pub ranges: Vec<Range<usize>>,
    /// How many entries come before the small part.
    pub big_end: usize,
    pub start: u64,
}

impl Places {
    pub fn of(
        members: &[Member<'_>],
        head: &Head,
        directory_offset: u64,
    ) -> Result<Places, TailError> {
        let (first, others) = members.split_first().ok_or_else(|| no_head(head))?;
        if first.name != HEAD_NAME
            || first.crc32 != head.crc32
            || first.bytes != layout::HEAD_DATA_LEN
        {
            return Err(no_head(head));
        }
        expect(first, "its header is not at the boundary", head.offset, first.header_offset)?;
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
                what: "the small entries start at the wrong offset",
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

/// Places the weights: each entry's data is at the next boundary that leaves room for its header, and the last one must
/// end where the head says.
fn place_big(members: &[Member<'_>], head: &Head) -> Result<Vec<Range<usize>>, TailError> {
    let mut ranges = Vec::with_capacity(members.len());
    let mut end = head.end();
    for big in members {
        let after_header = end.saturating_add(big.local_len());
        let data = layout::align_up(after_header, layout::BOUNDARY).unwrap_or(u64::MAX);
        let header = data.saturating_sub(big.local_len());
        expect(big, "its header is at the wrong offset", header, big.header_offset)?;
        ranges.push(data_range(big, header)?);
        end = data.saturating_add(big.bytes);
    }
    if end == head.facts.weights_end {
        return Ok(ranges);
    }
    Err(TailError::Directory {
        offset: head.offset,
        what: "the weights do not end where the head says",
        expected: head.facts.weights_end,
        found: end,
    })
}

/// Places the small entries: one after the other, then the directory; none may be too long.
fn place_small(
    members: &[Member<'_>],
    start: u64,
    directory_offset: u64,
) -> Result<Vec<Range<usize>>, TailError> {
    let mut ranges = Vec::with_capacity(members.len());
    let mut end = start;
    let mut total = 0_u64;
    for small in members {
        expect(small, "its header does not follow the previous entry", end, small.header_offset)?;
        let most = match small.name {
            MANIFEST_NAME => layout::MANIFEST_BYTES_MAX,
            PROMPT_CACHE_NAME => layout::PROMPT_CACHE_BYTES_MAX,
            _ => layout::SMALL_BYTES_MAX,
        };
        if small.name != PROMPT_CACHE_NAME {
            total = total.saturating_add(small.bytes);
        }
        let too_long = |what, expected, found| TailError::Entry {
            name: small.name.to_owned(),
            what,
            expected,
            found,
        };
        if small.bytes > most {
            return Err(too_long(
                "it is too long for an entry after the weights",
                most,
                small.bytes,
            ));
        }
        if total > layout::SMALL_TOTAL_BYTES_MAX {
            let what = "the entries up to this one are too long in total";
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

/// Checks that a small entry's header is as written and that its data matches its CRC-32. The data of the prompt cache is
/// not read.
pub fn check_small(
    bytes: &[u8],
    member: &Member<'_>,
    range: &Range<usize>,
) -> Result<(), TailError> {
    let header = part(bytes, member.header_offset, member.local_len()).unwrap_or_default();
    if header != member.local() {
        return Err(TailError::Entry {
            name: member.name.to_owned(),
            what: "its header matches the directory in too few of its first bytes",
            expected: member.local_len(),
            found: first_difference(&member.local(), header),
        });
    }
    if member.name == PROMPT_CACHE_NAME {
        return Ok(());
    }
    let found = crc32fast::hash(bytes.get(range.clone()).unwrap_or_default());
    if found != member.crc32 {
        return Err(TailError::Crc { name: member.name.to_owned(), expected: member.crc32, found });
    }
    Ok(())
}

/// Checks that directory and manifest list the same entries, and that each role is allowed at its place.
pub fn agree(
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
                absent: "manifest at that position",
            }
        })?;
        expect(member, "its length differs from the manifest", entry.bytes, member.bytes)?;
        let place = match index {
            0 => "at the head",
            _ if index < big_end => "among the weights",
            _ => "after the weights",
        };
        let fits = match entry.role {
            Role::Head => index == 0,
            Role::Manifest => false,
            Role::Other => index > 0,
            Role::PromptCache => index == big_end && entry.name == PROMPT_CACHE_NAME,
            _ if entry.name == PROMPT_CACHE_NAME => false,
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
            return Err(refuse(
                "contains a slash, but must be that of a file beside the executable",
            ));
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
    // If the executable continues after the tail, that part counts too.
    let fits = if head.in_segment {
        manifest.runtime.bytes >= head.facts.runtime_end
    } else {
        manifest.runtime.bytes == head.facts.runtime_end
    };
    if !fits {
        return Err(TailError::Directory {
            offset: head.offset,
            what: "the runtime's length in the manifest does not match the head",
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
        what: "the first record does not describe the head at this offset",
    }
}

pub fn no_manifest(members: &[Member<'_>]) -> TailError {
    let name = members.last().map_or_else(String::new, |member| member.name.to_owned());
    TailError::Name { name, why: "is the last one, which must be `manifest.json`" }
}

fn first_difference(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).take_while(|(a, b)| a == b).count() as u64
}
