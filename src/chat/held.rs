//! Answer text that has arrived but is not parsed yet, and the parts found in it.

use super::answer::AnswerPart;
use crate::text::overlap;

/// The result of one step of a call reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It needs more text.
    More,
    /// Something was read; call again.
    Next,
    /// The calls have ended; the held text comes after them.
    Done,
    /// Not a call.
    Bad,
}

/// Text that has arrived but is not parsed yet.
#[derive(Default)]
pub(super) struct Held {
    pub text: String,
    /// Whether nothing more will arrive.
    pub ended: bool,
    /// Whether it ended because the answer was cut off.
    pub cut: bool,
    /// Text taken since calls seemed to begin, kept as possible content; `None` once a call is certain.
    pub section: Option<String>,
    /// Whether to drop leading whitespace.
    pub drop_white: bool,
}

/// What [`Held::until`] found.
pub(super) struct Found {
    /// Text that certainly precedes any marker.
    pub before: String,
    /// Whitespace between it and the marker.
    pub white: String,
    /// The marker, which is taken as well.
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

    /// Confirms that the text taken so far is not content.
    pub fn settle(&mut self) {
        self.section = None;
    }

    /// Takes whitespace from the front.
    pub fn skip_white(&mut self) {
        let white = self.text.len() - self.text.trim_start().len();
        self.take(white);
    }

    /// Takes `marker` from the front, if it is there.
    pub fn skip(&mut self, marker: &str) -> bool {
        let there = self.text.starts_with(marker);
        if there {
            self.take(marker.len());
        }
        there
    }

    /// Whether the text may be the beginning of one of these markers.
    pub fn may_begin(&self, markers: &[&str]) -> bool {
        !self.ended
            && markers.iter().any(|m| m.len() > self.text.len() && m.starts_with(&self.text))
    }

    /// Takes the text that certainly precedes all markers, and the first marker if it has arrived.
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

    /// As [`Held::until`], with the whitespace before the marker separate; at the end of the answer it is text.
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

/// Collects parts; adjacent parts of the same kind are merged.
#[derive(Default)]
pub(super) struct Out {
    pub parts: Vec<AnswerPart>,
    /// Calls so far.
    pub calls: usize,
    /// Whether the last call is incomplete.
    pub open: bool,
}

impl Out {
    pub fn content(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Content(last)) => last.push_str(text),
            _ => self.parts.push(AnswerPart::Content(text.to_owned())),
        }
    }

    pub fn reasoning(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Reasoning(last)) => last.push_str(text),
            _ => self.parts.push(AnswerPart::Reasoning(text.to_owned())),
        }
    }

    pub fn call(&mut self, name: &str, id: Option<String>) {
        self.calls += 1;
        self.open = true;
        self.parts.push(AnswerPart::Call { id, name: name.to_owned() });
    }

    /// Marks the arguments of the last call as complete.
    pub fn end_call(&mut self) {
        self.open = false;
    }

    pub fn arguments(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Arguments(last)) => last.push_str(text),
            _ => self.parts.push(AnswerPart::Arguments(text.to_owned())),
        }
    }
}
