//! Plans the layout of a bundle, and makes the bytes of everything but the runtime and the weights.
//!
//! Input: lengths, names and roles ([`TailPlan::new`]), then checksums and small contents ([`Settings`]). Output:
//! offsets, headers, and the bytes of the part behind the weights. Opens no file. The same inputs give the same bytes.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::layout::{self, Ends, HEAD_NAME, HeadFacts, MANIFEST_NAME, Member, PROMPT_CACHE_NAME};
use super::{Role, Tail};
use crate::manifest::{Manifest, ManifestEntry, RuntimeInfo, Sha256Sum};

/// An entry that goes before the small ones: weights, mostly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPart {
    /// The name in the zip.
    pub name: String,
    /// What it is for; see [`Role::is_big`].
    pub role: Role,
    /// Its length.
    pub bytes: u64,
}

/// A part and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The part.
    pub part: TailPart,
    /// Where its zip header begins.
    pub header_offset: u64,
    /// Where its data begins: a multiple of [`layout::BOUNDARY`].
    pub data_offset: u64,
}

/// The checksums of some data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// The SHA-256.
    pub sha256: [u8; 32],
    /// The CRC-32.
    pub crc32: u32,
}

impl Sums {
    /// Computes the checksums of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Sums {
        Sums { sha256: Sha256::digest(bytes).into(), crc32: crc32fast::hash(bytes) }
    }
}

/// An entry behind the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Small {
    /// The name in the zip.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its content.
    pub data: Vec<u8>,
}

/// Everything that can be changed without touching the weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The bundle's name, chosen by its maker.
    pub name: Option<String>,
    /// The small entries, in any order: they are sorted by role, then name.
    pub small: Vec<Small>,
    /// Weights that lie beside the executable.
    pub external: Vec<ManifestEntry>,
}

/// The offsets in a bundle, which follow from the lengths and names alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPlan {
    /// The length of the whole executable, as in the manifest.
    runtime_bytes: u64,
    facts: HeadFacts,
    head_offset: u64,
    parts: Vec<Placed>,
}

impl TailPlan {
    /// Lays out a bundle with a runtime of that length and these parts.
    ///
    /// # Errors
    ///
    /// A name or role is not allowed there, or the runtime is too long.
    pub fn new(runtime_bytes: u64, parts: Vec<TailPart>) -> Result<TailPlan, WriteError> {
        TailPlan::within(runtime_bytes, runtime_bytes, parts)
    }

    /// Like [`TailPlan::new`], for an executable with only `front_end` bytes before the tail ([`crate::macho`]).
    ///
    /// # Errors
    ///
    /// As [`TailPlan::new`].
    pub fn within(
        front_end: u64,
        runtime_bytes: u64,
        parts: Vec<TailPart>,
    ) -> Result<TailPlan, WriteError> {
        if front_end > layout::RUNTIME_BYTES_MAX {
            return Err(WriteError::RuntimeTooLong { found: front_end });
        }
        let too_long = || WriteError::FileTooLong;
        let head_offset = layout::align_up(front_end, layout::BOUNDARY).ok_or_else(too_long)?;
        let head_len = layout::local_len(HEAD_NAME, layout::HEAD_DATA_LEN) + layout::HEAD_DATA_LEN;
        let mut end = head_offset.checked_add(head_len).ok_or_else(too_long)?;
        let mut placed = Vec::with_capacity(parts.len());
        for part in parts {
            layout::check_name(&part.name)
                .map_err(|why| WriteError::Name { name: part.name.clone(), why })?;
            if !part.role.is_big() && part.role != Role::Other {
                return Err(WriteError::Role { name: part.name, role: part.role });
            }
            let header_len = layout::local_len(&part.name, part.bytes);
            let data_offset = end
                .checked_add(header_len)
                .and_then(|after| layout::align_up(after, layout::BOUNDARY))
                .ok_or_else(too_long)?;
            end = data_offset.checked_add(part.bytes).ok_or_else(too_long)?;
            placed.push(Placed { part, header_offset: data_offset - header_len, data_offset });
        }
        let tail_start = layout::align_up(end, layout::SECTOR).ok_or_else(too_long)?;
        let facts = HeadFacts { runtime_end: front_end, weights_end: end, tail_start };
        Ok(TailPlan { runtime_bytes, facts, head_offset, parts: placed })
    }

    /// The layout of an existing bundle, with the checksums of its runtime and parts.
    ///
    /// # Errors
    ///
    /// None for a [`Tail`] that was read, but the type cannot say so.
    pub fn of(tail: &Tail) -> Result<(TailPlan, Fixed), WriteError> {
        let is_part = |entry: &&super::Entry| entry.member().header_offset < tail.weights_end();
        let big: Vec<_> = tail.entries().iter().skip(1).filter(is_part).collect();
        let part = |entry: &&super::Entry| TailPart {
            name: entry.name.clone(),
            role: entry.role,
            bytes: entry.bytes(),
        };
        let parts = big.iter().map(part).collect();
        let plan = TailPlan::within(tail.runtime_end(), tail.manifest().runtime.bytes, parts)?;
        let sums =
            big.iter().map(|entry| Sums { sha256: entry.sha256, crc32: entry.crc32 }).collect();
        Ok((plan, Fixed { runtime_sha256: tail.manifest().runtime.sha256.0, parts: sums }))
    }

    /// Where the head entry goes; zeros fill the gap after the runtime.
    #[must_use]
    pub fn head_offset(&self) -> u64 {
        self.head_offset
    }

    /// The head entry, header and data.
    #[must_use]
    pub fn head_entry(&self) -> Vec<u8> {
        let data = self.facts.encode();
        let mut entry = self.head_member(crc32fast::hash(&data)).local();
        entry.extend_from_slice(&data);
        entry
    }

    /// The parts and their places.
    #[must_use]
    pub fn parts(&self) -> &[Placed] {
        &self.parts
    }

    /// Where the small entries go; zeros fill every gap before them.
    #[must_use]
    pub fn tail_start(&self) -> u64 {
        self.facts.tail_start
    }

    /// The header that goes before a part's data.
    #[must_use]
    pub fn part_header(&self, placed: &Placed, crc32: u32) -> Vec<u8> {
        part_member(placed, crc32).local()
    }

    /// The part behind the weights, from the small entries to the end record, made for the offset `at`. Its length does
    /// not depend on the checksums.
    ///
    /// # Errors
    ///
    /// A name is not allowed or used twice, or something is too long.
    pub fn tail(&self, fixed: &Fixed, settings: &Settings, at: u64) -> Result<Vec<u8>, WriteError> {
        debug_assert_eq!(fixed.parts.len(), self.parts.len(), "sums for each part");
        let small = sorted(&settings.small);
        check_small(&small)?;
        let head_data = self.facts.encode();
        let head_sums = Sums::of(&head_data);
        let mut members = vec![self.head_member(head_sums.crc32)];
        let mut listed =
            vec![listing(HEAD_NAME, Role::Head, layout::HEAD_DATA_LEN, head_sums.sha256)];
        for (placed, sums) in self.parts.iter().zip(&fixed.parts) {
            members.push(part_member(placed, sums.crc32));
            listed.push(listing(
                &placed.part.name,
                placed.part.role,
                placed.part.bytes,
                sums.sha256,
            ));
        }
        let mut out = Vec::new();
        for entry in small {
            let sums = Sums::of(&entry.data);
            listed.push(listing(&entry.name, entry.role, entry.data.len() as u64, sums.sha256));
            members.push(put(&mut out, at, &entry.name, &entry.data, sums.crc32)?);
        }
        listed.extend(settings.external.iter().cloned());
        let manifest = Manifest {
            format: layout::FORMAT,
            name: settings.name.clone(),
            created_by: concat!("tealight-bundle ", env!("CARGO_PKG_VERSION")).to_owned(),
            runtime: RuntimeInfo {
                bytes: self.runtime_bytes,
                sha256: Sha256Sum(fixed.runtime_sha256),
            },
            entries: listed,
        };
        let json = manifest.to_json();
        limit("bytes of `manifest.json`", json.len() as u64, layout::MANIFEST_BYTES_MAX)?;
        members.push(put(&mut out, at, MANIFEST_NAME, &json, crc32fast::hash(&json))?);
        limit("number of entries", members.len() as u64, layout::ENTRIES_MAX)?;
        check_distinct(&members)?;

        let directory_offset = at.checked_add(out.len() as u64).ok_or(WriteError::FileTooLong)?;
        let before = out.len();
        for member in &members {
            out.extend_from_slice(&member.central());
        }
        let directory_bytes = (out.len() - before) as u64;
        out.extend_from_slice(
            &Ends { entries: members.len() as u64, directory_offset, directory_bytes }.encode(),
        );
        limit("bytes after the weights", out.len() as u64, layout::TAIL_BYTES_MAX)?;
        Ok(out)
    }

    /// Where the finished tail ends (without a segment, the length of the file), before any checksum is known.
    ///
    /// # Errors
    ///
    /// As [`TailPlan::tail`].
    pub fn file_bytes(&self, settings: &Settings) -> Result<u64, WriteError> {
        let zero = Sums { sha256: [0; 32], crc32: 0 };
        let fixed = Fixed { runtime_sha256: [0; 32], parts: vec![zero; self.parts.len()] };
        let tail = self.tail(&fixed, settings, self.tail_start())?;
        self.tail_start().checked_add(tail.len() as u64).ok_or(WriteError::FileTooLong)
    }

    fn head_member(&self, crc32: u32) -> Member<'static> {
        Member {
            name: HEAD_NAME,
            bytes: layout::HEAD_DATA_LEN,
            crc32,
            header_offset: self.head_offset,
        }
    }
}

/// The checksums of everything before the small entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Of the runtime, as it was before anything was added to it.
    pub runtime_sha256: [u8; 32],
    /// Of each part, in the plan's order.
    pub parts: Vec<Sums>,
}

/// Why a bundle cannot be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// A name that a reader would refuse.
    #[error("entry `{name}`: the name {why}\nhint: rename the file")]
    Name {
        /// The name.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// The same name twice.
    #[error("entry `{name}` occurs twice\nhint: rename one of the files")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A role that is not allowed at this place.
    #[error("entry `{name}`: role {role} is not allowed there")]
    Role {
        /// The name.
        name: String,
        /// The role.
        role: Role,
    },
    /// Over a limit of the format.
    #[error("{name}: found {found}, expected at most {most}")]
    TooLong {
        /// What is too long or too many.
        name: String,
        /// How long it is.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// The runtime is so long that its head would not be found.
    #[error("the runtime has {found} bytes, at most {} are allowed", layout::RUNTIME_BYTES_MAX)]
    RuntimeTooLong {
        /// Its length.
        found: u64,
    },
    /// Past 2^64 bytes.
    #[error("the file would be larger than 2^64 bytes")]
    FileTooLong,
}

fn part_member(placed: &Placed, crc32: u32) -> Member<'_> {
    Member {
        name: &placed.part.name,
        bytes: placed.part.bytes,
        crc32,
        header_offset: placed.header_offset,
    }
}

fn listing(name: &str, role: Role, bytes: u64, sha256: [u8; 32]) -> ManifestEntry {
    ManifestEntry { name: name.to_owned(), role, bytes, sha256: Sha256Sum(sha256), external: false }
}

/// Appends an entry to `out`, whose first byte will be at offset `at` of the file.
fn put<'a>(
    out: &mut Vec<u8>,
    at: u64,
    name: &'a str,
    data: &[u8],
    crc32: u32,
) -> Result<Member<'a>, WriteError> {
    let header_offset = at.checked_add(out.len() as u64).ok_or(WriteError::FileTooLong)?;
    let member = Member { name, bytes: data.len() as u64, crc32, header_offset };
    out.extend_from_slice(&member.local());
    out.extend_from_slice(data);
    Ok(member)
}

fn sorted(small: &[Small]) -> Vec<&Small> {
    let mut small: Vec<&Small> = small.iter().collect();
    small.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    small
}

fn check_small(small: &[&Small]) -> Result<(), WriteError> {
    let mut total = 0;
    for entry in small {
        layout::check_name(&entry.name)
            .map_err(|why| WriteError::Name { name: entry.name.clone(), why })?;
        if entry.role.is_big() || matches!(entry.role, Role::Head | Role::Manifest) {
            return Err(WriteError::Role { name: entry.name.clone(), role: entry.role });
        }
        let is_cache = entry.role == Role::PromptCache;
        if is_cache != (entry.name == PROMPT_CACHE_NAME) {
            return Err(WriteError::Role { name: entry.name.clone(), role: entry.role });
        }
        let most = if is_cache { layout::PROMPT_CACHE_BYTES_MAX } else { layout::SMALL_BYTES_MAX };
        let bytes = entry.data.len() as u64;
        limit(&format!("bytes of entry `{}`", entry.name), bytes, most)?;
        total += if is_cache { 0 } else { bytes };
    }
    // The manifest counts too: leave room for the largest one that a reader allows.
    limit(
        "bytes of all entries after the weights",
        total,
        layout::SMALL_TOTAL_BYTES_MAX - layout::MANIFEST_BYTES_MAX,
    )
}

fn check_distinct(members: &[Member<'_>]) -> Result<(), WriteError> {
    let mut names = HashSet::new();
    match members.iter().find(|member| !names.insert(member.name)) {
        Some(member) => Err(WriteError::Duplicate { name: member.name.to_owned() }),
        None => Ok(()),
    }
}

fn limit(name: &str, found: u64, most: u64) -> Result<(), WriteError> {
    if found <= most {
        Ok(())
    } else {
        Err(WriteError::TooLong { name: name.to_owned(), found, most })
    }
}
