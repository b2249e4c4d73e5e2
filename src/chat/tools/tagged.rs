//! Calls with tags around each argument: `<function=f><parameter=x>1</parameter></function>`.
//!
//! A value is text; the function's schema says whether it is a string or something else. A missing closing tag is
//! noticed at the next tag, unless that tag belongs to the value's text.

use super::super::held::{Held, Out, Step};
use super::arguments::object;
use super::format::{Format, TagStyle};
use super::loose::quoted;
use super::section::Section;
use super::tool::{NAME_BYTES_MAX, Tool, is_name, tool};
use super::types::{Types, has_property};
use crate::text::overlap;
use serde_json::Value;
use std::sync::Arc;

/// Reads such calls.
pub(super) struct Tagged {
    style: TagStyle,
    tools: Arc<[Tool]>,
    /// Markers around the calls.
    close: Vec<&'static str>,
    open: Vec<&'static str>,
    /// Whether the tag before the function's name has been read.
    opened: bool,
    state: State,
    function: String,
    /// The arguments so far.
    keys: Vec<String>,
    count: usize,
}

enum State {
    /// Before and in the name of a function.
    Function,
    /// Between arguments.
    Arguments,
    /// At the beginning of a value.
    Value(Types),
    /// In a string.
    Text,
    /// In all arguments at once, as JSON.
    Whole,
    /// After a call.
    After,
}

/// Where a value ends.
struct End {
    at: usize,
    /// Length in bytes of its closing tag; 0 if that is missing.
    tag: usize,
}

impl Tagged {
    pub(super) fn new(
        format: &'static Format,
        style: TagStyle,
        tools: &Arc<[Tool]>,
        marker: &str,
    ) -> Self {
        let is_wrapper = |mark: &&&'static str| **mark != style.function;
        let open = format.open.iter().filter(is_wrapper).copied().collect();
        let close = format.close.to_vec();
        Self {
            style,
            tools: Arc::clone(tools),
            close,
            open,
            opened: style.function.is_empty() || marker == style.function,
            state: State::Function,
            function: String::new(),
            keys: Vec::new(),
            count: 0,
        }
    }

    fn function(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.skip_white();
        if self.count == 0 || !self.opened {
            for open in &self.open {
                if held.skip(open) {
                    return Step::Next;
                }
            }
        }
        // A repeated tag.
        if !self.style.function.is_empty() && held.skip(self.style.function) {
            self.opened = true;
            return Step::Next;
        }
        if !self.opened {
            let waits = held.may_begin(&[self.style.function]) || held.may_begin(&self.open);
            return if waits { Step::More } else { self.over() };
        }
        let marks = [self.style.argument, self.style.function_close];
        let marks = marks.iter().chain(&self.close).filter_map(|end| held.text.find(end)).min();
        let (end, skip) = if self.style.function_end.is_empty() {
            (held.text.find('\n'), 0)
        } else {
            (held.text.find(self.style.function_end), self.style.function_end.len())
        };
        // The marker after a name may be missing.
        let end = end.map(|at| (at, skip));
        let found = end.into_iter().chain(marks.map(|at| (at, 0))).min();
        let Some((at, skip)) = found else {
            let waits = !held.ended && held.text.len() <= NAME_BYTES_MAX;
            let known = tool(&self.tools, held.text.trim()).is_some();
            if held.ended && !held.cut && known {
                let at = held.text.len();
                return self.begin(at, 0, held, out);
            }
            return if waits || held.cut { Step::More } else { self.over() };
        };
        self.begin(at, skip, held, out)
    }

    fn begin(&mut self, at: usize, skip: usize, held: &mut Held, out: &mut Out) -> Step {
        let name = attribute(&held.text[..at]);
        if !is_name(name) || at > NAME_BYTES_MAX {
            return self.over();
        }
        name.clone_into(&mut self.function);
        held.take(at + skip);
        out.call(&self.function, None);
        self.keys.clear();
        self.count += 1;
        self.state = State::Arguments;
        Step::Next
    }

    fn between_arguments(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.skip_white();
        let style = self.style;
        if held.text.is_empty() {
            if held.ended && !held.cut {
                self.end(out);
            }
            return if held.ended { Step::Done } else { Step::More };
        }
        if held.skip(style.function_close) {
            return self.end(out);
        }
        let next = [style.function].into_iter().filter(|mark| !mark.is_empty());
        let marks: Vec<&str> =
            next.chain(self.open.iter().copied()).chain(self.close.iter().copied()).collect();
        let all: Vec<&str> = marks
            .iter()
            .copied()
            .chain([style.argument, style.close, style.function_close])
            .collect();
        if held.may_begin(&all) {
            return Step::More;
        }
        // The call's closing tag is missing.
        if marks.iter().any(|mark| held.text.starts_with(mark)) {
            return self.end(out);
        }
        if self.keys.is_empty() && held.text.starts_with('{') {
            self.state = State::Whole;
            return Step::Next;
        }
        // A repeated closing tag of a value.
        if held.skip(style.close) {
            return Step::Next;
        }
        let Some(rest) = held.text.strip_prefix(style.argument) else {
            // Neither an argument nor the end: skipped up to the next possible tag.
            let first = held.text.chars().next().map_or(0, char::len_utf8);
            let next = held.text[first..].find('<').map(|at| first + at);
            held.take(next.unwrap_or(held.text.len()));
            return Step::Next;
        };
        let Some(at) = rest.find(style.argument_end) else { return wait(held) };
        if at > NAME_BYTES_MAX || rest[..at].contains('\n') {
            held.take(style.argument.len());
            return Step::Next;
        }
        let key = attribute(&rest[..at]).to_owned();
        let mut types = Types::of(self.parameters(), &key);
        if rest[..at].contains("string=\"true\"") {
            types = Types::TEXT;
        }
        let after = style.argument.len() + at + style.argument_end.len();
        if style.value.is_empty() {
            held.take(after);
        } else {
            // The tag before the value is required as well.
            let value = held.text[after..].trim_start();
            let white = held.text[after..].len() - value.len();
            if value.starts_with(style.value) {
                held.take(after + white + style.value.len());
            } else if !held.ended && style.value.starts_with(value) {
                return Step::More;
            } else {
                held.take(after);
                return Step::Next;
            }
        }
        let before = if self.keys.is_empty() { "{" } else { ", " };
        out.arguments(&format!("{before}{}: ", quoted(&key)));
        self.keys.push(key);
        self.state = State::Value(types);
        Step::Next
    }

    /// Ends the call.
    fn end(&mut self, out: &mut Out) -> Step {
        out.arguments(if self.keys.is_empty() { "{}" } else { "}" });
        out.end_call();
        self.opened = self.style.function.is_empty();
        self.state = State::After;
        Step::Next
    }

    /// Begins a string, or reads any other value whole: only strings are emitted as they arrive.
    fn value(&mut self, types: Types, held: &mut Held, out: &mut Out) -> Step {
        let end = match self.value_end(held) {
            Ok(end) => end,
            Err(sure) => {
                let text = &held.text[..sure];
                let line = text.trim();
                let begun = !text.is_empty() && (!self.style.lines || text != "\n");
                let is_text =
                    types.is_text() || (types.is_text_or_null() && line.len() > "null".len());
                if is_text && begun {
                    if self.style.lines {
                        held.skip("\n");
                    }
                    out.arguments("\"");
                    self.state = State::Text;
                    return Step::Next;
                }
                return Step::More;
            }
        };
        let text = self.take_value(&end, held);
        let text = text.strip_prefix('\n').filter(|_| self.style.lines).unwrap_or(&text);
        out.arguments(&types.value(text));
        self.state = State::Arguments;
        Step::Next
    }

    /// A string, emitted as it arrives.
    fn text(&mut self, held: &mut Held, out: &mut Out) -> Step {
        match self.value_end(held) {
            Ok(end) => {
                let text = self.take_value(&end, held);
                out.arguments(inner(&quoted(&text)));
                out.arguments("\"");
                self.state = State::Arguments;
                Step::Next
            }
            Err(sure) => {
                // Where values stand on lines of their own, one line break on each side is not part of the value.
                let sure = if self.style.lines && held.text[..sure].ends_with('\n') {
                    sure - 1
                } else {
                    sure
                };
                let text = held.take(sure);
                out.arguments(inner(&quoted(&text)));
                Step::More
            }
        }
    }

    fn take_value(&self, end: &End, held: &mut Held) -> String {
        let mut text = held.take(end.at);
        held.take(end.tag);
        if self.style.lines && text.ends_with('\n') {
            text.pop();
        }
        text
    }

    /// Where a value ends, or how many bytes of it are certain.
    fn value_end(&self, held: &Held) -> Result<End, usize> {
        let (text, style) = (&held.text, self.style);
        let own = text.find(style.close);
        // The tag of the next argument: one that the function has and that was not given yet.
        let next = text.match_indices(style.argument).find_map(|(at, tag)| {
            let rest = &text[at + tag.len()..];
            if own.is_some_and(|own| own < at) {
                return None;
            }
            let Some(end) = rest.find(style.argument_end) else {
                let waits = !held.ended && rest.len() <= NAME_BYTES_MAX;
                return waits.then_some(Err(at));
            };
            let key = attribute(&rest[..end]);
            let is_next =
                !self.keys.iter().any(|known| known == key) && has_property(self.parameters(), key);
            is_next.then_some(Ok(End { at, tag: 0 }))
        });
        // The end of the call, unless the value's closing tag follows it before another call begins.
        let outer = [style.function_close].into_iter().chain(self.close.iter().copied());
        let outer = outer.filter_map(|mark| Some((text.find(mark)?, mark.len()))).min();
        let outer =
            outer.filter(|(at, _)| own.is_none_or(|own| *at < own)).and_then(|(at, length)| {
                let rest = &text[at + length..];
                let begins = [style.function].into_iter().filter(|mark| !mark.is_empty());
                let begins = begins.chain(self.open.iter().copied());
                let begins = begins.filter_map(|mark| rest.find(mark)).min();
                match (rest.find(style.close), begins) {
                    (Some(own), Some(begin)) if own < begin => None,
                    (Some(_), None) => None,
                    (None, None) if !held.ended => Some(Err(at)),
                    (None, None) if held.cut => Some(Err(at)),
                    _ => Some(Ok(End { at, tag: 0 })),
                }
            });
        let place = |end: &Result<End, usize>| match end {
            Ok(end) => end.at,
            Err(at) => *at,
        };
        let own = own.map(|at| Ok(End { at, tag: style.close.len() }));
        let first = [own, next, outer].into_iter().flatten().min_by_key(place);
        first.unwrap_or_else(|| {
            if held.ended {
                return Err(text.len());
            }
            let marks = [style.close, style.argument, style.function_close];
            let keep = marks.iter().chain(&self.close).map(|mark| overlap(text, mark)).max();
            Err(text.len() - keep.unwrap_or(0))
        })
    }

    /// All arguments as one object.
    fn whole(&mut self, held: &mut Held, out: &mut Out) -> Step {
        let next = [self.style.function_close, self.style.function];
        let marks =
            next.iter().filter(|mark| !mark.is_empty()).chain(&self.close).chain(&self.open);
        let Some(at) = marks
            .filter_map(|mark| held.text.find(mark))
            .min()
            .or_else(|| (held.ended && !held.cut).then_some(held.text.len()))
        else {
            return Step::More;
        };
        let text = held.take(at);
        held.skip(self.style.function_close);
        out.arguments(&object(&text, &self.function, &self.tools));
        out.end_call();
        self.opened = self.style.function.is_empty();
        self.state = State::After;
        Step::Next
    }

    fn after(&mut self, held: &mut Held) -> Step {
        held.skip_white();
        if held.text.is_empty() {
            return if held.ended { Step::Done } else { Step::More };
        }
        let closers = [self.style.function_close, self.style.close];
        for close in self.close.iter().chain(&closers) {
            if held.skip(close) {
                return Step::Next;
            }
        }
        let again = self.style.function;
        if !again.is_empty() && held.text.starts_with(again) {
            self.state = State::Function;
            return Step::Next;
        }
        let waits = held.may_begin(&self.close)
            || held.may_begin(&closers)
            || (!again.is_empty() && held.may_begin(&[again]));
        if waits { Step::More } else { Step::Done }
    }

    fn parameters(&self) -> &Value {
        let tool = tool(&self.tools, &self.function);
        tool.map_or(&Value::Null, |tool| &tool.parameters)
    }

    fn over(&self) -> Step {
        if self.count > 0 { Step::Done } else { Step::Bad }
    }
}

impl Section for Tagged {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        match self.state {
            State::Function => self.function(held, out),
            State::Arguments => self.between_arguments(held, out),
            State::Value(types) => self.value(types, held, out),
            State::Text => self.text(held, out),
            State::Whole => self.whole(held, out),
            State::After => self.after(held),
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::After)
    }
}

/// Waits for more text; at the end of the answer, drops what is left.
fn wait(held: &mut Held) -> Step {
    if !held.ended {
        return Step::More;
    }
    let rest = held.text.len();
    held.take(rest);
    Step::Next
}

/// The text between a string's quotes.
fn inner(quoted: &str) -> &str {
    &quoted[1..quoted.len() - 1]
}

/// The name in a tag: all of it, or the first quoted text, as in `"f" string="true"`.
fn attribute(tag: &str) -> &str {
    let tag = tag.trim();
    match tag.strip_prefix('"') {
        Some(rest) => rest.split('"').next().unwrap_or(rest),
        None => tag,
    }
}
