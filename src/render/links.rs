//! Which link targets may be clicked, and how such a link is written.
//!
//! Input: a link target as Markdown gave it (entities and backslashes already resolved). Output: a cleaned target, or
//! nothing if it must not be clickable; and the opening tag for it. A target alone is not HTML yet: the caller escapes
//! it.

use super::escape::push_escaped;

/// The target to put in `href`, or `None` when it is not an absolute `http`, `https` or `mailto`
/// address.
///
/// The rule is an allow-list, applied to what a browser would see: browsers drop tabs and line ends anywhere in an
/// address and controls and spaces around it, so those are dropped before the scheme is read, and the cleaned text is
/// used from then on.
pub fn clickable(target: &str) -> Option<String> {
    let visible: String = target.chars().filter(|c| !c.is_control()).collect();
    let trimmed = visible.trim();
    let (scheme, rest) = trimmed.split_once(':')?;
    let allowed = if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") {
        // Without the two slashes a browser guesses the host; with none there is no address.
        rest.strip_prefix("//")
            .is_some_and(|host| !host.is_empty() && !host.starts_with(['/', '\\', '?', '#']))
    } else {
        scheme.eq_ignore_ascii_case("mailto") && !rest.is_empty()
    };
    allowed.then(|| percent_encode(trimmed))
}

/// The opening tag of a link. The title shows where it leads, whatever its text says.
pub fn anchor(href: &str) -> String {
    let mut out = String::from("<a href=\"");
    push_escaped(&mut out, href);
    out.push_str("\" target=\"_blank\" rel=\"noopener noreferrer nofollow\" title=\"");
    push_escaped(&mut out, href);
    out.push_str("\">");
    out
}

/// Percent-encodes the characters that never belong in an address.
fn percent_encode(target: &str) -> String {
    let mut out = String::with_capacity(target.len());
    for character in target.chars() {
        match character {
            ' ' => out.push_str("%20"),
            '"' => out.push_str("%22"),
            '<' => out.push_str("%3C"),
            '>' => out.push_str("%3E"),
            '\\' => out.push_str("%5C"),
            '`' => out.push_str("%60"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_web_and_mail_addresses_are_clickable() {
        let allowed = [
            ("https://a.example/x?y=1#z", "https://a.example/x?y=1#z"),
            ("HTTP://a.example", "HTTP://a.example"),
            ("  https://a.example  ", "https://a.example"),
            ("ht\ntps://a.example", "https://a.example"),
            ("mailto:a@b.example", "mailto:a@b.example"),
            ("https://a.example/a b\"c", "https://a.example/a%20b%22c"),
            ("https://good.example\\@evil.example", "https://good.example%5C@evil.example"),
        ];
        for (target, href) in allowed {
            assert_eq!(clickable(target).as_deref(), Some(href), "{target:?}");
        }
        let refused = [
            "",
            ":",
            "javascript:alert(1)",
            "java\nscript:alert(1)",
            " \u{1}javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:https://a.example/1",
            "view-source:https://a.example",
            "//evil.example",
            "\\\\evil.example",
            "/relative",
            "relative",
            "#part",
            "http:",
            "http:evil",
            "http:///x",
            "https://",
            "mailto:",
            "\u{200B}https://a.example",
        ];
        for target in refused {
            assert_eq!(clickable(target), None, "{target:?}");
        }
    }
}
