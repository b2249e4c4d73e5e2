//! Why a conversation does not become a prompt.

use crate::worker::WorkerError;
use serde::{Deserialize, Serialize};

/// Longest template source; the longest in use have some twenty kilobytes.
pub(super) const SOURCE_BYTES_MAX: usize = 64 << 10;

/// A template that cannot be used, or refuses the conversation.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum TemplateError {
    /// It is not Jinja.
    #[error("chat template: {0}\nhint: choose another with --chat-template NAME or FILE")]
    Syntax(String),
    /// It is longer than any template.
    #[error("chat template: found {0} bytes, expected at most {SOURCE_BYTES_MAX}")]
    Long(usize),
    /// It says itself that it does not take this conversation.
    #[error("the model's chat template does not accept these messages: {0}")]
    Refused(String),
    /// A function has to be called, but answers of this model are written in channels.
    #[error(
        "no call can be enforced: this model's answers are messages with headers\nhint: `tool_choice`: \"auto\" leaves it to the model"
    )]
    Unforced,
    /// It failed while rendering, or met a bound.
    #[error("chat template failed: {0}\nhint: choose another with --chat-template NAME or FILE")]
    Failed(String),
    /// Not rendered: the machine is overloaded, or the client has left.
    #[error("the prompt could not be made: {0}")]
    Untried(String),
}

impl From<WorkerError> for TemplateError {
    fn from(error: WorkerError) -> Self {
        if error.is_untried() {
            Self::Untried(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}
