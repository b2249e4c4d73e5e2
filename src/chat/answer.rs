//! The parts of a model's answer: reasoning, text and tool calls.
//!
//! An [`AnswerSyntax`] says what may be in it, [`AnswerPart`]s are what is in it. Knows nothing of tokens or of how
//! parts are sent.

use super::reasoning::Tags;
use super::tools::{Format, Tool};
use std::sync::Arc;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
    /// Reasoning text.
    Reasoning(String),
    /// Answer text.
    Content(String),
    /// A call begins.
    Call {
        /// The id that the model gave it, if it gave one.
        id: Option<String>,
        /// The function.
        name: String,
    },
    /// JSON text of the call's arguments.
    Arguments(String),
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Reasoning text.
    pub reasoning: String,
    /// Answer text.
    pub content: String,
    /// Id, function and arguments of each call.
    pub calls: Vec<(Option<String>, String, String)>,
}

impl Answer {
    /// Adds a piece.
    pub fn add(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Reasoning(text) => self.reasoning.push_str(&text),
            AnswerPart::Content(text) => self.content.push_str(&text),
            AnswerPart::Call { id, name } => self.calls.push((id, name, String::new())),
            AnswerPart::Arguments(text) => {
                if let Some((.., arguments)) = self.calls.last_mut() {
                    arguments.push_str(&text);
                }
            }
        }
    }
}

/// What an answer may contain.
#[derive(Debug, Clone, Default)]
pub struct AnswerSyntax {
    /// The tags around reasoning, if the model reasons.
    pub tags: Option<&'static Tags>,
    /// Whether the prompt ends inside reasoning.
    pub thinking: bool,
    /// Whether reasoning is separated from the answer.
    pub apart: bool,
    /// How tools are called, and which there are.
    pub calls: Option<CallSyntax>,
}

/// How tools are called.
#[derive(Debug, Clone)]
pub struct CallSyntax {
    /// The format.
    pub format: &'static Format,
    /// The tools.
    pub tools: Arc<[Tool]>,
    /// Whether one answer may contain several calls.
    pub parallel: bool,
    /// Whether a call of one of them without markers counts as a call.
    pub bare: bool,
}

impl AnswerSyntax {
    /// The closing tag of the reasoning that the prompt ends in, if it does.
    #[must_use]
    pub fn thoughts_end(&self) -> Option<&'static str> {
        self.tags.filter(|_| self.thinking).map(|tags| tags.close)
    }

    /// All markers; those that are control tokens must reach the reader.
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
