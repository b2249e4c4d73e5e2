//! The bundle: one executable file with weights and a chat page appended.
//!
//! This crate writes and reads the container. It knows files, names and checksums, and nothing of inference. The
//! runtime opens a bundle as [`mapped::Mapped`] → [`tail::read()`] → [`tail::Tail`] → [`gguf`], and the program
//! `tealight-bundle` makes, changes, lists, unpacks and verifies bundles.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod args;
pub mod gguf;
pub mod macho;
pub mod manifest;
pub mod mapped;
pub mod page;
pub mod parts;
pub mod shown;
pub mod signals;
pub mod tail;
mod vanished;
pub mod verify;

pub use manifest::Manifest;
pub use mapped::{MapError, Mapped};
pub use tail::{Entry, Role, Tail, TailError};
pub use verify::{VerifyError, verify};
