//! Cuts text into words before byte-pair merging, as `tokenizer.ggml.pre` says.
//!
//! The patterns are those the models were trained with. Each is written without its look-ahead
//! `\s+(?!\S)` ("white space, but leave the last one to the word that follows"), which becomes a rule
//! applied to the match, so that the patterns run on a linear-time engine.

use super::TokenizerError;
use regex::Regex;
use std::ops::Range;

/// How one family cuts its text, and the two habits that go with it.
pub(super) struct PreTokenizer {
    steps: Vec<Step>,
    /// A word that is a token is not merged.
    pub(super) whole_words: bool,
    /// Texts begin with BOS where the file does not say.
    pub(super) adds_bos: bool,
}

/// One pattern; several are applied one after the other, to ever smaller pieces.
struct Step {
    regex: Regex,
    spare: Spare,
}

/// Which white-space matches leave their last character to the next word.
#[derive(Clone, Copy, PartialEq)]
enum Spare {
    Never,
    /// Every run of white space.
    Always,
    /// Runs that do not end in a line break: those come from another alternative of the pattern.
    UnlessLine,
}

use Spare::{Always, Never, UnlessLine};

type Pattern = (&'static str, Spare);

const DIGIT: Pattern = (r"\p{N}", Never);
const DIGITS_TO_3: Pattern = (r"\p{N}{1,3}", Never);
const THREE_DIGITS: Pattern = ("[0-9][0-9][0-9]", Never);
const LINE: Pattern = (r"[\r\n]", Never);
const GPT2: Pattern = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", Always);
const LLAMA3: Pattern = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    UnlessLine,
);
const QWEN2: Pattern = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    UnlessLine,
);
const QWEN35: Pattern = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    UnlessLine,
);
const GPT4O: Pattern = (
    r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
    UnlessLine,
);
const TEKKEN: Pattern = (
    r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
    UnlessLine,
);
const SEED_CODER: Pattern = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+",
    UnlessLine,
);
const DEEPSEEK3: &[Pattern] = &[
    DIGITS_TO_3,
    (r"[一-龥\u{3040}-ゟ゠-ヿ]+", Never),
    (
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##,
        UnlessLine,
    ),
];

/// What goes with some names beside the patterns.
const WHOLE_WORDS: u8 = 1;
const ADDS_BOS: u8 = 2;

/// `tokenizer.ggml.pre`: names, patterns, habits.
const KNOWN: &[(&[&str], &[Pattern], u8)] = &[
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "roberta-bpe",
            "granite-docling",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-code",
            "jina-v2-de",
            "jina-v2-es",
        ],
        &[GPT2],
        0,
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[DIGIT, GPT2],
        0,
    ),
    (
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        &[QWEN2],
        0,
    ),
    (&["qwen35"], &[QWEN35], 0),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        &[LLAMA3],
        WHOLE_WORDS | ADDS_BOS,
    ),
    (&["glm4", "glm5"], &[LLAMA3], WHOLE_WORDS),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3], 0),
    (&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[GPT4O], 0),
    (&["tekken"], &[TEKKEN], WHOLE_WORDS | ADDS_BOS),
    (&["seed-coder"], &[SEED_CODER], 0),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm"], DEEPSEEK3, 0),
    (
        // The wide range would take Unicode's spaces too; the reference sees them as plain ones.
        &["deepseek-coder"],
        &[
            LINE,
            (r"\s?\p{L}+", Never),
            (r"\s?\p{P}+", Never),
            (r"[[一-龥ࠀ-一가-\u{D7FF}]&&\S]+", Never),
            DIGIT,
        ],
        0,
    ),
    (&["falcon"], &[(r"[\p{P}$+<=>^~|`]+", Never), GPT2, THREE_DIGITS], 0),
    (&["default"], &[(r"[\p{P}$+<=>^~|]+", Never), GPT2, (r"\p{N}+", Never), THREE_DIGITS], 0),
];

impl PreTokenizer {
    /// The pre-tokenizer of that name.
    pub(super) fn new(name: &str) -> Result<Self, TokenizerError> {
        let row = KNOWN.iter().find(|(names, ..)| names.contains(&name));
        let Some(&(_, patterns, habits)) = row else {
            let names = KNOWN.iter().flat_map(|(names, ..)| names.iter().copied());
            return Err(TokenizerError::Unknown {
                key: "tokenizer.ggml.pre",
                found: name.to_owned(),
                expected: names.collect::<Vec<_>>().join(", "),
            });
        };
        let steps = patterns.iter().map(|&(pattern, spare)| {
            Regex::new(pattern).map(|regex| Step { regex, spare }).map_err(|e| e.to_string())
        });
        let steps =
            steps.collect::<Result<Vec<_>, _>>().map_err(|error| TokenizerError::Unknown {
                key: "tokenizer.ggml.pre",
                found: name.to_owned(),
                expected: format!("a pattern that compiles: {error}"),
            })?;
        Ok(Self { steps, whole_words: habits & WHOLE_WORDS != 0, adds_bos: habits & ADDS_BOS != 0 })
    }

    /// The words of `text`, in order and without gaps.
    pub(super) fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for step in &self.steps {
            let mut smaller = Vec::with_capacity(pieces.len() * 2);
            for piece in pieces {
                step.split(&text[piece.clone()], piece.start, &mut smaller);
            }
            pieces = smaller;
        }
        pieces
    }
}

impl Step {
    /// Appends the matches in `text` and what lies between them, `offset` added.
    fn split(&self, text: &str, offset: usize, out: &mut Vec<Range<usize>>) {
        let mut at = 0;
        while at < text.len() {
            let Some(found) = self.regex.find_at(text, at) else {
                out.push(offset + at..offset + text.len());
                return;
            };
            if found.start() > at {
                out.push(offset + at..offset + found.start());
            }
            let end = found.start() + self.kept(found.as_str(), &text[found.end()..]);
            out.push(offset + found.start()..offset + end);
            at = end;
        }
    }

    /// How much of a match counts, given what follows it.
    fn kept(&self, found: &str, rest: &str) -> usize {
        let whole = found.len();
        let mut reversed = found.chars().rev();
        let Some(last) = reversed.next() else { return whole };
        let spares = match self.spare {
            Never => false,
            Always => true,
            UnlessLine => !matches!(last, '\r' | '\n'),
        };
        // At the end of the text, or alone, the last white space stays.
        if !spares || rest.is_empty() || reversed.next().is_none() {
            return whole;
        }
        if found.chars().all(char::is_whitespace) { whole - last.len_utf8() } else { whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let ranges = PreTokenizer::new(name).unwrap().split(text);
        ranges.into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn the_last_space_of_a_run_goes_to_the_next_word() {
        assert_eq!(words("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(words("gpt-2", "a  \n"), ["a", "  \n"]);
        assert_eq!(words("gpt-2", "\n\nb"), ["\n", "\n", "b"]);
        assert_eq!(words("qwen2", "a\n\n  b"), ["a", "\n\n", " ", " b"]);
    }

    #[test]
    fn digits_are_single_where_the_model_wants_it() {
        assert_eq!(words("smollm", "in 1234."), ["in", " ", "1", "2", "3", "4", "."]);
        assert_eq!(words("qwen2", "x12"), ["x", "1", "2"]);
    }

    #[test]
    fn nothing_is_lost() {
        let text = "I'm  here\u{3000}\u{3000}x\t\r\n  \u{0} \u{1F469}\u{200d} ١٢ e\u{301}.";
        for name in KNOWN.iter().flat_map(|(names, ..)| names.iter()) {
            assert_eq!(words(name, text).concat(), text);
        }
    }
}
