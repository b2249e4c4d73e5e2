//! Conversations as text: the model's own Jinja template turns messages into a prompt.
//!
//! Enters: messages, and the template in the file. Leaves: the prompt as the model was trained to see
//! it. Knows nothing of tokens.

mod functions;
mod template;

pub use template::{ChatTemplate, TemplateError};

use serde::{Deserialize, Serialize};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of that role.
    #[must_use]
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: content.into() }
    }
}
