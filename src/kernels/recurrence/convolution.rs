//! Causal convolutions along the positions of a sequence, each channel with weights of its own.

use super::super::disjoint::Disjoint;
use super::super::isa::by_floats;
use super::super::{Compute, float};
use super::state::Stretch;

/// Weights of a convolution.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// Channels.
    pub channels: usize,
    /// (positions, channels), from the oldest position to the new one.
    pub taps: Vec<f32>,
    /// Added to the sums.
    pub bias: Option<Vec<f32>>,
    /// Whether x · sigmoid(x) of the sums is taken.
    pub silu: bool,
}

impl Convolution {
    /// Elements of the state: the rows before the new one that it looks at, the oldest first.
    #[must_use]
    pub fn state_len(&self) -> usize {
        self.taps.len().saturating_sub(self.channels)
    }
}

impl Compute {
    /// The convolved rows of `x`, (rows, channels).
    #[must_use]
    pub fn convolve(
        &self,
        convolution: &Convolution,
        x: &[f32],
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let Convolution { channels, taps, .. } = convolution;
        let (n, kept) = (*channels, taps.len() / channels - 1);
        let mut first = 0;
        let mut out = vec![0.0; x.len()];
        let results = Disjoint::new(&mut out);
        for stretch in stretches {
            // A few rows, in whose place the new state is written below.
            let before = stretch.before().to_vec();
            let Stretch { rows, after, .. } = stretch;
            let own = &x[first * n..(first + *rows) * n];
            // Row `i` of the rows kept and the new ones.
            let row = |i: usize| match i.checked_sub(kept) {
                Some(i) => &own[i * n..][..n],
                None => &before[i * n..][..n],
            };
            self.for_ranges(*rows, taps.len() + 8 * n, &|range| {
                for i in range {
                    let at = (first + i) * n;
                    // SAFETY: each row belongs to one part.
                    let out = unsafe { results.slice(at..at + n) };
                    if let Some(bias) = &convolution.bias {
                        out.copy_from_slice(bias);
                    }
                    for (tap, weights) in taps.chunks_exact(n).enumerate() {
                        let x = row(i + tap);
                        by_floats!(
                            self.isa,
                            scalar: float::add_weighted(out, weights, x),
                            add_weighted(out, weights, x)
                        );
                    }
                    if convolution.silu {
                        by_floats!(self.isa, scalar: float::silu_all(out), silu_all(out));
                    }
                }
            });
            for (rows, state) in after {
                for (i, state) in state.chunks_exact_mut(n).enumerate() {
                    state.copy_from_slice(row(*rows + i));
                }
            }
            first += *rows;
        }
        out
    }
}
