//! Answers in channels, as gpt-oss writes them: each message begins with a header that says whether it is a
//! thought (`analysis`), the answer (`final`), or a call (`to=functions.f`).

use super::super::answer::{Held, Out, Step};
use super::format::Section;
use super::scan::Scan;

const MESSAGE: &str = "<|message|>";
/// What ends a message. The model's own ends, `<|return|>` and `<|call|>`, end the answer.
const ENDS: &[&str] = &["<|end|>", "<|start|>", "<|channel|>"];

/// Reads such an answer.
pub(super) struct Channels {
    /// Whether thoughts are told apart from the answer.
    apart: bool,
    /// Whether calls are calls.
    calls: bool,
    state: State,
}

enum State {
    Header,
    Thought,
    Text,
    Arguments(Scan),
    /// What nobody is told: a call where none was offered.
    Nothing,
}

impl Channels {
    /// `thinking`: the prompt ends within a thought.
    pub(super) fn new(apart: bool, thinking: bool, calls: bool) -> Self {
        let state = if thinking { State::Thought } else { State::Header };
        Self { apart, calls, state }
    }

    fn header(&mut self, held: &mut Held, out: &mut Out) -> Step {
        let Some(at) = held.text.find(MESSAGE) else {
            if !held.ended {
                return Step::More;
            }
            // Without any header it is an answer; part of one says nothing.
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
        let channel = header.rsplit("<|channel|>").next().unwrap_or("").trim_start();
        self.state = match recipient {
            Some(name) if self.calls && name != "assistant" => {
                out.call(name.strip_prefix("functions.").unwrap_or(name), None);
                State::Arguments(Scan::default())
            }
            Some(name) if name != "assistant" => State::Nothing,
            _ if channel.starts_with("analysis") => State::Thought,
            _ => State::Text,
        };
        Step::Next
    }

    fn body(&mut self, held: &mut Held, out: &mut Out) -> Step {
        held.settle();
        let found = held.until(ENDS);
        match &mut self.state {
            State::Thought if self.apart => out.reasoning(&found.before),
            State::Thought | State::Text => out.content(&found.before),
            State::Arguments(scan) => {
                let (end, done) = scan.advance(&found.before);
                out.arguments(&found.before[..end]);
                if done {
                    self.state = State::Nothing;
                }
            }
            State::Header | State::Nothing => {}
        }
        if let Some(marker) = found.marker {
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
        match self.state {
            State::Header => self.header(held, out),
            _ => self.body(held, out),
        }
    }

    fn is_between(&self) -> bool {
        !matches!(self.state, State::Arguments(_))
    }
}
