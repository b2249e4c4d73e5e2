//! Translates llama.cpp's grammars (GBNF) to regexes or Lark grammars for llguidance.
//!
//! Input: the source of a grammar. Output: Lark sources, the best first. Knows tokens only by name.
//!
//! GBNF has no lexemes, only characters: any derivation of a text is valid. llguidance first splits the text into
//! lexemes, each as long as possible, and then parses those, so a rule must not become a lexeme just because it looks
//! like one. Two translations keep the meaning: if no rule is recursive, the whole grammar becomes one regex, which is
//! fast; otherwise every single character is a lexeme.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Deepest nesting of groups, and of rules inlined into a regex.
const DEPTH_MAX: usize = 100;
/// Largest repetition count, as in llama.cpp.
const REPEAT_MAX: u32 = 2000;
/// Longest regex in bytes: a rule that is used twice is written twice.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// Parses a grammar. `token` looks up the single token for a text.
///
/// # Errors
/// What is wrong, with the line number.
pub(super) fn parse(source: &str, token: &dyn Fn(&str) -> Option<u32>) -> Result<Grammar, String> {
    let mut parser = Parser { source, at: 0, token, names: HashMap::new(), depth: 0 };
    parser.grammar().map_err(|problem| parser.located(&problem))
}

/// A grammar; the first rule is `root`.
pub(super) struct Grammar {
    pub(super) rules: Vec<Choice>,
}

/// Alternative sequences, one of which must match.
pub(super) type Choice = Vec<Vec<Item>>;

/// An item of a sequence.
pub(super) enum Item {
    /// One character from these ranges or, if `false`, from none of them.
    Class(Vec<(char, char)>, bool),
    Rule(usize),
    Group(Choice),
    Repeat(Box<Item>, u32, Option<u32>),
    /// This token or, if `false`, any other.
    Token(u32, bool),
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
    token: &'s dyn Fn(&str) -> Option<u32>,
    /// Rule numbers by name, in the order of first mention.
    names: HashMap<&'s str, usize>,
    depth: usize,
}

impl<'s> Parser<'s> {
    fn grammar(&mut self) -> Result<Grammar, String> {
        self.names.insert("root", 0);
        let mut rules: Vec<Option<Choice>> = Vec::new();
        self.space(true);
        while !self.rest().is_empty() {
            let name = self.name()?;
            let number = self.number_of(name);
            self.space(false);
            self.expect("::=")?;
            self.space(true);
            let choice = self.choice(false)?;
            if !self.rest().is_empty() && !self.rest().starts_with(['\r', '\n']) {
                return Err(format!("found {}, expected a line break after a rule", self.found()));
            }
            self.space(true);
            rules.resize_with(rules.len().max(number + 1), || None);
            // A later rule of the same name replaces the earlier one, as in llama.cpp.
            rules[number] = Some(choice);
        }
        let mut names: Vec<(&str, usize)> = self.names.iter().map(|(&n, &i)| (n, i)).collect();
        names.sort_by_key(|&(_, number)| number);
        rules.resize_with(names.len(), || None);
        let defined = |(rule, (name, _)): (Option<Choice>, (&str, usize))| {
            rule.ok_or_else(|| format!("rule `{name}` is not defined"))
        };
        let rules = rules.into_iter().zip(names).map(defined).collect::<Result<_, _>>()?;
        Ok(Grammar { rules })
    }

    fn number_of(&mut self, name: &'s str) -> usize {
        let next = self.names.len();
        *self.names.entry(name).or_insert(next)
    }

    /// Alternatives; inside parentheses, line breaks are ignored.
    fn choice(&mut self, nested: bool) -> Result<Choice, String> {
        let mut choice = vec![self.sequence(nested)?];
        while self.skip("|") {
            self.space(true);
            choice.push(self.sequence(nested)?);
        }
        Ok(choice)
    }

    fn sequence(&mut self, nested: bool) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        while let Some(c) = self.rest().chars().next() {
            let item = match c {
                '"' => self.literal()?,
                '[' => self.class()?,
                '.' => {
                    self.at += 1;
                    Item::Class(Vec::new(), false)
                }
                '<' | '!' => self.token()?,
                '(' => self.group()?,
                '*' | '+' | '?' | '{' => {
                    let (least, most) = self.repetition(nested)?;
                    let Some(item) = items.pop() else {
                        return Err(format!("there is nothing before `{c}` to repeat"));
                    };
                    let item = match most {
                        // Zero repetitions: llguidance can't express it, so emit an empty group.
                        Some(0) => Item::Group(vec![Vec::new()]),
                        most => Item::Repeat(Box::new(item), least, most),
                    };
                    if item.repetitions() > u64::from(REPEAT_MAX) {
                        return Err(format!(
                            "nested repetitions multiply to more than {REPEAT_MAX}"
                        ));
                    }
                    item
                }
                c if is_name(c) => {
                    let name = self.name()?;
                    Item::Rule(self.number_of(name))
                }
                _ => break,
            };
            items.push(item);
            self.space(nested);
        }
        Ok(items)
    }

    fn group(&mut self) -> Result<Item, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("groups are nested more than {DEPTH_MAX} deep"));
        }
        self.expect("(")?;
        self.space(true);
        let choice = self.choice(true)?;
        self.expect(")")?;
        self.depth -= 1;
        Ok(Item::Group(choice))
    }

    fn literal(&mut self) -> Result<Item, String> {
        self.expect("\"")?;
        let mut items = Vec::new();
        while !self.skip("\"") {
            let c = self.character()?;
            items.push(Item::Class(vec![(c, c)], true));
        }
        // One group, so that a repetition after it applies to the whole literal.
        Ok(Item::Group(vec![items]))
    }

    /// `[a-z_]`, `[^"]`.
    fn class(&mut self) -> Result<Item, String> {
        self.expect("[")?;
        let is = !self.skip("^");
        let mut ranges = Vec::new();
        while !self.skip("]") {
            let from = self.character()?;
            let mut to = from;
            if self.rest().starts_with('-') && !self.rest().starts_with("-]") {
                self.at += 1;
                to = self.character()?;
            }
            if to < from {
                return Err(format!("the range {from:?} to {to:?} is empty"));
            }
            ranges.push((from, to));
        }
        if ranges.is_empty() && is {
            return Err("an empty character class matches nothing".to_owned());
        }
        Ok(Item::Class(ranges, is))
    }

    /// Minimum and maximum number of repetitions.
    fn repetition(&mut self, nested: bool) -> Result<(u32, Option<u32>), String> {
        for (sign, range) in [("*", (0, None)), ("+", (1, None)), ("?", (0, Some(1)))] {
            if self.skip(sign) {
                return Ok(range);
            }
        }
        self.expect("{")?;
        self.space(nested);
        let least = self.count()?;
        self.space(nested);
        let mut most = Some(least);
        if self.skip(",") {
            self.space(nested);
            let digits = self.rest().starts_with(|c: char| c.is_ascii_digit());
            most = if digits { Some(self.count()?) } else { None };
            self.space(nested);
        }
        self.expect("}")?;
        if most.is_some_and(|most| most < least) {
            return Err(format!(
                "found {{{least},{}}}, expected the smaller number first",
                most.unwrap_or(0)
            ));
        }
        Ok((least, most))
    }

    fn count(&mut self) -> Result<u32, String> {
        let digits = self.while_true(|c| c.is_ascii_digit());
        let count = digits.parse().ok().filter(|n| *n <= REPEAT_MAX);
        count.ok_or_else(|| format!("found `{digits}`, expected a number up to {REPEAT_MAX}"))
    }

    /// `<[42]>`, `<think>`, `!<…>`.
    fn token(&mut self) -> Result<Item, String> {
        let is = !self.skip("!");
        let from = self.at;
        self.expect("<")?;
        let Some(end) = self.rest().find('>') else {
            return Err("unterminated token, expected `>`".to_owned());
        };
        self.at += end + 1;
        let text = &self.source[from..self.at];
        let id = match text.strip_prefix("<[").and_then(|t| t.strip_suffix("]>")) {
            Some(number) => number.parse().ok(),
            None => (self.token)(text),
        };
        id.map(|id| Item::Token(id, is))
            .ok_or_else(|| format!("`{text}` is not a token of this model"))
    }

    /// One character of a literal or a class.
    fn character(&mut self) -> Result<char, String> {
        let mut chars = self.rest().chars();
        let c = chars.next().ok_or("unterminated literal or character class")?;
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c);
        }
        let escaped = chars.next().ok_or("unterminated literal or character class")?;
        self.at += escaped.len_utf8();
        let digits = match escaped {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'n' => return Ok('\n'),
            '\\' | '"' | '[' | ']' | '-' => return Ok(escaped),
            other => return Err(format!("unknown escape `\\{other}`")),
        };
        let hex = self.rest().get(..digits).unwrap_or("");
        self.at += hex.len();
        let value = u32::from_str_radix(hex, 16)
            .ok()
            .filter(|_| hex.len() == digits && !hex.starts_with('+'));
        let value = value.ok_or_else(|| {
            format!("found `\\{escaped}{hex}`, expected {digits} hexadecimal digits")
        })?;
        char::from_u32(value).ok_or_else(|| format!("U+{value:04X} is not a character"))
    }

    /// Skips white space and comments; line breaks only with `lines`.
    fn space(&mut self, lines: bool) {
        loop {
            self.while_true(|c| c == ' ' || c == '\t' || (lines && (c == '\r' || c == '\n')));
            if !self.rest().starts_with('#') {
                return;
            }
            self.while_true(|c| c != '\r' && c != '\n');
        }
    }

    fn name(&mut self) -> Result<&'s str, String> {
        let name = self.while_true(is_name);
        if name.is_empty() {
            Err(format!("found {}, expected a rule name", self.found()))
        } else {
            Ok(name)
        }
    }

    fn while_true(&mut self, mut is: impl FnMut(char) -> bool) -> &'s str {
        let rest = &self.source[self.at..];
        let end = rest.find(|c| !is(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.skip(text) {
            Ok(())
        } else {
            Err(format!("found {}, expected `{text}`", self.found()))
        }
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn found(&self) -> String {
        match self.rest().chars().next() {
            None => "the end".to_owned(),
            Some('\r' | '\n') => "the end of the line".to_owned(),
            Some(c) => format!("`{c}`"),
        }
    }

    /// Prefixes a problem with its line number.
    fn located(&self, problem: &str) -> String {
        let line = self.source[..self.at].matches('\n').count() + 1;
        format!("line {line}: {problem}")
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

impl Item {
    /// The largest product of nested repetition counts; an unbounded repetition counts its minimum.
    fn repetitions(&self) -> u64 {
        match self {
            Self::Class(..) | Self::Rule(_) | Self::Token(..) => 1,
            Self::Group(choice) => {
                choice.iter().flatten().map(Self::repetitions).max().unwrap_or(1)
            }
            Self::Repeat(item, least, most) => {
                item.repetitions() * u64::from(most.unwrap_or(*least).max(1))
            }
        }
    }
}

/// Writes a character class as a regex. A negated class also excludes U+0000, as in llama.cpp.
fn class(ranges: &[(char, char)], is: bool, out: &mut String) {
    if let (&[(c, last)], true) = (ranges, is)
        && c == last
        && (c.is_alphanumeric() || " _,;:=<>@!%&'\"~-".contains(c))
    {
        return out.push(c);
    }
    out.push_str(if is { "[" } else { r"[^\x00" });
    for (from, to) in ranges {
        let _ = write!(out, r"\x{{{:x}}}", u32::from(*from));
        if to > from {
            let _ = write!(out, r"-\x{{{:x}}}", u32::from(*to));
        }
    }
    out.push(']');
}

impl Grammar {
    /// Lark sources for llguidance, the best first.
    pub(super) fn sources(&self) -> Vec<String> {
        let mut sources = Vec::new();
        let mut regex = String::new();
        if self.regex(&self.rules[0], &mut vec![0], &mut regex) {
            sources.push(format!("start: /{regex}/\n"));
        }
        sources.push(self.lark());
        sources
    }

    /// Writes a choice as a regex with its rules inlined; `within` holds the rules being expanded. False if a rule is
    /// recursive or names tokens, or if the regex becomes too long.
    fn regex(&self, choice: &Choice, within: &mut Vec<usize>, out: &mut String) -> bool {
        out.push_str("(?:");
        for (index, sequence) in choice.iter().enumerate() {
            if index > 0 {
                out.push('|');
            }
            if !sequence.iter().all(|item| self.regex_item(item, within, out)) {
                return false;
            }
        }
        out.push(')');
        out.len() <= REGEX_BYTES_MAX
    }

    fn regex_item(&self, item: &Item, within: &mut Vec<usize>, out: &mut String) -> bool {
        match item {
            Item::Token(..) => false,
            Item::Class(ranges, is) => {
                class(ranges, *is, out);
                out.len() <= REGEX_BYTES_MAX
            }
            Item::Group(choice) => self.regex(choice, within, out),
            Item::Rule(rule) => {
                if within.contains(rule) || within.len() > DEPTH_MAX {
                    return false;
                }
                within.push(*rule);
                let done = self.regex(&self.rules[*rule], within, out);
                within.pop();
                done
            }
            Item::Repeat(item, least, most) => {
                out.push_str("(?:");
                let done = self.regex_item(item, within, out);
                out.push(')');
                repeat(*least, *most, out);
                done
            }
        }
    }

    /// A Lark grammar whose lexemes are single characters.
    fn lark(&self) -> String {
        let mut lark = Lark { out: "start: r0\n".to_owned(), deep: Vec::new() };
        for (number, choice) in self.rules.iter().enumerate() {
            lark.rule('r', number, choice);
        }
        let mut number = 0;
        while let Some(choice) = lark.deep.get(number).copied() {
            lark.rule('g', number, choice);
            number += 1;
        }
        lark.out
    }
}

/// Writes Lark rules.
struct Lark<'g> {
    out: String,
    /// Groups nested so deep that they get rules of their own.
    deep: Vec<&'g Choice>,
}

impl<'g> Lark<'g> {
    fn rule(&mut self, kind: char, number: usize, choice: &'g Choice) {
        let _ = write!(self.out, "{kind}{number}: ");
        self.choice(choice, 0);
        self.out.push('\n');
    }

    fn choice(&mut self, choice: &'g Choice, depth: usize) {
        for (index, sequence) in choice.iter().enumerate() {
            if index > 0 {
                self.out.push_str(" | ");
            }
            // An empty sequence is written as an empty string.
            if sequence.is_empty() {
                self.out.push_str("\"\"");
            }
            for item in sequence {
                self.item(item, depth);
                self.out.push(' ');
            }
        }
    }

    fn item(&mut self, item: &'g Item, depth: usize) {
        match item {
            Item::Class(ranges, is) => {
                self.out.push('/');
                class(ranges, *is, &mut self.out);
                self.out.push('/');
            }
            Item::Rule(rule) => {
                let _ = write!(self.out, "r{rule}");
            }
            // llguidance takes 30 levels.
            Item::Group(choice) if depth >= 10 => {
                let _ = write!(self.out, "g{}", self.deep.len());
                self.deep.push(choice);
            }
            Item::Group(choice) => {
                self.out.push('(');
                self.choice(choice, depth + 1);
                self.out.push(')');
            }
            Item::Token(id, is) => {
                let _ = write!(self.out, "<[{}{id}]>", if *is { "" } else { "^" });
            }
            Item::Repeat(item, least, most) => {
                self.out.push('(');
                self.item(item, depth + 1);
                self.out.push(')');
                repeat(*least, *most, &mut self.out);
            }
        }
    }
}

/// Writes a repetition operator, which is the same in both syntaxes.
fn repeat(least: u32, most: Option<u32>, out: &mut String) {
    let _ = match (least, most) {
        (0, None) => write!(out, "*"),
        (1, None) => write!(out, "+"),
        (0, Some(1)) => write!(out, "?"),
        (least, None) => write!(out, "{{{least},}}"),
        (least, Some(most)) => write!(out, "{{{least},{most}}}"),
    };
}
