//! The text of an answer that has arrived and is not understood yet, and the parts that were found in it.

use super::answer::AnswerPart;
use crate::text::overlap;

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

/// Text that has arrived and is not understood yet.
#[derive(Default)]
pub(super) struct Held {
    pub text: String,
    /// Whether nothing more will arrive.
    pub ended: bool,
    /// Whether that is so because the answer was cut off.
    pub cut: bool,
    /// What was taken since calls seemed to begin, until one is sure.
    pub section: Option<String>,
    /// Whether white space that comes next means nothing.
    pub drop_white: bool,
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

/// Parts as they are found; neighbours of a kind are one.
#[derive(Default)]
pub(super) struct Out {
    pub parts: Vec<AnswerPart>,
    /// Calls so far.
    pub calls: usize,
    /// Whether the last of them is not complete.
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

    /// The arguments of the last call are complete.
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
