//! The engine: one loaded model, and a scheduler that computes many requests with it at once.
//!
//! Input: prompts as token ids, and how to continue them. Output: text, piece by piece. Knows nothing of HTTP or
//! terminals. Requests go through [`Engine::generate`] and [`Engine::embed`]; the scheduler's thread owns everything
//! that changes.

mod channel;
mod decoder;
mod error;
mod fit;
mod forward;
mod generate;
mod job;
mod keep;
mod load;
mod mailbox;
mod measure;
mod options;
mod plan;
mod pooling;
mod prefix;
mod prompt_cache;
mod queue;
mod request;
mod saved;
mod scheduler;
mod session;
mod stops;
mod thought;

pub use error::{EngineError, NO_TEXT};
pub use fit::{Fit, Need, Pages, Sizes, TooLarge, fit, sizes};
pub use generate::{Generating, Received};
pub use keep::KeepError;
pub use load::{Bare, Engine, LoadError, ModelInfo};
pub use measure::{Chunking, MeasureError, Perplexity, Row, measure};
pub use options::{LoadOptions, Room};
pub use pooling::{Pooler, normalize};
pub use queue::{Limits, Slot, Status};
pub use request::{Event, Finish, Generation, Outcome, Progress, Timings, TokenChoice};
pub use session::Session;
pub use thought::ThoughtLimit;

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;
