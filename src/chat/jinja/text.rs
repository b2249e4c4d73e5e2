//! Methods of Python's strings, as in its reference (`docs.python.org/3/library/stdtypes.html#string-methods`).

use super::guards::{bounded, invalid};
use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Value};
use regex::Regex;
use std::sync::LazyLock;

/// Calls `text.method(args)`.
pub(super) fn call(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let args = Args::of(method, args)?;
    Ok(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "casefold" => Value::from(text.to_lowercase().replace('ß', "ss")),
        "capitalize" => Value::from(capitalized(text)),
        "title" => Value::from(titled(text)),
        "swapcase" => Value::from(swapped(text)),
        "strip" => stripped(text, &args, true, true)?,
        "lstrip" => stripped(text, &args, true, false)?,
        "rstrip" => stripped(text, &args, false, true)?,
        "removeprefix" => {
            let prefix = args.text(0, "prefix")?;
            Value::from(text.strip_prefix(&*prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let suffix = args.text(0, "suffix")?;
            Value::from(text.strip_suffix(&*suffix).unwrap_or(text))
        }
        "replace" => {
            let (old, new) = (args.text(0, "old")?, args.text(1, "new")?);
            Value::from(replaced(text, &old, &new, args.integer(2, "count")?.unwrap_or(-1))?)
        }
        "split" => split(text, &args, false)?,
        "rsplit" => split(text, &args, true)?,
        "splitlines" => {
            let keep = args.get(0, "keepends").is_some_and(|v| v.is_true());
            lines(text, keep).into_iter().map(Value::from).collect()
        }
        "partition" => partition(text, &args.text(0, "sep")?, false)?,
        "rpartition" => partition(text, &args.text(0, "sep")?, true)?,
        "join" => joined(text, &args)?,
        "find" => Value::from(found(text, &args, false)?.unwrap_or(-1)),
        "rfind" => Value::from(found(text, &args, true)?.unwrap_or(-1)),
        "index" => {
            Value::from(found(text, &args, false)?.ok_or_else(|| invalid("substring not found"))?)
        }
        "rindex" => {
            Value::from(found(text, &args, true)?.ok_or_else(|| invalid("substring not found"))?)
        }
        "count" => {
            let sub = args.text(0, "sub")?;
            let Some((part, _)) = args.range(text, 1)? else { return Ok(Value::from(0)) };
            Value::from(if sub.is_empty() {
                part.chars().count() + 1
            } else {
                part.matches(&*sub).count()
            })
        }
        "startswith" => starts(text, &args, |part, affix| part.starts_with(affix))?,
        "endswith" => starts(text, &args, |part, affix| part.ends_with(affix))?,
        "center" | "ljust" | "rjust" => justified(text, method, &args)?,
        "zfill" => filled(text, &args)?,
        "expandtabs" => Value::from(expanded(text, args.integer(0, "tabsize")?.unwrap_or(8))?),
        _ => match is(text, method) {
            Some(is) => Value::from(is),
            None => return Err(Error::from(ErrorKind::UnknownMethod)),
        },
    })
}

/// Positional and keyword arguments.
struct Args<'a> {
    method: &'a str,
    places: Vec<Value>,
    names: Kwargs,
}

impl<'a> Args<'a> {
    fn of(method: &'a str, args: &[Value]) -> Result<Self, Error> {
        let (places, names): (Rest<Value>, Kwargs) = from_args(args)?;
        Ok(Self { method, places: places.0, names })
    }

    /// The argument, if it was given and is not `none`.
    fn get(&self, place: usize, name: &str) -> Option<Value> {
        let named = || self.names.peek::<Value>(name).ok();
        let value = self.places.get(place).cloned().or_else(named);
        value.filter(|v| !v.is_none() && !v.is_undefined())
    }

    fn text(&self, place: usize, name: &str) -> Result<String, Error> {
        let found = self.get(place, name);
        if let Some(text) = found.as_ref().and_then(|v| v.as_str()) {
            return Ok(text.to_owned());
        }
        let kind = found.map_or_else(|| "nothing".to_owned(), |v| v.kind().to_string());
        Err(invalid(format!("{}: found {kind}, expected a string", self.method)))
    }

    fn integer(&self, place: usize, name: &str) -> Result<Option<i64>, Error> {
        self.get(place, name).map(i64::try_from).transpose()
    }

    /// The part of `text` between the arguments `start` and `end`, which begin at `place`, and its offset in
    /// characters; `None`: it starts past the end.
    fn range<'t>(&self, text: &'t str, place: usize) -> Result<Option<(&'t str, usize)>, Error> {
        let (start, end) = (self.integer(place, "start")?, self.integer(place + 1, "end")?);
        if start.is_none() && end.is_none() {
            return Ok(Some((text, 0)));
        }
        let length = text.chars().count() as i64;
        let absolute = |at: i64| if at < 0 { (at + length).max(0) } else { at };
        let start = absolute(start.unwrap_or(0));
        let end = absolute(end.unwrap_or(length)).min(length);
        if start > length || start > end {
            return Ok(None);
        }
        let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(i, _)| i);
        Ok(text.get(byte(start)..byte(end)).map(|part| (part, start as usize)))
    }
}

/// Whitespace as Python's strings define it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect()
    })
}

fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        if within {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        within = is_cased(c);
    }
    out
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || c.to_lowercase().ne([c]) || c.to_uppercase().ne([c])
}

fn swapped(text: &str) -> String {
    let swap = |c: char| -> String {
        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
    };
    text.chars().map(swap).collect()
}

fn stripped(text: &str, args: &Args<'_>, start: bool, end: bool) -> Result<Value, Error> {
    let chars: Option<Vec<char>> = match args.get(0, "chars") {
        None => None,
        Some(_) => Some(args.text(0, "chars")?.chars().collect()),
    };
    Ok(Value::from(strip(text, chars.as_deref(), start, end)))
}

/// Strips these characters, or whitespace, from one or both ends.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&[char]>, start: bool, end: bool) -> &'t str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(&c));
    let text = if start { text.trim_start_matches(goes) } else { text };
    if end { text.trim_end_matches(goes) } else { text }
}

/// Replaces the first `count` occurrences, or all if `count` is negative.
pub(super) fn replaced(text: &str, old: &str, new: &str, count: i64) -> Result<String, Error> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let matches = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    bounded(text.len().saturating_add(matches.min(most).saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, most))
}

fn split(text: &str, args: &Args<'_>, right: bool) -> Result<Value, Error> {
    let most = args.integer(1, "maxsplit")?.unwrap_or(-1);
    let most = usize::try_from(most).map_or(usize::MAX, |n| n.saturating_add(1));
    if args.get(0, "sep").is_none() {
        return Ok(Value::from(words(text, most, right)));
    }
    let sep = args.text(0, "sep")?;
    if sep.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts: Vec<Value> = if right {
        let mut parts: Vec<_> = text.rsplitn(most, &*sep).map(Value::from).collect();
        parts.reverse();
        parts
    } else {
        text.splitn(most, &*sep).map(Value::from).collect()
    };
    Ok(Value::from(parts))
}

/// Splits a text into at most `most` words; the remainder keeps its inner whitespace.
fn words(text: &str, most: usize, right: bool) -> Vec<Value> {
    let mut words = Vec::new();
    let mut rest = strip(text, None, !right, right);
    while !rest.is_empty() {
        let cut = if words.len() + 1 >= most {
            None
        } else if right {
            rest.rfind(is_space).map(|at| {
                let next = at + rest[at..].chars().next().map_or(0, char::len_utf8);
                (&rest[next..], strip(&rest[..at], None, false, true))
            })
        } else {
            rest.find(is_space).map(|at| (&rest[..at], strip(&rest[at..], None, true, false)))
        };
        let (word, left) = cut.unwrap_or((rest, ""));
        words.push(Value::from(word));
        rest = left;
    }
    // With a limit, the remainder keeps the whitespace at its far end; otherwise it is stripped.
    if most == usize::MAX
        && let Some(last) = words.last_mut()
    {
        *last = Value::from(strip(last.as_str().unwrap_or_default(), None, true, true));
    }
    if right {
        words.reverse();
    }
    words
}

/// The number of words: runs of letters, digits and underscores.
pub(super) fn word_count(text: &str) -> usize {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w+").expect("a constant"));
    WORD.find_iter(text).count()
}

/// The lines of a text, with or without their line ends.
pub(super) fn lines(text: &str, keep: bool) -> Vec<&str> {
    static END: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("\r\n|[\n\r\x0b\x0c\x1c-\x1e\u{85}\u{2028}\u{2029}]").expect("a constant")
    });
    let (mut lines, mut at) = (Vec::new(), 0);
    for end in END.find_iter(text) {
        lines.push(&text[at..if keep { end.end() } else { end.start() }]);
        at = end.end();
    }
    if at < text.len() {
        lines.push(&text[at..]);
    }
    lines
}

fn partition(text: &str, sep: &str, right: bool) -> Result<Value, Error> {
    if sep.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts = match (if right { text.rsplit_once(sep) } else { text.split_once(sep) }, right) {
        (Some((before, after)), _) => [before, sep, after],
        (None, true) => ["", "", text],
        (None, false) => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

fn joined(text: &str, args: &Args<'_>) -> Result<Value, Error> {
    let parts =
        args.get(0, "iterable").ok_or_else(|| invalid("join: found nothing, expected strings"))?;
    let mut out = String::new();
    for (index, part) in parts.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(text);
        }
        out.push_str(
            part.as_str().ok_or_else(|| {
                invalid(format!("join: found {}, expected a string", part.kind()))
            })?,
        );
        bounded(out.len())?;
    }
    Ok(Value::from(out))
}

fn found(text: &str, args: &Args<'_>, right: bool) -> Result<Option<i64>, Error> {
    let sub = args.text(0, "sub")?;
    let Some((part, start)) = args.range(text, 1)? else { return Ok(None) };
    let at = if right { part.rfind(&*sub) } else { part.find(&*sub) };
    Ok(at.map(|at| (start + part[..at].chars().count()) as i64))
}

fn starts(text: &str, args: &Args<'_>, has: fn(&str, &str) -> bool) -> Result<Value, Error> {
    let affixes = args.get(0, "prefix").unwrap_or_default();
    let Some((part, _)) = args.range(text, 1)? else { return Ok(Value::from(false)) };
    if matches!(affixes.kind(), ValueKind::Seq | ValueKind::Iterable) {
        for affix in affixes.try_iter()? {
            if has(
                part,
                affix
                    .as_str()
                    .ok_or_else(|| invalid(format!("{}: expected strings", args.method)))?,
            ) {
                return Ok(Value::from(true));
            }
        }
        return Ok(Value::from(false));
    }
    Ok(Value::from(has(part, &args.text(0, "prefix")?)))
}

fn justified(text: &str, method: &str, args: &Args<'_>) -> Result<Value, Error> {
    let width =
        args.integer(0, "width")?.ok_or_else(|| invalid(format!("{method}: expected a width")))?;
    let fill = args.get(1, "fillchar").map_or(Ok(" ".to_owned()), |_| args.text(1, "fillchar"))?;
    let length = text.chars().count();
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(length);
    bounded(missing.saturating_mul(fill.len()).saturating_add(text.len()))?;
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // The odd fill character goes where CPython puts it.
        _ => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
    };
    Ok(Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))))
}

fn filled(text: &str, args: &Args<'_>) -> Result<Value, Error> {
    let width = args.integer(0, "width")?.ok_or_else(|| invalid("zfill: expected a width"))?;
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    bounded(missing.saturating_add(text.len()))?;
    let sign = text.chars().next().filter(|c| "+-".contains(*c)).map_or(0, char::len_utf8);
    let (sign, rest) = text.split_at(sign);
    Ok(Value::from(format!("{sign}{}{rest}", "0".repeat(missing))))
}

fn expanded(text: &str, size: i64) -> Result<String, Error> {
    let size = usize::try_from(size).unwrap_or(0);
    bounded(text.len().saturating_add(text.matches('\t').count().saturating_mul(size)))?;
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            _ => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(out)
}

/// Whether `repr` leaves a character unescaped.
pub(super) fn is_printable(c: char) -> bool {
    static HIDDEN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{C}\p{Z}&&[^ ]]").expect("a constant"));
    c.is_ascii_graphic() || c == ' ' || !HIDDEN.is_match(c.encode_utf8(&mut [0; 4]))
}

/// The methods whose names begin with `is`.
fn is(text: &str, method: &str) -> Option<bool> {
    static DECIMAL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\p{Nd}+$").expect("a constant"));
    // Unicode's Numeric_Type of Decimal or Digit.
    static DIGIT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("^[\\p{Nd}²³¹⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐⓪⓵-⓽⓿❶-❾➀-➈➊-➒]+$").expect("a constant")
    });
    static IDENTIFIER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\p{XIDS}_]\p{XIDC}*$").expect("a constant"));
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    let (lower, upper) =
        (|| text.contains(char::is_lowercase), || text.contains(char::is_uppercase));
    Some(match method {
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isascii" => text.is_ascii(),
        "isdecimal" => DECIMAL.is_match(text),
        "isdigit" => DIGIT.is_match(text),
        "isnumeric" => all(char::is_numeric),
        "isidentifier" => IDENTIFIER.is_match(text),
        "islower" => lower() && !upper(),
        "isupper" => upper() && !lower(),
        "isspace" => all(is_space),
        "isprintable" => text.chars().all(is_printable),
        "istitle" => text.contains(is_cased) && titled(text) == text,
        _ => return None,
    })
}
