//! Regexes: the meaning of `pattern` and `format`, and how strings and numbers are written in an answer.
//!
//! Input: ECMAScript regexes, as in JSON Schema. Output: llguidance regexes, which have intersection and complement.
//! Knows nothing of schemas.

use super::json;
use llguidance::derivre::{JsonQuoteOptions, Regex, RegexAst, RegexBuilder};

/// Fuel for finding out whether a regex matches anything.
const EMPTY_FUEL: u64 = 10_000;
/// Fuel for compiling a regex to match with: about ten milliseconds.
const MATCH_FUEL: u64 = 200_000;
/// The largest repetition count in a regex.
pub const REPEATS_MAX: usize = 100_000;

/// A literal string.
pub fn literal(text: &str) -> RegexAst {
    RegexAst::Literal(text.to_owned())
}

/// A regex in llguidance's syntax, matched as a whole.
pub fn expression(source: &str) -> RegexAst {
    RegexAst::Regex(source.to_owned())
}

/// Concatenation.
pub fn cat(parts: Vec<RegexAst>) -> RegexAst {
    RegexAst::Concat(parts)
}

/// Alternation; without options it matches nothing.
pub fn either(mut options: Vec<RegexAst>) -> RegexAst {
    if options.len() == 1 { options.remove(0) } else { RegexAst::Or(options) }
}

/// Intersection.
pub fn and(mut all: Vec<RegexAst>) -> RegexAst {
    if all.len() == 1 { all.remove(0) } else { RegexAst::And(all) }
}

/// Complement: the strings that do not match.
pub fn not(inner: RegexAst) -> RegexAst {
    and(vec![anything(), RegexAst::Not(Box::new(inner))])
}

/// Repetition from `least` to `most` times; `u32::MAX` means no limit.
pub fn repeat(inner: RegexAst, least: u32, most: u32) -> RegexAst {
    RegexAst::Repeat(Box::new(inner), least, most)
}

/// Any string.
pub fn anything() -> RegexAst {
    expression("(?s:.*)")
}

/// Any string of `least` to `most` characters.
pub fn length(least: usize, most: Option<usize>) -> RegexAst {
    let most = most.map_or_else(String::new, |n| n.to_string());
    expression(&format!("(?s:.{{{least},{most}}})"))
}

/// The JSON strings whose contents match.
pub fn string(content: RegexAst) -> RegexAst {
    RegexAst::JsonQuote(Box::new(content), JsonQuoteOptions::regular())
}

/// The JSON string with exactly this content.
pub fn exact(text: &str) -> RegexAst {
    literal(&json::quoted(text))
}

/// Whether a regex certainly matches nothing.
pub fn is_empty(ast: &RegexAst) -> bool {
    let mut builder = RegexBuilder::new();
    let Ok(root) = builder.mk(ast) else { return false };
    if builder.exprset().is_positive(root) {
        return false;
    }
    builder.into_regex_limited(root, EMPTY_FUEL).is_ok_and(|mut regex| regex.always_empty())
}

/// A compiled regex.
pub struct Matcher(Option<Regex>);

impl Matcher {
    /// Compiles a regex that was accepted before; one that is too large to compile matches nothing.
    pub fn new(ast: &RegexAst) -> Self {
        let mut builder = RegexBuilder::new();
        let root = builder.mk(ast).ok();
        Self(root.and_then(|root| builder.into_regex_limited(root, MATCH_FUEL).ok()))
    }

    /// Whether a text matches.
    pub fn is_match(&mut self, text: &str) -> bool {
        self.0.as_mut().is_some_and(|regex| regex.is_match(text))
    }
}

/// The strings in which an ECMAScript regex finds a match.
///
/// # Errors
/// What is wrong with it or not supported.
pub fn pattern(source: &str) -> Result<RegexAst, String> {
    let mut parser = Parser { source, at: 0 };
    let options = parser.options(0)?;
    if parser.at < source.len() {
        return Err("unopened group".to_owned());
    }
    let mut size = 0;
    let mut found = |begins| whole(&options, None, begins, source, &mut size);
    let ast = if options.iter().flatten().any(begins) {
        let later = cat(vec![expression("(?s:.+)"), found(Begins::Later)?]);
        either(vec![found(Begins::Here)?, later])
    } else {
        cat(vec![anything(), found(Begins::Here)?])
    };
    let mut builder = RegexBuilder::new();
    let root = builder.mk(&ast).map_err(|e| problem(&e.to_string()))?;
    match builder.into_regex_limited(root, MATCH_FUEL) {
        Ok(_) => Ok(ast),
        Err(_) => Err("it is too large".to_owned()),
    }
}

/// A part of a regex. Assertions are taken apart; everything else is left to llguidance.
enum RegexPart {
    /// A byte range of the source without assertions.
    Plain(usize, usize),
    /// `^`
    Start,
    /// `$`
    End,
    /// A lookahead, positive or negative.
    Ahead { options: Vec<Vec<RegexPart>>, negative: bool },
    /// A group with assertions inside, and whether it is optional.
    Group { options: Vec<Vec<RegexPart>>, optional: bool },
}

/// Deepest nesting of groups.
const GROUPS_MAX: usize = 100;
/// Most parts of a translated regex: the rest after an alternation is copied to each option.
const PARTS_MAX: usize = 5_000;

struct Parser<'s> {
    source: &'s str,
    at: usize,
}

impl Parser<'_> {
    /// Alternatives up to the end of the group or of the regex.
    fn options(&mut self, depth: usize) -> Result<Vec<Vec<RegexPart>>, String> {
        if depth > GROUPS_MAX {
            return Err(format!("groups are nested more than {GROUPS_MAX} deep"));
        }
        let mut options = vec![Vec::new()];
        while let Some(c) = self.peek() {
            let from = self.at;
            let part = match c {
                ')' => break,
                '|' => {
                    self.at += 1;
                    options.push(Vec::new());
                    continue;
                }
                '^' | '$' => {
                    self.at += 1;
                    if c == '^' { RegexPart::Start } else { RegexPart::End }
                }
                '(' => self.group(depth)?,
                _ => {
                    self.atom(c);
                    self.quantifier();
                    RegexPart::Plain(from, self.at)
                }
            };
            let Some(option) = options.last_mut() else { break };
            match (option.last_mut(), part) {
                (Some(RegexPart::Plain(_, end)), RegexPart::Plain(from, to)) if *end == from => {
                    *end = to;
                }
                (_, part) => option.push(part),
            }
        }
        Ok(options)
    }

    fn group(&mut self, depth: usize) -> Result<RegexPart, String> {
        let from = self.at;
        let rest = &self.source[from..];
        let look = ["(?=", "(?!"].iter().position(|begin| rest.starts_with(begin));
        // Names of groups are dropped in translation; other kinds of group are refused here.
        let named =
            rest.starts_with("(?<") && !rest.starts_with("(?<=") && !rest.starts_with("(?<!");
        let head = match look {
            Some(_) => 3,
            None if named => rest.find('>').map_or(1, |end| end + 1),
            None if rest.starts_with("(?:") => 3,
            None if rest.starts_with("(?<") => return Err("lookbehind is not supported".to_owned()),
            None if rest.starts_with("(?") => {
                return Err("this kind of group is not supported".to_owned());
            }
            None => 1,
        };
        self.at += head;
        let options = self.options(depth + 1)?;
        if self.peek() != Some(')') {
            return Err("unclosed group".to_owned());
        }
        self.at += 1;
        let until = self.at;
        self.quantifier();
        let quantifier = &self.source[until..self.at];
        if let Some(which) = look {
            let simple = quantifier.is_empty();
            let ahead = RegexPart::Ahead { options, negative: which == 1 };
            return if simple {
                Ok(ahead)
            } else {
                Err("a lookahead can't be repeated".to_owned())
            };
        }
        if options.iter().flatten().all(|part| matches!(part, RegexPart::Plain(..))) {
            return Ok(RegexPart::Plain(from, self.at));
        }
        match quantifier {
            "" | "?" | "??" => Ok(RegexPart::Group { options, optional: !quantifier.is_empty() }),
            _ => Err("lookaheads and anchors are not supported inside a repetition".to_owned()),
        }
    }

    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    /// One character, escape or class.
    fn atom(&mut self, first: char) {
        self.at += first.len_utf8();
        let (mut escaped, class) = (first == '\\', first == '[');
        while escaped || class {
            let Some(c) = self.peek() else { return };
            self.at += c.len_utf8();
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                ']' => return,
                _ => {}
            }
        }
    }

    fn quantifier(&mut self) {
        match self.peek() {
            Some('*' | '+' | '?') => self.at += 1,
            Some('{') if is_count(&mut self.source[self.at + 1..].chars()) => {
                self.at += self.source[self.at..].find('}').map_or(1, |end| end + 1);
            }
            _ => return,
        }
        if self.peek() == Some('?') {
            self.at += 1;
        }
    }
}

/// Whether a part begins at the start of the text.
#[derive(Clone, Copy, PartialEq)]
enum Begins {
    Here,
    Later,
    /// Something precedes it that may be empty.
    Unknown,
}

/// Whether a part contains `^`.
fn begins(part: &RegexPart) -> bool {
    match part {
        RegexPart::Start => true,
        RegexPart::Plain(..) | RegexPart::End => false,
        RegexPart::Ahead { options, .. } | RegexPart::Group { options, .. } => {
            options.iter().flatten().any(begins)
        }
    }
}

/// One of the alternatives, then `after` to the end of the text; `None`: anything.
fn whole(
    options: &[Vec<RegexPart>],
    after: Option<&RegexAst>,
    begins: Begins,
    source: &str,
    size: &mut usize,
) -> Result<RegexAst, String> {
    let mut all = Vec::new();
    for option in options {
        *size += option.len() + 1;
        if *size > PARTS_MAX {
            return Err("it is too large".to_owned());
        }
        // Built from the last part backwards; where each part begins is known from those before it.
        let mut starts = vec![begins];
        for part in option {
            let last = starts.last().copied().unwrap_or(begins);
            starts.push(match part {
                RegexPart::Plain(..) | RegexPart::Group { .. } if last == Begins::Here => {
                    Begins::Unknown
                }
                _ => last,
            });
        }
        let mut rest: Option<RegexAst> = after.cloned();
        for (part, begins) in option.iter().zip(starts).rev() {
            let next = rest.clone().unwrap_or_else(anything);
            rest = Some(match part {
                RegexPart::Plain(from, to) => {
                    let plain = translated(&source[*from..*to])?;
                    cat(vec![RegexAst::Regex(plain), next])
                }
                RegexPart::Start => match begins {
                    Begins::Here => next,
                    Begins::Later => RegexAst::NoMatch,
                    Begins::Unknown => {
                        return Err("`^` is supported only at the beginning".to_owned());
                    }
                },
                RegexPart::End if rest.is_none() => RegexAst::EmptyString,
                RegexPart::End => and(vec![next, RegexAst::EmptyString]),
                RegexPart::Ahead { options, negative } => {
                    let ahead = whole(options, None, begins, source, size)?;
                    and(vec![next, if *negative { not(ahead) } else { ahead }])
                }
                RegexPart::Group { options, optional } => {
                    let mut found = vec![whole(options, Some(&next), begins, source, size)?];
                    found.extend(optional.then_some(next));
                    either(found)
                }
            });
        }
        all.push(rest.unwrap_or_else(anything));
    }
    Ok(either(all))
}

/// The last line of a message that begins with `error: `, without that, or else the first line.
fn problem(message: &str) -> String {
    let told = message.lines().rev().find_map(|line| line.strip_prefix("error: "));
    told.unwrap_or_else(|| message.lines().next().unwrap_or_default()).to_owned()
}

/// ECMAScript's white space, for use inside a class.
const SPACE: &str = r"\t\n\x0B\x0C\r \u{A0}\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FEFF}";

/// Translates an ECMAScript regex to the syntax of Rust's `regex`.
fn translated(source: &str) -> Result<String, String> {
    let mut chars = source.chars().peekable();
    let mut out = String::new();
    // Inside a class: whether it is still empty.
    let mut class: Option<bool> = None;
    while let Some(c) = chars.next() {
        let first = class == Some(true);
        if class.is_some() {
            class = Some(false);
        }
        match c {
            '\\' => escape(&mut chars, class.is_some(), &mut out)?,
            '[' if class.is_none() => {
                class = Some(true);
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            // `[]` matches nothing, `[^]` any character.
            ']' if first => {
                let any = out.ends_with('^');
                out.truncate(out.len() - if any { 2 } else { 1 });
                out.push_str(if any { r"[\s\S]" } else { r"[^\s\S]" });
                class = None;
            }
            ']' if class.is_some() => {
                class = None;
                out.push(']');
            }
            '[' | '&' | '~' if class.is_some() => {
                out.push('\\');
                out.push(c);
            }
            // `--` would be a set difference; a hyphen at either end of a class is literal.
            '-' if class.is_some() && (first || matches!(chars.peek(), Some('-' | ']'))) => {
                out.push_str(r"\-");
            }
            '.' if class.is_none() => out.push_str(r"[^\n\r\u{2028}\u{2029}]"),
            '{' if class.is_none() && !is_count(&mut chars.clone()) => out.push_str(r"\{"),
            '{' if class.is_none() => {
                out.push('{');
                for c in chars.by_ref().take_while(|c| *c != '}') {
                    out.push(c);
                }
                out.push('}');
            }
            '}' | ']' if class.is_none() => {
                out.push('\\');
                out.push(c);
            }
            '(' if class.is_none() && chars.peek() == Some(&'?') => {
                let mut ahead = chars.clone();
                ahead.next();
                match (ahead.next(), ahead.next()) {
                    // A group's name has no effect without backreferences.
                    (Some('<'), Some(c)) if c != '=' && c != '!' => {
                        let named = chars.by_ref().any(|c| c == '>');
                        out.push_str("(?:");
                        if named {
                            continue;
                        }
                        return Err("unclosed group name".to_owned());
                    }
                    // `(?:` stays; the others have been taken apart or refused.
                    _ => {}
                }
                out.push('(');
            }
            c => out.push(c),
        }
    }
    if class.is_some() { Err("unclosed character class".to_owned()) } else { Ok(out) }
}

/// Whether the text after a brace makes it a repetition count.
fn is_count(rest: &mut dyn Iterator<Item = char>) -> bool {
    let text: String = rest.take(20).collect();
    let Some((inside, _)) = text.split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// Translates the escape after a backslash.
fn escape(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    in_class: bool,
    out: &mut String,
) -> Result<(), String> {
    let c = chars.next().ok_or("trailing backslash")?;
    let set = |out: &mut String, inside: &str, negated: bool| {
        out.push_str(if negated { "[^" } else { "[" });
        out.push_str(inside);
        out.push(']');
    };
    match c {
        'd' | 'D' => set(out, "0-9", c == 'D'),
        'w' | 'W' => set(out, "0-9A-Za-z_", c == 'W'),
        's' | 'S' => set(out, SPACE, c == 'S'),
        'b' if in_class => out.push_str(r"\x08"),
        'b' | 'B' => return Err(r"word boundaries (\b) are not supported".to_owned()),
        '0' if !chars.peek().is_some_and(char::is_ascii_digit) => out.push_str(r"\x00"),
        '0'..='9' | 'k' => return Err("backreferences are not supported".to_owned()),
        'c' => {
            let letter = chars.next().filter(char::is_ascii_alphabetic);
            let letter = letter.ok_or(r"expected a letter after \c")?;
            out.push_str(&format!(r"\x{:02X}", letter as u32 % 32));
        }
        'x' => out.push_str(&format!(r"\u{{{:X}}}", hex(chars, 2)?)),
        'u' if chars.peek() == Some(&'{') => {
            out.push_str(r"\u");
            braces(chars, out);
        }
        'u' => {
            let mut code = hex(chars, 4)?;
            if (0xD800..0xDC00).contains(&code) {
                if !(chars.next() == Some('\\') && chars.next() == Some('u')) {
                    return Err("unpaired surrogate".to_owned());
                }
                let low = hex(chars, 4)?.wrapping_sub(0xDC00);
                code = 0x10000 + ((code - 0xD800) << 10) + low.min(0x3FF);
            }
            out.push_str(&format!(r"\u{{{code:X}}}"));
        }
        'p' | 'P' => {
            out.push('\\');
            out.push(c);
            braces(chars, out);
        }
        't' | 'n' | 'r' | 'v' | 'f' => {
            out.push('\\');
            out.push(c);
        }
        c if c.is_ascii_alphanumeric() => return Err(format!(r"unknown escape \{c}")),
        c => out.push_str(&regex_syntax::escape(&c.to_string())),
    }
    Ok(())
}

/// Copies an argument in braces, with the braces.
fn braces(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    if chars.peek() == Some(&'{') {
        for c in chars.by_ref() {
            out.push(c);
            if c == '}' {
                return;
            }
        }
    }
}

fn hex(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, count: usize) -> Result<u32, String> {
    let digits: String = chars.take(count).collect();
    let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == count);
    code.ok_or_else(|| format!("found \"{digits}\", expected {count} hexadecimal digits"))
}

/// The regex of a format that is enforced. Other formats are annotations only, the standard's default.
pub fn format(name: &str) -> Option<RegexAst> {
    const LABEL: &str = "[0-9A-Za-z]([0-9A-Za-z-]{0,61}[0-9A-Za-z])?";
    const BYTE: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    const YEAR: &str = "[0-9]{4}";
    // Leap years are divisible by 4, but century years only if divisible by 400.
    const LEAP: &str = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)";
    let date = || {
        format!(
            "({YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|{LEAP}-02-29)"
        )
    };
    let time = || {
        let offset = "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
        // A leap second comes at the end of a day in UTC.
        format!(
            r"(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?{offset}|23:59:60(\.[0-9]+)?([Zz]|[+-]00:00))"
        )
    };
    let source = match name {
        "date" => date(),
        "time" => time(),
        "date-time" => format!("{}[Tt]{}", date(), time()),
        "duration" => {
            let time = "T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S)";
            let day = "([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)";
            format!("P({day}({time})?|{time}|[0-9]+W)")
        }
        "email" => {
            let atom = "[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]+";
            format!(r"{atom}(\.{atom})*@({LABEL}(\.{LABEL})*|\[({BYTE}\.){{3}}{BYTE}\])")
        }
        "hostname" => {
            return Some(and(vec![
                expression(&format!(r"{LABEL}(\.{LABEL})*")),
                length(1, Some(253)),
            ]));
        }
        "ipv4" => format!(r"({BYTE}\.){{3}}{BYTE}"),
        "ipv6" => ipv6(),
        "uuid" => "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}".to_owned(),
        "uri" => uri(),
        _ => return None,
    };
    Some(expression(&source))
}

/// RFC 4291: eight groups; `::` stands for one run of zeros; the last two groups may be an IPv4 address.
fn ipv6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    let address = format!(r"({byte}\.){{3}}{byte}");
    let mut options = vec![format!("({group}:){{7}}{group}"), format!("({group}:){{6}}{address}")];
    for before in 0..=7 {
        let front = match before {
            0 => String::new(),
            1 => group.to_owned(),
            n => format!("({group}:){{{}}}{group}", n - 1),
        };
        // `::` stands for at least one group.
        let after = 7 - before;
        let mut back = vec![String::new()];
        if after > 0 {
            back.push(format!("({group}:){{0,{}}}{group}", after - 1));
        }
        if after > 1 {
            back.push(format!("({group}:){{0,{}}}{address}", after - 2));
        }
        options.push(format!("{front}::({})", back.join("|")));
    }
    format!("({})", options.join("|"))
}

/// RFC 3986: a scheme, then an authority and a path, or a path alone; query and fragment.
fn uri() -> String {
    let coded = "%[0-9A-Fa-f]{2}";
    let common = "-0-9A-Za-z._~!$&'()*+,;=";
    let some = |more: &str| format!("([{common}{more}]|{coded})*");
    let segment = some(":@");
    let first = format!("([{common}:@]|{coded})+");
    let host = format!(r"(\[({}|[vV][0-9A-Fa-f]+\.[{common}:]+)\]|{})", ipv6(), some(""));
    let authority = format!("({}@)?{host}(:[0-9]*)?", some(":"));
    let path =
        format!("(//{authority}(/{segment})*|/({first}(/{segment})*)?|{first}(/{segment})*|)");
    let end = some(":@/?");
    format!(r"[A-Za-z][0-9A-Za-z+.-]*:{path}(\?{end})?(#{end})?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(source: &str, text: &str) -> bool {
        Matcher::new(&pattern(source).unwrap()).is_match(text)
    }

    #[test]
    fn patterns_follow_ecmascript() {
        for (source, yes, no) in [
            ("b", &["abc", "b", "b\n"][..], &["ac", ""][..]),
            ("^a+$", &["a", "aaa"], &["ba", "", "a\n"]),
            ("^a|b$", &["ax", "xb", "b"], &["xax"]),
            (r"^\d\D\w\W\s\S$", &["1a_- x"], &["\u{661}a_- x", "1aé- x"]),
            (r"^[\d\-x.]+$", &["1-x.", "9"], &["y", "é"]),
            (r"^[\w.-]+$", &["a.b-c_"], &["a b"]),
            ("^[[&~]+$", &["[&~"], &["a"]),
            ("^[a-z--9]+$", &["a-9"], &["A"]),
            (r"^[^\s]+$", &["é"], &[" ", "\u{a0}"]),
            ("^{.*}$", &["{a}", "{}"], &["a", "{\n}"]),
            ("^x{2}y{0,1}z{1,}$", &["xxz", "xxyzz"], &["xz"]),
            ("^{a}{,2}$", &["{a}{,2}"], &["a"]),
            (r"^\/a\/\-\.$", &["/a/-."], &["a"]),
            (r"^\cA\x41\u0042\u{43}\ud83d\ude00\u{1F600}\0$", &["\u{1}ABC😀😀\0"], &["ABC"]),
            (r"^[\p{L}\P{Letter}--]+\p{Script=Greek}$", &["éß火1α"], &["1"]),
            ("^(?<year>[0-9]{4})-(?:a|b)$", &["2024-a"], &["2024-c"]),
            ("^[^]$", &["a", "\n"], &["", "ab"]),
            ("^.$", &["a", "😀"], &["\n", "\u{2028}"]),
            (r"^(?!foo)[a-z]+$", &["bar", "fo"], &["foo", "foobar"]),
            (r"^(?!\.)(?!.*\.\.)(?=.{1,5}$)[a-z.]+$", &["a.b"], &[".a", "a..b", "abcdef"]),
            (r"^(?!a$)a|^b$", &["ab", "b"], &["a", "c"]),
            (
                r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+D)?(T(?=\d)(\d+H)?(\d+M)?)?)$",
                &["P1W", "P1D", "PT2H", "P1DT2M"],
                &["P", "PT", "P1D1W", "P1DT"],
            ),
            (r"a(?=b)", &["ab", "xaby"], &["a", "ac", "ba"]),
            (r"a(?!b)c?$", &["a", "ac", "xa"], &["ab", "acb"]),
            (r"(^a|b$)", &["ax", "xb"], &["xax"]),
            (r"(^|,)x(,|$)", &["x", "a,x", "x,a", ",x,"], &["ax", "xa", ""]),
            (r"^(a|b$)c?$", &["a", "b", "ac"], &["bc"]),
            (r"$^", &[""], &["a"]),
            (r"^\S(|(.|\n)*\S)\Z".trim_end_matches(r"\Z"), &["ab"], &[" "]),
        ] {
            for text in yes {
                assert!(is(source, text), "{text:?} by {source}");
            }
            for text in no {
                assert!(!is(source, text), "{text:?} by {source}");
            }
        }
    }

    #[test]
    fn pattern_errors_do_not_show_the_translation() {
        for (source, expected) in [
            ("(a", "unclosed group"),
            ("a)", "unopened group"),
            ("[a", "unclosed character class"),
            ("a**b{2,1}", "repetition"),
            (r"\ba", "word boundaries"),
            (r"(a)\1", "references"),
            (r"(?<=a)b", "lookbehind"),
            (r"a^b", "`^` is supported only at the beginning"),
            (r"(?:a(?=b))*c", "lookaheads and anchors are not supported inside a repetition"),
            (r"\Z", "unknown escape"),
            (r"a\", "backslash"),
            (r"\ud83d", "surrogate"),
            (r"(?i)a", "kind of group"),
            (r"^(?!a", "unclosed group"),
        ] {
            let error = pattern(source).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{source}: {error}");
        }
    }

    #[test]
    fn formats_follow_their_standards() {
        for (name, yes, no) in [
            (
                "date",
                &["2024-02-29", "2000-02-29", "1999-12-31"][..],
                &["2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "24-01-01"][..],
            ),
            (
                "time",
                &["08:30:06Z", "23:59:60Z", "12:00:00.52+01:00"],
                &["24:00:00Z", "12:00:00", "12:59:60Z", "12:00:00+24:00"],
            ),
            (
                "date-time",
                &["1963-06-19T08:30:06.283185Z", "1990-12-31t15:59:50-08:00"],
                &["1990-02-31T15:59:59Z", "1990-12-31 15:59:59Z"],
            ),
            (
                "duration",
                &["P4DT12H30M5S", "P1Y", "PT36H", "P2W"],
                &["P", "PT", "1D", "P1YT", "P2S", "P1Y2W"],
            ),
            (
                "email",
                &["joe.bloggs@example.com", "te~st@[127.0.0.1]"],
                &["2962", ".a@b.c", "a..b@c.d", "a@-b.c"],
            ),
            ("hostname", &["www.example.com", "a-b"], &["-a", "a_b", "a..b", ""]),
            ("ipv4", &["192.168.0.1", "0.0.0.0"], &["256.1.1.1", "01.1.1.1", "1.1.1"]),
            (
                "ipv6",
                &[
                    "::1",
                    "::",
                    "1::",
                    "1:2:3:4:5:6:7:8",
                    "::ffff:192.168.0.1",
                    "1::6:7:8",
                    "1:2:3:4:5:6:1.2.3.4",
                    "a::",
                ],
                &[
                    "12345::",
                    ":1",
                    "1:2:3:4:5:6:7",
                    "1::2::3",
                    "1:2:3:4:5:6:7::8",
                    "::1.2.3.256",
                    "1:2:3:4::5:1.2.3.4.5",
                ],
            ),
            (
                "uuid",
                &["2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
                &["2eb8aa08aa9811eab4aa73b441d16380"],
            ),
            (
                "uri",
                &[
                    "http://foo.bar/?baz=qux#quux",
                    "mailto:John.Doe@example.com",
                    "urn:oasis:names",
                    "ldap://[2001:db8::7]/c=GB?x",
                ],
                &["//foo.bar", "abc", "http:// x", "http://a/\\b", "bar,baz:foo"],
            ),
        ] {
            let format = format(name).unwrap();
            for text in yes {
                assert!(Matcher::new(&format).is_match(text), "{text} is a {name}");
            }
            for text in no {
                assert!(!Matcher::new(&format).is_match(text), "{text} is no {name}");
            }
        }
        assert!(format("int32").is_none());
    }
}
