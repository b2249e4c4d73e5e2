//! The manifest: what is in a bundle and what each entry is for.
//!
//! Input: the bytes of `manifest.json`. Output: a [`Manifest`] of the format version that this crate reads. Does not
//! know whether it agrees with the file; [`crate::tail`] compares the two.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use thiserror::Error;

use crate::tail::layout::FORMAT;

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The first entry, which says where the parts of the file end.
    Head,
    /// An executable for another system than the one in front.
    Runtime,
    /// A GGUF to answer with; shards of a split one are in order.
    Model,
    /// A small GGUF for speculative decoding.
    Draft,
    /// A GGUF that turns images or sound into embeddings.
    Projector,
    /// Documents to answer from.
    Corpus,
    /// Keys and values of what all conversations begin with: rewritable, but long, and not read when a bundle is opened.
    PromptCache,
    /// Default arguments, see [`crate::args`].
    Args,
    /// The system prompt.
    SystemPrompt,
    /// A Jinja template that replaces the one in the weights.
    ChatTemplate,
    /// A licence text.
    License,
    /// A file of the chat page.
    Web,
    /// The manifest itself; it does not list itself.
    Manifest,
    /// A role from a later version; kept, but not used.
    #[serde(other)]
    Other,
}

impl Role {
    /// Whether entries of this role lie, aligned, before the rewritable part and are not read when a bundle is opened.
    #[must_use]
    pub fn is_big(self) -> bool {
        matches!(self, Role::Runtime | Role::Model | Role::Draft | Role::Projector | Role::Corpus)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Head => "head",
            Role::Runtime => "runtime",
            Role::Model => "model",
            Role::Draft => "draft",
            Role::Projector => "projector",
            Role::Corpus => "corpus",
            Role::PromptCache => "prompt-cache",
            Role::Args => "args",
            Role::SystemPrompt => "system-prompt",
            Role::ChatTemplate => "chat-template",
            Role::License => "license",
            Role::Web => "web",
            Role::Manifest => "manifest",
            Role::Other => "other",
        })
    }
}

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256Sum(pub [u8; 32]);

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_hex(&text)
            .map(Sha256Sum)
            .ok_or_else(|| serde::de::Error::custom("a SHA-256 is 64 hexadecimal digits"))
    }
}

/// One entry, as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// The name in the zip; for an external entry, the name of the file beside the executable.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256Sum,
    /// Whether it is a file beside the executable instead of an entry in the bundle.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

/// The executable in front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256Sum,
}

/// `manifest.json`. Fields that a later version adds are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format version, [`FORMAT`].
    pub format: u32,
    /// The bundle's name, chosen by its maker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The program that wrote it, with its version.
    pub created_by: String,
    /// The executable in front.
    pub runtime: RuntimeInfo,
    /// Every entry but the manifest, in the order of the directory, then the external ones.
    pub entries: Vec<ManifestEntry>,
}

impl Manifest {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    ///
    /// It is not a valid manifest, or has another format version.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        // The version first: a later format may have changed every other field.
        let version: Version = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if version.format != FORMAT {
            return Err(ManifestError::Format { found: version.format });
        }
        serde_json::from_slice(bytes).map_err(ManifestError::Json)
    }

    /// Writes `manifest.json`. Its length does not depend on the hashes.
    #[must_use]
    #[expect(
        clippy::missing_panics_doc,
        reason = "it never does: all fields are strings and numbers"
    )]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json =
            serde_json::to_vec_pretty(self).expect("strings and numbers always become JSON");
        json.push(b'\n');
        json
    }
}

/// Why a manifest was not accepted.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not JSON, or not these fields.
    #[error("`manifest.json`: {0}")]
    Json(serde_json::Error),
    /// Another format version.
    #[error(
        "`manifest.json` has format {found}; this program reads format {FORMAT}\n\
         hint: the bundle was made by another version of tealight; use that version"
    )]
    Format {
        /// The version it names.
        found: u32,
    },
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let (pairs, _) = digits.as_chunks::<2>();
    let mut sum = [0; 32];
    for (byte, &[high, low]) in sum.iter_mut().zip(pairs) {
        let value = char::from(high).to_digit(16)? << 4 | char::from(low).to_digit(16)?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_through_json_and_ignores_unknown_fields() {
        let manifest = Manifest {
            format: FORMAT,
            name: Some("Tea".into()),
            created_by: "test".into(),
            runtime: RuntimeInfo { bytes: 5, sha256: Sha256Sum([0xa5; 32]) },
            entries: vec![ManifestEntry {
                name: "chat.gguf".into(),
                role: Role::Model,
                bytes: 1,
                sha256: Sha256Sum([7; 32]),
                external: true,
            }],
        };
        let json = String::from_utf8(manifest.to_json()).unwrap();
        assert_eq!(Manifest::parse(json.as_bytes()).unwrap(), manifest);
        let later =
            json.replacen('{', "{ \"since\": [2],", 1).replace("\"model\"", "\"telepathy\"");
        assert_eq!(Manifest::parse(later.as_bytes()).unwrap().entries[0].role, Role::Other);
    }

    #[test]
    fn another_format_is_named_even_if_nothing_else_is_known() {
        let error = Manifest::parse(b"{\"format\": 7}").unwrap_err();
        assert!(matches!(error, ManifestError::Format { found: 7 }), "{error}");
    }

    #[test]
    fn a_hash_with_a_sign_or_too_few_digits_is_refused() {
        for bad in ["", "00", &"+f".repeat(32), &"g0".repeat(32), &"0".repeat(63)] {
            assert_eq!(parse_hex(bad), None, "{bad}");
        }
    }
}
