//! Memory-maps files.
//!
//! Input: a path. Output: a read-only mapping of a regular, non-empty file. Knows nothing of its contents.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::Mmap;
use thiserror::Error;

use crate::gguf;
use crate::vanished::Known;

/// How long to wait for another program's lock.
const WAIT: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });
const POLL: Duration = Duration::from_millis(5);

/// A regular file, mapped read-only.
#[derive(Debug)]
pub struct Mapped {
    // Declared before the mapping, so that it is dropped first.
    _known: Known,
    map: Mmap,
    path: PathBuf,
    /// Holds the shared lock; `None` if none was taken, or after `release`.
    lock: Mutex<Option<File>>,
}

impl Mapped {
    /// Maps the file and locks it, so that `set` cannot change it meanwhile. Only pages that are touched are read.
    ///
    /// # Errors
    ///
    /// It cannot be opened, is not a regular file, is empty, does not fit into the address space, or is being changed.
    pub fn open(path: &Path) -> Result<Mapped, MapError> {
        let fail = |what| move |error| MapError::Io { path: path.to_owned(), what, error };
        // Before opening: opening a pipe would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(fail("open"))?;
        refuse_special(path, &metadata)?;
        let file = File::open(path).map_err(fail("open"))?;
        Self::open_file(file, path)
    }

    /// Like [`Mapped::open`], for a file that is already open; `path` names it in errors.
    ///
    /// # Errors
    ///
    /// As [`Mapped::open`].
    pub fn open_file(mut file: File, path: &Path) -> Result<Mapped, MapError> {
        // Plain weights are not locked: nobody changes them in place, and locks can be slow on a network.
        let mut magic = [0; gguf::MAGIC.len()];
        let is_gguf = file.read_exact(&mut magic).is_ok() && magic == gguf::MAGIC;
        // Lock before asking for the length, on which the mapping depends.
        if !is_gguf && !wait_for(|| file.try_lock_shared()) {
            return Err(MapError::Changing { path: path.to_owned() });
        }
        let mapped = Self::of(&file, path)?;
        Ok(Mapped { lock: Mutex::new((!is_gguf).then_some(file)), ..mapped })
    }

    /// Releases the lock, so that `set` may change the file from now on. `set` never touches the weights, but
    /// everything behind them must have been copied.
    pub fn release(&self) {
        if let Some(file) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Closing it is not enough: on Linux the mapping keeps it open.
            let _ = file.unlock();
        }
    }

    /// Maps an open file without locking it; that is up to the caller. `path` names it in errors.
    ///
    /// # Errors
    ///
    /// As [`Mapped::open`].
    pub fn of(file: &File, path: &Path) -> Result<Mapped, MapError> {
        let fail = |what| move |error| MapError::Io { path: path.to_owned(), what, error };
        let metadata = file.metadata().map_err(fail("read the metadata of"))?;
        refuse_special(path, &metadata)?;
        if metadata.len() == 0 {
            return Err(MapError::Empty { path: path.to_owned() });
        }
        if usize::try_from(metadata.len()).is_err() {
            return Err(MapError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
        }
        // SAFETY: the mapping is private to this value, read-only, and of a regular file. No program can rule out that
        // another one shortens or rewrites the file meanwhile; if it is shortened, `vanished` reports that. On Linux a
        // running executable cannot be opened for writing, and Windows refuses to shorten a mapped file, which covers a
        // running bundle. Our own rewriting (`tail::rewrite`) never moves or changes weights, and nobody reads the rest
        // while it changes: both the writer and readers (`open`) lock the file. Everything read from the mapping is
        // checked as hostile, and references into it are handed out only as plain bytes, for which all values are
        // valid.
        #[expect(unsafe_code, reason = "mapping a file has no safe form; argued above")]
        let map = unsafe { Mmap::map(file) }.map_err(fail("map"))?;
        // Weights are read from end to end for each token. With 2 MiB pages, where the file system supports them, there
        // are fewer address translations, and a file that is not in memory yet is read in larger pieces. Only a hint.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Mapped {
            _known: Known::new(&map, path),
            map,
            path: path.to_owned(),
            lock: Mutex::new(None),
        })
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Retries a lock; `false` if another program still holds it after the wait. Some file systems can't lock; then two
/// programs at once are the user's risk.
#[must_use]
pub fn wait_for(mut attempt: impl FnMut() -> Result<(), TryLockError>) -> bool {
    let end = Instant::now() + WAIT;
    while matches!(attempt(), Err(TryLockError::WouldBlock)) {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

/// Why a file could not be mapped.
#[derive(Debug, Error)]
pub enum MapError {
    /// The operating system refused.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// `set` is changing it.
    #[error(
        "{} is being changed by `tealight-bundle set`\nhint: wait for it to finish, then try again",
        path.display()
    )]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// A folder.
    #[error("{}: expected a file, found a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A device, pipe or socket.
    #[error("{}: expected a regular file, found a device, pipe or socket", path.display())]
    Special {
        /// What was named.
        path: PathBuf,
    },
    /// An empty file.
    #[error("{}: the file is empty\nhint: the download or copy may have failed", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file too large for a 32-bit system.
    #[error("{}: {bytes} bytes do not fit in this system's address space", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
}

fn refuse_special(path: &Path, metadata: &std::fs::Metadata) -> Result<(), MapError> {
    if metadata.is_dir() {
        return Err(MapError::Folder { path: path.to_owned() });
    }
    if !metadata.is_file() {
        return Err(MapError::Special { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_devices_and_empty_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Mapped::open(folder.path()), Err(MapError::Folder { .. })));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(Mapped::open(&empty), Err(MapError::Empty { .. })));
        assert!(matches!(
            Mapped::open(&folder.path().join("none")),
            Err(MapError::Io { what: "open", .. })
        ));
        #[cfg(unix)]
        assert!(matches!(Mapped::open(Path::new("/dev/zero")), Err(MapError::Special { .. })));
        std::fs::write(&empty, b"tea").unwrap();
        let mapped = Mapped::open(&empty).unwrap();
        assert_eq!((mapped.bytes(), mapped.path()), (&b"tea"[..], empty.as_path()));
    }

    #[test]
    fn readers_and_writers_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        std::fs::write(&path, b"tea").unwrap();
        let changing = File::options().read(true).write(true).open(&path).unwrap();
        let (one, two) = (Mapped::open(&path).unwrap(), Mapped::open(&path).unwrap());
        assert!(!wait_for(|| changing.try_lock()), "it was locked while it is read");
        one.release();
        assert!(!wait_for(|| changing.try_lock()));
        drop(two);
        assert!(wait_for(|| changing.try_lock()));
        assert_eq!(one.bytes(), b"tea", "what was released can be read still");
        let error = Mapped::open(&path).unwrap_err();
        assert!(matches!(error, MapError::Changing { .. }), "{error}");
        drop(changing);
        assert!(Mapped::open(&path).is_ok());
        // Plain weights are not locked.
        std::fs::write(&path, b"GGUF").unwrap();
        let changing = File::options().read(true).write(true).open(&path).unwrap();
        let _weights = Mapped::open(&path).unwrap();
        assert!(wait_for(|| changing.try_lock()));
    }

    #[test]
    fn a_lock_released_in_time_is_acquired() {
        let mut tries = 0;
        let busy_twice = || {
            tries += 1;
            if tries > 2 { Ok(()) } else { Err(TryLockError::WouldBlock) }
        };
        // In tests the wait is 0.
        assert!(!wait_for(busy_twice) && tries == 1);
        assert!(wait_for(|| Err(TryLockError::Error(io::ErrorKind::Unsupported.into()))));
    }
}
