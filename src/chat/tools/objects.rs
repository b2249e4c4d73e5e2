//! Calls that are JSON objects: `{"name": "f", "arguments": {…}}`, alone, in a list, or one after another.

use super::super::held::{Held, Out, Step};
use super::arguments::{Arguments, object};
use super::format::Format;
use super::loose::{Loose, Progress, string};
use super::section::Section;
use super::tool::{Tool, tool};
use std::sync::Arc;

/// Reads such calls.
pub(super) struct Objects {
    /// Whether an object's only key is the name.
    keyed: bool,
    /// Whether only known functions count: the text may be any JSON.
    bare: bool,
    tools: Arc<[Tool]>,
    /// Markers that end whatever is open.
    marks: Vec<&'static str>,
    /// Those of them that end the calls.
    close: Vec<&'static str>,
    state: State,
    call: Call,
    /// Objects around the call that are not the call: `{"tool_calls": [{…}]}`.
    wrappers: usize,
    /// Calls read.
    count: usize,
}

/// One call, as far as it has been read.
#[derive(Default)]
struct Call {
    name: Option<String>,
    id: Option<String>,
    /// Arguments that came before the name.
    early: String,
    announced: bool,
    has_arguments: bool,
    /// Whether the arguments have ended.
    is_complete: bool,
    /// Objects within the call that hold its parts: `{"function": {…}}`.
    depth: usize,
}

enum State {
    /// Before a call, between calls, after calls.
    Between,
    /// In an object, before a key.
    Key,
    /// Before the colon after this key.
    Colon(Field),
    /// Before or in a value.
    Value(Field),
    /// In the arguments.
    Arguments(Arguments),
    /// In arguments that are not an object, with the JSON read so far.
    Other(Loose, String),
    /// In a value to ignore.
    Skip(Loose),
}

#[derive(Clone, Copy, PartialEq)]
enum Field {
    Name,
    Arguments,
    Id,
    /// `function`: the name, or an object with the rest.
    Function,
    /// `tool_calls`: holds the calls.
    Wrapper,
    Other,
}

impl Objects {
    pub(super) fn new(
        format: &'static Format,
        keyed: bool,
        bare: bool,
        tools: &Arc<[Tool]>,
    ) -> Self {
        let mut close = format.close.to_vec();
        if bare {
            // The closing code fence, if the bare JSON was in one.
            close.push("```");
        }
        let marks = close.iter().chain(format.open).copied().collect();
        let (tools, call) = (Arc::clone(tools), Call::default());
        Self {
            keyed,
            bare,
            tools,
            marks,
            close,
            state: State::Between,
            call,
            wrappers: 0,
            count: 0,
        }
    }

    fn between(&mut self, held: &mut Held) -> Step {
        held.skip_white();
        let over = if self.count > 0 { Step::Done } else { Step::Bad };
        if held.text.is_empty() {
            return if held.ended { over } else { Step::More };
        }
        for close in &self.close {
            if held.skip(close) {
                return over;
            }
        }
        if self.marks.iter().any(|mark| held.text.starts_with(mark)) {
            // A repeated marker, or the next calls.
            if self.count > 0 {
                return Step::Done;
            }
            self.marks.iter().any(|mark| held.skip(mark));
            return Step::Next;
        }
        if held.may_begin(&self.marks) {
            return Step::More;
        }
        match held.text.chars().next() {
            Some('{') => {
                held.take(1);
                self.call = Call::default();
                self.state = State::Key;
            }
            Some('}') if self.wrappers > 0 || self.count > 0 => {
                held.take(1);
                self.wrappers = self.wrappers.saturating_sub(1);
            }
            Some('[' | ']' | ',' | ';') => {
                held.take(1);
            }
            _ => return over,
        }
        Step::Next
    }

    fn key(&mut self, held: &mut Held, out: &mut Out) -> Step {
        match held.text.chars().next() {
            None => self.wait(held, out),
            // A surplus brace before the first key, a comma, or the end of a list whose last brace is missing.
            Some(',' | '{' | ']') => {
                held.take(1);
                Step::Next
            }
            Some('}') if self.call.depth > 0 => {
                held.take(1);
                self.call.depth -= 1;
                Step::Next
            }
            Some('}') => {
                held.take(1);
                self.end(held, out)
            }
            Some('"' | '\'') => {
                let Some((key, end)) = string(&held.text, &self.marks, held.ended) else {
                    return self.wait(held, out);
                };
                held.take(end);
                self.known_key(&key, held, out)
            }
            Some(c) if !self.bare && (c.is_alphabetic() || c == '_') => {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let Some(end) = held.text.find(|c| !is_word(c)) else {
                    return self.wait(held, out);
                };
                let key = held.take(end);
                self.known_key(&key, held, out)
            }
            Some(_) => self.broken(held, out),
        }
    }

    fn known_key(&mut self, key: &str, held: &mut Held, out: &mut Out) -> Step {
        let Some(field) = self.field(key) else { return self.broken(held, out) };
        self.state = State::Colon(field);
        Step::Next
    }

    /// The field that a key stands for; `None` if the text is then certainly not a call.
    fn field(&mut self, key: &str) -> Option<Field> {
        if self.keyed && self.call.name.is_none() && !matches!(key, "name" | "arguments") {
            self.call.name = Some(key.to_owned());
            return Some(Field::Arguments);
        }
        let field = match key {
            "name" | "tool_name" => Field::Name,
            "arguments" | "parameters" => Field::Arguments,
            "id" | "tool_call_id" | "call_id" => Field::Id,
            "function" => Field::Function,
            "tool_call" | "tool_calls" => Field::Wrapper,
            "type" | "index" => Field::Other,
            _ if !self.bare => Field::Other,
            _ => return None,
        };
        Some(field)
    }

    fn value(&mut self, field: Field, held: &mut Held, out: &mut Out) -> Step {
        let Some(first) = held.text.chars().next() else { return self.wait(held, out) };
        match (field, first) {
            // No value.
            (_, ',' | '}' | ']') => self.state = State::Key,
            (_, ':') => {
                held.take(1);
            }
            (Field::Function, '{') => {
                held.take(1);
                self.call.depth += 1;
                self.state = State::Key;
            }
            (Field::Wrapper, '{' | '[') => {
                self.wrappers += 1;
                self.state = State::Between;
            }
            (Field::Name | Field::Function, '"' | '\'') => {
                let Some((name, end)) = string(&held.text, &self.marks, held.ended) else {
                    return self.wait(held, out);
                };
                held.take(end);
                let known = !self.bare || tool(&self.tools, &name).is_some();
                if name.trim().is_empty() || !known {
                    return self.broken(held, out);
                }
                if self.call.name.is_none() {
                    self.call.name = Some(name.trim().to_owned());
                }
                // If the arguments came first, the whole call is emitted now.
                if self.call.has_arguments {
                    self.announce(out);
                }
                self.state = State::Key;
            }
            (Field::Name, _) => return self.broken(held, out),
            (Field::Arguments, _) if self.call.has_arguments => {
                self.state = State::Skip(Loose::default());
            }
            (Field::Arguments, '{') => {
                self.call.has_arguments = true;
                self.announce(out);
                self.state = State::Arguments(Arguments::default());
            }
            (Field::Arguments, _) => {
                self.call.has_arguments = true;
                self.state = State::Other(Loose::default(), String::new());
            }
            (Field::Id, '"' | '\'') => {
                let Some((id, end)) = string(&held.text, &self.marks, held.ended) else {
                    return self.wait(held, out);
                };
                held.take(end);
                self.call.id = Some(id).filter(|id| !id.is_empty());
                self.state = State::Key;
            }
            _ => self.state = State::Skip(Loose::default()),
        }
        Step::Next
    }

    /// Emits the call, if its name is known.
    fn announce(&mut self, out: &mut Out) {
        if let Some(name) = self.call.name.as_ref().filter(|_| !self.call.announced) {
            out.call(name, self.call.id.take());
            out.arguments(&self.call.early);
            self.call.announced = true;
            if self.call.is_complete {
                out.end_call();
            }
        }
    }

    fn arguments(&mut self, json: &str, ended: bool, out: &mut Out) {
        self.call.is_complete |= ended;
        if self.call.announced {
            out.arguments(json);
            if ended {
                out.end_call();
            }
        } else {
            self.call.early.push_str(json);
        }
    }

    /// Ends the call, at its closing brace or at whatever stands in its place.
    fn end(&mut self, held: &mut Held, out: &mut Out) -> Step {
        if self.call.name.is_none() {
            return self.broken(held, out);
        }
        if !self.call.has_arguments {
            self.call.has_arguments = true;
            self.arguments("{}", true, out);
        }
        self.announce(out);
        self.count += 1;
        self.call = Call::default();
        self.state = State::Between;
        Step::Next
    }

    /// Waits for more text; at the end of the answer, finishes with what there is.
    fn wait(&mut self, held: &mut Held, out: &mut Out) -> Step {
        if !held.ended {
            return Step::More;
        }
        // The model has written all of the call but what closes it.
        let is_call = self.call.is_complete || !self.bare;
        if !held.cut && is_call && self.call.name.is_some() && self.is_at_rest() {
            self.end(held, out);
        }
        if self.call.announced || self.count > 0 {
            let rest = held.text.len();
            held.take(rest);
            return Step::Done;
        }
        Step::More
    }

    /// Whether no part of the call is half read.
    fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Key | State::Colon(_) | State::Value(_))
            && (self.call.is_complete || !self.call.has_arguments)
    }

    /// The text that follows is not part of a call.
    fn broken(&mut self, held: &mut Held, out: &mut Out) -> Step {
        if self.call.is_complete && self.call.name.is_some() {
            self.end(held, out);
            return Step::Done;
        }
        if self.call.announced || self.count > 0 { Step::Done } else { Step::Bad }
    }

    /// Whether a marker stands here, which ends the call; `Some(false)`: one may be arriving.
    fn at_mark(&self, held: &Held) -> Option<bool> {
        if self.marks.iter().any(|mark| held.text.starts_with(mark)) {
            return Some(true);
        }
        held.may_begin(&self.marks).then_some(false)
    }
}

impl Section for Objects {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        if matches!(self.state, State::Key | State::Colon(_) | State::Value(_)) {
            held.skip_white();
            match self.at_mark(held) {
                Some(true)
                    if self.call.name.is_some()
                        && (self.call.is_complete || !self.call.has_arguments) =>
                {
                    return self.end(held, out);
                }
                Some(true) => return self.broken(held, out),
                Some(false) => return Step::More,
                None => {}
            }
        }
        match &mut self.state {
            State::Between => self.between(held),
            State::Key => self.key(held, out),
            State::Colon(field) => {
                let field = *field;
                match held.text.chars().next() {
                    None => self.wait(held, out),
                    Some(':' | '=') => {
                        held.take(1);
                        self.state = State::Value(field);
                        Step::Next
                    }
                    Some(_) => self.broken(held, out),
                }
            }
            State::Value(field) => {
                let field = *field;
                self.value(field, held, out)
            }
            State::Arguments(reader) => {
                let (json, done) = reader.read(held, &self.marks);
                self.arguments(&json, done, out);
                if done {
                    self.state = State::Key;
                    return Step::Next;
                }
                self.wait(held, out)
            }
            State::Other(loose, found) => {
                let read = loose.read(&held.text, &self.marks, held.ended);
                held.take(read.taken);
                found.push_str(&read.json);
                if read.progress == Progress::More {
                    return self.wait(held, out);
                }
                found.push_str(&loose.close().unwrap_or_default());
                let name = self.call.name.clone().unwrap_or_default();
                let json = object(&std::mem::take(found), &name, &self.tools);
                self.announce(out);
                self.arguments(&json, true, out);
                self.state = State::Key;
                Step::Next
            }
            State::Skip(loose) => {
                let read = loose.read(&held.text, &self.marks, held.ended);
                held.take(read.taken);
                if read.progress == Progress::More {
                    return self.wait(held, out);
                }
                self.state = State::Key;
                Step::Next
            }
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::Between)
    }
}
