//! Emphasis beside Chinese, Japanese and Korean punctuation.
//!
//! Input: a block's Markdown. Output: the same with marks beside some runs of `*` and `~`, and text without those
//! marks. Knows nothing of what the runs become.
//!
//! `CommonMark` sees no emphasis in `**「x」**y`: its rules tell an opening from a closing run by the spaces around it,
//! and these scripts have none. As other implementations have agreed ("CJK-friendly emphasis"), a CJK punctuation mark
//! counts as a letter, and so does any punctuation on the inner side of a run whose outer side is CJK. The parser has
//! no such rule, but it treats a noncharacter as a letter: one is put between the run and the punctuation, and removed
//! from the parser's output.

use std::borrow::Cow;

const MARK: char = '\u{FDD2}';

/// The text with a mark wherever a run of `*` or `~` should be read as beside a letter.
pub fn marked(text: &str) -> Cow<'_, str> {
    let tempting = text.contains(['*', '~']) && text.contains(is_cjk);
    if !tempting && !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' | '~' => {
                let mut length = 1;
                while rest.next_if_eq(&c).is_some() {
                    length += 1;
                }
                let after = rest.peek().copied().unwrap_or(' ');
                // Three tildes are a fence.
                let is_run = c == '*' || length <= 2;
                if is_run && is_letter_beside(before, after) {
                    out.push(MARK);
                }
                out.extend(std::iter::repeat_n(c, length));
                if is_run && is_letter_beside(after, before) {
                    out.push(MARK);
                }
                before = c;
            }
            '\\' => {
                out.push('\\');
                before = '\\';
                if let Some(escaped) = rest.next_if(char::is_ascii_punctuation) {
                    out.push(escaped);
                    before = escaped;
                }
            }
            // A mark in the source itself is not shown.
            MARK => out.push('\u{FFFD}'),
            _ => {
                out.push(c);
                before = c;
            }
        }
    }
    Cow::Owned(out)
}

/// The text without the marks.
pub fn unmarked(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains(MARK) { Cow::Owned(text.replace(MARK, "")) } else { text }
}

/// Whether the punctuation on one side of a run counts as a letter, given the other side.
fn is_letter_beside(this: char, other: char) -> bool {
    !this.is_whitespace() && !this.is_alphanumeric() && (is_cjk(this) || is_cjk(other))
}

/// Whether a character is a letter or punctuation of Chinese, Japanese or Korean.
pub fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{11FF}' | '\u{2E80}'..='\u{2FFF}' | '\u{3001}'..='\u{A4CF}'
        | '\u{A960}'..='\u{A97F}' | '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{FE10}'..='\u{FE1F}' | '\u{FE30}'..='\u{FE6F}' | '\u{FF01}'..='\u{FFEE}'
        | '\u{16FE0}'..='\u{18DFF}' | '\u{1AFF0}'..='\u{1B2FF}' | '\u{1F200}'..='\u{1F2FF}'
        | '\u{20000}'..='\u{3FFFD}' | '\u{E0100}'..='\u{E01EF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_separate_delimiters_from_cjk_punctuation() {
        let cases = [
            ("**重点。**后", "**重点。!**后"),
            ("は**「引」**で", "は**!「引」!**で"),
            ("中**\"a\"**中", "中**!\"a\"!**中"),
            ("**「a」**", "**!「a」!**"),
            ("~~删。~~后 ~。~", "~~删。!~~后 ~!。!~"),
            ("a。\\**。*", "a。\\*!*!。!*"),
            ("~~~。", "~~~。"),
            ("中 ** 「", "中 ** 「"),
            ("**a.** b **(c)**d", "**a.** b **(c)**d"),
            ("中*a*中", "中*a*中"),
            ("\u{FDD2}", "\u{FFFD}"),
            ("* 「a」\n*「", "* 「a」\n*!「"),
            ("中\u{3000}**「a」**\u{3000}", "中\u{3000}**!「a」!**\u{3000}"),
        ];
        for (text, expected) in cases {
            let marked = marked(text);
            assert_eq!(marked.replace(MARK, "!"), expected, "{text:?}");
            assert_eq!(unmarked(marked).replace('\u{FFFD}', "\u{FDD2}"), text);
        }
    }
}
