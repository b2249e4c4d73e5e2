//! How well a model predicts given tokens.
//!
//! Input: a model and token ids. Output: each position's logits as they are computed, and the sum of their negative
//! log-likelihoods. Knows nothing of text or files.

use super::error::NO_TEXT;
use crate::backend::BackendError;
use crate::kernels::CacheType;
use crate::model::{Batch, Model, NoRoom, Span, Wanted};
use std::io;

/// Positions whose logits are held at a time: 16 MB for a vocab of 262,144 tokens.
const ROWS: usize = 16;

/// How tokens are split into chunks and computed.
#[derive(Debug, Clone, Copy)]
pub struct Chunking {
    /// Tokens per chunk; each chunk is computed without the ones before it.
    pub context: usize,
    /// Tokens computed at a time.
    pub batch: usize,
    /// Replaces each chunk's first token, if the model expects texts to begin with it.
    pub bos: Option<u32>,
    /// Element type of the cached keys.
    pub key_type: CacheType,
    /// Element type of the cached values.
    pub value_type: CacheType,
    /// Whether to compute the logits of every position, not only of the scored ones.
    pub every_row: bool,
}

/// One position.
pub struct Row<'a> {
    /// Index of its chunk.
    pub chunk: usize,
    /// The logits after its token.
    pub logits: &'a [f32],
    /// Total over the positions scored so far.
    pub so_far: &'a Perplexity,
}

/// Sums of negative log-likelihoods.
#[derive(Debug, Clone, Copy, Default)]
pub struct Perplexity {
    /// Chunks.
    pub chunks: usize,
    /// Positions whose next token was scored.
    pub scored: usize,
    sum: f64,
    squares: f64,
}

/// A failed measurement.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// An id outside the vocabulary.
    #[error("token {position} is {id}, expected ids below {vocabulary}")]
    Token {
        /// Its position.
        position: usize,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The model computed a value that is not finite.
    #[error(
        "the logits after token {position} are not finite\nhint: the weights are damaged, or computing with them overflows 32-bit floats"
    )]
    NotFinite {
        /// The token's position.
        position: usize,
    },
    /// The model only makes embeddings.
    #[error("{NO_TEXT}")]
    NoText,
    /// The caller cancelled.
    #[error("interrupted")]
    Interrupted,
    /// The caller failed to handle a row.
    #[error("{0}")]
    Row(#[from] io::Error),
    /// Computing failed.
    #[error("computing failed: {0}")]
    Compute(#[from] BackendError),
    /// There is no memory for the positions of a chunk.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// Computes `tokens` chunk by chunk and passes the rows of logits to `row` in order.
///
/// With more than one chunk, only the second half of each whole chunk is scored, so that every scored token has
/// context, as in the reference; a single chunk is scored in full.
///
/// # Errors
/// When a token is outside the vocabulary, memory runs out, or `row` fails.
pub fn measure(
    model: &Model,
    tokens: &[u32],
    plan: &Chunking,
    wanted: &dyn Fn() -> bool,
    row: &mut dyn FnMut(Row<'_>) -> io::Result<()>,
) -> Result<Perplexity, MeasureError> {
    let vocabulary = model.spec().n_vocab;
    if let Some(position) = tokens.iter().position(|&id| id as usize >= vocabulary) {
        return Err(MeasureError::Token { position, id: tokens[position], vocabulary });
    }
    if !model.spec().causal {
        return Err(MeasureError::NoText);
    }
    let context = plan.context.clamp(1, tokens.len().max(1));
    let mut total = Perplexity::default();
    let pool = model.pages(plan.key_type, plan.value_type, usize::MAX);
    let mut rows = Vec::new();
    for (number, chunk) in tokens.chunks(context).enumerate() {
        let whole = chunk.len() == context;
        if !whole && !plan.every_row {
            break;
        }
        total.chunks += 1;
        let first = if tokens.len() == context { 0 } else { context / 2 };
        let scored = if whole { first..context - 1 } else { 0..0 };
        let mut sequence = model.sequence(&pool, context);
        let mut inputs = chunk.to_vec();
        if let (Some(bos), Some(first)) = (plan.bos, inputs.first_mut()) {
            *first = bos;
        }
        for start in (0..inputs.len()).step_by(plan.batch) {
            let batch = &inputs[start..inputs.len().min(start + plan.batch)];
            let skipped = if plan.every_row { 0 } else { scored.start.saturating_sub(start) };
            let which = if skipped < batch.len() { Wanted::All } else { Wanted::None };
            sequence.reserve(batch.len())?;
            let span = Span::tokens(&mut sequence, batch, true, which);
            let Some(output) = model.forward(&mut Batch { spans: vec![span] }, wanted)? else {
                return Err(MeasureError::Interrupted);
            };
            let count = output.rows[0].len();
            for at in (skipped..count).step_by(ROWS) {
                model.logits(&output, at..count.min(at + ROWS), &mut rows)?;
                for (index, logits) in rows.chunks_exact(vocabulary).enumerate() {
                    let position = start + at + index;
                    if logits.iter().any(|l| !l.is_finite()) {
                        return Err(MeasureError::NotFinite {
                            position: number * context + position,
                        });
                    }
                    if scored.contains(&position) {
                        total.add(surprise(logits, chunk[position + 1]));
                    }
                    row(Row { chunk: number, logits, so_far: &total })?;
                }
            }
        }
    }
    Ok(total)
}

/// The negative log-likelihood of a token.
fn surprise(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(libm::expf(l - max))).sum();
    libm::log(sum) - f64::from(logits[token as usize] - max)
}

impl Perplexity {
    fn add(&mut self, surprise: f64) {
        self.scored += 1;
        self.sum += surprise;
        self.squares += surprise * surprise;
    }

    /// Mean negative log-likelihood in nats; `None` where nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.sum / self.scored as f64)
    }

    /// The perplexity: e to the mean.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.mean().map(libm::exp)
    }

    /// Estimated standard error of [`Perplexity::value`]; `None` for fewer than two tokens.
    #[must_use]
    pub fn standard_error(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.scored > 1)?;
        let n = self.scored as f64;
        let variance = (self.squares / n - mean * mean).max(0.0);
        Some((variance / (n - 1.0)).sqrt() * libm::exp(mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_logits_have_the_perplexity_of_their_number() {
        let mut total = Perplexity::default();
        assert!(total.value().is_none() && total.standard_error().is_none());
        for _ in 0..5 {
            total.add(surprise(&[2.5; 8], 3));
        }
        assert!((total.value().unwrap() - 8.0).abs() < 1e-9);
        assert!(total.standard_error().unwrap() < 1e-6);
    }

    #[test]
    fn the_standard_error_is_that_of_the_mean_logarithm() {
        let mut total = Perplexity::default();
        [1.0, 2.0, 3.0, 4.0].into_iter().for_each(|x| total.add(x));
        // Mean 2.5, variance 1.25, of four.
        let expected = (1.25_f64 / 3.0).sqrt() * 2.5_f64.exp();
        assert!((total.standard_error().unwrap() - expected).abs() < 1e-12);
    }
}
