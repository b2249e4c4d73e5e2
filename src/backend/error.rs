//! Failures of a backend.

/// An operation that failed: shapes that don't fit, or a device that refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(String);

/// The result of an operation.
pub type Result<T> = std::result::Result<T, BackendError>;

impl BackendError {
    /// A failure with this message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<candle_core::Error> for BackendError {
    fn from(error: candle_core::Error) -> Self {
        Self(error.to_string())
    }
}
