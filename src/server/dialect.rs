//! The interface of an API dialect, which writes answers as JSON.

use crate::chat::{Answer, AnswerPart, AnswerSyntax};
use crate::engine::{Outcome, Timings, TokenChoice};
use serde_json::Value;
use std::rc::Rc;

/// Writes answers in one API's JSON. A request may have several prompts with several answers each; `choice` numbers all
/// answers from 0.
pub trait Dialect {
    /// The chunk that begins a choice, if there is one, with the prompt's tokens if they were scored.
    fn first(&self, choice: usize, scored: &[TokenChoice]) -> Option<Value>;
    /// The syntax of answers.
    fn plan(&self) -> &AnswerSyntax;
    /// An id for a tool call, if the model gave none.
    fn call_id(&self) -> String;
    /// The chunk for a piece of an answer, given the number of calls so far and the piece's tokens.
    fn part(&self, choice: usize, part: &AnswerPart, calls: usize, tokens: &[TokenChoice])
    -> Value;
    /// An empty chunk, to which progress or HTML is added.
    fn empty(&self, choice: usize) -> Value;
    /// The chunk that ends a choice with `calls` tool calls.
    fn last(&self, choice: usize, calls: usize, outcome: &Outcome) -> Value;
    /// The chunk that ends the stream, if there is one, with the totals of all choices.
    fn end(&self, timings: &Timings) -> Option<Value>;
    /// The whole response, if it is not streamed.
    fn whole(&self, choices: &[Choice], timings: &Timings) -> Value;
}

/// One finished answer.
pub struct Choice {
    /// Its reasoning, text and tool calls.
    pub answer: Answer,
    /// Its tokens.
    pub tokens: Vec<TokenChoice>,
    /// The prompt's tokens, if they were scored.
    pub scored: Rc<[TokenChoice]>,
    /// How it ended.
    pub outcome: Outcome,
}
