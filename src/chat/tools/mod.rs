//! Functions that a model may call: how they are described to it, and how its calls are read.
//!
//! `table` lists the formats that models write calls in. `any` picks the shape by the first characters of calls; each
//! of `objects`, `named`, `tagged`, `complete` and `channels` reads one shape.

pub(super) mod any;
pub(super) mod arguments;
mod channels;
mod complete;
mod describe;
mod enforce;
mod format;
mod gemma;
pub(super) mod loose;
mod named;
mod objects;
mod python;
mod section;
mod table;
mod tagged;
#[cfg(test)]
mod tests;
mod tool;
mod types;

pub(super) use describe::describe;
pub use enforce::{tool_calls, tool_grammar};
pub use format::Format;
pub(super) use section::Section;
pub use tool::{Tool, ToolChoice};
