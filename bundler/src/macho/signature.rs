//! Code signatures: a SHA-256 of each page of the file before the signature.
//!
//! Input: those pages. Output: the signature's bytes; or, for a signed file, whether all pages match. Who signed is not
//! checked. All integers in a signature are big-endian.

use std::io::{self, Read};
use std::thread;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Commands, LC_CODE_SIGNATURE, u32_at};

/// The SHA-256 of a page.
pub type PageHash = [u8; 32];

/// Bytes per hash.
pub const PAGE: u64 = 1 << PAGE_LOG2;
const PAGE_LOG2: u8 = 12;
/// Bytes read at a time, then hashed on all processors.
const CHUNK: u64 = 16 << 20;

const SUPER_BLOB: u32 = 0xfade_0cc0;
const CODE_DIRECTORY: u32 = 0xfade_0c02;
/// The super blob's header (12 bytes) and one index entry (8).
const SUPER_LEN: u32 = 12 + 8;
const DIRECTORY_LEN: u32 = 88;
/// The version that records the extent of the code segment.
const VERSION: u32 = 0x2_0400;
/// Ad hoc and linker-signed: another signature may replace it.
const FLAGS: u32 = 0x2 | 0x2_0000;
const SHA256: u8 = 2;
const MAIN_BINARY: u64 = 1;
/// The signature's identifier. Not the file's name, so that the same inputs give the same bytes.
const IDENTIFIER: &[u8] = b"tealight\0";

/// Length of the signature of `code_bytes` bytes.
#[must_use]
pub fn len(code_bytes: u64) -> u64 {
    let hashes = code_bytes.div_ceil(PAGE).saturating_mul(32);
    hashes.saturating_add(hashes_start()).saturating_add(SUPER_LEN.into()).next_multiple_of(16)
}

/// Makes the signature of a file from the hashes of its pages. `code_bytes` bytes precede the signature; `text_bytes`
/// of them are the code segment.
#[must_use]
pub fn make(code_bytes: u64, text_bytes: u64, pages: &[PageHash]) -> Vec<u8> {
    let total = len(code_bytes);
    let count = low32(pages.len() as u64);
    let directory = low32(hashes_start()).saturating_add(count.saturating_mul(32));
    let mut out = Vec::new();
    let mut put = |fields: &[u32]| fields.iter().for_each(|x| out.extend(x.to_be_bytes()));
    // One blob, of type 0: the code directory.
    put(&[SUPER_BLOB, SUPER_LEN.saturating_add(directory), 1, 0, SUPER_LEN]);
    put(&[CODE_DIRECTORY, directory, VERSION, FLAGS]);
    // Offsets of hashes and identifier; no special hashes, one per page; how many bytes they cover.
    put(&[low32(hashes_start()), DIRECTORY_LEN, 0, count, low32(code_bytes)]);
    out.extend([32, SHA256, 0, PAGE_LOG2]);
    // No scatter, no team; spare fields.
    out.extend([0; 4 * 4]);
    // The covered bytes in 64 bits (0: see above), then start, length and flags of the code segment.
    for field in [0, 0, text_bytes, MAIN_BINARY] {
        out.extend(field.to_be_bytes());
    }
    out.extend(IDENTIFIER);
    out.extend(pages.as_flattened());
    out.resize(usize::try_from(total).unwrap_or(out.len()), 0);
    out
}

/// Hashes the pages of the next `bytes` bytes. Reads instead of mapping, so holes in a file need no room.
///
/// # Errors
///
/// Reading fails or ends early.
pub fn hash_pages(
    from: &mut impl Read,
    bytes: u64,
    tick: &mut dyn FnMut(u64),
) -> io::Result<Vec<PageHash>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut pages = Vec::new();
    let mut left = bytes;
    let mut chunk = Vec::new();
    while left > 0 {
        let want = left.min(CHUNK);
        chunk.resize(usize::try_from(want).unwrap_or_default(), 0);
        from.read_exact(&mut chunk)?;
        left = left.saturating_sub(want);
        // Whole pages for each thread; only the file's last page is shorter.
        let share = chunk.len().div_ceil(threads).next_multiple_of(page_len());
        thread::scope(|scope| {
            let hash = |part: &[u8]| part.chunks(page_len()).map(hash).collect::<Vec<_>>();
            // If no thread can be spawned (`ulimit -u`), its share is hashed here.
            let start = |part| {
                let thread = thread::Builder::new().spawn_scoped(scope, move || hash(part));
                thread.map_err(|_| hash(part))
            };
            let running: Vec<_> = chunk.chunks(share).map(start).collect();
            for part in running {
                // A thread that only hashes does not panic.
                pages.extend(part.map_or_else(|done| done, |part| part.join().unwrap_or_default()));
            }
        });
        tick(want);
    }
    Ok(pages)
}

/// Checks every page of a signed executable against its signature, and that nothing follows the signature.
///
/// # Errors
///
/// The first difference.
pub fn verify(bytes: &[u8], tick: &mut dyn FnMut(u64)) -> Result<(), SignatureError> {
    let malformed = |what| SignatureError::Malformed { what };
    let commands = Commands::of(bytes)
        .ok_or(malformed("the load commands extend past the end of the file"))?;
    let command = commands
        .flatten()
        .find(|command| u32_at(command, 0) == Some(LC_CODE_SIGNATURE))
        .ok_or(SignatureError::Missing)?;
    let field = |at| u32_at(command, at).and_then(|field| usize::try_from(field).ok());
    let (start, blob_len) =
        field(8).zip(field(12)).ok_or(malformed("its load command is too short"))?;
    let blob = bytes.get(start..).and_then(|rest| rest.get(..blob_len));
    let blob = blob.ok_or(malformed("it extends past the end of the file"))?;
    let behind = bytes.len().saturating_sub(start).saturating_sub(blob_len) as u64;
    if behind > 0 {
        return Err(SignatureError::Behind { bytes: behind });
    }
    let directory = Directory::of(blob).ok_or(malformed("it has no SHA-256 hashes"))?;
    if directory.code_bytes != start as u64 {
        return Err(malformed("it does not cover everything before it"));
    }
    let code = bytes.get(..start).unwrap_or_default();
    if directory.hashes.len() != code.len().div_ceil(directory.page_len) {
        return Err(malformed("it does not have a hash for each page"));
    }
    let mut offset = 0_u64;
    for (page, expected) in code.chunks(directory.page_len).zip(directory.hashes) {
        if hash(page) != *expected {
            return Err(SignatureError::Page { offset, bytes: page.len() as u64 });
        }
        offset = offset.saturating_add(page.len() as u64);
        tick(page.len() as u64);
    }
    Ok(())
}

/// The fields of a code directory that are used.
struct Directory<'a> {
    code_bytes: u64,
    page_len: usize,
    hashes: &'a [PageHash],
}

impl<'a> Directory<'a> {
    /// The first SHA-256 directory in a super blob; an older one with SHA-1 may precede it.
    fn of(blob: &'a [u8]) -> Option<Directory<'a>> {
        if be32(blob, 0)? != SUPER_BLOB {
            return None;
        }
        let count = usize::try_from(be32(blob, 8)?).ok()?;
        let index = blob.get(12..)?.as_chunks::<8>().0;
        let offsets = index.iter().take(count).filter_map(|entry| be32(entry, 4));
        offsets
            .filter_map(|offset| blob.get(usize::try_from(offset).ok()?..))
            .find_map(Directory::parse)
    }

    fn parse(blob: &'a [u8]) -> Option<Directory<'a>> {
        let [hash_len, kind, _, page_log2] = *blob.get(36..)?.first_chunk()?;
        if be32(blob, 0)? != CODE_DIRECTORY || kind != SHA256 || hash_len != 32 {
            return None;
        }
        if !(PAGE_LOG2..=16).contains(&page_log2) {
            return None;
        }
        let usize_at = |at| usize::try_from(be32(blob, at)?).ok();
        let hashes = blob.get(usize_at(16)?..)?.as_chunks::<32>().0.get(..usize_at(28)?)?;
        Some(Directory {
            code_bytes: be32(blob, 32)?.into(),
            page_len: 1_usize.checked_shl(page_log2.into())?,
            hashes,
        })
    }
}

/// Why a signature is not valid.
#[derive(Debug, Error)]
pub enum SignatureError {
    /// There is no signature.
    #[error(
        "the executable has no signature\nhint: Apple silicon does not run unsigned programs; fetch it again, or sign it: codesign -s - FILE"
    )]
    Missing,
    /// Not in a form that this module reads.
    #[error(
        "the executable's signature cannot be read: {what}\nhint: the file has changed since it was made; fetch it again"
    )]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A page whose hash differs.
    #[error(
        "the executable's signature does not match the {bytes} bytes at byte {offset} of the file\n\
         hint: the file has changed since it was made; fetch it again"
    )]
    Page {
        /// Where the page begins.
        offset: u64,
        /// Its length.
        bytes: u64,
    },
    /// Data after the signature, which it does not cover.
    #[error(
        "{bytes} bytes follow the executable's signature\nhint: the file has changed since it was made; fetch it again"
    )]
    Behind {
        /// How many bytes.
        bytes: u64,
    },
}

fn hash(page: &[u8]) -> PageHash {
    Sha256::digest(page).into()
}

/// Offset of the hashes in the code directory.
fn hashes_start() -> u64 {
    u64::from(DIRECTORY_LEN).saturating_add(IDENTIFIER.len() as u64)
}

fn page_len() -> usize {
    1 << PAGE_LOG2
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_be_bytes(*field))
}

fn low32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
