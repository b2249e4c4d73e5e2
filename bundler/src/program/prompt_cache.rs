//! Has a runtime compute the prompt cache of a bundle. Input: the bundle, and a runtime if one is named. Output: the bytes
//! of the cache, which only runtimes understand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tealight_bundle::Mapped;

use super::runtime::beside_program;
use super::target::Target;
use super::{note, read_tail};

/// A file beside the bundle that is removed in the end.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Computes the prompt cache: with the bundle's own runtime where that runs here, else with this system's.
pub fn computed(bundle: &Path, runtime: Option<&Path>) -> Result<Vec<u8>> {
    let shown = bundle.display();
    let mapped = Mapped::open(bundle)?;
    read_tail(&mapped)?;
    let own = Target::of(mapped.bytes()).is_some_and(|target| Some(target) == Target::host());
    drop(mapped);
    let bundle = bundle.canonicalize().with_context(|| format!("cannot find {shown}"))?;
    let runtime: PathBuf = match runtime {
        Some(path) => path.to_owned(),
        None if own => bundle.clone(),
        None => beside_program().context(
            "the bundle is for another system\nhint: name a runtime for this one with --runtime",
        )?,
    };
    let mut name = bundle.as_os_str().to_owned();
    name.push(format!(".{}.kv", std::process::id()));
    let passing = Passing(name.into());
    let path = &passing.0;
    note(format_args!("reading the system prompt with {}", runtime.display()));
    let done = Command::new(&runtime)
        .args([Path::new("--bundle"), &bundle, Path::new("prompt-cache"), path])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", runtime.display()))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{}: {}", runtime.display(), said.trim());
    }
    let cache = fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(!cache.is_empty(), "{}: wrote an empty prompt cache", runtime.display());
    note(format_args!("prompt cache: {}", String::from_utf8_lossy(&done.stdout).trim()));
    Ok(cache)
}
