//! Escapes text for HTML.
//!
//! Input: any text. Output: the same text with the five characters of HTML syntax written as references, and with the
//! characters that a page must not contain (controls, bidirectional overrides, noncharacters) replaced by U+FFFD. Knows
//! nothing of where in the page the text goes: the result is safe both between tags and inside a quoted attribute.

/// Appends `text` to `out` as HTML text.
pub fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other if is_banned(other) => out.push('\u{FFFD}'),
            other => out.push(other),
        }
    }
}

/// Whether a page must not show this character as it is.
///
/// The bidirectional embeddings, overrides and isolates can make a link's target or a line of
/// code read as something it is not; the direction *marks* (U+200E, U+200F, U+061C) cannot, and
/// right-to-left text needs them.
pub fn is_banned(character: char) -> bool {
    matches!(character,
        '\0'..='\u{8}' | '\u{B}'..='\u{1F}' | '\u{7F}'..='\u{9F}'
        | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
        | '\u{FDD0}'..='\u{FDEF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_is_escaped_and_dangerous_characters_are_replaced() {
        let cases = [
            ("a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#39;"),
            ("tab\tline\n", "tab\tline\n"),
            ("\0\u{1B}\u{85}", "\u{FFFD}\u{FFFD}\u{FFFD}"),
            ("\u{202E}evil\u{2066}", "\u{FFFD}evil\u{FFFD}"),
            ("\u{200F}שלום", "\u{200F}שלום"),
        ];
        for (text, html) in cases {
            let mut out = String::new();
            push_escaped(&mut out, text);
            assert_eq!(out, html);
        }
    }
}
