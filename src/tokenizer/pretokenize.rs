//! Cuts text into words before byte-pair merging, as `tokenizer.ggml.pre` says.
//!
//! The patterns are those the models were trained with. Each is written without its look-ahead
//! `\s+(?!\S)` ("white space, but leave the last one to the word that follows"), which becomes a rule
//! applied to the match, so that the patterns run on a linear-time engine.

use super::TokenizerError;
use regex::Regex;
use std::ops::Range;

/// The patterns of one pre-tokenizer, applied one after the other to ever smaller pieces.
pub(super) struct PreTokenizer(Vec<Step>);

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

const DIGIT: (&str, Spare) = (r"\p{N}", Spare::Never);
const GPT2: (&str, Spare) =
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", Spare::Always);
const QWEN2: (&str, Spare) = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    Spare::UnlessLine,
);

const KNOWN: &[(&str, &[(&str, Spare)])] =
    &[("gpt-2", &[GPT2]), ("qwen2", &[QWEN2]), ("smollm", &[DIGIT, GPT2])];

impl PreTokenizer {
    /// The pre-tokenizer of that name.
    pub(super) fn new(name: &str) -> Result<Self, TokenizerError> {
        let Some((_, steps)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            return Err(TokenizerError::Unknown {
                key: "tokenizer.ggml.pre",
                found: name.to_owned(),
                expected: KNOWN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            });
        };
        let step = |&(pattern, spare): &(&str, Spare)| Step {
            regex: Regex::new(pattern).expect("a constant of this file"),
            spare,
        };
        Ok(Self(steps.iter().map(step).collect()))
    }

    /// The words of `text`, in order and without gaps.
    pub(super) fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for step in &self.0 {
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
            Spare::Never => false,
            Spare::Always => true,
            Spare::UnlessLine => !matches!(last, '\r' | '\n'),
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
        for (name, _) in KNOWN {
            assert_eq!(words(name, text).concat(), text);
        }
    }
}
