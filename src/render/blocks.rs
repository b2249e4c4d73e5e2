//! Cuts a growing Markdown text into blocks.
//!
//! Input: text, piece by piece. Output: the source of each block as soon as it is certain that nothing written later
//! can belong to it, and the source of the open block at any time. Knows nothing of how blocks are rendered.
//!
//! Each block is later parsed as a text of its own, so the cuts made here *are* the block structure, and they depend
//! only on what has been written so far. While the beginning of a line does not tell whether it starts a block (`-` may
//! become a list item, a heading's underline or a rule), the line stays in the open block until more of it arrives. A
//! block may hold more than one of `CommonMark`'s blocks (a paragraph and the quote right under it); one of
//! `CommonMark`'s blocks is never cut unless it is very long.

use std::borrow::Cow;

use unicode_normalization::char::is_combining_mark;

/// From this size on a list is cut before its next item.
const LONG_BYTES: usize = 8 * 1024;

/// From this size on any block but fenced code is cut before its next line.
const TOO_LONG_BYTES: usize = 16 * 1024;

/// At this size a block is cut even inside a line.
const CUT_BYTES: usize = 24 * 1024;

/// The same two sizes for fenced code, whose pieces are still drawn as one. Small, because the open block is sent whole
/// each time it grows.
const CODE_TOO_LONG_BYTES: usize = 8 * 1024;
const CODE_CUT_BYTES: usize = 12 * 1024;

/// How far back a cut inside a line looks for a space, to avoid splitting words.
const SPACE_BYTES: usize = 256;

/// How much of a line is examined to classify it.
const HEAD_BYTES: usize = 1024;

/// The text not yet returned, and the state of its open block.
#[derive(Default)]
pub struct Blocks {
    text: String,
    /// Where the open block starts.
    start: usize,
    /// Start of the first line that has not been processed.
    line: usize,
    kind: BlockKind,
    /// The line before was blank.
    blank: bool,
    /// Closing delimiter of an open formula over several lines: its lines are not lists or headings.
    formula: Option<&'static [u8]>,
    /// The line that opened the current fenced code.
    fence: String,
    /// The open block continues fenced code that was cut, so `fence` belongs before it.
    continued: bool,
    /// The text so far ends with a carriage return.
    carriage_return: bool,
}

/// The kind of the open block, as far as it decides which lines belong to the block.
#[derive(Clone, Copy, Default, PartialEq)]
enum BlockKind {
    /// Nothing yet.
    #[default]
    Empty,
    /// A paragraph or anything else that ends at a blank line.
    Text,
    /// A list; the content of its current item starts at this column.
    List { content: usize },
    /// Indented code.
    Indented,
    /// Fenced code, opened by `length` of these characters.
    Fence { mark: u8, length: usize },
    /// A heading, a rule, or fenced code with its end: no further line belongs to it.
    Closed,
}

impl Blocks {
    /// Appends text. Line ends become `\n`.
    pub fn push(&mut self, text: &str) {
        // Compacted only when half of the text has been consumed: amortized, each byte is moved once.
        if self.start > self.text.len() / 2 {
            self.text.drain(..self.start);
            self.line -= self.start;
            self.start = 0;
        }
        for piece in text.split_inclusive('\r') {
            // The line feed of a pair is dropped; its carriage return ended the line.
            let rest = match piece.strip_prefix('\n') {
                Some(rest) if self.carriage_return => rest,
                _ => piece,
            };
            self.carriage_return = rest.ends_with('\r');
            self.text.push_str(rest.strip_suffix('\r').unwrap_or(rest));
            if self.carriage_return {
                self.text.push('\n');
            }
        }
    }

    /// The source of the next block that is finished, in order.
    pub fn next_finished(&mut self) -> Option<String> {
        loop {
            let rest = self.text.get(self.line..).filter(|rest| !rest.is_empty())?;
            let length = rest.find('\n');
            let whole = length.is_some();
            let end = self.line + length.unwrap_or(rest.len());
            let line = Line::new(rest.get(..end - self.line).unwrap_or_default(), whole);
            if self.line > self.start && self.starts_block(&line)? {
                return Some(self.cut(self.line));
            }
            let limit = self.start + self.cut_bytes();
            if end > limit {
                return Some(self.cut(self.last_place(limit)));
            }
            if !whole {
                return None;
            }
            let after = self.after_line(&line);
            self.line = end + 1;
            match after {
                Some(after) => self.enter(after),
                // Blank lines before a block are not part of it.
                None => self.start = self.line,
            }
        }
    }

    /// Whether the open block continues fenced code that was cut.
    pub fn is_continued(&self) -> bool {
        self.continued
    }

    /// The last place before `limit` where a line can be cut: after a space, or else between
    /// characters that are drawn apart.
    fn last_place(&self, limit: usize) -> usize {
        let near = self.text.as_bytes().get(limit - SPACE_BYTES..limit).unwrap_or_default();
        if let Some(back) = near.iter().rev().position(|b| *b == b' ') {
            return limit - back;
        }
        let apart = |at: &usize| {
            let Some((before, after)) = self.text.split_at_checked(*at) else { return false };
            !before.ends_with('\u{200D}') && !after.starts_with(joins)
        };
        let whole = |at: &usize| self.text.is_char_boundary(*at);
        let near = limit - SPACE_BYTES..=limit;
        near.clone().rev().find(apart).or_else(|| near.rev().find(whole)).unwrap_or(limit)
    }

    /// The source of the open block, if it has any text.
    pub fn open(&self) -> Option<Cow<'_, str>> {
        let text = self.text.get(self.start..).unwrap_or_default();
        if text.is_empty() || (!self.continued && text.trim().is_empty()) {
            None
        } else if self.continued {
            Some(Cow::Owned(format!("{}\n{text}", self.fence)))
        } else {
            Some(Cow::Borrowed(text))
        }
    }

    /// Returns the open block up to here and starts the next.
    fn cut(&mut self, at: usize) -> String {
        let text = self.text.get(self.start..at).unwrap_or_default();
        let source =
            if self.continued { format!("{}\n{text}", self.fence) } else { text.to_owned() };
        self.start = at;
        self.line = at;
        self.blank = false;
        self.formula = None;
        // Code that was too long continues as code.
        self.continued = matches!(self.kind, BlockKind::Fence { .. });
        if !self.continued {
            self.kind = BlockKind::Empty;
        }
        source
    }

    fn cut_bytes(&self) -> usize {
        if matches!(self.kind, BlockKind::Fence { .. }) { CODE_CUT_BYTES } else { CUT_BYTES }
    }

    /// Whether the line starts a new block; `None` while that is uncertain.
    fn starts_block(&self, line: &Line<'_>) -> Option<bool> {
        let length = self.line - self.start;
        match self.kind {
            BlockKind::Empty => return Some(false),
            BlockKind::Fence { .. } => return Some(length > CODE_TOO_LONG_BYTES),
            _ if length > TOO_LONG_BYTES => return Some(true),
            _ => {}
        }
        if line.text.is_empty() && !line.whole {
            return None;
        }
        if line.is_blank() {
            return Some(false);
        }
        match self.kind {
            BlockKind::Empty | BlockKind::Fence { .. } => Some(false),
            BlockKind::Closed => Some(true),
            BlockKind::Indented => Some(line.indent < 4),
            BlockKind::Text if self.blank => Some(true),
            BlockKind::Text if self.formula.is_some() => Some(false),
            BlockKind::Text => line.interrupts_paragraph(),
            BlockKind::List { content } if line.indent >= content => Some(false),
            BlockKind::List { .. } => match line.marker() {
                Seen::Yes(_) => Some(length > LONG_BYTES),
                Seen::Unclear => None,
                Seen::No if self.blank => Some(true),
                Seen::No => line.interrupts_paragraph(),
            },
        }
    }

    /// The state of the open block after this complete line; `None` while it is still empty.
    fn after_line(&self, line: &Line<'_>) -> Option<After> {
        let mut after =
            After { kind: self.kind, blank: line.is_blank(), formula: None, fence: None };
        match self.kind {
            BlockKind::Empty if line.is_blank() => return None,
            BlockKind::Empty => {
                after.kind = line.opens();
                if matches!(after.kind, BlockKind::Fence { .. }) {
                    after.fence = Some(line.head.to_owned());
                }
            }
            BlockKind::Fence { mark, length } if line.closes_fence(mark, length) => {
                after.kind = BlockKind::Closed;
            }
            BlockKind::List { content } if line.indent < content => {
                if let Seen::Yes(marker) = line.marker() {
                    after.kind = BlockKind::List { content: marker.content };
                }
            }
            _ => {}
        }
        if after.kind == BlockKind::Text && !after.blank {
            after.formula = formula_after(line.text, self.formula);
        }
        Some(after)
    }

    fn enter(&mut self, after: After) {
        self.kind = after.kind;
        self.blank = after.blank;
        self.formula = after.formula;
        if let Some(fence) = after.fence {
            self.fence = fence;
        }
    }
}

/// Whether a character is drawn together with the one before it.
fn joins(c: char) -> bool {
    is_combining_mark(c)
        || matches!(c, '\u{200D}' | '\u{FE00}'..='\u{FE0F}' | '\u{1F3FB}'..='\u{1F3FF}')
}

/// What a line changes.
struct After {
    kind: BlockKind,
    blank: bool,
    formula: Option<&'static [u8]>,
    fence: Option<String>,
}

/// The closing delimiter of the display formula that is open after a line.
fn formula_after(line: &str, before: Option<&'static [u8]>) -> Option<&'static [u8]> {
    let bytes = line.as_bytes();
    let mut open = before;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match open {
            Some(closing) if rest.starts_with(closing) => {
                open = None;
                at += 2;
            }
            None if rest.starts_with(b"$$") => {
                open = Some(b"$$");
                at += 2;
            }
            None if rest.starts_with(b"\\[") => {
                open = Some(b"\\]");
                at += 2;
            }
            _ if rest.starts_with(b"\\") => at += 2,
            _ => at += 1,
        }
    }
    open
}

/// A list item's marker.
struct Marker {
    /// The item's number, in an ordered list.
    number: Option<u32>,
    /// The column at which the item's content starts.
    content: usize,
    /// The item's first line has text.
    text: bool,
}

/// The answer to a question about a line that may be incomplete.
enum Seen<T> {
    Yes(T),
    No,
    Unclear,
}

/// The beginning of a line.
struct Line<'a> {
    /// The line, cut after [`HEAD_BYTES`].
    head: &'a str,
    /// The same without the whitespace around it.
    text: &'a str,
    /// The column at which the text starts.
    indent: usize,
    /// More text can't change the head.
    whole: bool,
    /// The head holds the whole line.
    short: bool,
}

impl<'a> Line<'a> {
    fn new(line: &'a str, ended: bool) -> Self {
        let short = line.len() <= HEAD_BYTES;
        let end = (0..=line.len().min(HEAD_BYTES)).rev().find(|at| line.is_char_boundary(*at));
        let head = line.get(..end.unwrap_or(0)).unwrap_or_default();
        let text = head.trim_start_matches([' ', '\t']);
        let indent = head
            .bytes()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .fold(0, |column, b| if b == b'\t' { column + 4 - column % 4 } else { column + 1 });
        Self {
            head,
            text: text.trim_end_matches([' ', '\t']),
            indent,
            whole: ended || !short,
            short,
        }
    }

    fn is_blank(&self) -> bool {
        self.text.is_empty() && self.short
    }

    /// The kind of block that this line opens.
    fn opens(&self) -> BlockKind {
        if self.indent >= 4 {
            return BlockKind::Indented;
        }
        if let Some((mark, length)) = self.fence() {
            return BlockKind::Fence { mark, length };
        }
        if self.is_rule() || matches!(self.heading(), Seen::Yes(())) {
            return BlockKind::Closed;
        }
        match self.marker() {
            Seen::Yes(marker) => BlockKind::List { content: marker.content },
            _ => BlockKind::Text,
        }
    }

    /// Whether the line starts a block even when a paragraph is open.
    fn interrupts_paragraph(&self) -> Option<bool> {
        if self.indent >= 4 {
            return Some(false);
        }
        match self.heading() {
            Seen::Yes(()) => return Some(true),
            Seen::Unclear => return None,
            Seen::No => {}
        }
        if self.text.starts_with(['`', '~']) {
            // The rest of the line decides: a backtick in it makes the first ones inline code.
            let mark = self.text.bytes().next();
            let run = self.text.bytes().take_while(|b| Some(*b) == mark).count();
            let may_be_fence = run >= 3 || run == self.text.len();
            return if may_be_fence && !self.whole { None } else { Some(self.fence().is_some()) };
        }
        match self.marker() {
            Seen::Yes(marker) if marker.text => Some(marker.number.is_none_or(|n| n == 1)),
            Seen::Yes(_) if self.whole => Some(false),
            Seen::Yes(_) | Seen::Unclear => None,
            Seen::No => Some(false),
        }
    }

    /// Whether the line is a heading that begins with `#`.
    fn heading(&self) -> Seen<()> {
        let level = self.text.bytes().take_while(|b| *b == b'#').count();
        if self.indent >= 4 || !(1..=6).contains(&level) {
            return Seen::No;
        }
        // The text is trimmed, so the head is searched for what follows the marks.
        let after = self.head.trim_start_matches([' ', '\t']).get(level..).unwrap_or_default();
        match after.bytes().next() {
            Some(b' ' | b'\t') => Seen::Yes(()),
            None if self.whole => Seen::Yes(()),
            None => Seen::Unclear,
            Some(_) => Seen::No,
        }
    }

    /// The fence's character and length, if the line is one. Fences are short lines.
    fn fence(&self) -> Option<(u8, usize)> {
        let mark = self.text.bytes().next().filter(|b| matches!(b, b'`' | b'~'))?;
        let length = self.text.bytes().take_while(|b| *b == mark).count();
        let info = self.text.get(length..).unwrap_or_default();
        let allowed = mark == b'~' || !info.contains('`');
        (self.indent < 4 && self.short && self.whole && length >= 3 && allowed)
            .then_some((mark, length))
    }

    fn closes_fence(&self, mark: u8, length: usize) -> bool {
        self.short
            && self.indent < 4
            && self.text.len() >= length
            && self.text.bytes().all(|b| b == mark)
    }

    fn is_rule(&self) -> bool {
        let mut marks = self.text.bytes().filter(|b| !matches!(b, b' ' | b'\t'));
        let Some(first) = marks.next().filter(|b| b"-*_".contains(b)) else {
            return false;
        };
        let mut more = 0;
        for mark in marks {
            if mark != first {
                return false;
            }
            more += 1;
        }
        more >= 2 && self.indent < 4
    }

    fn marker(&self) -> Seen<Marker> {
        if self.indent >= 4 {
            return Seen::No;
        }
        let text = self.head.trim_start_matches([' ', '\t']);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number = text.get(..digits).and_then(|digits| digits.parse().ok());
        let unnumbered = text.get(digits..).unwrap_or_default();
        let after = if digits == 0 {
            unnumbered.strip_prefix(['-', '*', '+'])
        } else if digits > 9 {
            None
        } else {
            unnumbered.strip_prefix(['.', ')'])
        };
        let Some(after) = after else {
            let unclear = digits > 0 && unnumbered.is_empty() && !self.whole;
            return if unclear { Seen::Unclear } else { Seen::No };
        };
        if after.is_empty() && !self.whole {
            return Seen::Unclear;
        }
        if !after.is_empty() && !after.starts_with([' ', '\t']) {
            return Seen::No;
        }
        let item = after.trim_start_matches([' ', '\t']);
        let space = after.len() - item.len();
        let width = text.len() - after.len();
        // Five spaces or more are one space and indented code.
        let gap = if item.is_empty() || space > 4 { 1 } else { space };
        Seen::Yes(Marker { number, content: self.indent + width + gap, text: !item.is_empty() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a text.
    fn blocks(text: &str) -> Vec<String> {
        let mut blocks = Blocks::default();
        blocks.push(text);
        let mut out: Vec<_> = std::iter::from_fn(|| blocks.next_finished()).collect();
        out.extend(blocks.open().map(Cow::into_owned));
        out
    }

    #[test]
    fn blocks_are_cut_where_markdown_blocks_end() {
        let cases: [(&str, &[&str]); 30] = [
            ("", &[]),
            (" \n\n \t\n", &[]),
            ("a\nb\n\nc", &["a\nb\n\n", "c"]),
            ("\n\n  a", &["  a"]),
            ("# a\nb\n# c", &["# a\n", "b\n", "# c"]),
            ("# a\nb\n# c\n", &["# a\n", "b\n", "# c\n"]),
            ("a\n#b\n#", &["a\n#b\n#"]),
            ("a\n---\nb", &["a\n---\nb"]),
            ("---\nb", &["---\n", "b"]),
            ("a:\n- b\n- c\n\n- d\n\ne", &["a:\n", "- b\n- c\n\n- d\n\n", "e"]),
            ("a\n-\n- ", &["a\n-\n- "]),
            ("a\n2. b\n1. c", &["a\n2. b\n", "1. c"]),
            ("- a\n\n  b\n\n c", &["- a\n\n  b\n\n", " c"]),
            ("1. a\n\n   b\n2. c\n\n**d**", &["1. a\n\n   b\n2. c\n\n", "**d**"]),
            ("- a\nlazy\n\nb", &["- a\nlazy\n\n", "b"]),
            ("- a\n  ```\n  b\n\n  c\n  ```\n- d\n", &["- a\n  ```\n  b\n\n  c\n  ```\n- d\n"]),
            ("- a\n# b\n", &["- a\n", "# b\n"]),
            ("- a\n---\nb", &["- a\n---\nb"]),
            ("```\na\n\n# b\n```\nc", &["```\na\n\n# b\n```\n", "c"]),
            ("a\n```b\nc\n```", &["a\n", "```b\nc\n```"]),
            ("a\n```b``` c\nd", &["a\n```b``` c\nd"]),
            ("~~~\n```\n\n~~~~\na", &["~~~\n```\n\n~~~~\n", "a"]),
            ("    a\n\n    b\nc", &["    a\n\n    b\n", "c"]),
            ("a\n    b", &["a\n    b"]),
            ("> a\n> b\n\n> c", &["> a\n> b\n\n", "> c"]),
            ("| a |\n|---|\n| b |\n\nc", &["| a |\n|---|\n| b |\n\n", "c"]),
            ("\\[\na\n- b\n\\]\n- c\n", &["\\[\na\n- b\n\\]\n", "- c\n"]),
            ("a\r\n\r\nb\rc\r\n\nd", &["a\n\n", "b\nc\n\n", "d"]),
            ("* * *\na", &["* * *\n", "a"]),
            ("10. a\n    b\n\n    c\n11) d", &["10. a\n    b\n\n    c\n11) d"]),
        ];
        for (text, expected) in cases {
            assert_eq!(blocks(text), expected, "{text:?}");
        }
    }

    #[test]
    fn long_blocks_are_split_and_code_stays_code() {
        let text = "x".repeat(3 * CUT_BYTES + 5);
        assert_eq!(
            blocks(&text).iter().map(String::len).collect::<Vec<_>>(),
            [CUT_BYTES, CUT_BYTES, CUT_BYTES, 5]
        );
        let text = "é".repeat(CUT_BYTES);
        assert_eq!(blocks(&text).concat(), text);
        let list = "- item\n".repeat(LONG_BYTES / 4);
        assert!(
            blocks(&list)
                .iter()
                .all(|block| block.starts_with("- item\n") && block.len() < LONG_BYTES + 16)
        );
        let together =
            format!("{}{}", "x".repeat(CUT_BYTES - 3), "👩\u{200D}👩\u{200D}👧".repeat(9));
        assert_eq!(blocks(&together)[0].len(), CUT_BYTES - 3);
        assert_eq!(blocks(&"e\u{301}".repeat(CUT_BYTES)).concat(), "e\u{301}".repeat(CUT_BYTES));
        assert!(blocks(&"e\u{301}".repeat(CUT_BYTES)).iter().all(|b| b.starts_with('e')));
        assert!(blocks(&"word ".repeat(CUT_BYTES)).iter().all(|b| b.ends_with("word ")));
        assert_eq!(blocks(&"\u{301}".repeat(CUT_BYTES)).concat(), "\u{301}".repeat(CUT_BYTES));
        let code = format!("```rust\n{}```\nend", "let x = 1;\n".repeat(CODE_TOO_LONG_BYTES / 6));
        let cut = blocks(&code);
        assert_eq!(cut.len(), 3);
        assert!(cut[1].starts_with("```rust\nlet x = 1;\n") && cut[1].ends_with("```\n"));
        assert_eq!(cut[2], "end");
        assert_eq!(blocks(&format!("a{}", "\n".repeat(100_000))).len(), 1);
    }
}
