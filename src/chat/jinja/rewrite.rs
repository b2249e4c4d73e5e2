//! Rewrites template source for minijinja, where Jinja2 accepts more.
//!
//! Line ends become line feeds, the `generation` tags of `transformers` become scopes, a unary plus is dropped, and
//! `a % b` becomes a call, since on strings it formats. Apart from line ends, the text between tags stays as it is.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The function that replaces `%`.
pub(super) const PERCENT: &str = "_percent_";
const CALL: &str = "_percent_(";
/// Keywords, which are not values: a bracket after one begins an expression.
const KEYWORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "elif",
    "set",
    "for",
    "with",
    "call",
    "do",
    "recursive",
];

/// The source to compile.
pub(super) fn rewritten(source: &str) -> Cow<'_, str> {
    let source = if source.contains('\r') {
        Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(source)
    };
    let source = match without_marks(&source) {
        Cow::Owned(marked) => Cow::Owned(marked),
        Cow::Borrowed(_) => source,
    };
    let mut edits = Vec::new();
    for tokens in expressions(&source) {
        edit(&source, &tokens, &mut edits);
    }
    if edits.is_empty() {
        return source;
    }
    edits.sort_by_key(|edit| edit.at);
    let (mut out, mut at) = (String::with_capacity(source.len() + 16 * edits.len()), 0);
    for edit in edits {
        // Invalid expressions may get overlapping edits.
        out.push_str(source.get(at..edit.at).unwrap_or_default());
        out.push_str(edit.text);
        at = at.max(edit.at + edit.removed);
    }
    out.push_str(&source[at..]);
    Cow::Owned(out)
}

/// Replaces the `generation` tags of `transformers`, which mark answers for training and write nothing, by `with`,
/// which opens a scope as they do.
fn without_marks(source: &str) -> Cow<'_, str> {
    static MARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a constant")
    });
    if source.contains("generation") {
        MARK.replace_all(source, "{%$1 ${2}with $3%}")
    } else {
        Cow::Borrowed(source)
    }
}

/// A range of the source and its replacement.
struct Edit {
    at: usize,
    removed: usize,
    text: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum BlockTag {
    Name,
    Number,
    Text,
    Open,
    Close,
    Operator,
}

/// A token of an expression, with its range in the source.
#[derive(Debug, Clone, Copy)]
struct Token {
    kind: BlockTag,
    start: usize,
    end: usize,
    /// Index of the matching bracket.
    partner: usize,
}

/// The tokens of each tag, in order. An invalid template may give any tokens: the compiler reports it.
fn expressions(source: &str) -> Vec<Vec<Token>> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(next) = source[at..].find('{') {
        let start = at + next;
        match source.as_bytes().get(start + 1) {
            Some(b'#') => {
                at = source[start + 2..].find("#}").map_or(source.len(), |end| start + 2 + end + 2);
            }
            Some(&mark @ (b'{' | b'%')) => {
                let closing = if mark == b'{' { "}}" } else { "%}" };
                let (tokens, end) = tag(source, start + 2, closing);
                at = end;
                let is_raw = mark == b'%'
                    && matches!(tokens.as_slice(), [only] if &source[only.start..only.end] == "raw");
                if is_raw {
                    static END: LazyLock<Regex> = LazyLock::new(|| {
                        Regex::new(r"\{%[-+]?\s*endraw\s*[-+]?%\}").expect("a constant")
                    });
                    at = END.find(&source[at..]).map_or(source.len(), |found| at + found.end());
                }
                all.push(tokens);
            }
            _ => at = start + 1,
        }
    }
    all
}

/// The tokens of a tag from `at`, and where it ends.
fn tag(source: &str, mut at: usize, closing: &str) -> (Vec<Token>, usize) {
    let bytes = source.as_bytes();
    let (mut tokens, mut open) = (Vec::<Token>::new(), Vec::<usize>::new());
    // Whitespace control.
    if matches!(bytes.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    while let Some(&byte) = bytes.get(at) {
        let rest = &source[at..];
        if open.is_empty() {
            let marked = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if marked.starts_with(closing) {
                return (tokens, at + (rest.len() - marked.len()) + closing.len());
            }
        }
        let index = tokens.len();
        let mut partner = index;
        let (kind, length) = match byte {
            b'\'' | b'"' => (BlockTag::Text, text_length(rest)),
            b'(' | b'[' | b'{' => {
                open.push(index);
                (BlockTag::Open, 1)
            }
            b')' | b']' | b'}' => {
                if let Some(begin) = open.pop() {
                    partner = begin;
                    tokens[begin].partner = index;
                }
                (BlockTag::Close, 1)
            }
            b'0'..=b'9' => (BlockTag::Number, number_length(rest)),
            _ if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                let is_part = |c: char| c.is_alphanumeric() || c == '_';
                let first = rest.chars().next().map_or(1, char::len_utf8);
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                (BlockTag::Name, length.max(first))
            }
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ if ["**", "//", "==", "!=", "<=", ">="].iter().any(|two| rest.starts_with(two)) => {
                (BlockTag::Operator, 2)
            }
            _ => (BlockTag::Operator, 1),
        };
        tokens.push(Token { kind, start: at, end: at + length, partner });
        at += length;
    }
    (tokens, source.len())
}

/// Length in bytes of the string literal that a source begins with.
fn text_length(source: &str) -> usize {
    let quote = source.as_bytes()[0];
    let mut escaped = false;
    for (index, byte) in source.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return index + 1,
            _ => {}
        }
    }
    source.len()
}

/// Length in bytes of the number literal that a source begins with.
fn number_length(source: &str) -> usize {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?i:0x[0-9a-f_]+|0b[01_]+|0o[0-7_]+|[0-9][0-9_]*(\.[0-9][0-9_]*)?(e[-+]?[0-9_]+)?)",
        )
        .expect("a constant")
    });
    NUMBER.find(source).map_or(1, |found| found.end())
}

/// Collects the edits that the expressions of a tag need.
fn edit(source: &str, tokens: &[Token], edits: &mut Vec<Edit>) {
    let is = |index: usize, text: &str| {
        tokens
            .get(index)
            .is_some_and(|t| t.kind == BlockTag::Operator && &source[t.start..t.end] == text)
    };
    let expression = Expression { source, tokens };
    for (index, token) in tokens.iter().enumerate() {
        if is(index, "+") && expression.is_prefix(index) {
            edits.push(Edit { at: token.start, removed: 1, text: " " });
        }
        if is(index, "%")
            && index > 0
            && expression.ends_value(index - 1)
            && index + 1 < tokens.len()
        {
            let (left, right) = (expression.left(index - 1), expression.right(index + 1));
            edits.push(Edit { at: tokens[left].start, removed: 0, text: CALL });
            edits.push(Edit { at: token.start, removed: 1, text: "," });
            edits.push(Edit { at: tokens[right].end, removed: 0, text: ")" });
        }
    }
}

struct Expression<'s> {
    source: &'s str,
    tokens: &'s [Token],
}

impl Expression<'_> {
    fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |t| &self.source[t.start..t.end])
    }

    fn kind(&self, index: usize) -> Option<BlockTag> {
        self.tokens.get(index).map(|t| t.kind)
    }

    fn is_keyword(&self, index: usize) -> bool {
        self.kind(index) == Some(BlockTag::Name) && KEYWORDS.contains(&self.text(index))
    }

    /// Whether a value can end with this token.
    fn ends_value(&self, index: usize) -> bool {
        match self.kind(index) {
            Some(BlockTag::Name) => !self.is_keyword(index),
            Some(BlockTag::Number | BlockTag::Text | BlockTag::Close) => true,
            _ => false,
        }
    }

    /// Whether the sign here is unary.
    fn is_prefix(&self, index: usize) -> bool {
        // The first token of a block is its name, as in `{% if +x %}`; the names of blocks with expressions are
        // keywords.
        index == 0 || !self.ends_value(index - 1)
    }

    /// The first token of the product that ends with this token.
    fn left(&self, last: usize) -> usize {
        let mut at = last;
        loop {
            if self.kind(at) == Some(BlockTag::Close) {
                at = self.tokens[at].partner.min(at);
                if at > 0 && self.ends_value(at - 1) {
                    at -= 1;
                    continue;
                }
            }
            let Some(before) = at.checked_sub(1) else { return at };
            let adjacent =
                self.kind(before) == Some(BlockTag::Text) && self.kind(at) == Some(BlockTag::Text);
            match self.text(before) {
                "." | "|" | "**" | "*" | "/" | "//" | "%" if before > 0 => at = before - 1,
                "-" | "+" if self.is_prefix(before) => {
                    let Some(ahead) = before.checked_sub(1) else { return before };
                    match self.text(ahead) {
                        "**" | "*" | "/" | "//" | "%" if ahead > 0 => at = ahead - 1,
                        _ => return before,
                    }
                }
                _ if adjacent => at = before,
                _ => return at,
            }
        }
    }

    /// The last token of the operand that begins with this token.
    fn right(&self, first: usize) -> usize {
        let mut at = first;
        while matches!(self.text(at), "-" | "+") && at + 1 < self.tokens.len() {
            at += 1;
        }
        loop {
            if self.kind(at) == Some(BlockTag::Open) {
                at = self.tokens[at].partner.max(at);
            }
            let next = at + 1;
            match (self.kind(next), self.text(next)) {
                (Some(BlockTag::Operator), "." | "|" | "**") if next + 1 < self.tokens.len() => {
                    at = next + 1;
                    while matches!(self.text(at), "-" | "+") && at + 1 < self.tokens.len() {
                        at += 1;
                    }
                }
                (Some(BlockTag::Open), "(" | "[") => at = next,
                (Some(BlockTag::Text), _) if self.kind(at) == Some(BlockTag::Text) => at = next,
                _ => return at,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_it_is_rewritten() {
        for (source, expected) in [
            ("{{ a % b }}", "{{ _percent_(a , b) }}"),
            ("{{ a * b % -c.d[1]|f(2) ~ e }}", "{{ _percent_(a * b , -c.d[1]|f(2)) ~ e }}"),
            ("{{ 1 + a % b % c }}", "{{ 1 + _percent_(_percent_(a , b) , c) }}"),
            (
                "{{ f(a % b)[0] % (c % d) }}",
                "{{ _percent_(f(_percent_(a , b))[0] , (_percent_(c , d))) }}",
            ),
            (
                "{% if not (a) % 2 == -b % 3 %}",
                "{% if not _percent_((a) , 2) == _percent_(-b , 3) %}",
            ),
            ("{% set x = +1 + +2 -%}", "{% set x =  1 +  2 -%}"),
            (
                "a % b {# c % d #}{% raw %}{{ a % b }}{% endraw %}",
                "a % b {# c % d #}{% raw %}{{ a % b }}{% endraw %}",
            ),
            ("{{ 'a % b' }}{%- if x -%}{{- y -}}", "{{ 'a % b' }}{%- if x -%}{{- y -}}"),
            ("{{ {'a': {}} }}\r\n{% generation %}\r", "{{ {'a': {}} }}\n{% with %}\n"),
            ("{{ '%s' 'x' % y }}", "{{ _percent_('%s' 'x' , y) }}"),
        ] {
            assert_eq!(rewritten(source), expected);
        }
    }

    #[test]
    fn broken_sources_do_not_panic() {
        let pieces = [
            "{{", "}}", "{%", "%}", "%", "+", "(", ")", "[", "]", "'", "\"", "\\", "a", "é", ".",
            "|", "**", "1", " ",
        ];
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut source = String::from("{{");
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                source.push_str(pieces[(state >> 16) as usize % pieces.len()]);
            }
            let _ = rewritten(&source);
        }
    }
}
