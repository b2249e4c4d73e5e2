//! What was read, saved to files and taken back: slot by slot, for another start of the program.

use super::Engine;
use super::error::EngineError;
use super::job::Command;
use super::saved::{self, Origin, Saved, SavedError};
use crate::model::PAGE;
use crate::system::replace;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc;

/// Bytes that a file may have beside its pages and states: its head and the tokens' ids.
const HEAD_MAX: usize = 64 << 20;

/// A file of a slot that can't be written or is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The slot has read nothing that is still kept.
    #[error("slot {0} has read nothing yet, or it is no longer kept")]
    Nothing(usize),
    /// The file can't be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The file is of no use here.
    #[error("{path}: {error}")]
    Saved {
        /// The file.
        path: String,
        /// Why not.
        error: SavedError,
    },
    /// What was to be saved can't be computed.
    #[error(transparent)]
    Computing(EngineError),
    /// The scheduler has ended.
    #[error("the engine stopped")]
    Stopped,
}

impl Engine {
    /// Saves what slot `slot` has read last. Returns the number of tokens and of bytes. The file is written beside its
    /// place and then moved there, so that it is never half a file.
    ///
    /// # Errors
    /// When it has read nothing, or the file can't be written.
    pub fn save_slot(&self, slot: usize, path: &Path) -> Result<(usize, u64), KeepError> {
        self.save_shifted(slot, path, 0)
    }

    /// The same for a file that will lie within another one, `shift` bytes behind a multiple of 64.
    pub(super) fn save_shifted(
        &self,
        slot: usize,
        path: &Path,
        shift: usize,
    ) -> Result<(usize, u64), KeepError> {
        let (reply, answer) = mpsc::channel();
        self.scheduler.command(Command::Look { slot, reply });
        let saved = answer.recv().map_err(|_| KeepError::Stopped)?;
        if saved.tokens.is_empty() {
            return Err(KeepError::Nothing(slot));
        }
        let failed = |error| KeepError::File { path: path.display().to_string(), error };
        let written = replace(path, |file| {
            let mut out = BufWriter::new(file);
            let bytes = saved::write(&mut out, &self.origin(), self.page_bytes(), shift, &saved)?;
            out.flush().map(|()| bytes)
        });
        Ok((saved.tokens.len(), written.map_err(failed)?))
    }

    /// Takes back what was saved, as if slot `slot` had read it. Returns the number of tokens and of bytes.
    ///
    /// # Errors
    /// When the file can't be read, is damaged, or was saved with other weights or settings.
    pub fn restore_slot(&self, slot: usize, path: &Path) -> Result<(usize, u64), KeepError> {
        let name = || path.display().to_string();
        let failed = |error| KeepError::File { path: name(), error };
        let blank = self.blank_states();
        let states: usize = blank.iter().map(|state| size_of_val::<[f32]>(state)).sum();
        let pages = self.page_bytes().iter().sum::<usize>();
        let pages = pages.saturating_mul(self.info.context.div_ceil(PAGE));
        let most = pages.saturating_add(states).saturating_add(HEAD_MAX);
        let length = std::fs::metadata(path).map_err(failed)?;
        if !length.is_file() || length.len() > most as u64 {
            let why = "not a file, or larger than a whole context";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        let saved = saved::read(&bytes, &self.origin(), self.info.vocab, &blank, self.pool());
        let saved = saved.map_err(|error| KeepError::Saved { path: name(), error })?;
        Ok((self.keep(slot, saved)?, bytes.len() as u64))
    }

    /// Keeps what was read elsewhere, as if slot `slot` had read it. Returns the number of tokens.
    pub(super) fn keep(&self, slot: usize, saved: Saved) -> Result<usize, KeepError> {
        let (reply, answer) = mpsc::channel();
        self.scheduler.command(Command::Keep { slot, saved, reply });
        answer.recv().map_err(|_| KeepError::Stopped)
    }

    /// Forgets what slot `slot` has read last, where nothing else needs it. Returns the number of tokens.
    ///
    /// # Errors
    /// When the scheduler has ended.
    pub fn erase_slot(&self, slot: usize) -> Result<usize, KeepError> {
        let (reply, answer) = mpsc::channel();
        self.scheduler.command(Command::Erase { slot, reply });
        answer.recv().map_err(|_| KeepError::Stopped)
    }

    /// What saved keys and values of this engine depend on.
    pub(super) fn origin(&self) -> Origin {
        Origin { weights: self.fingerprint(), names: self.kinds.clone() }
    }
}
