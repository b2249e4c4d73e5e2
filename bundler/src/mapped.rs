//! A file as bytes, without reading it.
//!
//! Enters: a path. Leaves: a read-only mapping of a regular, non-empty file. Knows nothing of what is in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use thiserror::Error;

/// A regular file, mapped read-only.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
    path: PathBuf,
}

impl Mapped {
    /// Maps the file. Only pages that are touched are read.
    ///
    /// # Errors
    ///
    /// It cannot be opened, is not a regular file, is empty, or does not fit into the address space.
    pub fn open(path: &Path) -> Result<Mapped, MapError> {
        let fail = |what| move |error| MapError::Io { path: path.to_owned(), what, error };
        // Before opening: opening a pipe would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(fail("open"))?;
        refuse_special(path, &metadata)?;
        let file = File::open(path).map_err(fail("open"))?;
        Self::of(&file, path)
    }

    /// Maps a file that is already open; `path` is what errors call it.
    ///
    /// # Errors
    ///
    /// As [`Mapped::open`].
    pub fn of(file: &File, path: &Path) -> Result<Mapped, MapError> {
        let fail = |what| move |error| MapError::Io { path: path.to_owned(), what, error };
        let metadata = file.metadata().map_err(fail("look at"))?;
        refuse_special(path, &metadata)?;
        if metadata.len() == 0 {
            return Err(MapError::Empty { path: path.to_owned() });
        }
        if usize::try_from(metadata.len()).is_err() {
            return Err(MapError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
        }
        // SAFETY: the mapping is private to this value, read-only, and of a regular file. What no program can rule out
        // is that another one shortens or rewrites the file meanwhile. On Linux a running executable cannot be opened
        // for writing, and Windows refuses to shorten a mapped file, which covers a bundle that runs; our own
        // rewriting (`tail::rewrite`) never moves or changes weights. Everything read from the mapping is checked as
        // hostile, and no reference into it is handed out as anything but plain bytes, for which all values are valid.
        #[expect(unsafe_code, reason = "mapping a file has no safe form; argued above")]
        let map = unsafe { Mmap::map(file) }.map_err(fail("map"))?;
        // Weights are read from end to end for each token: with pages of 2 MiB, where the file system has them, fewer
        // addresses are looked up, and a file that is not in memory yet is read in larger pieces. Only a wish.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Mapped { map, path: path.to_owned() })
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

/// Why a file could not be mapped.
#[derive(Debug, Error)]
pub enum MapError {
    /// The operating system said no.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A folder.
    #[error("{}: a file was expected, this is a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A device, pipe or socket.
    #[error("{}: a regular file was expected, this is a device, pipe or socket", path.display())]
    Special {
        /// What was named.
        path: PathBuf,
    },
    /// No bytes.
    #[error("{}: the file is empty\nhint: the download or copy may have failed", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A 32-bit system and a large file.
    #[error("{}: {bytes} bytes do not fit into this system's address space", path.display())]
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
}
