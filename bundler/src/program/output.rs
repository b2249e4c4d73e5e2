//! Files that appear whole or not at all.
//!
//! Input: the path of a file to write. Output: that file, complete and synced, or nothing. It is written under a name
//! of its own beside the target and then renamed. An unfinished file is removed however the program ends, except by a
//! SIGKILL or a power cut; then it stays under that name until the next run with the same target removes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use tealight_bundle::signals;

use super::copy::write_failed;

/// Suffix of an unfinished file's name.
const UNFINISHED: &str = ".tealight-unfinished";

/// Files that a signal must remove. Locked while files get their final names, so a signal finds all or none of them
/// renamed.
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Makes Ctrl-C and similar signals remove unfinished files.
pub fn remove_on_signal() -> Result<()> {
    signals::watch(|_| {
        let pending = pending();
        for path in pending.iter() {
            let _ = fs::remove_file(path);
        }
        super::note(if pending.is_empty() {
            "error: interrupted"
        } else {
            "error: interrupted; unfinished files were removed"
        });
        std::process::exit(super::FAILED.into());
    })
    .context("cannot watch for Ctrl-C")
}

/// A file being written.
pub struct Output {
    pub file: File,
    unfinished: PathBuf,
    target: PathBuf,
    force: bool,
}

impl Output {
    /// Starts a file. With `executable`, everybody may run it, as far as the umask allows.
    pub fn create(target: &Path, force: bool, executable: bool) -> Result<Output> {
        check_target(target, force)?;
        let unfinished = unfinished_path(target)?;
        let cannot = || format!("cannot create {}", unfinished.display());
        if let Ok(stale) = OpenOptions::new().write(true).open(&unfinished) {
            // It is stale only if nobody holds its lock.
            match stale.try_lock() {
                Err(TryLockError::WouldBlock) => bail!(
                    "{}: another tealight-bundle is writing it\nhint: wait for it to finish",
                    target.display()
                ),
                _ => drop(fs::remove_file(&unfinished)),
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(
            &mut options,
            if executable { 0o777 } else { 0o666 },
        );
        #[cfg(not(unix))]
        let _ = executable;
        let mut pending = pending();
        let file = options.open(&unfinished).with_context(cannot)?;
        pending.push(unfinished.clone());
        drop(pending);
        let output = Output { file, unfinished, target: target.to_owned(), force };
        // Some file systems cannot lock; then two runs at once are the user's risk.
        if matches!(output.file.try_lock(), Err(TryLockError::WouldBlock)) {
            bail!("{}: another tealight-bundle is writing it", target.display());
        }
        Ok(output)
    }

    /// Its final path.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Its path until then.
    pub fn unfinished(&self) -> &Path {
        &self.unfinished
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut pending = pending();
        if let Some(at) = pending.iter().position(|path| *path == self.unfinished) {
            pending.swap_remove(at);
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Gives the files their final names, in this order, once all are synced.
pub fn commit(outputs: &[&Output]) -> Result<()> {
    for output in outputs {
        output.file.sync_all().map_err(|error| write_failed(&output.target, &error))?;
        check_target(&output.target, output.force)?;
    }
    let mut pending = pending();
    for output in outputs {
        fs::rename(&output.unfinished, &output.target).with_context(|| {
            format!("cannot rename {} to {}", output.unfinished.display(), output.target.display())
        })?;
        pending.retain(|path| *path != output.unfinished);
    }
    #[cfg(unix)]
    for output in outputs {
        // So that a power cut does not lose the name. Some file systems cannot sync a folder.
        let _ = File::open(folder_of(&output.target)).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// Refuses a target that must not be replaced.
pub fn check_target(target: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = folder_of(target);
            ensure!(
                folder.is_dir(),
                "{}: the folder {} does not exist",
                target.display(),
                folder.display()
            );
            Ok(())
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the metadata of {}", target.display()))
        }
        Ok(found) if found.is_dir() => {
            bail!(
                "{}: expected a file, found a folder\nhint: add a file name to the path",
                target.display()
            )
        }
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            bail!("{}: expected a file, found a device, pipe or socket", target.display())
        }
        Ok(_) if !force => {
            bail!("{}: the file already exists\nhint: --force replaces it", target.display())
        }
        Ok(_) => Ok(()),
    }
}

/// Whether two paths lead to the same existing file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn unfinished_path(target: &Path) -> Result<PathBuf> {
    let name = target
        .file_name()
        .with_context(|| format!("{}: the path has no file name", target.display()))?;
    let mut unfinished = name.to_owned();
    unfinished.push(UNFINISHED);
    Ok(target.with_file_name(unfinished))
}

fn pending() -> MutexGuard<'static, Vec<PathBuf>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}
