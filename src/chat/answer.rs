//! What a model's answer is made of: thoughts, text and calls of functions.
//!
//! A [`AnswerSyntax`] says what may be in it, [`AnswerPart`]s are what is in it. Knows nothing of tokens, nor of how parts are sent.

use super::reasoning::Tags;
use super::tools::{Format, Tool};
use std::sync::Arc;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
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

/// What may be in an answer.
#[derive(Debug, Clone, Default)]
pub struct AnswerSyntax {
    /// How thoughts are marked, if the model thinks.
    pub tags: Option<&'static Tags>,
    /// Whether the prompt ends within thoughts.
    pub thinking: bool,
    /// Whether thoughts are told apart from the answer.
    pub apart: bool,
    /// How functions are called, and which there are.
    pub calls: Option<CallSyntax>,
}

/// How functions are called.
#[derive(Debug, Clone)]
pub struct CallSyntax {
    /// The form.
    pub format: &'static Format,
    /// The functions.
    pub tools: Arc<[Tool]>,
    /// Whether there may be several calls in one answer.
    pub parallel: bool,
    /// Whether an answer that is the JSON of a call of one of them is a call.
    pub bare: bool,
}

impl AnswerSyntax {
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
