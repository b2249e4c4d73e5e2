//! Bare addresses in running text, as GitHub's Markdown links them ("autolinks (extension)").
//!
//! Input: a text and the offset of a character that may be part of an address. Output: the address's range and target.
//! Knows nothing of Markdown's code and links; the caller does.
//!
//! GitHub's rules are extended, because models write Chinese, Japanese and Korean without spaces, and put emphasis
//! around addresses: an address also ends before `**` and `~~`, before punctuation that no address has, and before a
//! CJK letter that follows a letter of another script.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

use super::cjk::is_cjk;
use super::escape::is_banned;

/// The characters at which [`find`] looks for an address.
pub const SIGNS: [char; 3] = [':', '@', 'w'];

/// A bare address.
pub struct Address {
    /// Its byte range in the text.
    pub range: Range<usize>,
    /// The link target: an absolute address.
    pub target: String,
    /// The text to show.
    pub shown: String,
}

/// The address that has one of the [`SIGNS`] at `at` and begins at `from` or later, if there is one.
pub fn find(text: &str, from: usize, at: usize) -> Option<Address> {
    let rest = text.get(at..)?;
    let before = text.get(from..at)?;
    let (start, host, kind) = if rest.starts_with("://") {
        let scheme = trailing(before, |b| b.is_ascii_alphabetic());
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        (at - scheme.len(), at + 3, AddressKind::Url)
    } else if rest.starts_with("www.") {
        (at, at, AddressKind::Www)
    } else if rest.starts_with('@') {
        let local = trailing(before, |b| b.is_ascii_alphanumeric() || b".-_+".contains(&b));
        let local = local.trim_start_matches(['.', '-', '_', '+']);
        if local.is_empty() {
            return None;
        }
        (at - local.len(), at + 1, AddressKind::Mail)
    } else if rest.starts_with(':') {
        let scheme = trailing(before, |b| b.is_ascii_alphabetic());
        let local = leading(rest.get(1..)?, |b| b.is_ascii_alphanumeric() || b".-_+".contains(&b));
        let sign = at + 1 + local.len();
        let is_mail = scheme.eq_ignore_ascii_case("mailto") && !local.is_empty();
        if !is_mail || !text.get(sign..)?.starts_with('@') {
            return None;
        }
        (at - scheme.len(), sign + 1, AddressKind::Mailto)
    } else {
        return None;
    };
    // Checked before its end is searched for: a text full of rejected beginnings must not be read to its end for each.
    if !may_follow(text.get(..start)?, kind) {
        return None;
    }
    let (end, scheme) = match kind {
        AddressKind::Url => (web(text, host, 0)?, ""),
        AddressKind::Www => (web(text, host, 1)?, "http://"),
        AddressKind::Mail => (mail(text, host)?, "mailto:"),
        AddressKind::Mailto => (mail(text, host)?, ""),
    };
    let shown = text.get(start..end)?.replace("\\_", "_").replace("\\&", "&").replace("&amp;", "&");
    Some(Address { range: start..end, target: format!("{scheme}{shown}"), shown })
}

/// How an address begins.
#[derive(Clone, Copy)]
enum AddressKind {
    /// `https://`
    Url,
    /// `www.`
    Www,
    /// An address without a scheme.
    Mail,
    /// `mailto:`
    Mailto,
}

/// Whether an address may stand after this text.
fn may_follow(ahead: &str, kind: AddressKind) -> bool {
    // `<…>` and the target of a link are Markdown's own.
    let on_line = ahead.trim_end_matches(|c: char| c.is_whitespace() && c != '\n');
    if ahead.ends_with('<') || on_line.ends_with("](") {
        return false;
    }
    let Some(neighbour) = ahead.chars().next_back() else { return true };
    match kind {
        AddressKind::Www => {
            neighbour.is_whitespace() || is_cjk(neighbour) || "*_~([{|\"'“‘".contains(neighbour)
        }
        AddressKind::Mail => neighbour != '/',
        AddressKind::Url | AddressKind::Mailto => !neighbour.is_ascii_alphanumeric(),
    }
}

/// The end of a text whose bytes `is` accepts.
fn trailing(text: &str, is: impl Fn(u8) -> bool) -> &str {
    let length = text.bytes().rev().take_while(|b| is(*b)).count();
    text.get(text.len() - length..).unwrap_or_default()
}

/// The start of a text whose bytes `is` accepts.
fn leading(text: &str, is: impl Fn(u8) -> bool) -> &str {
    let length = text.bytes().take_while(|b| is(*b)).count();
    text.get(..length).unwrap_or_default()
}

/// Number of characters of a host that are examined.
const HOST_CHARACTERS: usize = 255;

/// Whether a text begins with a host that has at least `dots` dots. Its last two parts have no `_`.
fn has_host(text: &str, dots: usize) -> bool {
    let first = text.chars().next();
    let letters = first.is_some_and(is_cjk);
    let part = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let name: String = text
        .chars()
        .take(HOST_CHARACTERS)
        .take_while(|c| part(*c) && (letters || !is_cjk(*c)))
        .collect();
    let name = name.trim_end_matches(['.', '_', '-']);
    first.is_some_and(|c| c.is_alphanumeric() || c == '[')
        && !name.rsplit('.').take(2).any(|part| part.contains('_'))
        && name.matches('.').count() >= dots
}

/// Where a web address ends whose host begins at `host` and has at least `dots` dots.
fn web(text: &str, host: usize, dots: usize) -> Option<usize> {
    // Checked first, for the same reason.
    if !has_host(text.get(host..)?, dots) {
        return None;
    }
    let rest = text.get(host..)?;
    let mut end = rest.len();
    let mut brackets = 0_usize;
    let mut in_host = true;
    let mut before = '/';
    let mut characters = rest.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map(|(_, c)| *c);
        in_host &= !matches!(c, '/' | '?' | '#');
        let goes_on = match c {
            '<' | '>' | '"' | '`' | '|' => false,
            // Escaped because Markdown would treat it as markup.
            '\\' => matches!(next, Some('_' | '&')),
            '*' | '~' => next != Some(c),
            '[' => {
                brackets += 1;
                true
            }
            ']' => {
                brackets = brackets.wrapping_sub(1);
                brackets != usize::MAX
            }
            _ if c.is_whitespace() || is_banned(c) => false,
            _ if c.is_ascii() => true,
            _ if !c.is_alphanumeric() => is_combining_mark(c),
            _ => {
                let joined = "/=#-_&+".contains(before) || (in_host && before == '.');
                !is_cjk(c) || joined || is_cjk(before)
            }
        };
        if !goes_on {
            end = at;
            break;
        }
        before = c;
    }
    let address = without_trail(rest.get(..end)?);
    has_host(address, dots).then(|| host + address.len())
}

/// An address without the punctuation that belongs to the sentence around it.
fn without_trail(address: &str) -> &str {
    let mut rest = address;
    let surplus =
        |open, close| address.matches(close).count().saturating_sub(address.matches(open).count());
    let mut closing = [(')', surplus('(', ')')), ('}', surplus('{', '}'))];
    loop {
        let before = rest.len();
        rest = rest.trim_end_matches(['?', '!', '.', ',', ':', '*', '_', '~', '\'', '\\']);
        for (close, surplus) in &mut closing {
            if *surplus > 0
                && let Some(shorter) = rest.strip_suffix(*close)
            {
                *surplus -= 1;
                rest = shorter;
            }
        }
        if let Some(head) = rest.strip_suffix(';') {
            // `&copy;` is one character of the text.
            let name = trailing(head, |b| b.is_ascii_alphanumeric() || b == b'#');
            rest = match head.strip_suffix(name) {
                Some(head) if head.ends_with('&') && !name.is_empty() && name != "amp" => {
                    head.strip_suffix('&').unwrap_or(head)
                }
                _ if name == "amp" => rest.strip_suffix("&amp;").unwrap_or(head),
                _ => head,
            };
        }
        if rest.len() == before {
            return rest;
        }
    }
}

/// Where a mail address ends whose host begins at `host`.
fn mail(text: &str, host: usize) -> Option<usize> {
    let rest = text.get(host..)?;
    let name = leading(rest, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let name = name.split("..").next().unwrap_or_default().trim_end_matches('.');
    // `_` closes emphasis more often than it ends a host.
    let name = name.trim_end_matches('_');
    let ends_well = name.ends_with(|c: char| c.is_ascii_alphabetic());
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let cut = rest.get(name.len()..).unwrap_or_default().starts_with('-');
    (ends_well && begins_well && !cut && name.contains('.')).then(|| host + name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses of a text, `|` between them, each as `shown` or `shown>target`.
    fn seen(text: &str) -> String {
        let (mut out, mut from) = (Vec::new(), 0);
        for (at, _) in text.match_indices(SIGNS) {
            if at < from {
                continue;
            }
            if let Some(found) = find(text, from, at) {
                from = found.range.end;
                let same = found.target == found.shown;
                out.push(if same {
                    found.shown
                } else {
                    format!("{}>{}", found.shown, found.target)
                });
            }
        }
        out.join(" | ")
    }

    #[test]
    fn urls_are_found_as_on_github() {
        let cases = [
            ("See https://example.org/a_b_c for", "https://example.org/a_b_c"),
            ("HTTP://Example.org", "HTTP://Example.org"),
            ("http://localhost:8080/v1, then", "http://localhost:8080/v1"),
            ("http://[::1]:8080/x]", "http://[::1]:8080/x"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("www.commonmark.org/help.", "www.commonmark.org/help>http://www.commonmark.org/help"),
            ("(www.a.b/?q=(x))", "www.a.b/?q=(x)>http://www.a.b/?q=(x)"),
            ("https://a.b/?q=(business))+ok", "https://a.b/?q=(business))+ok"),
            ("https://a.b/(x))))", "https://a.b/(x)"),
            ("https://a.b/?q=x&hl=en", "https://a.b/?q=x&hl=en"),
            ("https://a.b/?q=x&copy;", "https://a.b/?q=x"),
            ("https://a.b/?q=x&amp;y=1", "https://a.b/?q=x&y=1"),
            ("https://a.b<c", "https://a.b"),
            ("https://a.b/x\\_y", "https://a.b/x_y"),
            ("https://a.b/{id}, {https://a.b}", "https://a.b/{id} | https://a.b"),
            ("https://a.b?!.,:*_~'", "https://a.b"),
            ("https://a.b/x;", "https://a.b/x"),
            ("foo@bar.baz", "foo@bar.baz>mailto:foo@bar.baz"),
            ("a.b-c_d+e@a.b, x", "a.b-c_d+e@a.b>mailto:a.b-c_d+e@a.b"),
            ("a.b-c_d@a.b.", "a.b-c_d@a.b>mailto:a.b-c_d@a.b"),
            ("mailto:foo@bar.baz.", "mailto:foo@bar.baz"),
            ("git@github.com:a/b", "git@github.com>mailto:git@github.com"),
            ("https://u@a.b/ c@d.e", "https://u@a.b/ | c@d.e>mailto:c@d.e"),
        ];
        for (text, expected) in cases {
            assert_eq!(seen(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lookalikes_are_not_urls() {
        for text in [
            "http://",
            "http:// a",
            "https://.",
            "xhttp://a.b",
            "ftp://a.b",
            "javascript://a.b",
            "http://a_b.c",
            "http://a.b_c",
            "www.",
            "xwww.a.b",
            "a@b",
            "@a.b",
            "a@b.c-",
            "a@b.c2",
            "a@1.2.3.4",
            "react@18.2.0",
            "@app.route",
            "a @ b.c",
            "http:a.b",
            "a://b",
            "<https://a.b>",
            "[x](https://a.b)",
            "[x]( https://a.b)",
            "<a@b.c>",
            "http://\u{202e}a",
            "a/b@c.d",
            "mailto:a",
            "mailto:@b.c",
        ] {
            assert_eq!(seen(text), "", "{text:?}");
        }
    }

    #[test]
    fn emphasis_and_scripts_without_spaces_end_a_url() {
        let cases = [
            ("**https://a.b/c**后面", "https://a.b/c"),
            ("**https://a.b/c**and", "https://a.b/c"),
            ("~~https://a.b~~x", "https://a.b"),
            (
                "*https://a.b* _https://a.b_ __a@b.c__",
                "https://a.b | https://a.b | a@b.c>mailto:a@b.c",
            ),
            ("访问https://a.b查看", "https://a.b"),
            ("https://a.b/c。后", "https://a.b/c"),
            ("（https://a.b/c）、https://a.b/d，", "https://a.b/c | https://a.b/d"),
            ("「https://a.b」と", "https://a.b"),
            ("https://a.b/c에서", "https://a.b/c"),
            ("(https://a.b)后", "https://a.b"),
            ("“https://a.b” https://a.b… «https://a.b»", "https://a.b | https://a.b | https://a.b"),
            ("https://zh.a.b/wiki/北京_城 x", "https://zh.a.b/wiki/北京_城"),
            ("https://例子.中国/", "https://例子.中国/"),
            ("https://müller.example/straße", "https://müller.example/straße"),
            ("https://a.b后_面 www.a.b后_面", "https://a.b | www.a.b>http://www.a.b"),
            ("邮箱me@a.bc。", "me@a.bc>mailto:me@a.bc"),
            ("https://a.b🎉", "https://a.b"),
        ];
        for (text, expected) in cases {
            assert_eq!(seen(text), expected, "{text:?}");
        }
    }
}
