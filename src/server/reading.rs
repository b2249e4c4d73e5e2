//! Parses an answer while it is generated, and gives each tool call an id.

use super::dialect::Dialect;
use crate::chat::{AnswerPart, Reader};
use crate::engine::{Finish, Outcome};
use std::cell::{Cell, RefCell};

/// Reads one answer. Shared by the callback that takes its text and the one that asks whether to go on.
pub struct Reading<'d> {
    dialect: &'d dyn Dialect,
    reader: RefCell<Reader>,
    calls: Cell<usize>,
}

impl<'d> Reading<'d> {
    /// A reader for an answer in this dialect.
    pub fn new(dialect: &'d dyn Dialect) -> Self {
        let reader = RefCell::new(Reader::new(dialect.plan().clone()));
        Self { dialect, reader, calls: Cell::new(0) }
    }

    /// Adds text; returns the parts that are certain by now.
    pub fn push(&self, text: &str) -> Vec<AnswerPart> {
        let parts = self.reader.borrow_mut().push(text);
        self.with_ids(parts)
    }

    /// The remaining parts at the end; `cut` says that the model did not end the answer itself.
    pub fn finish(&self, cut: bool) -> Vec<AnswerPart> {
        let parts = self.reader.borrow_mut().finish(cut);
        self.with_ids(parts)
    }

    /// Whether the last call that was returned is incomplete, after [`Reading::finish`].
    pub fn has_open_call(&self) -> bool {
        self.reader.borrow().has_open_call()
    }

    /// Whether generation can stop because no more output is wanted.
    pub fn is_over(&self) -> bool {
        self.reader.borrow().is_over()
    }

    /// The outcome to report: a generation that was cancelled because no more was wanted is complete, one that ended
    /// within a call is not.
    pub fn outcome(&self, mut outcome: Outcome) -> Outcome {
        if self.reader.borrow().is_unfinished() && outcome.finish == Finish::Stop {
            outcome.finish = Finish::Length;
        }
        if self.is_over() && outcome.finish == Finish::Cancelled {
            outcome.finish = Finish::Stop;
        }
        outcome
    }

    /// Number of calls so far.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    fn with_ids(&self, parts: Vec<AnswerPart>) -> Vec<AnswerPart> {
        let with_id = |part| match part {
            AnswerPart::Call { id, name } => {
                self.calls.set(self.calls.get() + 1);
                AnswerPart::Call { id: Some(id.unwrap_or_else(|| self.dialect.call_id())), name }
            }
            other => other,
        };
        parts.into_iter().map(with_id).collect()
    }
}
