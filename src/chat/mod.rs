//! Conversations as text: the model's own Jinja template turns messages into a prompt.
//!
//! Enters: messages, and the template in the file. Leaves: the prompt as the model was trained to see
//! it. Knows nothing of tokens.

pub mod builtin;
mod functions;
mod json;
mod message;
mod template;

pub use message::{FunctionCall, Message, ToolCall};
pub use template::{ChatTemplate, Inputs, TemplateError};
