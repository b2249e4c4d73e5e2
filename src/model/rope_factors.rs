//! Divisors of the rotary frequencies, stored in the file as tensors (Llama 3, LongRoPE).

use super::spec::Spec;
use super::weights::{Weights, WeightsError};

/// Divisors of the frequencies, stored in the file as tensors.
pub struct Factors {
    always: Option<Vec<f32>>,
    short: Option<Vec<f32>>,
    long: Option<Vec<f32>>,
    original_context: usize,
}

impl Factors {
    /// Loads `rope_freqs` (Llama 3) and `rope_factors_short` and `_long` (LongRoPE), if they exist.
    ///
    /// # Errors
    /// When the length of one differs from the number of pairs in a head.
    pub fn load(s: &Spec, w: &Weights<'_>) -> Result<Self, WeightsError> {
        let dims = s.layers.iter().filter_map(|l| l.rope).filter(|rope| rope.divided);
        let pairs = dims.map(|rope| rope.dims / 2).max().unwrap_or(0);
        let factors = |name: &str| w.has(name).then(|| w.floats(name, pairs)).transpose();
        Ok(Self {
            always: factors("rope_freqs.weight")?,
            short: factors("rope_factors_short.weight")?,
            long: factors("rope_factors_long.weight")?,
            original_context: s.rope.original_context,
        })
    }

    /// Divisors for a timeline of at most `context` positions. All its positions use the same ones; otherwise its early
    /// keys would not match its late queries.
    #[must_use]
    pub fn of(&self, context: usize) -> Option<&[f32]> {
        let by_length = if context > self.original_context { &self.long } else { &self.short };
        self.always.as_ref().or(by_length.as_ref()).map(Vec::as_slice)
    }
}
