//! Calls that are a name and a JSON object after it: `[TOOL_CALLS]f[ARGS]{…}`.

use super::super::answer::{Held, Out, Step};
use super::Format;
use super::format::Section;
use super::scan::Scan;

/// The longest name of a function with what stands around it.
const HEAD_BYTES_MAX: usize = 512;

/// Reads such calls.
pub(super) struct Named {
    format: &'static Format,
    /// What ends a name where no brace does.
    end: Option<&'static str>,
    /// What stands between name and id.
    id: Option<&'static str>,
    state: State,
    count: usize,
}

enum State {
    /// Before and in a name.
    Head,
    /// After it.
    Begin,
    /// In the arguments.
    Arguments(Scan),
    /// After them.
    After,
    /// In what is said to everybody (functionary).
    Everybody,
}

impl Named {
    pub(super) fn new(
        format: &'static Format,
        end: Option<&'static str>,
        id: Option<&'static str>,
    ) -> Self {
        Self { format, end, id, state: State::Head, count: 0 }
    }

    fn head(&mut self, held: &mut Held, out: &mut Out) -> Step {
        // A section and its first call may each have a beginning.
        held.skip_white();
        for open in self.format.open {
            if held.skip(open) {
                return Step::Next;
            }
        }
        if held.may_begin(self.format.open) {
            return Step::More;
        }
        let brace = held.text.find('{').map(|at| (at, 0));
        let end = self.end.and_then(|end| Some((held.text.find(end)?, end.len())));
        let Some((at, skip)) = [end, brace].into_iter().flatten().min() else {
            let waits = !held.ended && held.text.len() <= HEAD_BYTES_MAX;
            return if waits { Step::More } else { self.over() };
        };
        if at > HEAD_BYTES_MAX {
            return self.over();
        }
        let Some((name, id)) = self.name(&held.text[..at]) else { return self.over() };
        held.take(at + skip);
        if name == "all" && self.format.whole {
            held.settle();
            self.state = State::Everybody;
            return Step::Next;
        }
        out.call(&name, id);
        self.count += 1;
        self.state = State::Begin;
        Step::Next
    }

    /// Name and id in what stands before the arguments.
    fn name(&self, head: &str) -> Option<(String, Option<String>)> {
        let mut head = head.to_owned();
        for mark in self.format.inner {
            head = head.replace(mark, "");
        }
        let (name, id) = match self.id.and_then(|id| head.split_once(id)) {
            Some((name, id)) => (name.trim(), Some(id.trim().to_owned())),
            None => (head.trim(), None),
        };
        // Kimi gives an id that says the name: `functions.name:0`.
        let (name, id) = match name.strip_prefix("functions.") {
            Some(rest) => (rest.split(':').next().unwrap_or(rest), Some(name.to_owned())),
            None => (name, id),
        };
        let fits = |c: char| c.is_alphanumeric() || "_-./:".contains(c);
        let valid = !name.is_empty() && name.len() <= HEAD_BYTES_MAX && name.chars().all(fits);
        valid.then(|| (name.to_owned(), id.filter(|id| !id.is_empty())))
    }

    fn begin(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.skip_white();
        match held.text.chars().next() {
            None if !held.ended => Step::More,
            Some('{') => {
                self.state = State::Arguments(Scan::default());
                Step::Next
            }
            _ => {
                out.arguments("{}");
                self.state = State::After;
                Step::Next
            }
        }
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
        for open in self.format.open {
            if held.skip(open) {
                self.state = State::Head;
                return Step::Next;
            }
        }
        let waits = held.may_begin(self.format.close) || held.may_begin(self.format.open);
        if waits { Step::More } else { Step::Done }
    }

    /// What follows makes no sense.
    fn over(&self) -> Step {
        if self.count > 0 { Step::Done } else { Step::Bad }
    }
}

impl Section for Named {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        match &mut self.state {
            State::Head => self.head(held, out),
            State::Begin => self.begin(held, out),
            State::Arguments(scan) => {
                let (end, done) = scan.advance(&held.text);
                let text = held.take(end);
                out.arguments(&text);
                if done {
                    self.state = State::After;
                    return Step::Next;
                }
                if held.ended { Step::Done } else { Step::More }
            }
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
