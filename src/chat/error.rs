//! Why a conversation can't become a prompt.

use crate::worker::WorkerError;
use serde::{Deserialize, Serialize};

/// Cap on template source; the longest in use are about 20 KB.
pub(super) const SOURCE_BYTES_MAX: usize = 64 << 10;

/// A template that cannot be used, or refuses the conversation.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum TemplateError {
    /// It is not valid Jinja.
    #[error("chat template: {0}\nhint: choose another with --chat-template NAME or FILE")]
    Syntax(String),
    /// Its source is too long.
    #[error("chat template: found {0} bytes, expected at most {SOURCE_BYTES_MAX}")]
    Long(usize),
    /// It does not accept this conversation.
    #[error("the model's chat template does not accept these messages: {0}")]
    Refused(String),
    /// A call is required, but every answer of this model has a header and can't be constrained.
    #[error(
        "this model cannot be forced to call a tool: its answers are messages with headers\nhint: set `tool_choice` to \"auto\""
    )]
    Unforced,
    /// Rendering failed or hit a limit.
    #[error("chat template failed: {0}\nhint: choose another with --chat-template NAME or FILE")]
    Failed(String),
    /// Not rendered: the machine is overloaded, or the client has left.
    #[error("the prompt could not be rendered: {0}")]
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
