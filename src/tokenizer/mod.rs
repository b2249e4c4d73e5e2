//! Text to token ids and back, from the GGUF's metadata alone.
//!
//! Input: the `tokenizer.ggml.*` metadata; then text, or ids. Output: ids, or bytes (a token may hold part of a
//! character). Knows nothing of models or chats. Matches the reference token for token.
//!
//! Our own rather than the `tokenizers` crate, which requires owned strings: here the vocabulary and the merges stay in
//! the mapped file, and only hash tables are built at startup.

mod automaton;
mod bpe;
mod chain;
mod fragments;
mod patterns;
mod plamo2;
mod prefixes;
mod pretokenize;
mod rwkv;
mod special;
mod spm;
mod steps;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::bytes;
mod ugm;
mod vocabulary;
mod wpm;

pub use vocabulary::{TokenKind, Vocabulary};

use crate::model::{FileError, ModelFile};
use bpe::Bpe;
use fragments::{Fragment, Fragments};
use plamo2::Plamo2;
use rwkv::Rwkv;
use special::{Special, Usual};
use spm::Spm;
use ugm::Ugm;
use wpm::Wpm;

/// A vocabulary with the algorithm that belongs to it.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    special: Special,
    fragments: Fragments,
    add_bos: bool,
    add_eos: bool,
    longest: usize,
    warnings: Vec<String>,
}

enum Algorithm {
    Bpe(Bpe),
    Plamo2(Plamo2),
    Rwkv(Rwkv),
    Spm(Spm),
    Ugm(Ugm),
    Wpm(Wpm),
}

const NO_PRE: &str = "metadata `tokenizer.ggml.pre` is missing: text is split with the `default` pre-tokenizer, which may \
not be the model's, and answers may be worse\nhint: get a newer conversion of this model, or convert it again";

/// How many vocabularies write a space.
const SPACE: &str = "\u{2581}";

/// A tokenizer that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// An algorithm that is not implemented.
    #[error(
        "metadata `{key}`: found `{found}`, expected one of: {expected}\nhint: a newer tealight may support it"
    )]
    Unknown {
        /// The metadata key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// Inconsistent arrays, or ids outside the vocabulary.
    #[error(
        "metadata `{key}`: found {found}, expected {expected}\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Array {
        /// The metadata key.
        key: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Metadata is missing or has the wrong type.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Tokenizer {
    /// The tokenizer of a model file.
    ///
    /// # Errors
    /// When its metadata is missing, contradictory, or names an algorithm that is not implemented.
    pub fn new(file: &ModelFile) -> Result<Self, TokenizerError> {
        if let Some(pre) = file.text("tokenizer.ggml.pre").filter(|pre| !pre.is_empty()) {
            return Self::with_pre(file, pre);
        }
        let mut tokenizer = Self::with_pre(file, "default")?;
        // The others don't split words, or do it in their own way.
        if file.text("tokenizer.ggml.model") == Some("gpt2") {
            tokenizer.warnings.push(NO_PRE.to_owned());
        }
        Ok(tokenizer)
    }

    /// Like [`Tokenizer::new`], with `pre` instead of the file's `tokenizer.ggml.pre`.
    ///
    /// # Errors
    /// As [`Tokenizer::new`].
    pub fn with_pre(file: &ModelFile, pre: &str) -> Result<Self, TokenizerError> {
        let model = file.text("tokenizer.ggml.model").unwrap_or("(none)");
        let usual = match model {
            "gpt2" | "gemma4" | "rwkv" => Usual::default(),
            "llama" | "plamo2" => {
                Usual { bos: Some(1), eos: Some(2), unknown: Some(0), separator: None }
            }
            "bert" => Usual { bos: Some(101), separator: Some(102), unknown: Some(100), eos: None },
            "t5" => Usual { eos: Some(1), unknown: Some(2), ..Usual::default() },
            other => {
                return Err(TokenizerError::Unknown {
                    key: "tokenizer.ggml.model",
                    found: other.to_owned(),
                    expected: "gpt2, gemma4, llama, bert, t5, rwkv, plamo2".to_owned(),
                });
            }
        };
        let mut vocabulary = Vocabulary::new(file)?;
        let mut special = Special::new(file, &mut vocabulary, &usual)?;
        let algorithm = match model {
            "gemma4" => Algorithm::Bpe(Bpe::new(file, "gemma4")?),
            "llama" => Algorithm::Spm(Spm::new(file, &vocabulary, special.unknown)?),
            "plamo2" => Algorithm::Plamo2(Plamo2::new(file, &vocabulary)?),
            "rwkv" => Algorithm::Rwkv(Rwkv::new(&vocabulary, special.unknown)?),
            "bert" => Algorithm::Wpm(Wpm::new(file, &vocabulary, special.unknown)?),
            "t5" => Algorithm::Ugm(Ugm::new(file, &vocabulary, special.unknown)?),
            _ => Algorithm::Bpe(Bpe::new(file, pre)?),
        };
        let add_bos = flag(file, "tokenizer.ggml.add_bos_token")?;
        let add_eos = flag(file, "tokenizer.ggml.add_eos_token")?;
        let (add_bos, add_eos) = match &algorithm {
            Algorithm::Bpe(bpe) => (bpe.adds_bos(add_bos), add_eos.unwrap_or(false)),
            Algorithm::Spm(_) => (add_bos.unwrap_or(true), add_eos.unwrap_or(false)),
            // Whatever the file says, as in the reference.
            Algorithm::Plamo2(_) | Algorithm::Rwkv(_) => (false, false),
            Algorithm::Ugm(_) => (add_bos.unwrap_or(false), add_eos.unwrap_or(true)),
            // Whatever the file says, as in the reference.
            Algorithm::Wpm(_) => (true, true),
        };
        let fragments = Fragments::new(file, &vocabulary)?;
        let longest = match algorithm {
            Algorithm::Bpe(_) | Algorithm::Spm(_) | Algorithm::Plamo2(_) | Algorithm::Rwkv(_) => {
                vocabulary.longest()
            }
            // A word of any length may be one unknown token.
            Algorithm::Ugm(_) | Algorithm::Wpm(_) => usize::MAX,
        };
        let warnings = std::mem::take(&mut special.warnings);
        Ok(Self { vocabulary, algorithm, special, fragments, add_bos, add_eos, longest, warnings })
    }

    /// Faults of the file that are no reason to refuse it, each without a `warning:` prefix.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The ids of `text`. `add_special` adds the begin and end tokens that the model asks for; `parse_special`
    /// recognizes control tokens written in the text.
    #[must_use]
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        self.encode_while(text, add_special, parse_special, &|| true).unwrap_or_default()
    }

    /// Like [`Tokenizer::encode`], as long as `go_on` returns true. It is asked often.
    #[must_use]
    pub fn encode_while(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special && self.add_bos {
            ids.extend(self.special.bos);
        }
        self.encode_fragments(text, true, parse_special, go_on, &mut ids);
        if add_special && self.add_eos {
            ids.extend(self.end());
        }
        go_on().then_some(ids)
    }

    /// The ids of a text in the middle of another: without special tokens or, in SPM, a space before it.
    #[must_use]
    pub fn encode_inside(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_fragments(text, false, false, &|| true, &mut ids);
        ids
    }

    fn encode_fragments(
        &self,
        text: &str,
        mut after_special: bool,
        parse_special: bool,
        go_on: &dyn Fn() -> bool,
        ids: &mut Vec<u32>,
    ) {
        for fragment in self.fragments.of(text, &self.vocabulary, parse_special) {
            if !go_on() {
                return;
            }
            match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    after_special = true;
                }
                Fragment::Text(text) => {
                    match &self.algorithm {
                        Algorithm::Bpe(bpe) => bpe.encode(text, &self.vocabulary, go_on, ids),
                        Algorithm::Spm(spm) => {
                            spm.encode(text, after_special, &self.vocabulary, go_on, ids);
                        }
                        Algorithm::Plamo2(plamo2) => plamo2.encode(text, go_on, ids),
                        Algorithm::Rwkv(rwkv) => rwkv.encode(text, ids),
                        Algorithm::Ugm(ugm) => ugm.encode(text, &self.vocabulary, go_on, ids),
                        Algorithm::Wpm(wpm) => wpm.encode(text, ids),
                    }
                    after_special = false;
                }
            }
        }
    }

    /// Appends the bytes of a token to `out`; those of control and unknown tokens only if `special`. An id outside the
    /// vocabulary has none.
    pub fn piece(&self, id: u32, special: bool, out: &mut Vec<u8>) {
        let Some(kind) = self.vocabulary.kind(id) else { return };
        if !special && matches!(kind, TokenKind::Control | TokenKind::Unknown) {
            return;
        }
        let text = self.vocabulary.text(id);
        match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.piece(text, kind, out),
            Algorithm::Rwkv(_) => out.extend(rwkv::unescaped(text)),
            Algorithm::Plamo2(_) => match kind {
                TokenKind::Byte => out.extend(byte_of(text)),
                _ => out.extend(text),
            },
            Algorithm::Spm(_) | Algorithm::Ugm(_) | Algorithm::Wpm(_) => match kind {
                TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown => {
                    out.extend(text);
                }
                TokenKind::Byte => out.extend(byte_of(text)),
                TokenKind::Normal => plain_piece(text, out),
                TokenKind::Unused => {}
            },
        }
    }

    /// At least as many bytes as a token stands for.
    #[must_use]
    pub fn piece_bytes_max(&self, id: u32) -> usize {
        self.vocabulary.text(id).len()
    }

    /// The bytes of several tokens.
    #[must_use]
    pub fn decode(&self, ids: &[u32], special: bool) -> Vec<u8> {
        let mut out = Vec::new();
        ids.iter().for_each(|&id| self.piece(id, special, &mut out));
        out
    }

    /// A token's kind, `None` outside the vocabulary.
    #[must_use]
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.vocabulary.kind(id)
    }

    /// Whether a token ends an answer.
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.special.ends.binary_search(&id).is_ok()
    }

    /// Tokens that end an answer.
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.special.ends
    }

    /// The text of the begin token, which templates print.
    #[must_use]
    pub fn bos_text(&self) -> String {
        self.special_text(self.special.bos)
    }

    /// The text of the end token, which templates print.
    #[must_use]
    pub fn eos_text(&self) -> String {
        self.special_text(self.special.eos)
    }

    /// The begin token, if texts begin with it.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.special.bos.filter(|_| self.add_bos)
    }

    /// Whether texts begin with BOS.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Length of the longest token, in bytes: a text has at least its length divided by this many tokens.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The token with this text in the vocabulary.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        self.vocabulary.find(text.as_bytes())
    }

    /// Whether a token is a control token.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.kind(id) == Some(TokenKind::Control)
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vocabulary.len()
    }

    /// Whether the vocabulary is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vocabulary.len() == 0
    }

    /// The token that ends texts, if one is added.
    fn end(&self) -> Option<u32> {
        match self.algorithm {
            Algorithm::Wpm(_) => self.special.separator,
            _ => self.special.eos,
        }
    }

    fn special_text(&self, id: Option<u32>) -> String {
        let bytes = id.map(|id| self.decode(&[id], true)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// An optional boolean.
fn flag(file: &ModelFile, key: &'static str) -> Result<Option<bool>, TokenizerError> {
    let Some(value) = file.get(key) else { return Ok(None) };
    value.as_bool().map(Some).ok_or_else(|| TokenizerError::Array {
        key,
        found: value.describe(),
        expected: "true or false".to_owned(),
    })
}

/// One score per token; zeros if the file has none.
#[expect(clippy::cast_possible_truncation, reason = "scores are stored as f32")]
fn scores(file: &ModelFile, vocabulary: &Vocabulary) -> Result<Vec<f32>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let Some((array, bytes)) = file.array(KEY) else { return Ok(vec![0.0; vocabulary.len()]) };
    // Adding 0 turns −0 into 0: sorting by `total_cmp` would tell them apart, comparing as numbers does not.
    let scores = array.numbers(bytes).map(|score| score as f32 + 0.0);
    // Extra scores belong to no token; the reference ignores them too.
    let scores: Vec<f32> = scores.take(vocabulary.len()).collect();
    if scores.len() == vocabulary.len() {
        return Ok(scores);
    }
    Err(TokenizerError::Array {
        key: KEY,
        found: format!("{} scores", scores.len()),
        expected: format!("{}, one per token", vocabulary.len()),
    })
}

/// The token of one byte, such as `<0x0A>`.
fn byte_token(vocabulary: &Vocabulary, byte: u8) -> Option<u32> {
    vocabulary.find(format!("<0x{byte:02X}>").as_bytes())
}

/// The byte of a token such as `<0x0A>`.
fn byte_of(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// Appends plain text in which U+2581 stands for a space.
fn plain_piece(text: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(text) {
        Ok(text) => out.extend(text.replace(SPACE, " ").as_bytes()),
        Err(_) => out.extend(text),
    }
}
