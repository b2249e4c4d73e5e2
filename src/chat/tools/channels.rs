//! Answers in channels, as gpt-oss writes them: each message begins with a header that says whether it is reasoning
//! (`analysis`), the answer (`final`), or a call (`to=functions.f`).

use super::super::held::{Held, Out, Step};
use super::arguments::{Arguments, object};
use super::section::Section;
use super::tool::Tool;
use std::sync::Arc;

const MESSAGE: &str = "<|message|>";
/// Markers that end a message. The model's own end tokens, `<|return|>` and `<|call|>`, end the answer.
const ENDS: &[&str] = &["<|end|>", "<|start|>", "<|channel|>", "<|call|>", "<|return|>"];
/// The same plus the markers of headers, which are dropped elsewhere.
const MARKS: &[&str] =
    &["<|end|>", "<|start|>", "<|channel|>", "<|call|>", "<|return|>", MESSAGE, "<|constrain|>"];

/// Reads an answer in channels.
pub(super) struct Channels {
    /// Whether reasoning is separated from the answer.
    apart: bool,
    /// The functions; `None` if none are offered.
    calls: Option<Arc<[Tool]>>,
    state: State,
}

enum State {
    Header,
    Thought,
    Text,
    /// Before a function's arguments.
    Begin(String),
    Arguments(Arguments),
    /// Arguments that are not an object.
    Other(String),
    /// Text to drop: after a call, or a call where no functions were offered.
    Nothing,
}

impl Channels {
    /// `thinking`: the prompt ends inside reasoning.
    pub(super) fn new(apart: bool, thinking: bool, calls: Option<Arc<[Tool]>>) -> Self {
        let state = if thinking { State::Thought } else { State::Header };
        Self { apart, calls, state }
    }

    fn header(&mut self, held: &mut Held, out: &mut Out) -> Step {
        let Some(at) = held.text.find(MESSAGE) else {
            if !held.ended {
                return Step::More;
            }
            // Text without any header is an answer; part of a header is dropped.
            held.settle();
            let rest = held.text.len();
            let text = held.take(rest);
            if !text.contains("<|") {
                out.content(&text);
            }
            return Step::Done;
        };
        let header = held.take(at);
        held.take(MESSAGE.len());
        held.settle();
        let recipient = header.split_once("to=").map(|(_, to)| {
            let end = to.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(to.len());
            &to[..end]
        });
        let recipient = recipient.filter(|name| !name.is_empty() && *name != "assistant");
        let channel = header.rsplit("<|channel|>").next().unwrap_or("").trim_start();
        self.state = match recipient {
            Some(name) if self.calls.is_some() => {
                let name = name.strip_prefix("functions.").unwrap_or(name);
                out.call(name, None);
                State::Begin(name.to_owned())
            }
            Some(_) => State::Nothing,
            _ if channel.starts_with("analysis") => State::Thought,
            _ => State::Text,
        };
        Step::Next
    }

    fn begin(&mut self, name: String, held: &mut Held) -> Step {
        held.skip_white();
        self.state = match held.text.chars().next() {
            None if !held.ended || held.cut => {
                self.state = State::Begin(name);
                return Step::More;
            }
            Some('{') => State::Arguments(Arguments::default()),
            _ => State::Other(name),
        };
        Step::Next
    }

    fn other(&mut self, name: &str, held: &mut Held, out: &mut Out) -> Step {
        let at = ENDS.iter().filter_map(|end| held.text.find(end)).min();
        if at.is_none() && (!held.ended || held.cut) {
            self.state = State::Other(name.to_owned());
            return Step::More;
        }
        let text = held.take(at.unwrap_or(held.text.len()));
        out.arguments(&object(&text, name, self.calls.as_deref().unwrap_or(&[])));
        out.end_call();
        self.state = State::Nothing;
        Step::Next
    }

    fn body(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.settle();
        let found = held.until(MARKS);
        match &mut self.state {
            State::Thought if self.apart => out.reasoning(&found.before),
            State::Thought | State::Text => out.content(&found.before),
            _ => {}
        }
        if let Some(marker) = found.marker {
            if !ENDS.contains(&marker) {
                return Step::Next;
            }
            self.state = State::Header;
            if marker == "<|channel|>" {
                held.text.insert_str(0, marker);
            }
            return Step::Next;
        }
        if held.ended { Step::Done } else { Step::More }
    }
}

impl Section for Channels {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        match std::mem::replace(&mut self.state, State::Nothing) {
            State::Header => {
                self.state = State::Header;
                self.header(held, out)
            }
            State::Begin(name) => self.begin(name, held),
            State::Other(name) => self.other(&name, held, out),
            State::Arguments(mut reader) => {
                let (json, done) = reader.read(held, ENDS);
                out.arguments(&json);
                if done {
                    out.end_call();
                    return Step::Next;
                }
                self.state = State::Arguments(reader);
                Step::More
            }
            state => {
                self.state = state;
                self.body(held, out)
            }
        }
    }

    fn is_between(&self) -> bool {
        !matches!(self.state, State::Begin(_) | State::Arguments(_) | State::Other(_))
    }
}
