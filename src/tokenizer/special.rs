//! Special tokens: those that begin and end texts, those that end an answer, and those recognized in a text before it
//! is split into words.
//!
//! Follows the reference, which corrects the file based on the texts of its tokens: many files name only one of the end
//! tokens that their template uses, or mark control tokens as ordinary ones.

use super::{TokenKind, TokenizerError, Vocabulary};
use crate::model::ModelFile;

/// The ids of special tokens.
pub(super) struct Special {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) separator: Option<u32>,
    pub(super) unknown: Option<u32>,
    /// Tokens that end an answer, ascending.
    pub(super) ends: Vec<u32>,
    /// What is wrong with ids in the file, and what was done about it.
    pub(super) warnings: Vec<String>,
}

/// Default ids, those of an algorithm's first models, used if the file names none.
#[derive(Default)]
pub(super) struct Usual {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) separator: Option<u32>,
    pub(super) unknown: Option<u32>,
}

/// A role of a token: the keys that name it, or else its usual texts, which are made control tokens; and whether it
/// ends an answer.
struct Part {
    keys: &'static [&'static str],
    texts: &'static [&'static str],
    ends: bool,
}

const PARTS: &[Part] = &[
    Part {
        keys: &["tokenizer.ggml.eot_token_id"],
        texts: &[
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<|end_of_text|>",
            "<EOT>",
            "_<EOT>",
            "[EOT]",
            "<｜end▁of▁sentence｜>",
            "<end_of_utterance>",
        ],
        ends: true,
    },
    Part { keys: &["tokenizer.ggml.eom_token_id"], texts: &["<|eom_id|>"], ends: true },
    Part {
        keys: &["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"],
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
        ends: false,
    },
    Part {
        keys: &["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"],
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
        ends: false,
    },
    Part {
        keys: &["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"],
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
        ends: false,
    },
    Part {
        keys: &["tokenizer.ggml.fim_pad_token_id"],
        texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
        ends: true,
    },
    Part {
        keys: &["tokenizer.ggml.fim_rep_token_id"],
        texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
        ends: true,
    },
    Part { keys: &["tokenizer.ggml.fim_sep_token_id"], texts: &["<|file_sep|>"], ends: true },
];

/// Texts of tokens that end an answer whatever the file says.
const ENDS: &[&str] = &[
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
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Texts that are shown, although their tokens are control tokens elsewhere.
const SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

impl Special {
    /// Reads the ids of `file`, and corrects the kinds in `vocabulary`.
    pub(super) fn new(
        file: &ModelFile,
        vocabulary: &mut Vocabulary,
        usual: &Usual,
    ) -> Result<Self, TokenizerError> {
        let known = vocabulary.len();
        let mut warnings = Vec::new();
        let mut named = |key, usual: Option<u32>| {
            let usual = usual.filter(|&id| (id as usize) < known);
            token_id(file, known, key, usual, &mut warnings).map(|id| id.or(usual))
        };
        let mut special = Self {
            bos: named("tokenizer.ggml.bos_token_id", usual.bos)?,
            eos: named("tokenizer.ggml.eos_token_id", usual.eos)?,
            // The format's own spelling.
            separator: named("tokenizer.ggml.seperator_token_id", usual.separator)?,
            unknown: named("tokenizer.ggml.unknown_token_id", usual.unknown)?,
            ends: Vec::new(),
            warnings: Vec::new(),
        };
        let mut ends: Vec<u32> = special.eos.into_iter().collect();
        for part in PARTS {
            let mut found = Vec::new();
            for key in part.keys {
                found.extend(token_id(file, known, key, None, &mut warnings)?);
            }
            if found.is_empty() {
                found = vocabulary.set_kind(part.texts, TokenKind::Control);
            }
            if part.ends {
                ends.extend(found);
            }
        }
        ends.extend(vocabulary.set_kind(ENDS, TokenKind::Control));
        vocabulary.set_kind(SHOWN, TokenKind::UserDefined);
        special.ends = without_false_ends(ends, vocabulary);
        special.warnings = warnings;
        Ok(special)
    }
}

/// Removes texts that end answers in some vocabularies and mean something else in others, depending on which other
/// tokens exist.
fn without_false_ends(mut ends: Vec<u32>, vocabulary: &mut Vocabulary) -> Vec<u32> {
    ends.sort_unstable();
    ends.dedup();
    let has = |text: &str| vocabulary.find(text.as_bytes()).is_some_and(|id| ends.contains(&id));
    let call = has("<|call|>") || has("<|calls|>");
    // In Harmony vocabularies, `<|end|>` ends a part of an answer, not the answer.
    let harmony = call && (has("<|return|>") || has("<|flush|>"));
    let tools = has("<|tool_response>") || has("<|plamo:eos|>");
    let false_ends =
        [(harmony, "<|end|>", TokenKind::UserDefined), (tools, "</s>", TokenKind::Normal)];
    for (is_false, text, kind) in false_ends {
        if is_false {
            for id in vocabulary.set_kind(&[text], kind) {
                ends.retain(|&end| end != id);
            }
        }
    }
    ends
}

/// A token id below `known`; −1 and 2³² − 1 stand for "none" in some files. A larger id is ignored with a warning, and
/// the caller falls back to `usual`, as in the reference: such a token can't occur, and the others are unaffected.
fn token_id(
    file: &ModelFile,
    known: usize,
    key: &'static str,
    usual: Option<u32>,
    warnings: &mut Vec<String>,
) -> Result<Option<u32>, TokenizerError> {
    let Some(value) = file.get(key) else { return Ok(None) };
    if value.as_f64().is_none() {
        let (found, expected) = (value.describe(), "a token id".to_owned());
        return Err(TokenizerError::Array { key, found, expected });
    }
    let Some(id) = value.as_u64().filter(|&id| id != u64::from(u32::MAX)) else { return Ok(None) };
    match u32::try_from(id) {
        Ok(id) if (id as usize) < known => Ok(Some(id)),
        _ => {
            let instead = usual.map(|id| format!(" and using {id} instead")).unwrap_or_default();
            warnings.push(format!(
                "metadata `{key}`: found {id}, expected a token id below {known}; ignoring it{instead}"
            ));
            Ok(None)
        }
    }
}
