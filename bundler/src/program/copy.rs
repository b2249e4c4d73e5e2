//! Copies a file and computes its checksums in the same pass.
//!
//! Input: a reader, and the length it must have. Output: its SHA-256 and CRC-32, and a copy. One thread hashes a chunk
//! while the other writes it and reads the next.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, anyhow};
use sha2::{Digest, Sha256};
use tealight_bundle::tail::write::Sums;

/// Large enough that spawning a thread per chunk costs nothing compared with hashing it (2 ms and more).
const CHUNK_BYTES: u64 = 4 << 20;

/// Where a copy goes: a file at the right position, and its path for errors.
pub struct Sink<'a> {
    pub file: &'a mut File,
    pub path: &'a Path,
}

/// Copies exactly `bytes` bytes of `from` (named `path` in errors); without a sink, only computes the checksums.
pub fn copy(
    from: &mut (impl Read + Send),
    path: &Path,
    bytes: u64,
    mut to: Option<Sink<'_>>,
    tick: &mut dyn FnMut(u64),
) -> Result<Sums> {
    let sums = Mutex::new((Sha256::new(), crc32fast::Hasher::new()));
    let sum = |chunk: &[u8]| {
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.0.update(chunk);
        sums.1.update(chunk);
    };
    let mut left = bytes;
    let mut chunk = Vec::new();
    let mut next = Vec::new();
    fill(from, path, &mut chunk, left)?;
    while !chunk.is_empty() {
        left -= chunk.len() as u64;
        thread::scope(|scope| {
            // If no thread can be spawned (`ulimit -u`), hash here.
            if thread::Builder::new().spawn_scoped(scope, || sum(&chunk)).is_err() {
                sum(&chunk);
            }
            if let Some(sink) = &mut to {
                put(sink, &chunk)?;
            }
            fill(from, path, &mut next, left)
        })?;
        tick(chunk.len() as u64);
        std::mem::swap(&mut chunk, &mut next);
    }
    let (sha256, crc32) = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Sums { sha256: sha256.finalize().into(), crc32: crc32.finalize() })
}

/// A write error, with a hint.
pub fn write_failed(path: &Path, error: &io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: the disk is full; free some space or write elsewhere"
        }
        io::ErrorKind::FileTooLarge => {
            "\nhint: the file system (FAT32: 4 GiB) or a limit of this session does not allow files this large; \
             write elsewhere, or use split weights and --pair"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "\nhint: the file system is read-only; write elsewhere"
        }
        _ => "",
    };
    anyhow!("cannot write {}: {error}{hint}", path.display())
}

fn fill(from: &mut impl Read, path: &Path, chunk: &mut Vec<u8>, left: u64) -> Result<()> {
    let want = usize::try_from(left.min(CHUNK_BYTES)).expect("a chunk is small");
    chunk.resize(want, 0);
    from.read_exact(chunk).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow!(
            "{}: the file shrank while it was being read: expected {left} more bytes\n\
             hint: wait until its download or copy has finished",
            path.display()
        ),
        _ => anyhow!("cannot read {}: {error}", path.display()),
    })
}

fn put(sink: &mut Sink<'_>, chunk: &[u8]) -> Result<()> {
    // A hole stays a hole. In weights, which have none, this scan ends at the first byte.
    let written = if chunk.iter().all(|&byte| byte == 0) {
        let hole = i64::try_from(chunk.len()).expect("a chunk is small");
        sink.file.seek(SeekFrom::Current(hole)).map(drop)
    } else {
        sink.file.write_all(chunk)
    };
    written.map_err(|error| write_failed(sink.path, &error))
}
