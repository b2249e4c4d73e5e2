//! The engine: one loaded model, one timeline of computed tokens, and a queue of waiting requests.
//!
//! Input: prompts as token ids, and how to continue them. Output: text, piece by piece. Knows nothing of HTTP or
//! terminals. [`Engine`] is shared; [`Session`] is the only mutable part, used in turns handed out by [`Queue`].

mod embed;
mod fit;
mod generate;
mod load;
mod measure;
mod options;
mod queue;
mod session;

pub use embed::{EmbedError, NO_TEXT, embed, normalize};
pub use fit::{Fit, Need, TooLarge, fit};
pub use generate::{Event, Finish, Generation, Outcome, Timings, TokenChoice, generate};
pub use load::{Bare, Engine, LoadError, ModelInfo};
pub use measure::{Chunking, MeasureError, Perplexity, Row, measure};
pub use options::{LoadOptions, Room};
pub use queue::{Queue, QueueError, Turn};
pub use session::{ModelTimeline, Progress, Session, SessionError, Timeline};
