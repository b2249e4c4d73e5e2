//! Extracts entries of a bundle into one folder, never outside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tealight_bundle::manifest::Sha256Sum;
use tealight_bundle::tail::Role;
use tealight_bundle::{Mapped, Tail};

use super::copy::{Sink, copy, write_failed};
use super::executable::ExecutableFormat;
use super::output::{Output, commit};
use super::progress::Progress;
use super::{answer, cli, leftover_note, note, open_bundle};

/// `tealight-bundle extract`.
pub fn run(args: &cli::Extract) -> Result<()> {
    let (mapped, tail) = open_bundle(&args.bundle)?;
    leftover_note(&args.bundle, &tail);
    let pieces = pieces(args, &mapped, &tail)?;
    fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot create the folder {}", args.output.display()))?;
    let mut progress =
        Progress::new("extracting", pieces.iter().map(|piece| piece.data.len() as u64).sum());
    let mut made = String::new();
    for piece in pieces {
        let target = folder_for(&args.output, &piece.name)?;
        let mut output = Output::create(&target, args.force, piece.executable)?;
        let sink = Sink { file: &mut output.file, path: &target };
        let bytes = piece.data.len() as u64;
        let sums = copy(&mut &piece.data[..], mapped.path(), bytes, Some(sink), &mut |bytes| {
            progress.add(bytes);
        })?;
        ensure!(
            sums.sha256 == piece.sha256,
            "entry `{}`: expected SHA-256 {}, found {}\nhint: the bundle is damaged; fetch it again",
            piece.name,
            Sha256Sum(piece.sha256),
            Sha256Sum(sums.sha256)
        );
        output.file.set_len(bytes).map_err(|error| write_failed(&target, &error))?;
        commit(&[&output])?;
        made.push_str(&target.display().to_string());
        made.push('\n');
    }
    drop(progress);
    for entry in tail.manifest().entries.iter().filter(|entry| entry.external) {
        note(format_args!(
            "note: `{}` is not extracted: it is a separate file beside the bundle",
            entry.name
        ));
    }
    answer(&made)
}

/// A file to write.
struct Piece<'a> {
    name: String,
    data: &'a [u8],
    sha256: [u8; 32],
    executable: bool,
}

fn pieces<'a>(args: &cli::Extract, mapped: &'a Mapped, tail: &Tail) -> Result<Vec<Piece<'a>>> {
    let bytes = mapped.bytes();
    let piece = |entry: &tealight_bundle::Entry| Piece {
        name: entry.name.clone(),
        data: bytes.get(entry.range.clone()).unwrap_or_default(),
        sha256: entry.sha256,
        executable: entry.role == Role::Runtime,
    };
    let mut pieces = Vec::new();
    if args.runtime {
        ensure!(
            !tail.in_segment(),
            "{}: a macOS executable is changed and re-signed when it becomes a bundle, so the original cannot be \
             extracted\nhint: the original is the runtime with SHA-256 {}",
            args.bundle.display(),
            tail.manifest().runtime.sha256
        );
        let data = bytes.get(..usize::try_from(tail.runtime_end())?).unwrap_or_default();
        let name = if ExecutableFormat::of(data) == Some(ExecutableFormat::Pe) {
            "tealight.exe"
        } else {
            "tealight"
        };
        let sha256 = tail.manifest().runtime.sha256.0;
        pieces.push(Piece { name: name.to_owned(), data, sha256, executable: true });
    }
    for name in &args.names {
        let entry = tail.entry(name).with_context(|| {
            format!(
                "{}: no entry `{name}`\nhint: `tealight-bundle list` shows all entries",
                args.bundle.display()
            )
        })?;
        pieces.push(piece(entry));
    }
    if pieces.is_empty() {
        // The head is meaningful only in its place.
        pieces.extend(tail.entries().iter().filter(|entry| entry.role != Role::Head).map(piece));
    }
    Ok(pieces)
}

/// Creates the folders that a name needs. The name has been checked to stay inside `root`; the folders on disk must
/// too, so a link among them is refused.
fn folder_for(root: &Path, name: &str) -> Result<PathBuf> {
    let mut path = root.to_owned();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        if parts.peek().is_none() {
            break;
        }
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error)
                    .with_context(|| format!("cannot create the folder {}", path.display()));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(&path)
            .with_context(|| format!("cannot read the metadata of {}", path.display()))?;
        ensure!(
            found.is_dir(),
            "{}: expected a folder, found a file or a link (links are not followed: they may lead elsewhere)",
            path.display()
        );
    }
    Ok(path)
}
