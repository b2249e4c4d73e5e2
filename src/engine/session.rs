//! One sequence computed alone, for measuring.

use super::error::EngineError;
use super::forward::Forward;
use crate::model::{Batch, PagePool, Sequence, Span, Wanted};
use std::sync::Arc;

/// A sequence, and the model that reads on.
pub struct Session {
    model: Arc<dyn Forward>,
    sequence: Sequence,
    /// Maximum rows in a pass.
    batch: usize,
    logits: Vec<f32>,
}

impl Session {
    /// An empty session of at most `context` positions.
    #[must_use]
    pub fn new(
        model: Arc<dyn Forward>,
        pool: &Arc<PagePool>,
        context: usize,
        batch: usize,
    ) -> Self {
        let sequence = model.sequence(pool, context);
        Self { model, sequence, batch: batch.max(1), logits: Vec::new() }
    }

    /// Goes back to `len` positions, or as near before it as it can.
    pub fn rewind(&mut self, len: usize) -> usize {
        self.sequence.rewind(len)
    }

    /// Reads tokens in one pass; returns the logits after each.
    ///
    /// # Errors
    /// When they do not fit, or computing fails.
    pub fn read_each(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError> {
        self.pass(tokens, Wanted::All)?;
        Ok(&self.logits)
    }

    /// Reads tokens; returns the logits after the last.
    ///
    /// # Errors
    /// When they do not fit, or computing fails.
    pub fn read(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError> {
        let mut left = tokens.len();
        for piece in tokens.chunks(self.batch) {
            left -= piece.len();
            self.pass(piece, if left == 0 { Wanted::Last } else { Wanted::None })?;
        }
        Ok(&self.logits)
    }

    fn pass(&mut self, tokens: &[u32], wanted: Wanted) -> Result<(), EngineError> {
        self.sequence.reserve(tokens.len())?;
        let causal = self.model.is_causal();
        let span = Span::tokens(&mut self.sequence, tokens, causal, wanted);
        if let Some(output) = self.model.forward(&mut Batch { spans: vec![span] }, &|| true)? {
            self.model.logits(&output, output.rows[0].clone(), &mut self.logits)?;
        }
        Ok(())
    }
}
