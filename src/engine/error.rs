//! Why a request failed.

use crate::backend::BackendError;
use crate::constraint::ConstraintError;
use crate::model::NoRoom;

/// Error text for when a model that only makes embeddings is asked for text.
pub const NO_TEXT: &str =
    "this model makes embeddings, not text\nhint: use POST /v1/embeddings, or load a chat model";

/// A request that could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The prompt and at least one more token do not fit.
    #[error(
        "the prompt has {prompt} tokens, but the context has room for {context} including the answer\nhint: shorten the conversation, or start with a larger --ctx-size"
    )]
    ContextFull {
        /// Tokens of the prompt.
        prompt: usize,
        /// Size of the context.
        context: usize,
    },
    /// A text to embed does not fit.
    #[error(
        "the input has {tokens} tokens, but the context has room for {context}\nhint: split the text, or start with a larger --ctx-size if the model allows it"
    )]
    TooLong {
        /// Tokens of the input.
        tokens: usize,
        /// Size of the context.
        context: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty: nothing to continue\nhint: this model does not add a BOS token")]
    Empty,
    /// There is nothing to embed.
    #[error("the input is empty: nothing to embed\nhint: this model does not add a BOS token")]
    NothingToEmbed,
    /// An id outside the vocabulary.
    #[error("token {position} is {id}, expected ids below {vocab}")]
    Token {
        /// Its position.
        position: usize,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The constraint cannot be followed.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// There is no memory for its positions, even after waiting for others.
    #[error("{0}\nhint: try again when others have finished, or shorten the conversation")]
    NoRoom(#[from] NoRoom),
    /// Too many requests wait.
    #[error("the model is busy and {0} requests are already waiting; try again later")]
    Busy(usize),
    /// The model computed a value that is not finite.
    #[error(
        "the embedding is not finite\nhint: the weights are damaged, or computing with them overflows 32-bit floats"
    )]
    NotFinite,
    /// Computing failed.
    #[error("computing failed: {0}")]
    Compute(String),
}

impl From<BackendError> for EngineError {
    fn from(error: BackendError) -> Self {
        Self::Compute(error.to_string())
    }
}
