//! Calls that are a name followed by a JSON object: `[TOOL_CALLS]f[ARGS]{…}`.

use super::super::held::{Held, Out, Step};
use super::arguments::{Arguments, object};
use super::format::Format;
use super::section::Section;
use super::tool::{Tool, is_name, tool};
use std::sync::Arc;

/// Longest name of a function, with the text around it.
const HEAD_BYTES_MAX: usize = 512;

/// Reads such calls.
pub(super) struct Named {
    format: &'static Format,
    tools: Arc<[Tool]>,
    /// Ends a name if no brace does.
    end: Option<&'static str>,
    /// Separates name and id.
    id: Option<&'static str>,
    /// Markers that end whatever is open.
    marks: Vec<&'static str>,
    state: State,
    /// The function being called.
    name: String,
    count: usize,
}

enum State {
    /// Before and in a name.
    Head,
    /// After it.
    Begin,
    /// In the arguments.
    Arguments(Arguments),
    /// In arguments that are not an object.
    Other,
    /// After them.
    After,
    /// In text for all recipients (functionary).
    Everybody,
}

impl Named {
    pub(super) fn new(
        format: &'static Format,
        end: Option<&'static str>,
        id: Option<&'static str>,
        tools: &Arc<[Tool]>,
    ) -> Self {
        let marks = format.close.iter().chain(format.open).copied().collect();
        let (tools, name) = (Arc::clone(tools), String::new());
        Self { format, tools, end, id, marks, state: State::Head, name, count: 0 }
    }

    fn head(&mut self, held: &mut Held, out: &mut Out) -> Step {
        // A section and its first call may each have an opening marker.
        held.skip_white();
        for open in self.format.open {
            if held.skip(open) {
                return Step::Next;
            }
        }
        if held.may_begin(self.format.open) {
            return Step::More;
        }
        let mark = self.marks.iter().filter_map(|mark| held.text.find(mark)).min();
        let brace = held.text.find('{').into_iter().chain(mark).min().map(|at| (at, 0));
        let end = self.end.and_then(|end| Some((held.text.find(end)?, end.len())));
        // The answer ends right after the name of a function.
        let all = || {
            let named = self
                .name_in(&held.text)
                .is_some_and(|(name, _)| tool(&self.tools, &name).is_some());
            (held.ended && !held.cut && named).then_some((held.text.len(), 0))
        };
        let Some((at, skip)) = [end, brace].into_iter().flatten().min().or_else(all) else {
            let waits = !held.ended && held.text.len() <= HEAD_BYTES_MAX;
            return if waits || held.cut { Step::More } else { self.over() };
        };
        if at > HEAD_BYTES_MAX {
            return self.over();
        }
        let Some((name, id)) = self.name_in(&held.text[..at]) else { return self.over() };
        held.take(at + skip);
        if name == "all" && self.format.whole {
            held.settle();
            self.state = State::Everybody;
            return Step::Next;
        }
        out.call(&name, id);
        self.name = name;
        self.count += 1;
        self.state = State::Begin;
        Step::Next
    }

    /// Name and id in the text before the arguments.
    fn name_in(&self, head: &str) -> Option<(String, Option<String>)> {
        let mut head = head.to_owned();
        for mark in self.format.inner {
            head = head.replace(mark, "");
        }
        let (name, id) = match self.id.and_then(|id| head.split_once(id)) {
            Some((name, id)) => (name.trim(), Some(id.trim().to_owned())),
            None => (head.trim(), None),
        };
        // Kimi's ids contain the name: `functions.name:0`.
        let (name, id) = match name.strip_prefix("functions.") {
            Some(rest) => (rest.split(':').next().unwrap_or(rest), Some(name.to_owned())),
            None => (name, id),
        };
        let valid = is_name(name) && name.len() <= HEAD_BYTES_MAX;
        valid.then(|| (name.to_owned(), id.filter(|id| !id.is_empty())))
    }

    fn begin(&mut self, held: &mut Held) -> Step {
        held.skip_white();
        for mark in self.format.inner.iter().chain(self.end.as_ref()) {
            if held.skip(mark) {
                return Step::Next;
            }
        }
        if held.may_begin(self.format.inner) || held.may_begin(self.end.as_slice()) {
            return Step::More;
        }
        self.state = match held.text.chars().next() {
            None if !held.ended || held.cut => return Step::More,
            Some('{') => State::Arguments(Arguments::default()),
            _ => State::Other,
        };
        Step::Next
    }

    /// Arguments that are not an object, up to the next marker.
    fn other(&mut self, held: &mut Held, out: &mut Out) -> Step {
        let at = self.marks.iter().filter_map(|mark| held.text.find(mark)).min();
        if at.is_none() && (!held.ended || held.cut) {
            return Step::More;
        }
        let text = held.take(at.unwrap_or(held.text.len()));
        out.arguments(&object(&text, &self.name, &self.tools));
        out.end_call();
        self.state = State::After;
        Step::Next
    }

    fn after(&mut self, held: &mut Held) -> Step {
        held.skip_white();
        if held.text.is_empty() {
            return if held.ended { Step::Done } else { Step::More };
        }
        for close in self.format.close.iter().chain(&["}", "]"]) {
            if held.skip(close) {
                return Step::Next;
            }
        }
        for open in self.format.open {
            if held.skip(open) {
                self.state = State::Head;
                return Step::Next;
            }
        }
        // The next call, without its opening marker.
        let is_head = |mark: &&str| mark.starts_with(char::is_alphabetic);
        let heads: Vec<&str> = self.format.inner.iter().copied().filter(is_head).collect();
        if heads.iter().any(|head| held.text.starts_with(head)) {
            self.state = State::Head;
            return Step::Next;
        }
        let waits = held.may_begin(&self.marks) || held.may_begin(&heads);
        if waits { Step::More } else { Step::Done }
    }

    /// The text that follows is not a call.
    fn over(&self) -> Step {
        if self.count > 0 { Step::Done } else { Step::Bad }
    }
}

impl Section for Named {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        match &mut self.state {
            State::Head => self.head(held, out),
            State::Begin => self.begin(held),
            State::Arguments(reader) => {
                let (json, done) = reader.read(held, &self.marks);
                out.arguments(&json);
                if done {
                    out.end_call();
                    self.state = State::After;
                    return Step::Next;
                }
                Step::More
            }
            State::Other => self.other(held, out),
            State::After => self.after(held),
            State::Everybody => {
                let found = held.until_trimmed(self.format.open);
                out.content(&found.before);
                if found.marker.is_some() {
                    self.state = State::Head;
                    return Step::Next;
                }
                if held.ended { Step::Done } else { Step::More }
            }
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::After | State::Everybody)
    }
}
