//! Extracts formulas and bare addresses from Markdown.
//!
//! Input: the Markdown of one block. Output: the same Markdown with a mark in place of each of them, and their sources.
//! Knows nothing of typesetting, and only guesses where Markdown's code is: whoever finds a mark in code, a link's
//! target or the like puts the source back with [`Extracts::restore`].
//!
//! They are extracted before Markdown is parsed because Markdown would treat them as markup: `\(` as an escaped
//! parenthesis, `_` as emphasis, `|` as a table's column, a line with `=` as a heading. The mark is a number between
//! two noncharacters; Unicode reserves noncharacters for such use inside programs, and those in the text itself are
//! replaced.

use std::borrow::Cow;

use super::addresses::{self, SIGNS};
use super::cjk::unmarked;
use super::escape::push_escaped;
use super::links::{anchor, clickable};
use super::mathml::mathml;

const MARK_START: char = '\u{FDD0}';
const MARK_END: char = '\u{FDD1}';

/// The formulas and bare addresses of one block, in order.
#[derive(Default)]
pub struct Extracts(Vec<Extract>);

struct Extract {
    /// As written, with its delimiters.
    source: String,
    what: What,
}

enum What {
    /// The text between the delimiters; `None` when the closing one is missing.
    Formula { latex: Option<String>, display: bool },
    /// The text to show, and the link target.
    Address { shown: String, target: String },
}

impl Extracts {
    /// Takes the formulas and addresses out of a text.
    pub fn extract(source: &str) -> (Cow<'_, str>, Self) {
        let marked = source.contains([MARK_START, MARK_END]);
        let indented =
            source.lines().all(|line| line.starts_with("    ") || line.trim().is_empty());
        let signs = ["$", "\\(", "\\[", "://", "www.", "@"];
        let tempting = signs.iter().any(|sign| source.contains(sign));
        if !marked && (indented || !tempting) {
            return (Cow::Borrowed(source), Self::default());
        }
        let mut scan = Scan::new(source);
        while scan.step() {}
        (Cow::Owned(scan.out), Self(scan.found))
    }

    /// The text as it was written, with the sources in place of their marks.
    pub fn restore<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() || !text.contains(MARK_START) {
            return unmarked(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len());
        self.walk(text, |piece| match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Extract(extract) => out.push_str(&extract.source),
        });
        unmarked(Cow::Owned(out))
    }

    /// Appends a text as HTML, with formulas typeset and, outside links, addresses as links.
    pub fn push_html(&self, out: &mut String, text: &str, in_link: bool) {
        self.walk(text, |piece| match piece {
            Piece::Text(text) => push_escaped(out, &unmarked(Cow::Borrowed(text))),
            Piece::Extract(extract) => extract.push_html(out, in_link),
        });
    }

    fn walk<'a>(&'a self, text: &'a str, mut each: impl FnMut(Piece<'a>)) {
        let mut rest = text;
        while let Some((before, marked)) = rest.split_once(MARK_START) {
            each(Piece::Text(before));
            let known = marked.split_once(MARK_END).and_then(|(number, after)| {
                Some((self.0.get(number.parse::<usize>().ok()?)?, after))
            });
            rest = if let Some((extract, after)) = known {
                each(Piece::Extract(extract));
                after
            } else {
                // Not one of ours: an entity can spell the character.
                each(Piece::Text("\u{FFFD}"));
                marked
            };
        }
        each(Piece::Text(rest));
    }
}

enum Piece<'a> {
    Text(&'a str),
    Extract(&'a Extract),
}

impl Extract {
    fn push_html(&self, out: &mut String, in_link: bool) {
        match &self.what {
            What::Formula { latex, display } => {
                let latex = latex.as_deref();
                if let Some(html) = latex.and_then(|latex| mathml(latex, *display)) {
                    out.push_str(&html);
                } else {
                    out.push_str("<code class=\"math-source\">");
                    push_escaped(out, &self.source);
                    out.push_str("</code>");
                }
            }
            What::Address { shown, target } => match clickable(target) {
                Some(href) if !in_link => {
                    out.push_str(&anchor(&href));
                    push_escaped(out, shown);
                    out.push_str("</a>");
                }
                _ => push_escaped(out, shown),
            },
        }
    }
}

/// Scans a text for formulas and addresses. Offsets are of ASCII characters or of the text's ends, so they never fall
/// inside a character.
struct Scan<'a> {
    source: &'a str,
    out: String,
    found: Vec<Extract>,
    /// Current offset.
    at: usize,
    /// End of the source that is already in `out`.
    copied: usize,
    /// Start of the current line.
    line: usize,
    /// End of the current paragraph: the next blank line, which no formula crosses.
    paragraph: usize,
    /// For each kind of closing delimiter, the offset up to which it is known not to occur: otherwise a text of opening
    /// delimiters alone would be searched to its end again and again.
    absent: [usize; 3],
}

/// The delimiters that may enclose more than one line.
#[derive(Clone, Copy)]
enum Delimiter {
    Parenthesis,
    Bracket,
    Dollars,
}

impl Delimiter {
    fn closing(self) -> &'static [u8] {
        match self {
            Self::Parenthesis => b"\\)",
            Self::Bracket => b"\\]",
            Self::Dollars => b"$$",
        }
    }
}

impl<'a> Scan<'a> {
    fn new(source: &'a str) -> Self {
        let mut scan = Self {
            source,
            out: String::with_capacity(source.len()),
            found: Vec::new(),
            at: 0,
            copied: 0,
            line: 0,
            paragraph: 0,
            absent: [0; 3],
        };
        scan.start_line(0);
        scan
    }

    /// Looks at the next character that can matter; `false` at the end.
    fn step(&mut self) -> bool {
        let rest = self.source.get(self.at..).unwrap_or_default();
        let signs = |c| matches!(c, '\n' | '`' | '\\' | '$') || SIGNS.contains(&c);
        let Some(skipped) = rest.find(signs) else {
            self.copy_to(self.source.len());
            return false;
        };
        self.at += skipped;
        match self.byte(self.at) {
            Some(b'\n') => self.start_line(self.at + 1),
            Some(b'`') => self.code_span(),
            Some(b':' | b'@' | b'w') => self.address(),
            Some(b'\\') => match self.byte(self.at + 1) {
                Some(b'(') => self.enclosed(Delimiter::Parenthesis),
                Some(b'[') => self.enclosed(Delimiter::Bracket),
                Some(escaped) if escaped.is_ascii_punctuation() => self.at += 2,
                _ => self.at += 1,
            },
            _ => match self.run(self.at, b'$') {
                1 => self.dollar(),
                2 => self.enclosed(Delimiter::Dollars),
                more => self.at += more,
            },
        }
        true
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.source.as_bytes().get(at).copied()
    }

    /// How many of one byte follow each other from `at`.
    fn run(&self, at: usize, byte: u8) -> usize {
        let bytes = self.source.as_bytes().get(at..).unwrap_or_default();
        bytes.iter().take_while(|b| **b == byte).count()
    }

    /// Begins a line, stepping over a whole fenced code block when one starts there.
    fn start_line(&mut self, start: usize) {
        self.at = start;
        self.line = start;
        let rest = self.source.get(start..).unwrap_or_default();
        if start >= self.paragraph {
            self.paragraph = start + paragraph_length(rest);
        }
        let line = rest.lines().next().unwrap_or_default();
        let text = line.get(container_length(line)..).unwrap_or_default();
        for fence in ['`', '~'] {
            let length = text.chars().take_while(|c| *c == fence).count();
            let info = text.get(length..).unwrap_or_default();
            if length >= 3 && (fence == '~' || !info.contains('`')) {
                self.at = start + fenced_length(rest, fence, length);
                self.line = self.at;
                self.paragraph = self.at;
                if self.at < self.source.len() {
                    let rest = self.source.get(self.at..).unwrap_or_default();
                    self.paragraph += paragraph_length(rest);
                }
                return;
            }
        }
    }

    /// Extracts the bare address that the sign at this place is part of.
    fn address(&mut self) {
        let from = self.line.max(self.copied);
        let Some(found) = addresses::find(self.source, from, self.at) else {
            self.at += 1;
            return;
        };
        self.at = found.range.start;
        let what = What::Address { shown: found.shown, target: found.target };
        self.take(found.range.end, what);
    }

    /// Steps over a code span, or over backticks that open none.
    fn code_span(&mut self) {
        let length = self.run(self.at, b'`');
        let mut close = self.at + length;
        while close < self.paragraph {
            match self.run(close, b'`') {
                0 => close += 1,
                run if run == length => {
                    self.at = close + length;
                    return;
                }
                run => close += run,
            }
        }
        self.at += length;
    }

    /// A formula between delimiters of two characters.
    fn enclosed(&mut self, delimiter: Delimiter) {
        let start = self.at;
        let body = start + 2;
        if let Some(close) = self.find_closing(body, delimiter) {
            let display = !matches!(delimiter, Delimiter::Parenthesis);
            let latex = self.source.get(body..close).unwrap_or_default();
            if !latex.trim().is_empty() {
                let latex = self.without_quote_marks(latex);
                self.take(close + 2, What::Formula { latex: Some(latex), display });
                return;
            }
        } else if self.is_unfinished(start, delimiter) {
            let what = What::Formula { latex: None, display: false };
            self.take(self.source.trim_end().len().max(body), what);
            return;
        }
        self.at = body;
    }

    /// The position of the closing delimiter in the same paragraph.
    fn find_closing(&mut self, from: usize, delimiter: Delimiter) -> Option<usize> {
        let known = self.absent.get_mut(delimiter as usize)?;
        if from < *known {
            return None;
        }
        let closing = delimiter.closing();
        let bytes = self.source.as_bytes();
        let mut at = from;
        while at < self.paragraph {
            let tail = bytes.get(at..self.paragraph)?;
            if tail.starts_with(closing) {
                return Some(at);
            }
            at += if tail.first() == Some(&b'\\') { 2 } else { 1 };
        }
        *known = self.paragraph;
        None
    }

    /// Whether a formula without a closing delimiter is still being written: nothing but the formula itself follows in
    /// the text. In mid-sentence only `\(` counts, up to the end of the line.
    fn is_unfinished(&self, start: usize, delimiter: Delimiter) -> bool {
        let rest = self.source.get(start..).unwrap_or_default().trim_end();
        if start + rest.len() > self.paragraph {
            return false;
        }
        match delimiter {
            Delimiter::Parenthesis => !rest.contains('\n'),
            Delimiter::Bracket | Delimiter::Dollars => {
                let line = self.source.get(self.line..start).unwrap_or_default();
                container_length(line) == line.len()
            }
        }
    }

    /// A formula between single dollars: on one line, closed by the next dollar, and not money, a shell variable or the
    /// like.
    fn dollar(&mut self) {
        let start = self.at;
        self.at += 1;
        let before = start.checked_sub(1).and_then(|at| self.byte(at));
        let first = self.byte(start + 1);
        if before.is_some_and(|b| b.is_ascii_alphanumeric())
            || first.is_none_or(|b| b.is_ascii_whitespace())
        {
            return;
        }
        let mut at = start + 1;
        loop {
            match self.byte(at) {
                None | Some(b'\n' | b'`') => return,
                Some(b'\\') if self.byte(at + 1) != Some(b'\n') => at += 2,
                Some(b'$') => break,
                Some(_) => at += 1,
            }
        }
        let last = self.byte(at - 1);
        let after = self.byte(at + 1);
        if last.is_none_or(|b| b.is_ascii_whitespace())
            || after
                .is_some_and(|b| b.is_ascii_digit() || b.is_ascii_uppercase() || b"{$".contains(&b))
        {
            return;
        }
        let latex = self.source.get(start + 1..at).unwrap_or_default().to_owned();
        self.at = start;
        self.take(at + 1, What::Formula { latex: Some(latex), display: false });
    }

    /// Replaces the source from here to `end` by a mark.
    fn take(&mut self, end: usize, what: What) {
        let source = self.source.get(self.at..end).unwrap_or_default().to_owned();
        self.copy_to(self.at);
        self.out.push(MARK_START);
        self.out.push_str(&self.found.len().to_string());
        self.out.push(MARK_END);
        self.found.push(Extract { source, what });
        self.at = end;
        self.copied = end;
    }

    fn copy_to(&mut self, end: usize) {
        let text = self.source.get(self.copied..end).unwrap_or_default();
        self.out.extend(text.chars().map(|c| match c {
            MARK_START | MARK_END => '\u{FFFD}',
            other => other,
        }));
        self.copied = end;
    }

    /// The formula without the `>` that a block quote puts before each of its lines.
    fn without_quote_marks(&self, latex: &str) -> String {
        let line = self.source.get(self.line..self.at).unwrap_or_default();
        let container = line.get(..container_length(line)).unwrap_or_default();
        if !container.contains('>') {
            return latex.to_owned();
        }
        let mut lines = latex.split('\n');
        let mut out = lines.next().unwrap_or_default().to_owned();
        for line in lines {
            out.push('\n');
            out.push_str(line.trim_start_matches([' ', '\t', '>']));
        }
        out
    }
}

/// Length of the container prefix of a line: spaces, `>`, list markers.
fn container_length(line: &str) -> usize {
    let mut rest = line;
    loop {
        let text = rest.trim_start_matches([' ', '\t', '>']);
        let unnumbered = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let marker = if unnumbered.len() == text.len() {
            text.strip_prefix(['-', '*', '+'])
        } else {
            unnumbered.strip_prefix(['.', ')'])
        };
        match marker {
            Some(after) if after.starts_with([' ', '\t']) => rest = after,
            _ => return line.len() - text.len(),
        }
    }
}

/// Length of the text up to its first blank line; a line of `>` alone is blank.
fn paragraph_length(text: &str) -> usize {
    let mut length = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start_matches(['>', ' ', '\t']).trim().is_empty() {
            // A blank line at the start counts itself, so that the next paragraph begins after it.
            return length.max(line.len());
        }
        length += line.len();
    }
    length
}

/// Length of the fenced code block at the start of `text`.
fn fenced_length(text: &str, fence: char, opening: usize) -> usize {
    let mut length = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        length += line.len();
        let inner = line.trim_start_matches([' ', '\t', '>']);
        let run = inner.chars().take_while(|c| *c == fence).count();
        let rest = inner.get(run..).unwrap_or_default();
        if number > 0 && run >= opening && rest.trim().is_empty() {
            break;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with each formula as `[latex]` or `[latex!]` for display, `[?]` for unfinished,
    /// and each address as `<target>`.
    fn seen(source: &str) -> String {
        let (text, extracts) = Extracts::extract(source);
        let mut out = String::new();
        extracts.walk(&text, |piece| match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Extract(Extract { what: What::Formula { latex, display }, .. }) => {
                out.push('[');
                out.push_str(latex.as_deref().unwrap_or("?"));
                out.push_str(if *display { "!]" } else { "]" });
            }
            Piece::Extract(Extract { what: What::Address { target, .. }, .. }) => {
                out.push_str(&format!("<{target}>"));
            }
        });
        assert_eq!(extracts.restore(&text), source);
        out
    }

    #[test]
    fn formulas_are_found_and_other_text_is_unchanged() {
        let cases = [
            ("a $x$ b", "a [x] b"),
            ("$$x$$", "[x!]"),
            ("$$\nx\n= y\n$$", "[\nx\n= y\n!]"),
            (r"a \(x\) b", "a [x] b"),
            ("\\[\nx\n\\]", "[\nx\n!]"),
            (r"a \\(x\\) b", r"a \\(x\\) b"),
            (r"\(a \\\) b\)", r"[a \\] b\)"),
            (r"\(f\\(x\)", r"[f\\(x]"),
            ("$5 and $10", "$5 and $10"),
            ("US$5-US$10, $3/$4", "US$5-US$10, $3/$4"),
            ("It costs 5$, not 10$.", "It costs 5$, not 10$."),
            ("$HOME/$USER", "$HOME/$USER"),
            ("the $n$th, $i$-th", "the [n]th, [i]-th"),
            (r"\$x\$", r"\$x\$"),
            (r"$\$5$", r"[\$5]"),
            ("$ x$ $x $", "$ x$ $x $"),
            ("`$x$` $y$", "`$x$` [y]"),
            ("``a`$x$`` $y$", "``a`$x$`` [y]"),
            ("a ` $x$", "a ` [x]"),
            ("$a `b$ c`", "$a `b$ c`"),
            ("```\n$x$\n```\n$y$", "```\n$x$\n```\n[y]"),
            ("- ~~~\n  \\(x\\)\n  ~~~\n- \\(y\\)", "- ~~~\n  \\(x\\)\n  ~~~\n- [y]"),
            ("```\n$x$", "```\n$x$"),
            ("    $x$\n", "    $x$\n"),
            ("$a\nb$", "$a\nb$"),
            ("\\(a\nb\\)", "[a\nb]"),
            ("\\(a\n\nb\\)", "\\(a\n\nb\\)"),
            ("> \\[\n> x\n> \\]", "> [\nx\n!]"),
            ("| $|x|$ | b |", "| [|x|] | b |"),
            (r"so \(x + ", "so [?]"),
            ("\\[\nx + ", "[?]"),
            ("$$\nx + ", "[?]"),
            ("earn $$ quickly", "earn $$ quickly"),
            ("$$$x$$$ $$$$", "$$$x$$$ $$$$"),
            ("a \\( b\nc", "a \\( b\nc"),
            (r"\(\)", r"\(\)"),
            ("", ""),
            ("https://a.b/$x$_y_z $x$", "<https://a.b/$x$_y_z> [x]"),
            ("$x@y.z$ `a@b.c` a@b.c", "[x@y.z] `a@b.c` <mailto:a@b.c>"),
            ("```\nhttps://a.b\n```\nwww.a.b", "```\nhttps://a.b\n```\n<http://www.a.b>"),
            ("a@b.c@d.e www.a.b@c.d", "<mailto:a@b.c>@d.e <http://www.a.b@c.d>"),
        ];
        for (source, expected) in cases {
            // The trailing space of an unfinished formula stays outside it.
            assert_eq!(seen(source).trim_end(), expected.trim_end(), "{source:?}");
        }
    }

    #[test]
    fn placeholder_characters_in_the_text_are_replaced() {
        let (text, extracts) = Extracts::extract("\u{FDD0}0\u{FDD1} $x$");
        assert_eq!(text, "\u{FFFD}0\u{FFFD} \u{FDD0}0\u{FDD1}");
        let mut html = String::new();
        extracts.push_html(&mut html, "\u{FDD0}7\u{FDD1}\u{FDD0}", false);
        assert_eq!(html, "\u{FFFD}7\u{FFFD}\u{FFFD}");
    }
}
