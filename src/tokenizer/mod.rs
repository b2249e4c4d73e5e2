//! Text to token ids and back, from what stands in the GGUF alone.
//!
//! Enters: the `tokenizer.ggml.*` metadata; then text, or ids. Leaves: ids, or bytes (a token may hold
//! part of a character). Knows nothing of models or chats. Token for token the reference's algorithm.
//!
//! Our own rather than the `tokenizers` crate, which has to be handed owned strings: the vocabulary
//! and the merges stay in the mapped file and only hash tables are built at start.

mod bpe;
mod chain;
mod pretokenize;
mod spm;
mod vocabulary;

pub use vocabulary::{Kind, Vocabulary};

use crate::model::{FileError, ModelFile};
use bpe::Bpe;
use spm::Spm;

/// A vocabulary with the algorithm that belongs to it.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    add_bos: bool,
    add_eos: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Tokens that end an answer, ascending.
    ends: Vec<u32>,
    /// Tokens that are matched in the text itself, longest first.
    special: Vec<u32>,
    longest: usize,
}

enum Algorithm {
    Bpe(Bpe),
    Spm(Spm),
}

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
        /// What is known.
        expected: String,
    },
    /// Arrays that do not fit each other, or ids outside the vocabulary.
    #[error(
        "metadata `{key}`: found {found}, expected {expected}\nhint: the file is damaged, or was made by a faulty program; get it again"
    )]
    Array {
        /// The metadata key.
        key: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Metadata is missing or of another kind.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Texts of tokens that end an answer whatever the metadata says, and are control tokens whatever their
/// type says, as in the reference: many files name only one of the ends their template uses.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

impl Tokenizer {
    /// The tokenizer of a model file.
    ///
    /// # Errors
    /// When its metadata is missing, contradictory, or names an algorithm that is not implemented.
    pub fn new(file: &ModelFile) -> Result<Self, TokenizerError> {
        Self::with_pre(file, file.text("tokenizer.ggml.pre").unwrap_or("default"))
    }

    /// As [`Tokenizer::new`], with another `tokenizer.ggml.pre` than the file's.
    ///
    /// # Errors
    /// As [`Tokenizer::new`].
    pub fn with_pre(file: &ModelFile, pre: &str) -> Result<Self, TokenizerError> {
        let model = file.text("tokenizer.ggml.model").unwrap_or("(none)");
        let mut vocabulary = Vocabulary::new(file)?;
        vocabulary.make_control(END_TEXTS);
        let algorithm = match model {
            "gpt2" => Algorithm::Bpe(Bpe::new(file, pre)?),
            "llama" => Algorithm::Spm(Spm::new(file, &vocabulary)?),
            other => {
                return Err(TokenizerError::Unknown {
                    key: "tokenizer.ggml.model",
                    found: other.to_owned(),
                    expected: "gpt2, llama".to_owned(),
                });
            }
        };
        let flag = |key: &'static str, default| match file.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| TokenizerError::Array {
                key,
                found: value.describe(),
                expected: "true or false".to_owned(),
            }),
        };
        let id = |key| token_id(file, &vocabulary, key);
        // A SentencePiece model begins texts with BOS unless it says otherwise; few BPE models do.
        let usual = match &algorithm {
            Algorithm::Bpe(bpe) => bpe.adds_bos(),
            Algorithm::Spm(_) => true,
        };
        let add_bos = flag("tokenizer.ggml.add_bos_token", usual)?;
        let add_eos = flag("tokenizer.ggml.add_eos_token", false)?;
        let (bos, eos) = (id("tokenizer.ggml.bos_token_id")?, id("tokenizer.ggml.eos_token_id")?);
        let mut ends: Vec<u32> =
            [eos, id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?]
                .into_iter()
                .flatten()
                .chain(END_TEXTS.iter().filter_map(|t| vocabulary.find(t.as_bytes())))
                .collect();
        // gpt-oss and Solar end each message of an answer with `<|end|>`, and the answer with other tokens.
        let has = |text: &str| vocabulary.find(text.as_bytes()).is_some();
        if has("<|call|>") && has("<|return|>") || has("<|calls|>") && has("<|flush|>") {
            let end = vocabulary.find(b"<|end|>");
            ends.retain(|id| Some(*id) != end);
        }
        ends.sort_unstable();
        ends.dedup();
        let special = vocabulary.special();
        let longest = vocabulary.longest();
        Ok(Self { vocabulary, algorithm, add_bos, add_eos, bos, eos, ends, special, longest })
    }

    /// The ids of `text`. `add_special`: with the begin and end tokens the model asks for;
    /// `parse_special`: control tokens written in the text count as such.
    #[must_use]
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special && self.add_bos {
            ids.extend(self.bos);
        }
        self.encode_fragments(text, true, parse_special, &mut ids);
        if add_special && self.add_eos {
            ids.extend(self.eos);
        }
        ids
    }

    /// The ids of a text in the middle of another, where none is put before it.
    #[must_use]
    pub fn encode_inside(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_fragments(text, false, false, &mut ids);
        ids
    }

    fn encode_fragments(
        &self,
        text: &str,
        mut after_special: bool,
        parse_special: bool,
        ids: &mut Vec<u32>,
    ) {
        for fragment in self.split_special(text, parse_special) {
            match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    after_special = true;
                }
                Fragment::Text(text) => {
                    match &self.algorithm {
                        Algorithm::Bpe(bpe) => bpe.encode(text, &self.vocabulary, ids),
                        Algorithm::Spm(spm) => {
                            spm.encode(text, after_special, &self.vocabulary, ids);
                        }
                    }
                    after_special = false;
                }
            }
        }
    }

    /// Appends the bytes of a token to `out`; a control token's only where `special` is true. An id
    /// outside the vocabulary has none.
    pub fn piece(&self, id: u32, special: bool, out: &mut Vec<u8>) {
        let Some(kind) = self.vocabulary.kind(id) else { return };
        if !special && matches!(kind, Kind::Control | Kind::Unknown) {
            return;
        }
        match &self.algorithm {
            Algorithm::Bpe(_) => bpe::piece(self.vocabulary.text(id), kind, out),
            Algorithm::Spm(_) => spm::piece(self.vocabulary.text(id), kind, out),
        }
    }

    /// The bytes of several tokens.
    #[must_use]
    pub fn decode(&self, ids: &[u32], special: bool) -> Vec<u8> {
        let mut out = Vec::new();
        ids.iter().for_each(|&id| self.piece(id, special, &mut out));
        out
    }

    /// What a token is, `None` outside the vocabulary.
    #[must_use]
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.vocabulary.kind(id)
    }

    /// Whether a token ends an answer.
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Tokens that end an answer.
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The text of the begin token, which templates print.
    #[must_use]
    pub fn bos_text(&self) -> String {
        self.special_text(self.bos)
    }

    /// The text of the end token, which templates print.
    #[must_use]
    pub fn eos_text(&self) -> String {
        self.special_text(self.eos)
    }

    /// The begin token, if texts begin with it.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos.filter(|_| self.add_bos)
    }

    /// Whether texts begin with BOS.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Bytes of the longest token: a text has at least its length divided by this many tokens.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The token whose text in the vocabulary is this.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        self.vocabulary.find(text.as_bytes())
    }

    /// Whether a token marks something and is no text.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.kind(id) == Some(Kind::Control)
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vocabulary.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vocabulary.len() == 0
    }

    fn special_text(&self, id: Option<u32>) -> String {
        let bytes = id.map(|id| self.decode(&[id], true)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Cuts the text at special tokens. The longest token is looked for first in all of the text, then
    /// the next in what remains, as the reference does.
    fn split_special<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Fragment<'t>> {
        let mut fragments = vec![Fragment::Text(text)];
        if text.is_empty() {
            return Vec::new();
        }
        let pairs = BytePairs::of(text.as_bytes());
        for &id in &self.special {
            let token = self.vocabulary.text(id);
            let wanted = parse_special || self.vocabulary.kind(id) == Some(Kind::UserDefined);
            if !wanted || token.is_empty() || !pairs.may_contain(token) {
                continue;
            }
            let Ok(token) = std::str::from_utf8(token) else { continue };
            if !text.contains(token) {
                continue;
            }
            fragments = fragments
                .into_iter()
                .flat_map(|fragment| match fragment {
                    Fragment::Token(id) => vec![Fragment::Token(id)],
                    Fragment::Text(text) => cut(text, token, id),
                })
                .collect();
        }
        fragments
    }
}

enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

fn cut<'t>(text: &'t str, token: &str, id: u32) -> Vec<Fragment<'t>> {
    let mut out = Vec::new();
    for (index, part) in text.split(token).enumerate() {
        if index > 0 {
            out.push(Fragment::Token(id));
        }
        if !part.is_empty() {
            out.push(Fragment::Text(part));
        }
    }
    out
}

/// Which pairs of neighbouring bytes occur in a text: rules out most of the thousands of special
/// tokens of a large vocabulary without searching for them.
struct BytePairs(Vec<u64>);

impl BytePairs {
    fn of(text: &[u8]) -> Self {
        let mut bits = vec![0_u64; (1 << 16) / 64];
        for pair in text.windows(2) {
            let at = usize::from(u16::from_le_bytes([pair[0], pair[1]]));
            bits[at / 64] |= 1 << (at % 64);
        }
        Self(bits)
    }

    fn may_contain(&self, token: &[u8]) -> bool {
        let &[a, b, ..] = token else { return true };
        let at = usize::from(u16::from_le_bytes([a, b]));
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

fn token_id(
    file: &ModelFile,
    vocabulary: &Vocabulary,
    key: &'static str,
) -> Result<Option<u32>, TokenizerError> {
    let Some(value) = file.get(key) else { return Ok(None) };
    if value.as_f64().is_none() {
        let (found, expected) = (value.describe(), "a token id".to_owned());
        return Err(TokenizerError::Array { key, found, expected });
    }
    // −1 and 2³² − 1 stand for "none" in some files.
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX);
    match id {
        Some(id) if (id as usize) < vocabulary.len() => Ok(Some(id)),
        Some(id) => Err(TokenizerError::Array {
            key,
            found: id.to_string(),
            expected: format!("a token below {}", vocabulary.len()),
        }),
        None => Ok(None),
    }
}
