//! Calls with tags around each argument: `<function=f><parameter=x>1</parameter></function>`.
//!
//! A value is text; whether it means a string or something else is what the function's schema says.

use super::super::answer::{Held, Out, Step};
use super::format::{Section, TagStyle};
use super::{Format, Tool};
use serde_json::Value;
use std::sync::Arc;

/// The longest name of a function or of an argument.
const NAME_BYTES_MAX: usize = 512;

/// Reads such calls.
pub(super) struct Tagged {
    format: &'static Format,
    style: TagStyle,
    tools: Arc<[Tool]>,
    /// Whether the tag before the function's name was read already.
    opened: bool,
    state: State,
    function: String,
    arguments: usize,
    count: usize,
}

enum State {
    /// Before and in the name of a function.
    Function,
    /// Between arguments.
    Arguments,
    /// In a string, of which so far nothing was read.
    Text { begun: bool },
    /// In something else than a string.
    Other,
    /// After a call.
    After,
}

impl Tagged {
    pub(super) fn new(
        format: &'static Format,
        style: TagStyle,
        tools: &Arc<[Tool]>,
        marker: &str,
    ) -> Self {
        Self {
            format,
            style,
            tools: Arc::clone(tools),
            opened: style.function.is_empty() || marker == style.function,
            state: State::Function,
            function: String::new(),
            arguments: 0,
            count: 0,
        }
    }

    fn function(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.skip_white();
        if !self.opened {
            if held.skip(self.style.function) {
                self.opened = true;
                return Step::Next;
            }
            return if held.may_begin(&[self.style.function]) { Step::More } else { self.over() };
        }
        let (at, skip) = if self.style.function_end.is_empty() {
            let ends = ["\n", self.style.argument, self.style.function_close];
            (ends.iter().filter_map(|end| held.text.find(end)).min(), 0)
        } else {
            (held.text.find(self.style.function_end), self.style.function_end.len())
        };
        let Some(at) = at else {
            let waits = !held.ended && held.text.len() <= NAME_BYTES_MAX;
            return if waits { Step::More } else { self.over() };
        };
        let name = attribute(&held.text[..at]);
        let fits = |c: char| c.is_alphanumeric() || "_-./:".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            return self.over();
        }
        self.function = name.to_owned();
        held.take(at + skip);
        out.call(&self.function, None);
        out.arguments("{");
        (self.count, self.arguments) = (self.count + 1, 0);
        self.state = State::Arguments;
        Step::Next
    }

    fn between_arguments(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.skip_white();
        if held.skip(self.style.function_close) {
            out.arguments("}");
            self.opened = self.style.function.is_empty();
            self.state = State::After;
            return Step::Next;
        }
        let style = self.style;
        if held.may_begin(&[style.function_close, style.argument]) || held.text.is_empty() {
            return if held.ended { Step::Done } else { Step::More };
        }
        let Some(rest) = held.text.strip_prefix(style.argument) else {
            // Neither an argument nor the end: skipped, as far as it surely is neither.
            let first = held.text.chars().next().map_or(0, char::len_utf8);
            let next = held.text[first..].find('<').map(|at| first + at);
            held.take(next.unwrap_or(held.text.len()));
            return Step::Next;
        };
        let Some(at) = rest.find(style.argument_end) else { return wait(held) };
        let key = attribute(&rest[..at]).to_owned();
        let is_text = self.is_text(&key, &rest[..at]);
        let after = style.argument.len() + at + style.argument_end.len();
        if style.value.is_empty() {
            held.take(after);
        } else {
            // The tag before the value has to be there as well.
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
        let comma = if self.arguments > 0 { ", " } else { "" };
        out.arguments(&format!("{comma}{}: ", Value::from(key)));
        self.arguments += 1;
        self.state = if is_text { State::Text { begun: false } } else { State::Other };
        if is_text {
            out.arguments("\"");
        }
        Step::Next
    }

    /// A string, told as it arrives.
    fn text(&mut self, begun: bool, held: &mut Held, out: &mut Out) -> Step {
        // Where values stand on lines of their own, one line break on each side is not the value's.
        let lines = self.style.lines;
        if !begun && lines {
            if held.text.is_empty() && !held.ended {
                return Step::More;
            }
            held.skip("\n");
            self.state = State::Text { begun: true };
        }
        let found = held.until(&[self.style.close]);
        let mut text = found.before.as_str();
        if found.marker.is_some() && lines {
            text = text.strip_suffix('\n').unwrap_or(text);
        } else if lines && text.ends_with('\n') && !held.ended {
            text = &text[..text.len() - 1];
            held.text.insert(0, '\n');
        }
        let quoted = Value::from(text).to_string();
        out.arguments(&quoted[1..quoted.len() - 1]);
        if found.marker.is_some() {
            out.arguments("\"");
            self.state = State::Arguments;
            return Step::Next;
        }
        if held.ended { Step::Done } else { Step::More }
    }

    /// A number, a list, …: told when it is complete.
    fn other(&mut self, held: &mut Held, out: &mut Out) -> Step {
        let Some(at) = held.text.find(self.style.close) else { return wait(held) };
        let text = held.take(at);
        held.take(self.style.close.len());
        out.arguments(&value(text.trim()).to_string());
        self.state = State::Arguments;
        Step::Next
    }

    fn after(&mut self, held: &mut Held) -> Step {
        held.skip_white();
        if held.text.is_empty() {
            return if held.ended { Step::Done } else { Step::More };
        }
        for close in self.format.close {
            if held.skip(close) {
                return Step::Next;
            }
        }
        let again = self.style.function;
        if !again.is_empty() && held.text.starts_with(again) {
            self.state = State::Function;
            return Step::Next;
        }
        let waits =
            held.may_begin(self.format.close) || (!again.is_empty() && held.may_begin(&[again]));
        if waits { Step::More } else { Step::Done }
    }

    /// Whether the schema says that an argument is a string, or DeepSeek's tag does.
    fn is_text(&self, key: &str, tag: &str) -> bool {
        if tag.contains("string=\"true\"") {
            return true;
        }
        let tool = self.tools.iter().find(|tool| tool.name == self.function);
        let Some(schema) = tool.and_then(|tool| tool.parameters.get("properties")?.get(key)) else {
            return false;
        };
        let has_type = |kind: &Value| kind == "string";
        match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(has_type) && !kinds.iter().any(|k| k == "null"),
            Value::Null => {
                schema["enum"].as_array().is_some_and(|all| all.iter().all(Value::is_string))
            }
            kind => has_type(kind),
        }
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
            State::Text { begun } => self.text(begun, held, out),
            State::Other => self.other(held, out),
            State::After => self.after(held),
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::After)
    }
}

/// More is needed; if nothing more comes, what there is means nothing.
fn wait(held: &mut Held) -> Step {
    if !held.ended {
        return Step::More;
    }
    let rest = held.text.len();
    held.take(rest);
    Step::Done
}

/// The name in a tag: all of it, or what stands in the first quotes: `"f" string="true"`.
fn attribute(tag: &str) -> &str {
    let tag = tag.trim();
    match tag.strip_prefix('"') {
        Some(rest) => rest.split('"').next().unwrap_or(rest),
        None => tag,
    }
}

/// What a text means that is not said to be a string.
fn value(text: &str) -> Value {
    match text {
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        "None" => Value::Null,
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
    }
}
