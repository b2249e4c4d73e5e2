//! How one API writes answers.

use crate::chat::{Answer, AnswerPart, AnswerSyntax};
use crate::engine::{Outcome, Timings, TokenChoice};
use serde_json::Value;
use std::rc::Rc;

/// How one dialect writes its answers. A request may ask for several to each of several prompts; `choice` counts them
/// all from 0.
pub trait Dialect {
    /// A chunk that begins a choice, if there is one, with the prompt's tokens if they were scored.
    fn first(&self, choice: usize, scored: &[TokenChoice]) -> Option<Value>;
    /// What may be in an answer.
    fn plan(&self) -> &AnswerSyntax;
    /// An id for a call to which the model gave none.
    fn call_id(&self) -> String;
    /// A chunk with a piece of an answer, the number of calls so far, and its tokens.
    fn part(&self, choice: usize, part: &AnswerPart, calls: usize, tokens: &[TokenChoice])
    -> Value;
    /// An empty chunk, to which progress or HTML is added.
    fn empty(&self, choice: usize) -> Value;
    /// The chunk that ends a choice with so many calls.
    fn last(&self, choice: usize, calls: usize, outcome: &Outcome) -> Value;
    /// A chunk that ends the stream, if there is one, with the counts of all choices.
    fn end(&self, timings: &Timings) -> Option<Value>;
    /// The whole answer at once.
    fn whole(&self, choices: &[Choice], timings: &Timings) -> Value;
}

/// One finished answer.
pub struct Choice {
    /// What it says.
    pub answer: Answer,
    /// Its tokens.
    pub tokens: Vec<TokenChoice>,
    /// The prompt's tokens, if they were scored.
    pub scored: Rc<[TokenChoice]>,
    /// How it ended.
    pub outcome: Outcome,
}
