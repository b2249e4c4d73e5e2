//! Results to the bit, committed: the same on every machine.
//!
//! A file of `tests/golden/bits` has a line for each result: its name and the first 16 digits of the SHA-256 of its
//! numbers. If results are meant to change, raise `ARITHMETIC` in `src/engine/saved.rs` and write them again:
//! `WRITE_BITS=1 cargo test --release`.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// The results of one test.
pub struct Bits {
    path: PathBuf,
    expected: BTreeMap<String, String>,
    found: BTreeMap<String, String>,
}

impl Bits {
    /// Reads what is committed under a name.
    pub fn of(test: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bits");
        let path = folder.join(format!("{test}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let expected = pairs.map(|(digest, name)| (name.to_owned(), digest.to_owned())).collect();
        Self { path, expected, found: BTreeMap::new() }
    }

    /// Adds a result, which is the same for all of `who`.
    pub fn add(&mut self, name: &str, numbers: &[f32], who: &str) {
        let mut sum = Sha256::new();
        numbers.iter().for_each(|x| sum.update(x.to_le_bytes()));
        let digest = sum.finalize().iter().take(8).fold(String::new(), |mut digest, byte| {
            write!(digest, "{byte:02x}").unwrap();
            digest
        });
        let before = self.found.insert(name.to_owned(), digest.clone());
        assert!(before.is_none_or(|before| before == digest), "{name} on {who}: other bits");
    }

    /// Compares with what is committed, or writes it.
    pub fn check(self) {
        if std::env::var_os("WRITE_BITS").is_some() {
            let lines = self.found.iter().map(|(name, digest)| format!("{digest} {name}\n"));
            return std::fs::write(&self.path, lines.collect::<String>()).unwrap();
        }
        for (name, digest) in &self.found {
            assert_eq!(
                Some(digest),
                self.expected.get(name),
                "{name}: other bits than in {}; if that is meant, tests/bits says what to do",
                self.path.display()
            );
        }
        assert_eq!(self.found.len(), self.expected.len(), "{}", self.path.display());
    }
}
