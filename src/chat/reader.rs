//! Parses answers.
//!
//! Input: the text of an answer piece by piece, and an [`AnswerSyntax`] for what may be in it. Output: [`AnswerPart`]s,
//! the same however the text was split. Text that only resembles markup stays text.

use super::answer::{AnswerPart, AnswerSyntax, CallSyntax};
use super::held::{Held, Out, Step};
use super::tools::{Section, any};

/// Reads one answer.
pub struct Reader {
    plan: AnswerSyntax,
    held: Held,
    out: Out,
    state: State,
    /// Whether the current reasoning or answer text has begun.
    begun: bool,
    /// Whether a presumed call turned out to be text; closing markers may then be text too.
    refused: bool,
    /// Whether the current calls have no markers.
    bare: bool,
}

enum State {
    /// Only whitespace so far; reasoning may begin.
    Start,
    Thinking,
    Answer,
    Calls(Box<dyn Section>),
    /// After calls: closing markers may be repeated.
    Closing,
    /// No more calls are wanted.
    Over,
    /// The answer was cut off inside a call of which nothing was emitted yet.
    Cut,
}

impl Reader {
    /// A reader for answers with this syntax.
    #[must_use]
    pub fn new(plan: AnswerSyntax) -> Self {
        let state = match (&plan.calls, plan.tags) {
            (Some(calls), _) if calls.format.whole => State::Calls(any::section(calls, "")),
            (_, Some(tags)) if tags.channels => State::Calls(any::channels(&plan)),
            (_, Some(_)) if plan.thinking => State::Thinking,
            (_, Some(_)) => State::Start,
            (_, None) => State::Answer,
        };
        // If an answer that should be all calls holds none, it is all text.
        let bare = plan.calls.as_ref().is_some_and(|calls| calls.format.whole);
        let section = matches!(&state, State::Calls(_)).then(String::new);
        let held = Held { section, ..Held::default() };
        Self { plan, held, out: Out::default(), state, begun: false, refused: false, bare }
    }

    /// Adds text; returns the parts that are certain.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        self.held.text.push_str(text);
        self.run()
    }

    /// Ends the answer and returns what is left. `cut`: a limit ended it, so an open call stays unfinished; if the
    /// model itself stopped, the call is closed.
    pub fn finish(&mut self, cut: bool) -> Vec<AnswerPart> {
        self.held.ended = true;
        self.held.cut = cut;
        self.run()
    }

    /// Whether the answer ended inside a call; valid after `finish`.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.out.open || matches!(self.state, State::Cut)
    }

    /// Whether the last call emitted is incomplete; valid after `finish`.
    #[must_use]
    pub fn has_open_call(&self) -> bool {
        self.out.open
    }

    /// Whether no more text is wanted: the only call allowed is complete.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn run(&mut self) -> Vec<AnswerPart> {
        loop {
            let goes_on = match &mut self.state {
                State::Start => self.start(),
                State::Thinking => self.think(),
                State::Answer => self.answer(),
                State::Calls(_) => self.call(),
                State::Closing => self.close(),
                State::Over | State::Cut => {
                    self.held.text.clear();
                    false
                }
            };
            if !goes_on {
                return std::mem::take(&mut self.out.parts);
            }
        }
    }

    /// The start of the answer. Unless tags may recur, an opening tag counts only here, so that an answer may mention
    /// tags.
    fn start(&mut self) -> bool {
        let Some(tags) = self.plan.tags else { return self.enter(State::Answer) };
        let text = self.held.text.trim_start();
        if text.starts_with(tags.open) {
            let white = self.held.text.len() - text.len();
            let taken = self.held.take(white + tags.open.len());
            if !self.plan.apart {
                self.out.content(&taken);
            }
            return self.enter(State::Thinking);
        }
        if !self.held.ended && tags.open.starts_with(text) {
            return false;
        }
        self.enter(State::Answer)
    }

    fn think(&mut self) -> bool {
        let Some(tags) = self.plan.tags else { return self.enter(State::Answer) };
        if !self.plan.apart {
            let found = self.held.until(&[tags.close]);
            self.out.content(&found.before);
            return found.marker.is_some_and(|close| {
                self.out.content(close);
                self.enter(State::Answer)
            });
        }
        // Models repeat an opening tag that the prompt already ends with.
        if !self.begun {
            let text = self.held.text.trim_start();
            let white = self.held.text.len() - text.len();
            if text.starts_with(tags.open) {
                self.held.take(white + tags.open.len());
                return true;
            }
            if !self.held.ended && tags.open.starts_with(text) {
                return false;
            }
            self.held.take(white);
            self.begun = true;
        }
        let found = self.held.until_trimmed(&[tags.close]);
        self.out.reasoning(&found.before);
        if found.marker.is_none() {
            return false;
        }
        self.begun = false;
        self.held.drop_white = true;
        self.enter(State::Answer)
    }

    /// Whether the held text begins a call without markers.
    fn bare_call(&self, calls: &CallSyntax) -> Bare {
        let (ended, text) = (self.held.ended, self.held.text.trim_start());
        let white = self.held.text.len() - text.len();
        let open = calls.format.open;
        if open.iter().any(|mark| text.starts_with(mark)) {
            return Bare::No;
        }
        if !ended && open.iter().any(|mark| mark.starts_with(text)) {
            return Bare::Perhaps;
        }
        let found = match bare(&self.held.text) {
            Bare::No => match calls.format.begins_bare(text, &calls.tools, ended) {
                None => Bare::Perhaps,
                Some(true) => Bare::Yes(white),
                Some(false) => Bare::No,
            },
            found => found,
        };
        if ended && matches!(found, Bare::Perhaps) { Bare::No } else { found }
    }

    fn answer(&mut self) -> bool {
        if self.held.drop_white {
            let white = self.held.text.len() - self.held.text.trim_start().len();
            self.held.take(white);
            if self.held.text.is_empty() {
                return false;
            }
            self.held.drop_white = false;
        }
        let again = self.plan.tags.filter(|tags| tags.again);
        let mut markers: Vec<&'static str> = again.map_or(Vec::new(), |t| vec![t.open, t.close]);
        if let Some(calls) = &self.plan.calls {
            if calls.bare && !self.begun {
                match self.bare_call(calls) {
                    Bare::No => {}
                    Bare::Perhaps => return false,
                    Bare::Yes(before) => {
                        self.held.section = Some(String::new());
                        let section = any::bare_section(calls);
                        self.held.take(before);
                        self.bare = true;
                        return self.enter(State::Calls(section));
                    }
                }
            }
            markers.extend(calls.format.open);
            let is_token = |mark: &&'static str| mark.contains(['|', '｜']);
            let any = self.out.calls > 0;
            if !self.refused {
                markers.extend(calls.format.closers().filter(|mark| any || is_token(mark)));
            }
        }
        if markers.is_empty() {
            let all = self.held.text.len();
            let text = self.held.take(all);
            self.begun |= !text.is_empty();
            self.out.content(&text);
            return false;
        }
        let found = self.held.until_trimmed(&markers);
        if !found.before.is_empty() {
            self.begun = true;
            self.out.content(&found.before);
        }
        let Some(marker) = found.marker else { return false };
        if let Some(tags) = again.filter(|tags| marker == tags.open || marker == tags.close) {
            if !self.plan.apart {
                self.out.content(&(found.white + marker));
            }
            // A closing tag without an opening one is ignored.
            let opens = marker == tags.open;
            self.begun &= !opens;
            return self.enter(if opens { State::Thinking } else { State::Answer });
        }
        let Some(calls) = &self.plan.calls else { return false };
        if !calls.format.open.contains(&marker) {
            // A stray closing marker is dropped.
            return true;
        }
        self.held.section = Some(found.white + marker);
        self.bare = false;
        let section = any::section(calls, marker);
        self.enter(State::Calls(section))
    }

    fn call(&mut self) -> bool {
        let State::Calls(section) = &mut self.state else { return true };
        let before = self.out.calls;
        let step = section.step(&mut self.held, &mut self.out);
        if self.out.calls > before {
            self.held.settle();
        }
        let one = self.plan.calls.as_ref().is_some_and(|calls| !calls.parallel);
        if one && self.out.calls > 0 && section.is_between() {
            return self.enter(State::Over);
        }
        match step {
            Step::More if !self.held.ended => false,
            Step::Next => true,
            Step::More | Step::Done | Step::Bad => {
                if self.held.ended && self.out.open {
                    // The tail of an unfinished call.
                    self.held.text.clear();
                }
                match self.held.section.take() {
                    Some(_) if step == Step::More && self.held.cut && !self.bare => {
                        return self.enter(State::Cut);
                    }
                    Some(text) => {
                        self.out.content(&text);
                        self.refused = true;
                    }
                    None => return self.enter(State::Closing),
                }
                self.begun = true;
                self.enter(State::Answer)
            }
        }
    }

    fn close(&mut self) -> bool {
        self.begun = true;
        self.held.skip_white();
        if let Some(calls) = &self.plan.calls {
            let closers: Vec<&'static str> = calls.format.closers().collect();
            if closers.iter().any(|close| self.held.skip(close)) {
                return true;
            }
            if self.held.may_begin(&closers) {
                return false;
            }
        }
        if self.held.text.is_empty() {
            return false;
        }
        self.enter(State::Answer)
    }

    fn enter(&mut self, state: State) -> bool {
        self.state = state;
        true
    }
}

enum Bare {
    /// After this many bytes.
    Yes(usize),
    Perhaps,
    No,
}

/// Whether an answer begins like JSON, in a code fence or not, and how many bytes precede the JSON.
fn bare(text: &str) -> Bare {
    let rest = text.trim_start();
    for fence in ["```json", "```"] {
        if let Some(inner) = rest.strip_prefix(fence) {
            let json = inner.trim_start();
            return match json.chars().next() {
                Some('{' | '[') => Bare::Yes(text.len() - json.len()),
                None => Bare::Perhaps,
                Some(_) if "json".starts_with(inner) => Bare::Perhaps,
                Some(_) => Bare::No,
            };
        }
    }
    match rest.chars().next() {
        Some('{' | '[') => Bare::Yes(text.len() - rest.len()),
        _ if "```json".starts_with(rest) => Bare::Perhaps,
        _ => Bare::No,
    }
}
