//! Compares every byte of a bundle, and of the weights beside it, with the manifest.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use tealight_bundle::manifest::Sha256Sum;
use tealight_bundle::verify;

use super::copy::copy;
use super::progress::Progress;
use super::{answer, cli, human, leftover_note, open_bundle};

/// `tealight-bundle verify`.
pub fn run(args: &cli::Verify) -> Result<()> {
    let (mapped, tail) = open_bundle(&args.bundle)?;
    let shown = args.bundle.display();
    leftover_note(&args.bundle, &tail);
    let external: Vec<_> = tail.manifest().entries.iter().filter(|entry| entry.external).collect();
    let mut progress = Progress::new("verifying", mapped.bytes().len() as u64);
    verify(mapped.bytes(), &tail, &mut |done, _| progress.set(done))
        .with_context(|| shown.to_string())?;
    drop(progress);
    let mut checked = mapped.bytes().len() as u64 - tail.leftover_bytes();
    for entry in external {
        let path = args.bundle.with_file_name(&entry.name);
        let mut file = File::open(&path).with_context(|| {
            format!("{shown} needs the file {} beside it, which cannot be opened", path.display())
        })?;
        let bytes = file
            .metadata()
            .with_context(|| format!("cannot read the metadata of {}", path.display()))?
            .len();
        ensure!(
            bytes == entry.bytes,
            "{}: expected {} bytes, found {bytes}\nhint: the download may be incomplete",
            path.display(),
            entry.bytes
        );
        let mut progress = Progress::new("verifying the weights", bytes);
        let sums = copy(&mut file, &path, bytes, None, &mut |bytes| {
            progress.add(bytes);
        })?;
        ensure!(
            sums.sha256 == entry.sha256.0,
            "{}: expected SHA-256 {}, found {}\nhint: the file has changed since it was made; fetch it again",
            path.display(),
            entry.sha256,
            Sha256Sum(sums.sha256)
        );
        checked += bytes;
    }
    answer(&format!("{shown}: {} verified\n", human(checked)))
}
