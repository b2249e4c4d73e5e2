//! Splits text into words before byte-pair merging, as `tokenizer.ggml.pre` says.
//!
//! Knows how to split; [`super::patterns`] knows where.

use super::patterns::{Habits, Spare, Step, known, names};
use super::{TokenizerError, steps};
use regex::Regex;
use std::ops::Range;

/// How one family splits its text, and its habits.
pub(super) struct PreTokenizer {
    steps: Vec<Cutter>,
    pub(super) habits: Habits,
}

/// A [`Step`], compiled.
enum Cutter {
    Match(Regex, Spare),
    DigitsByThree(Regex),
    LeadAndDigitsByThree(Regex),
}

impl PreTokenizer {
    /// The pre-tokenizer of that name.
    pub(super) fn new(name: &str) -> Result<Self, TokenizerError> {
        let Some((steps, habits)) = known(name) else {
            return Err(TokenizerError::Unknown {
                key: "tokenizer.ggml.pre",
                found: name.to_owned(),
                expected: names().collect::<Vec<_>>().join(", "),
            });
        };
        let steps: Result<_, regex::Error> = steps.iter().map(|&step| Cutter::new(step)).collect();
        let steps = steps.map_err(|error| TokenizerError::Unknown {
            key: "tokenizer.ggml.pre",
            found: name.to_owned(),
            expected: format!("a pattern that compiles: {error}"),
        })?;
        Ok(Self { steps, habits })
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
                step.cut(&text[piece.clone()], piece.start, &mut smaller);
            }
            pieces = smaller;
        }
        pieces
    }
}

impl Cutter {
    fn new(step: Step) -> Result<Self, regex::Error> {
        Ok(match step {
            Step::Match(pattern, spare) => Self::Match(Regex::new(pattern)?, spare),
            Step::DigitsByThree => Self::DigitsByThree(Regex::new("[0-9]+")?),
            Step::LeadAndDigitsByThree => Self::LeadAndDigitsByThree(Regex::new(r"\p{N}+")?),
        })
    }

    /// Appends the pieces of `text`, shifted by `offset`.
    fn cut(&self, text: &str, offset: usize, out: &mut Vec<Range<usize>>) {
        let mut pieces = Pieces { start: 0, offset, out };
        match self {
            Self::Match(regex, spare) => {
                let mut at = 0;
                while let Some(found) = regex.find_at(text, at) {
                    steps::add(found.len());
                    pieces.cut(found.start());
                    at = found.start();
                    spare.kept(found.as_str(), &text[found.end()..], &mut |kept| {
                        at += kept;
                        pieces.cut(at);
                    });
                }
            }
            Self::DigitsByThree(runs) => {
                for run in runs.find_iter(text) {
                    let digits = run.len();
                    (digits % 3..digits).step_by(3).for_each(|at| pieces.cut(run.start() + at));
                }
            }
            Self::LeadAndDigitsByThree(runs) => {
                for run in runs.find_iter(text) {
                    let digits = run.as_str().chars().count();
                    for (index, (at, digit)) in run.as_str().char_indices().enumerate() {
                        if (digits - index - 1).is_multiple_of(3) {
                            pieces.cut(run.start() + at + digit.len_utf8());
                        }
                    }
                }
            }
        }
        pieces.cut(text.len());
    }
}

/// Collects pieces as they are cut off the beginning of a text.
struct Pieces<'o> {
    start: usize,
    offset: usize,
    out: &'o mut Vec<Range<usize>>,
}

impl Pieces<'_> {
    fn cut(&mut self, end: usize) {
        if end > self.start {
            self.out.push(self.offset + self.start..self.offset + end);
            self.start = end;
        }
    }
}

impl Spare {
    /// Passes `each` the lengths of the words that a match is split into, given the text after it. A remainder is
    /// matched again.
    fn kept(self, found: &str, rest: &str, each: &mut dyn FnMut(usize)) {
        let whole = found.len();
        let mut reversed = found.chars().rev();
        let Some(last) = reversed.next() else { return each(whole) };
        let spares = match self {
            Self::Never => false,
            Self::Always => true,
            Self::UnlessLine | Self::Halving => !matches!(last, '\r' | '\n'),
        };
        if !spares || !found.chars().all(char::is_whitespace) {
            return each(whole);
        }
        let count = found.chars().count();
        if self == Self::Halving {
            return halved(found, count, rest.is_empty(), each);
        }
        // At the end of the text, or alone, the last white-space character stays.
        each(if rest.is_empty() || count == 1 { whole } else { whole - last.len_utf8() });
    }
}

/// Splits `count` characters of white space into words of the largest power of two that leaves a remainder, or takes
/// all at the end of the text, and passes their lengths to `each`. All at once: matching the remainder again after each
/// word would take quadratic time.
fn halved(found: &str, count: usize, ends: bool, each: &mut dyn FnMut(usize)) {
    let (mut left, mut rest) = (count, found);
    loop {
        let fits = |&n: &usize| n < left || (n == left && ends);
        let kept = (0..=9).rev().map(|power| 1 << power).find(fits).unwrap_or(1);
        let bytes = rest.char_indices().nth(kept).map_or(rest.len(), |(at, _)| at);
        steps::add(bytes);
        each(bytes);
        left -= kept;
        rest = &rest[bytes..];
        // A single remaining one may belong to what follows.
        if left == 0 || (left == 1 && !ends) {
            return;
        }
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
        for name in names() {
            assert_eq!(words(name, text).concat(), text);
        }
    }

    #[test]
    fn digits_in_threes_are_counted_from_the_right() {
        assert_eq!(words("superbpe", "ab1234567 12"), ["ab", "1", "234", "567", " ", "12"]);
        assert_eq!(words("superbpe", "١1234"), ["١1", "234"]);
        // The reference keeps the text before the digits with the first of them; a later step splits them.
        assert_eq!(words("tiny_aya", "12345"), ["12", "345"]);
    }

    #[test]
    fn long_whitespace_is_cut_into_powers_of_two() {
        let lengths =
            |text: &str| words("jais-2", text).iter().map(|w| w.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&format!("{}a", " ".repeat(8))), [4, 2, 1, 2]);
        assert_eq!(lengths(&" ".repeat(515)), [512, 2, 1]);
        assert_eq!(lengths("  "), [2]);
        assert_eq!(lengths(&format!("{}1", "\u{3000}".repeat(4))), [6, 3, 3, 1]);
    }
}
