//! Calls that are JSON objects: `{"name": "f", "arguments": {…}}`, alone, in a list, or one after another.

use super::super::answer::{Held, Out, Step};
use super::Format;
use super::format::Section;
use super::scan::{Scan, string};

/// Reads such calls.
pub(super) struct Objects {
    format: &'static Format,
    /// Whether the one key of an object is the name.
    keyed: bool,
    /// Names of functions, where only these count: the text may be any JSON.
    known: Option<Vec<String>>,
    state: State,
    call: Call,
    /// Objects around the call that are not the call: `{"tool_calls": [{…}]}`.
    wrappers: usize,
    /// Calls read.
    count: usize,
}

/// One call, as far as it is read.
#[derive(Default)]
struct Call {
    name: Option<String>,
    id: Option<String>,
    /// Arguments that came before the name.
    early: String,
    announced: bool,
    has_arguments: bool,
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
    Arguments(Scan),
    /// In a value that means nothing.
    Skip(Scan),
}

#[derive(Clone, Copy, PartialEq)]
enum Field {
    Name,
    Arguments,
    Id,
    /// `function`: the name, or an object with the rest.
    Function,
    /// `tool_calls`: what it holds are the calls.
    Wrapper,
    Other,
}

impl Objects {
    pub(super) fn new(format: &'static Format, keyed: bool, known: Option<Vec<String>>) -> Self {
        let call = Call::default();
        Self { format, keyed, known, state: State::Between, call, wrappers: 0, count: 0 }
    }

    fn between(&mut self, held: &mut Held) -> Step {
        held.skip_white();
        let over = if self.count > 0 { Step::Done } else { Step::Bad };
        if held.text.is_empty() {
            return if held.ended { over } else { Step::More };
        }
        // A fence, where bare JSON stood in one.
        let closers = self.format.close.iter().chain(self.known.as_ref().map(|_| &"```"));
        for close in closers {
            if held.skip(close) {
                return over;
            }
            if held.may_begin(&[close]) {
                return Step::More;
            }
        }
        match held.text.chars().next() {
            Some('{') => {
                held.take(1);
                self.call = Call::default();
                self.state = State::Key;
            }
            Some('}') if self.wrappers > 0 => {
                held.take(1);
                self.wrappers -= 1;
            }
            Some('[' | ']' | ',' | ';') => {
                held.take(1);
            }
            _ => return over,
        }
        Step::Next
    }

    fn key(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.skip_white();
        match held.text.chars().next() {
            None => self.wait(held),
            Some(',') => {
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
                if !self.announce(out, true) {
                    return self.broken();
                }
                self.count += 1;
                self.state = State::Between;
                Step::Next
            }
            Some('"') => {
                let Some((key, end)) = string(&held.text) else { return self.wait(held) };
                held.take(end);
                let Some(field) = self.field(&key) else { return self.broken() };
                self.state = State::Colon(field);
                Step::Next
            }
            Some(_) => self.broken(),
        }
    }

    /// What a key holds; `None` where the text is then surely no call.
    fn field(&mut self, key: &str) -> Option<Field> {
        if self.keyed && self.call.name.is_none() {
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
            _ if self.known.is_none() => Field::Other,
            _ => return None,
        };
        Some(field)
    }

    fn value(&mut self, field: Field, held: &mut Held, out: &mut Out) -> Step {
        held.skip_white();
        let Some(first) = held.text.chars().next() else { return self.wait(held) };
        match (field, first) {
            (Field::Function, '{') => {
                held.take(1);
                self.call.depth += 1;
                self.state = State::Key;
            }
            (Field::Wrapper, '{' | '[') => {
                self.wrappers += 1;
                self.state = State::Between;
            }
            (Field::Name | Field::Function, '"') => {
                let Some((name, end)) = string(&held.text) else { return self.wait(held) };
                held.take(end);
                let known = self.known.as_ref().is_none_or(|known| known.contains(&name));
                if name.is_empty() || !known {
                    return self.broken();
                }
                if !self.call.announced {
                    self.call.name = Some(name);
                }
                // Where arguments came first, all of the call is told now.
                if self.call.has_arguments {
                    self.announce(out, false);
                }
                self.state = State::Key;
            }
            (Field::Name, _) => return self.broken(),
            (Field::Arguments, '"') => {
                // A text of JSON instead of JSON.
                let Some((text, end)) = string(&held.text) else { return self.wait(held) };
                held.take(end);
                self.announce(out, false);
                self.arguments(&text, out);
                self.state = State::Key;
            }
            (Field::Arguments, _) => {
                self.announce(out, false);
                self.state = State::Arguments(Scan::default());
            }
            (Field::Id, '"') => {
                let Some((id, end)) = string(&held.text) else { return self.wait(held) };
                held.take(end);
                self.call.id = Some(id).filter(|id| !id.is_empty());
                self.state = State::Key;
            }
            _ => self.state = State::Skip(Scan::default()),
        }
        Step::Next
    }

    /// Tells of the call as soon as its name is known; `last`: nothing more will be known of it.
    fn announce(&mut self, out: &mut Out, last: bool) -> bool {
        if let Some(name) = self.call.name.as_ref().filter(|_| !self.call.announced) {
            out.call(name, self.call.id.take());
            out.arguments(&self.call.early);
            self.call.announced = true;
        }
        if last && self.call.announced && !self.call.has_arguments {
            out.arguments("{}");
        }
        self.call.announced
    }

    fn arguments(&mut self, text: &str, out: &mut Out) {
        self.call.has_arguments |= !text.is_empty();
        if self.call.announced {
            out.arguments(text);
        } else {
            self.call.early.push_str(text);
        }
    }

    /// More is needed, if there will be more.
    fn wait(&self, held: &mut Held) -> Step {
        if !held.ended {
            return Step::More;
        }
        if self.call.announced || self.count > 0 {
            let rest = held.text.len();
            held.take(rest);
        }
        self.broken()
    }

    /// What follows makes no sense.
    fn broken(&self) -> Step {
        if self.call.announced || self.count > 0 { Step::Done } else { Step::Bad }
    }
}

impl Section for Objects {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        match &mut self.state {
            State::Between => self.between(held),
            State::Key => self.key(held, out),
            State::Colon(field) => {
                let field = *field;
                held.skip_white();
                match held.text.chars().next() {
                    None => self.wait(held),
                    Some(':') => {
                        held.take(1);
                        self.state = State::Value(field);
                        Step::Next
                    }
                    Some(_) => self.broken(),
                }
            }
            State::Value(field) => {
                let field = *field;
                self.value(field, held, out)
            }
            State::Arguments(scan) => {
                let (end, done) = scan.advance(&held.text);
                let text = held.take(end);
                self.arguments(&text, out);
                if done {
                    self.state = State::Key;
                    return Step::Next;
                }
                self.wait(held)
            }
            State::Skip(scan) => {
                let (end, done) = scan.advance(&held.text);
                held.take(end);
                if done {
                    self.state = State::Key;
                    return Step::Next;
                }
                self.wait(held)
            }
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::Between)
    }
}
