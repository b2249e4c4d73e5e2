//! A lock between programs that change one file, for a file that is replaced as a whole.
//!
//! Input: the file's path. Output: a [`Turn`]; nobody else gets one for that file while it lives. A turn is a lock that
//! the system releases when its holder ends, however it ends. It is on a separate lock file: the file itself gets
//! replaced, so two holders could lock its old and its new version. The lock file is removed with the turn. Knows
//! nothing of the file's contents.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for others. A change takes milliseconds, a few seconds on a slow stick.
const WAIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(3);

/// The right to change a file.
pub(super) struct Turn {
    lock: Option<system::Lock>,
}

/// The result of one attempt.
enum Attempt {
    Mine(system::Lock),
    Others,
    /// The file system has no locks.
    Never,
}

impl Turn {
    /// Waits for a turn.
    ///
    /// # Errors
    /// When others hold theirs for too long, or the lock file can't be created.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Self::within(path, WAIT)
    }

    fn within(path: &Path, wait: Duration) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let (end, name) = (Instant::now() + wait, PathBuf::from(name));
        loop {
            match system::attempt(&name)? {
                Attempt::Mine(lock) => return Ok(Self { lock: Some(lock) }),
                Attempt::Never => return Ok(Self { lock: None }),
                Attempt::Others if Instant::now() >= end => {
                    let what = "another program is changing this file; try again";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                Attempt::Others => thread::sleep(POLL),
            }
        }
    }

    /// Whether it excludes others: where files can't be locked, everybody gets a turn at any time.
    pub(super) fn is_alone(&self) -> bool {
        self.lock.is_some()
    }
}

#[cfg(unix)]
mod system {
    use super::Attempt;
    use rustix::fs::OFlags;
    use std::fs::{File, Metadata, OpenOptions, TryLockError};
    use std::io;
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    use std::path::{Path, PathBuf};

    /// An open, locked file. It is removed before it is unlocked, while nobody else can have locked it.
    pub(super) struct Lock {
        path: PathBuf,
        file: File,
    }

    impl Drop for Lock {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
            let _ = self.file.unlock();
        }
    }

    pub(super) fn attempt(path: &Path) -> io::Result<Attempt> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
        let mut creating = options.clone();
        creating.write(true).create(true).truncate(false);
        let file = match creating.open(path) {
            // Another user's, left by an interrupted run: it can be locked all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
            other => other,
        };
        let file = match file {
            Ok(file) => file,
            // Removed between the two calls; the next arm is a link that somebody put there.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && path.parent().is_some_and(Path::is_dir) =>
            {
                return Ok(Attempt::Others);
            }
            Err(_) if path.is_symlink() => {
                std::fs::remove_file(path)?;
                return Ok(Attempt::Others);
            }
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Others),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                let _ = std::fs::remove_file(path);
                return Ok(Attempt::Never);
            }
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        // The previous holder removed it, and somebody may have made another since.
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match std::fs::symlink_metadata(path) {
            Ok(there) if same(&there, &file.metadata()?) => {
                Ok(Attempt::Mine(Lock { path: path.to_owned(), file }))
            }
            _ => Ok(Attempt::Others),
        }
    }
}

#[cfg(windows)]
mod system {
    use super::Attempt;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::windows::fs::OpenOptionsExt as _;
    use std::path::Path;

    const GENERIC_WRITE: u32 = 0x4000_0000;
    const DELETE: u32 = 0x0001_0000;
    const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;
    const ERROR_ACCESS_DENIED: i32 = 5;
    const ERROR_SHARING_VIOLATION: i32 = 32;

    /// A file that nobody else can open, and that the system removes when it is closed.
    pub(super) struct Lock(#[expect(dead_code, reason = "is closed with it")] File);

    pub(super) fn attempt(path: &Path) -> io::Result<Attempt> {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .access_mode(GENERIC_WRITE | DELETE)
            .share_mode(0)
            .custom_flags(FILE_FLAG_DELETE_ON_CLOSE)
            .open(path);
        match opened {
            Ok(file) => Ok(Attempt::Mine(Lock(file))),
            // Open elsewhere, or just closed and not yet deleted.
            Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => {
                Ok(Attempt::Others)
            }
            Err(error) if error.raw_os_error() == Some(ERROR_ACCESS_DENIED) && path.exists() => {
                Ok(Attempt::Others)
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Attempt::Never),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn turns_exclude_each_other_and_leave_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chats");
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        let turn = Turn::at(&path).unwrap();
                        assert!(turn.is_alone());
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!((turns.load(Ordering::Relaxed), names(folder.path())), (160, 0));
    }

    #[test]
    fn waiting_for_an_endless_turn_times_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chats");
        let held = Turn::at(&path).unwrap();
        let error = Turn::within(&path, Duration::ZERO).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held);
        assert!(Turn::within(&path, Duration::ZERO).is_ok());
        assert_eq!(names(folder.path()), 0);
    }

    #[test]
    fn a_stale_lock_file_is_not_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chats");
        std::fs::write(folder.path().join("chats.lock"), "").unwrap();
        assert!(Turn::within(&path, Duration::ZERO).unwrap().is_alone());
        assert_eq!(names(folder.path()), 0);
        assert!(Turn::at(&folder.path().join("none/chats")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join("chats.lock")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("x"), folder.path().join("b.lock")).unwrap();
        assert!(Turn::at(&folder.path().join("chats")).unwrap().is_alone());
        assert!(Turn::at(&folder.path().join("b")).unwrap().is_alone());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
        assert_eq!(names(folder.path()), 1);
    }
}
