//! Cuts a text at the special tokens that are written in it.

use super::{Kind, Vocabulary};
use crate::model::ModelFile;

/// A special token, or text between them.
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// The tokens that are looked for in a text, longest first.
pub(super) struct Fragments {
    tokens: Vec<Wanted>,
}

struct Wanted {
    id: u32,
    /// Looked for even where control tokens are plain text.
    always: bool,
    /// Takes the white space before it, or after it.
    strips: (bool, bool),
}

impl Fragments {
    /// The special tokens of a vocabulary whose kinds are final.
    pub(super) fn new(file: &ModelFile, vocabulary: &Vocabulary) -> Self {
        let strips = Strips::new(file);
        let wanted = |id: u32| Wanted {
            id,
            always: vocabulary.kind(id) == Some(Kind::UserDefined),
            strips: strips.of(vocabulary.text(id)),
        };
        Self { tokens: vocabulary.special().into_iter().map(wanted).collect() }
    }

    /// Cuts `text`. The longest token is looked for first in all of it, then the next in what remains,
    /// as the reference does. `parse_special`: control tokens count as such.
    pub(super) fn of<'t>(
        &self,
        text: &'t str,
        vocabulary: &Vocabulary,
        parse_special: bool,
    ) -> Vec<Fragment<'t>> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut fragments = vec![Fragment::Text(text)];
        let pairs = BytePairs::of(text.as_bytes());
        for wanted in &self.tokens {
            let token = vocabulary.text(wanted.id);
            let counts = parse_special || wanted.always;
            if !counts || token.is_empty() || !pairs.may_contain(token) {
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
                    Fragment::Text(text) => cut(text, token, wanted),
                })
                .collect();
        }
        fragments
    }
}

fn cut<'t>(text: &'t str, token: &str, wanted: &Wanted) -> Vec<Fragment<'t>> {
    let (before, after) = wanted.strips;
    let mut out = Vec::new();
    let mut parts = text.split(token).enumerate().peekable();
    while let Some((index, mut part)) = parts.next() {
        if index > 0 {
            out.push(Fragment::Token(wanted.id));
        }
        if after && index > 0 {
            part = part.trim_start_matches(is_space);
        }
        if before && parts.peek().is_some() {
            part = part.trim_end_matches(is_space);
        }
        if !part.is_empty() {
            out.push(Fragment::Text(part));
        }
    }
    out
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Which tokens take the white space beside them: no file says so, so the reference goes by names.
#[derive(Clone, Copy)]
enum Strips {
    None,
    /// This one, before it.
    Before(&'static str),
    /// All but these, after them.
    After(&'static [&'static str]),
}

impl Strips {
    fn new(file: &ModelFile) -> Self {
        let pre = file.text("tokenizer.ggml.pre").unwrap_or_default();
        let architecture = file.text("general.architecture").unwrap_or_default();
        let name = file.text("general.name").unwrap_or_default().to_lowercase();
        let any = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
        if any(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
            || any(architecture, &["nomic-bert-moe", "jina-bert-v3"])
        {
            Self::Before("<mask>")
        } else if any(&name, &["phi-3", "phi3"]) {
            Self::After(&["<unk>", "<s>", "<|endoftext|>"])
        } else if any(&name, &["modern-bert"]) {
            Self::Before("[MASK]")
        } else {
            Self::None
        }
    }

    /// Before and after the token of that text.
    fn of(self, text: &[u8]) -> (bool, bool) {
        match self {
            Self::None => (false, false),
            Self::Before(token) => (text == token.as_bytes(), false),
            Self::After(except) => (false, !except.iter().any(|token| text == token.as_bytes())),
        }
    }
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
