//! What a model's answer is made of: thoughts, text and calls of functions.
//!
//! Enters: the text of an answer piece by piece, and a [`Plan`] of what may be in it. Leaves: [`Part`]s, which
//! are the same however the text was cut. Text that only looks like something else stays text. Knows
//! nothing of tokens, nor of how parts are sent.

use super::reasoning::Tags;
use super::tools::{Format, Section, Tool};
use std::sync::Arc;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text of the thoughts.
    Reasoning(String),
    /// Text of the answer.
    Content(String),
    /// A call begins.
    Call {
        /// The id that the model gave it, if it gave one.
        id: Option<String>,
        /// The function.
        name: String,
    },
    /// Text of the JSON that the call's function is given.
    Arguments(String),
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Text of the thoughts.
    pub reasoning: String,
    /// Text of the answer.
    pub content: String,
    /// Id, function and arguments of each call.
    pub calls: Vec<(Option<String>, String, String)>,
}

impl Answer {
    /// Adds a piece.
    pub fn add(&mut self, part: Part) {
        match part {
            Part::Reasoning(text) => self.reasoning.push_str(&text),
            Part::Content(text) => self.content.push_str(&text),
            Part::Call { id, name } => self.calls.push((id, name, String::new())),
            Part::Arguments(text) => {
                if let Some((.., arguments)) = self.calls.last_mut() {
                    arguments.push_str(&text);
                }
            }
        }
    }
}

/// What may be in an answer.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// How thoughts are marked, if the model thinks.
    pub tags: Option<&'static Tags>,
    /// Whether the prompt ends within thoughts.
    pub thinking: bool,
    /// Whether thoughts are told apart from the answer.
    pub apart: bool,
    /// How functions are called, and which there are.
    pub calls: Option<Calls>,
}

/// How functions are called.
#[derive(Debug, Clone)]
pub struct Calls {
    /// The form.
    pub format: &'static Format,
    /// The functions.
    pub tools: Arc<[Tool]>,
    /// Whether there may be several calls in one answer.
    pub parallel: bool,
    /// Whether an answer that is the JSON of a call of one of them is a call.
    pub bare: bool,
}

impl Plan {
    /// What ends the thoughts within which the prompt ends, if it does.
    #[must_use]
    pub fn thoughts_end(&self) -> Option<&'static str> {
        self.tags.filter(|_| self.thinking).map(|tags| tags.close)
    }

    /// Texts that mark something: control tokens among them have to reach the reader.
    #[must_use]
    pub fn markers(&self) -> Vec<&'static str> {
        let mut all = Vec::new();
        if let Some(tags) = self.tags {
            all.extend([tags.open, tags.close]);
        }
        if let Some(calls) = &self.calls {
            all.extend(calls.format.markers());
        }
        all
    }
}

/// Reads one answer.
pub struct Reader {
    plan: Plan,
    held: Held,
    out: Out,
    state: State,
    /// Whether text of the answer was given out.
    begun: bool,
    /// Whether a supposed call turned out to be text; closing marks may then be text too.
    refused: bool,
    /// Whether the calls at hand stand without marks.
    bare: bool,
}

enum State {
    /// Nothing but white space so far; thoughts may begin.
    Start,
    Thinking,
    Answer,
    Calls(Box<dyn Section>),
    /// After calls: closing marks may be repeated.
    Closing,
    /// No more calls are wanted.
    Over,
    /// The answer was cut within a call of which nothing was told yet.
    Cut,
}

/// What a reader of calls made of the text at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It needs more.
    More,
    /// Something was read; there may be more to read.
    Next,
    /// The calls have ended; what is held comes after them.
    Done,
    /// These are no calls.
    Bad,
}

impl Reader {
    /// A reader of an answer that is as planned.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let state = match (&plan.calls, plan.tags) {
            (Some(calls), _) if calls.format.whole => State::Calls(calls.format.section(calls, "")),
            (_, Some(tags)) if tags.channels => State::Calls(Format::channels(&plan)),
            (_, Some(_)) if plan.thinking => State::Thinking,
            (_, Some(_)) => State::Start,
            (_, None) => State::Answer,
        };
        // Should an answer that is all calls be none, it is all text.
        let bare = plan.calls.as_ref().is_some_and(|calls| calls.format.whole);
        let section = matches!(&state, State::Calls(_)).then(String::new);
        let held = Held { section, ..Held::default() };
        Self { plan, held, out: Out::default(), state, begun: false, refused: false, bare }
    }

    /// Adds text; returns what it surely is.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.text.push_str(text);
        self.run()
    }

    /// What is left at the end of the answer. `cut`: a limit ended it. An open call is then left unfinished; if the model
    /// itself stopped, it is closed.
    pub fn finish(&mut self, cut: bool) -> Vec<Part> {
        self.held.ended = true;
        self.held.cut = cut;
        self.run()
    }

    /// Whether the answer ended within a call; asked at the end.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.out.open || matches!(self.state, State::Cut)
    }

    /// Whether the last call that was told is not complete; asked at the end.
    #[must_use]
    pub fn has_open_call(&self) -> bool {
        self.out.open
    }

    /// Whether all that was wanted has been read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn run(&mut self) -> Vec<Part> {
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

    /// The beginning: an opening tag is looked for here and nowhere else, so that an answer may speak of tags.
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
        // Models repeat a tag that the prompt has opened already.
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

    /// Whether the text at hand begins a call without marks.
    fn bare_call(&self, calls: &Calls) -> Bare {
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
                        let section = calls.format.bare_section(calls);
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
            // A tag that closes nothing means nothing.
            let opens = marker == tags.open;
            self.begun &= !opens;
            return self.enter(if opens { State::Thinking } else { State::Answer });
        }
        let Some(calls) = &self.plan.calls else { return false };
        if !calls.format.open.contains(&marker) {
            // A stray closing mark: dropped.
            return true;
        }
        self.held.section = Some(found.white + marker);
        self.bare = false;
        let section = calls.format.section(calls, marker);
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
    /// After so many bytes.
    Yes(usize),
    Perhaps,
    No,
}

/// Whether an answer begins like JSON, in a fence or not, and what stands before it.
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

/// Text that has arrived and is not understood yet.
#[derive(Default)]
pub(super) struct Held {
    pub text: String,
    /// Whether nothing more will arrive.
    pub ended: bool,
    /// Whether that is so because the answer was cut off.
    pub cut: bool,
    /// What was taken since calls seemed to begin, until one is sure.
    section: Option<String>,
    drop_white: bool,
}

/// What [`Held::until`] found.
pub(super) struct Found {
    /// Text that is surely before any marker.
    pub before: String,
    /// White space between it and the marker.
    pub white: String,
    /// The marker; it has been taken too.
    pub marker: Option<&'static str>,
}

impl Held {
    /// Takes `count` bytes from the front.
    pub fn take(&mut self, count: usize) -> String {
        let rest = self.text.split_off(count);
        let taken = std::mem::replace(&mut self.text, rest);
        if let Some(section) = &mut self.section {
            section.push_str(&taken);
        }
        taken
    }

    /// Says that what was taken is surely no text.
    pub fn settle(&mut self) {
        self.section = None;
    }

    /// Takes white space from the front.
    pub fn skip_white(&mut self) {
        let white = self.text.len() - self.text.trim_start().len();
        self.take(white);
    }

    /// Takes `marker` from the front, if it stands there.
    pub fn skip(&mut self, marker: &str) -> bool {
        let there = self.text.starts_with(marker);
        if there {
            self.take(marker.len());
        }
        there
    }

    /// Whether the text may be the beginning of one of these.
    pub fn may_begin(&self, markers: &[&str]) -> bool {
        !self.ended
            && markers.iter().any(|m| m.len() > self.text.len() && m.starts_with(&self.text))
    }

    /// Takes what is surely before any of the markers, and the first of them if it is there.
    pub fn until(&mut self, markers: &[&'static str]) -> Found {
        let found = markers
            .iter()
            .filter_map(|m| self.text.find(m).map(|at| (at, std::cmp::Reverse(m.len()), *m)))
            .min();
        // A longer marker might begin where a shorter one was found.
        if let Some((at, _, marker)) = found {
            let longer = |m: &&&str| m.len() > marker.len() && m.starts_with(&self.text[at..]);
            if self.ended || markers.iter().find(longer).is_none() {
                let before = self.take(at);
                self.take(marker.len());
                return Found { before, white: String::new(), marker: Some(marker) };
            }
        }
        let keep = match found {
            Some((at, ..)) => self.text.len() - at,
            None if self.ended => 0,
            None => markers.iter().map(|m| overlap(&self.text, m)).max().unwrap_or(0),
        };
        let before = self.take(self.text.len() - keep);
        Found { before, white: String::new(), marker: None }
    }

    /// As [`Held::until`], with white space before the marker apart; at the end it is text.
    pub fn until_trimmed(&mut self, markers: &[&'static str]) -> Found {
        let mut found = self.until(markers);
        let end = found.before.trim_end().len();
        let white = found.before.split_off(end);
        if found.marker.is_some() {
            found.white = white;
        } else if self.ended {
            found.before.push_str(&white);
        } else {
            self.text.insert_str(0, &white);
        }
        found
    }
}

/// Bytes at the end of `text` that may be the beginning of `marker`.
pub(super) fn overlap(text: &str, marker: &str) -> usize {
    let most = text.len().min(marker.len().saturating_sub(1));
    (1..=most)
        .rev()
        .filter(|&n| text.is_char_boundary(text.len() - n))
        .find(|&n| marker.as_bytes().starts_with(&text.as_bytes()[text.len() - n..]))
        .unwrap_or(0)
}

/// Parts as they are found; neighbours of a kind are one.
#[derive(Default)]
pub(super) struct Out {
    parts: Vec<Part>,
    /// Calls so far.
    pub calls: usize,
    /// Whether the last of them is not complete.
    open: bool,
}

impl Out {
    pub fn content(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Content(last)) => last.push_str(text),
            _ => self.parts.push(Part::Content(text.to_owned())),
        }
    }

    pub fn reasoning(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Reasoning(last)) => last.push_str(text),
            _ => self.parts.push(Part::Reasoning(text.to_owned())),
        }
    }

    pub fn call(&mut self, name: &str, id: Option<String>) {
        self.calls += 1;
        self.open = true;
        self.parts.push(Part::Call { id, name: name.to_owned() });
    }

    /// The arguments of the last call are complete.
    pub fn end_call(&mut self) {
        self.open = false;
    }

    pub fn arguments(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Arguments(last)) => last.push_str(text),
            _ => self.parts.push(Part::Arguments(text.to_owned())),
        }
    }
}
