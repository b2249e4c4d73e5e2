//! Finds the executable in front of a bundle. Knows executables only by their first bytes.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tealight_bundle::{Mapped, Tail, tail};

use super::executable::ExecutableFormat;
use super::target::Target;
use super::universal::program::Program;
use super::{cli, human, note};

/// An executable to put in front.
pub struct Runtime {
    pub path: PathBuf,
    pub format: ExecutableFormat,
    /// Length of the executable (from a bundle: before anything was added to it).
    pub bytes: u64,
    /// The expected SHA-256, if known.
    pub sha256: Option<[u8; 32]>,
    /// Whether a tail was put into it, so that it no longer matches its SHA-256.
    pub in_segment: bool,
    /// Bytes to put in front instead of the file's.
    pub changed: Option<Vec<u8>>,
    /// The programs for other systems that go behind it.
    pub programs: Vec<Program>,
}

impl Runtime {
    /// The executable of a bundle.
    pub fn of_bundle(path: &Path, format: ExecutableFormat, tail: &Tail) -> Runtime {
        let runtime = &tail.manifest().runtime;
        Runtime {
            path: path.to_owned(),
            format,
            bytes: runtime.bytes,
            sha256: Some(runtime.sha256.0),
            in_segment: tail.in_segment(),
            changed: None,
            programs: Vec::new(),
        }
    }
}

/// Finds the runtime: the one named, the one for a target, else the one beside this program.
pub fn find(options: &cli::Executable) -> Result<Runtime> {
    match (&options.runtime, options.target) {
        (Some(path), _) => open(path),
        (None, Some(target)) => for_target(target, options.dist.as_deref()),
        // Whoever gives a folder has no `tealight` beside this program.
        (None, None) => match (&options.dist, Target::host()) {
            (Some(dist), Some(host)) => for_target(host, Some(dist)),
            _ => open(&beside_program()?),
        },
    }
}

/// Finds the runtime for a target in the folder `dist`; without `dist`, beside this program, then in `./dist`.
pub fn for_target(target: Target, dist: Option<&Path>) -> Result<Runtime> {
    let name = target.runtime_name();
    let folders = folders(dist)?;
    let Some(path) = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file())
    else {
        bail!(
            "no runtime for {target}: there is no `{name}` in {}\n\
             hint: give the folder made by `make dist` with --dist, or a `tealight` program with --runtime",
            listed(&folders)
        );
    };
    let runtime = open(&path)?;
    let mapped = Mapped::open(&path)?;
    ensure!(
        Target::of(mapped.bytes()) == Some(target),
        "{}: expected an executable for {target}, found one for {}\nhint: rebuild it: make dist",
        path.display(),
        Target::of(mapped.bytes()).map_or("another system", Target::name)
    );
    Ok(runtime)
}

/// The runtimes of all targets that have one in the same folders.
pub fn all(dist: Option<&Path>) -> Result<Vec<(Target, Runtime)>> {
    let folders = folders(dist)?;
    let there =
        |target: &Target| folders.iter().any(|folder| folder.join(target.runtime_name()).is_file());
    let found: Vec<_> = Target::ALL
        .into_iter()
        .filter(there)
        .map(|target| Ok((target, for_target(target, dist)?)))
        .collect::<Result<_>>()?;
    ensure!(
        !found.is_empty(),
        "no runtimes: there is no `tealight-linux-x86_64`, `tealight-windows-x86_64.exe` or similar in {}\n\
         hint: give the folder made by `make dist` with --dist",
        listed(&folders)
    );
    Ok(found)
}

/// The folders to search for runtimes.
fn folders(dist: Option<&Path>) -> Result<Vec<PathBuf>> {
    match dist {
        Some(dist) => Ok(vec![dist.to_owned()]),
        None => Ok(vec![folder_of_program()?, PathBuf::from("dist")]),
    }
}

fn listed(folders: &[PathBuf]) -> String {
    let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    names.join(" or ")
}

/// Opens a runtime and finds out what it is.
fn open(path: &Path) -> Result<Runtime> {
    let path = path.to_owned();
    let mapped = Mapped::open(&path).with_context(|| "the runtime")?;
    let bytes = mapped.bytes();
    let Some(format) = ExecutableFormat::of(bytes) else {
        let swapped = if bytes.starts_with(b"GGUF") { " (it is a weights file)" } else { "" };
        bail!(
            "{}: not an executable for Linux, Windows or macOS{swapped}\nhint: --runtime takes the `tealight` program",
            path.display()
        );
    };
    // If the runtime is itself a bundle, only its executable is used.
    match tail::read(bytes).with_context(|| format!("the runtime {}", path.display()))? {
        None => Ok(Runtime {
            format,
            bytes: bytes.len() as u64,
            sha256: None,
            path,
            in_segment: false,
            changed: None,
            programs: Vec::new(),
        }),
        Some(tail) => {
            note(format_args!(
                "note: the runtime {} is itself a bundle; only its executable ({}) is used",
                path.display(),
                human(tail.manifest().runtime.bytes)
            ));
            Ok(Runtime::of_bundle(&path, format, &tail))
        }
    }
}

/// `tealight` beside this program; in a `dist` folder, which holds programs for other systems too, the one for this
/// system.
pub fn beside_program() -> Result<PathBuf> {
    let folder = folder_of_program()?;
    let host = Target::host().map(Target::runtime_name);
    ["tealight", "tealight.exe"]
        .into_iter()
        .chain(host.as_deref())
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no runtime: there is no `tealight` in {}\n\
                 hint: choose one with --runtime FILE, or a system with --target NAME --dist DIR",
                folder.display()
            )
        })
}

fn folder_of_program() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot locate this program's own file")?;
    Ok(program.parent().unwrap_or(Path::new(".")).to_owned())
}
