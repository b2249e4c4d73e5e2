//! Replaces a file as a whole: it is written beside its place under a name of its own, then renamed.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// Has `write` fill a new file and puts that in place of the one at `path`. After an error, the old one is as it was.
///
/// # Errors
/// When the file can't be created, written or renamed.
pub fn replace<T>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    let (new, mut file) = new_file(path)?;
    let written = write(&mut file).and_then(|result| file.sync_all().map(|()| result));
    drop(file);
    let placed = written.and_then(|result| insist(|| std::fs::rename(&new, path)).map(|()| result));
    if placed.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    placed
}

/// Whether a file name is that of a new file for the one called `own` that was never renamed. Older versions added only
/// `.new`.
#[must_use]
pub fn is_unplaced(own: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(own) else { return false };
    let random = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".new"));
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    rest == ".new" || random.is_some_and(|random| random.len() == 16 && random.bytes().all(hex))
}

/// Creates a file beside the one at `path`, under a unique name.
fn new_file(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let mut new = path.to_owned().into_os_string();
        new.push(format!(".{:016x}.new", RandomState::new().hash_one(0)));
        let new = PathBuf::from(new);
        match File::create_new(&new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (new, file)),
        }
    }
}

/// Retries for 2 s on Windows, which refuses to replace a file while somebody reads it.
fn insist(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut left = if cfg!(windows) { 200 } else { 0 };
    loop {
        match attempt() {
            Err(error) if left > 0 && error.kind() == io::ErrorKind::PermissionDenied => {
                left -= 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            done => return done,
        }
    }
}
