//! Why a file that is a bundle is not accepted.

use thiserror::Error;

use super::Role;
use super::layout;
use crate::manifest::ManifestError;

/// Why a file that is a bundle was not accepted.
#[derive(Debug, Error)]
pub enum TailError {
    /// It ends within the weights.
    #[error(
        "the bundle is truncated: the file has {file_bytes} bytes, but its weights end at byte {weights_end}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    Truncated {
        /// The file's length.
        file_bytes: u64,
        /// Where the weights should end.
        weights_end: u64,
    },
    /// It ends within the head.
    #[error(
        "the bundle is truncated: the file has {file_bytes} bytes and ends within its head, at byte {offset}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    TruncatedHead {
        /// The file's length.
        file_bytes: u64,
        /// Where the head begins.
        offset: u64,
    },
    /// An executable for macOS ends before its load commands say.
    #[error(
        "the bundle is truncated: the file has {file_bytes} bytes, but its last part ends at byte {expected}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    TruncatedExecutable {
        /// The file's length.
        file_bytes: u64,
        /// What its load commands say.
        expected: u64,
    },
    /// The head is damaged.
    #[error(
        "the bundle's head at byte {offset} is damaged: {what}\nhint: the file has changed since it was made; fetch it again"
    )]
    Head {
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The head is of another format version.
    #[error(
        "the bundle has format {found}; this program reads format {}\n\
         hint: the bundle was made by another version of tealight; use that version",
        layout::FORMAT
    )]
    Format {
        /// The version it names.
        found: u32,
    },
    /// No complete set of closing records.
    #[error(
        "the bundle's end record is missing or damaged: at byte {offset}, expected {expected}, found {found}\n\
         hint: the download or copy may be incomplete; fetch it again"
    )]
    Ends {
        /// Where the records should be.
        offset: u64,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The directory as a whole is wrong.
    #[error(
        "the bundle's directory at byte {offset}: {what}, expected {expected}, found {found}\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Directory {
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
        /// What the format asks for.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A record of the directory is wrong.
    #[error(
        "the bundle's directory, record {index} at byte {offset}: {what}\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Record {
        /// Which, from 0.
        index: usize,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A name that is invalid, or could lead out of a folder.
    #[error(
        "entry `{name}`: the name {why}\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Name {
        /// The name, escaped.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// The same name twice.
    #[error(
        "entry `{name}` occurs twice\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A compressed entry.
    #[error(
        "entry `{name}` is compressed (method {method}); a bundle holds stored entries only\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Compressed {
        /// The name.
        name: String,
        /// The zip method.
        method: u16,
    },
    /// An encrypted entry.
    #[error(
        "entry `{name}` is encrypted; a bundle holds plain entries only\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Encrypted {
        /// The name.
        name: String,
    },
    /// An entry whose sizes follow the data.
    #[error(
        "entry `{name}` has a data descriptor; in a bundle the sizes come before the data\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Descriptor {
        /// The name.
        name: String,
    },
    /// A number that does not match.
    #[error(
        "entry `{name}`: {what}, expected {expected}, found {found}\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Entry {
        /// The name.
        name: String,
        /// What is wrong.
        what: &'static str,
        /// What the format or the manifest asks for.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A small entry's content is damaged.
    #[error(
        "entry `{name}` is damaged: expected CRC-32 {expected:08x}, found {found:08x}\n\
         hint: the file has changed since it was made; fetch it again"
    )]
    Crc {
        /// The name.
        name: String,
        /// What the directory says.
        expected: u32,
        /// The CRC-32 of the data.
        found: u32,
    },
    /// A role that is not allowed at this place.
    #[error(
        "entry `{name}`: role {role} is not allowed {place}\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Role {
        /// The name.
        name: String,
        /// The role in the manifest.
        role: Role,
        /// Where the entry is.
        place: &'static str,
    },
    /// An entry in only one of directory and manifest.
    #[error(
        "entry `{name}` is in the {present}, but not in the {absent}\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Missing {
        /// The name.
        name: String,
        /// Where it is.
        present: &'static str,
        /// Where it is not.
        absent: &'static str,
    },
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The file is not the one that the tail was read from.
    #[error(
        "the file changed since it was opened\nhint: the file is damaged, or another program changed it; fetch it again"
    )]
    Changed,
}
