//! Compares every byte of a bundle with what its manifest and its layout say.
//!
//! Input: the file's bytes and its [`Tail`]. Output: nothing, or the first difference. This finds damage; it does not
//! prove who made the bundle, because whoever can change an entry can change the manifest too.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::macho::signature::{self, SignatureError};
use crate::manifest::Sha256Sum;
use crate::tail::{Entry, Tail, TailError, recheck};

/// Bytes hashed between two progress reports.
const CHUNK_BYTES: usize = 4 << 20;

/// Checks the runtime, every entry and every gap. `progress` gets the bytes done and the total.
///
/// # Errors
///
/// The first difference.
pub fn verify(
    bytes: &[u8],
    tail: &Tail,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), VerifyError> {
    recheck(bytes, tail)?;
    let runtime = part(bytes, 0, tail.runtime_end());
    let entries_bytes = tail.entries().iter().map(Entry::bytes).sum::<u64>();
    // In a signed executable the signature covers the runtime, and everything else a second time.
    let signed = tail.in_segment();
    let runtime_bytes = if signed { bytes.len() as u64 } else { tail.runtime_end() };
    let total = entries_bytes + runtime_bytes;
    let mut done = 0;
    let mut advance = |n: u64| {
        done += n;
        progress(done, total);
    };
    advance(0);

    if !signed {
        let found = sums(runtime, &mut advance);
        compare_sha256("the runtime", tail.manifest().runtime.sha256.0, found.0)?;
    }
    let mut end = tail.runtime_end();
    for entry in tail.entries() {
        let member = entry.member();
        if end <= tail.weights_end() && member.header_offset >= tail.tail_start() {
            check_gap(bytes, "the gap after the weights", end, tail.tail_start())?;
        } else {
            check_gap(bytes, "the gap before it", end, member.header_offset)
                .map_err(|error| error.before(&entry.name))?;
        }
        let header = part(bytes, member.header_offset, member.local_len());
        let expected = member.local();
        if let Some(at) = expected.iter().zip(header).position(|(a, b)| a != b) {
            return Err(VerifyError::Byte {
                place: format!("the zip header of entry `{}`", entry.name),
                offset: member.header_offset + at as u64,
                expected: expected[at],
                found: header[at],
            });
        }
        let data = bytes.get(entry.range.clone()).unwrap_or_default();
        let (sha256, crc32) = sums(data, &mut advance);
        let place = format!("entry `{}`", entry.name);
        compare_sha256(&place, entry.sha256, sha256)?;
        if crc32 != entry.crc32 {
            return Err(VerifyError::Crc32 { place, expected: entry.crc32, found: crc32 });
        }
        end = entry.range.end as u64;
    }
    // Last, because it can only name an offset, while the checks above name the entry.
    if signed {
        signature::verify(bytes, &mut advance)?;
    }
    Ok(())
}

/// The first difference.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The structure: head, directory, small entries, manifest.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// The signature of an executable for macOS.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A byte that the layout determines.
    #[error(
        "{place}: at byte {offset} of the file, expected {expected:#04x}, found {found:#04x}\n{CHANGED}"
    )]
    Byte {
        /// The region.
        place: String,
        /// Where in the file.
        offset: u64,
        /// What should be there.
        expected: u8,
        /// What is there.
        found: u8,
    },
    /// Content that differs from the manifest.
    #[error("{place}: expected SHA-256 {expected}, found {found}\n{CHANGED}")]
    Sha256 {
        /// The entry or region.
        place: String,
        /// What the manifest says.
        expected: Sha256Sum,
        /// The checksum of the data.
        found: Sha256Sum,
    },
    /// Content that differs from the directory.
    #[error("{place}: expected CRC-32 {expected:08x}, found {found:08x}\n{CHANGED}")]
    Crc32 {
        /// The entry.
        place: String,
        /// What the directory says.
        expected: u32,
        /// The checksum of the data.
        found: u32,
    },
}

const CHANGED: &str = "hint: the file has changed since it was made; fetch it again";

impl VerifyError {
    fn before(self, name: &str) -> VerifyError {
        match self {
            VerifyError::Byte { offset, expected, found, .. } => VerifyError::Byte {
                place: format!("the gap before entry `{name}`"),
                offset,
                expected,
                found,
            },
            other => other,
        }
    }
}

fn compare_sha256(place: &str, expected: [u8; 32], found: [u8; 32]) -> Result<(), VerifyError> {
    if expected == found {
        return Ok(());
    }
    Err(VerifyError::Sha256 {
        place: place.to_owned(),
        expected: Sha256Sum(expected),
        found: Sha256Sum(found),
    })
}

fn check_gap(bytes: &[u8], place: &str, start: u64, end: u64) -> Result<(), VerifyError> {
    let gap = part(bytes, start, end.saturating_sub(start));
    match gap.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(VerifyError::Byte {
            place: place.to_owned(),
            offset: start + at as u64,
            expected: 0,
            found: gap[at],
        }),
    }
}

fn sums(bytes: &[u8], advance: &mut dyn FnMut(u64)) -> ([u8; 32], u32) {
    let mut sha256 = Sha256::new();
    let mut crc32 = crc32fast::Hasher::new();
    for chunk in bytes.chunks(CHUNK_BYTES) {
        sha256.update(chunk);
        crc32.update(chunk);
        advance(chunk.len() as u64);
    }
    (sha256.finalize().into(), crc32.finalize())
}

/// A part that [`Tail`] guarantees to be in the file.
fn part(bytes: &[u8], offset: u64, len: u64) -> &[u8] {
    let range = usize::try_from(offset).ok().zip(usize::try_from(offset + len).ok());
    range.and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default()
}
