//! Finds the weights: named by the user, in the bundle's own tail, or beside the program.
//!
//! Input: a path, or the program's own file. Output: the shards of one model as ranges of mapped files, and the bundle
//! if there is one. Reads no weights.

use crate::model::Shard;
use crate::system::own_file;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tealight_bundle::gguf;
use tealight_bundle::mapped::{MapError, Mapped};
use tealight_bundle::parts::{self, PartsError};
use tealight_bundle::tail::{Role, Tail, TailError, read};

/// The program's own file, mapped, and the bundle in its tail if it has one.
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// Its bytes.
    pub file: Arc<Mapped>,
    /// The bundle.
    pub tail: Option<Tail>,
}

/// Weights that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Parts of a model are missing.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// A bundle is damaged.
    #[error("{path}: {error}")]
    Tail {
        /// The file.
        path: String,
        /// What is wrong.
        error: TailError,
    },
    /// The file is neither a GGUF file nor a bundle with weights.
    #[error(
        "{path}: found {found}, expected a GGUF file or a bundle with weights\nhint: weights are files ending in .gguf"
    )]
    NoWeights {
        /// The file.
        path: String,
        /// What it is.
        found: String,
    },
    /// The file named by `--bundle` has no tail.
    #[error(
        "{path}: expected a bundle after --bundle, found another file\nhint: the download or copy may be incomplete; fetch it again"
    )]
    NoBundle {
        /// The file.
        path: String,
    },
    /// The program's own path is unknown.
    #[error("cannot find the program's own file: {0}")]
    Program(std::io::Error),
}

/// If this is the first argument, the next one names the bundle to use as the program's own file. The script in a file
/// for every system starts its runtime this way (see `docs/bundle-format.md`).
pub const BUNDLE_FLAG: &str = "--bundle";

/// The file that this process was told to use as its own, if any.
#[must_use]
pub fn handed_over() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == BUNDLE_FLAG).then(|| arguments.next().unwrap_or_default().into())
}

/// What the page and the terminal say when there are no weights.
pub const NO_WEIGHTS: &str = "This program has no model in it, and found none beside it.\n\
\n\
Give it a model in one of these ways:\n\
  - put a GGUF file with the program's own name beside it (tealight and tealight.gguf), and start it again;\n\
  - start it with a GGUF file:  tealight --weights model.gguf\n\
  - make one file of both:      tealight-bundle --weights model.gguf -o chat\n\
\n\
Sites that share open models offer them as GGUF files; one with \"Q4_K_M\" in its name is a good choice. A computer with 8 GB of memory runs models of up to about 4 GB.";

impl Program {
    /// Maps the running program.
    ///
    /// # Errors
    /// When it cannot be found or mapped, or its tail is damaged.
    pub fn open() -> Result<Self, SourceError> {
        if let Some(path) = handed_over() {
            // Follow links, as the system does for a program, so that files beside it are found.
            let path = path.canonicalize().unwrap_or(path);
            let program = Self::at(&path)?;
            return match program.tail {
                Some(_) => Ok(program),
                None => Err(SourceError::NoBundle { path: path.display().to_string() }),
            };
        }
        let path = std::env::current_exe().map_err(SourceError::Program)?;
        // The other systems already follow a link to the program.
        let path =
            if cfg!(target_os = "macos") { path.canonicalize().unwrap_or(path) } else { path };
        let own = own_file().map_err(SourceError::Program)?;
        let open = std::fs::File::open(own).map_err(SourceError::Program)?;
        let file = Arc::new(Mapped::open_file(open, &path)?);
        let tail = read_tail(&file)?;
        Ok(Self { path, file, tail })
    }

    /// Maps a program, or another file that may be a bundle.
    ///
    /// # Errors
    /// When it cannot be mapped, or its tail is damaged.
    pub fn at(path: &Path) -> Result<Self, SourceError> {
        let file = Arc::new(Mapped::open(path)?);
        let tail = read_tail(&file)?;
        Ok(Self { path: path.to_owned(), file, tail })
    }

    /// A small entry of the bundle as text.
    #[must_use]
    pub fn text(&self, role: Role) -> Option<String> {
        let entry = self.tail.as_ref()?.with_role(role).next()?;
        let bytes = self.file.bytes().get(entry.range.clone())?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The weights: those in the tail, those the manifest names beside the program, or a GGUF file with
    /// the program's name. `None`: there are none.
    ///
    /// # Errors
    /// When they exist and cannot be mapped.
    pub fn weights(&self) -> Result<Option<Vec<Shard>>, SourceError> {
        if let Some(tail) = &self.tail {
            let inside = shards_inside(&self.file, &self.path, tail);
            if !inside.is_empty() {
                return Ok(Some(inside));
            }
            let beside: Vec<PathBuf> = tail
                .manifest()
                .entries
                .iter()
                .filter(|e| e.role == Role::Model && e.external)
                .map(|e| self.path.with_file_name(&e.name))
                .collect();
            if !beside.is_empty() {
                return beside.iter().map(|path| shard(path)).collect::<Result<_, _>>().map(Some);
            }
        }
        for name in self.sidecar_names() {
            if name.is_file() {
                return open(&name).map(Some);
            }
        }
        Ok(None)
    }

    /// `name.gguf` and the first part of a split one, for a program `name` or `name.exe`.
    fn sidecar_names(&self) -> Vec<PathBuf> {
        let Some(name) = self.path.file_name().and_then(|n| n.to_str()) else { return Vec::new() };
        let stem = name.strip_suffix(".exe").or(name.strip_suffix(".EXE")).unwrap_or(name);
        let mut names = vec![self.path.with_file_name(format!("{stem}.gguf"))];
        let prefix = format!("{stem}-00001-of-");
        let folder = self.path.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|n| n.strip_prefix(&prefix));
            if rest.is_some_and(|r| r.to_ascii_lowercase().ends_with(".gguf")) {
                names.push(entry.path());
            }
        }
        names
    }
}

/// Opens weights that the user named: a GGUF file, any part of a split one, or a bundle.
///
/// # Errors
/// When it is none of these, or cannot be mapped.
pub fn open(path: &Path) -> Result<Vec<Shard>, SourceError> {
    let file = Arc::new(Mapped::open(path)?);
    if file.bytes().starts_with(&gguf::MAGIC) {
        let parts = parts::find(parts::File { path: path.to_owned(), mapped: file })?;
        return Ok(parts.iter().map(|part| whole(&part.mapped, &part.path)).collect());
    }
    let found = match read_tail(&file)? {
        Some(tail) => {
            let inside = shards_inside(&file, path, &tail);
            if !inside.is_empty() {
                return Ok(inside);
            }
            "a bundle without weights".to_owned()
        }
        None => {
            format!("a file that begins with {:02x?}", &file.bytes()[..file.bytes().len().min(4)])
        }
    };
    Err(SourceError::NoWeights { path: path.display().to_string(), found })
}

fn read_tail(file: &Mapped) -> Result<Option<Tail>, SourceError> {
    read(file.bytes())
        .map_err(|error| SourceError::Tail { path: file.path().display().to_string(), error })
}

fn shard(path: &Path) -> Result<Shard, SourceError> {
    let file = Arc::new(Mapped::open(path)?);
    Ok(whole(&file, path))
}

fn whole(file: &Arc<Mapped>, path: &Path) -> Shard {
    Shard { name: path.display().to_string(), file: Arc::clone(file), range: 0..file.bytes().len() }
}

fn shards_inside(file: &Arc<Mapped>, path: &Path, tail: &Tail) -> Vec<Shard> {
    let shard = |entry: &tealight_bundle::tail::Entry| Shard {
        name: format!("{} in {}", entry.name, path.display()),
        file: Arc::clone(file),
        range: entry.range.clone(),
    };
    tail.with_role(Role::Model).map(shard).collect()
}
