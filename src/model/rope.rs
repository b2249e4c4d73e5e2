//! Rotary position embedding: from positions to rotation angles.
//!
//! Input: positions and a layer's [`Frequencies`]. Output: [`Rotation`], for [`Backend::rotate`]. Knows nothing of
//! heads.

use super::spec::{Frequencies, Rope, Yarn};
use crate::backend::{Backend, Pairs, Result, Tensor};

/// Cosines and sines of some positions, (positions, dims / 2), times the magnitude.
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
    pairs: Pairs,
}

impl Rotation {
    /// Rotates the heads of `x`, (positions, heads, head_dim).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn apply(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        b.rotate(x, [&self.cos, &self.sin], self.pairs)
    }

    /// Angles of `positions`: position · scale · base^(−2i/dims) / factors\[i\].
    ///
    /// The power is computed by repeated multiplication in f32, as in the reference, so that the angles agree at large
    /// positions.
    ///
    /// # Errors
    /// When the device refuses the tensor.
    #[expect(clippy::cast_precision_loss, reason = "positions are below 2^24 in practice")]
    pub fn new(
        b: &dyn Backend,
        positions: &[usize],
        rope: Rope,
        frequencies: Frequencies,
        factors: Option<&[f32]>,
    ) -> Result<Self> {
        let Frequencies { dims, base, scale, yarn, magnitude, divided } = frequencies;
        let (n, half) = (positions.len(), dims / 2);
        let kept: Vec<f32> = match yarn {
            Some(yarn) => kept_by_yarn(yarn, rope.original_context, (dims, base)),
            None => vec![0.0; half],
        };
        let factors = factors.filter(|_| divided);
        let step = libm::powf(base, -2.0 / dims as f32);
        let (mut cos, mut sin) = (Vec::with_capacity(n * half), Vec::with_capacity(n * half));
        for position in positions {
            let mut theta = *position as f32;
            for (i, kept) in kept.iter().enumerate() {
                let full = theta / factors.and_then(|f| f.get(i)).copied().unwrap_or(1.0);
                let angle = full * scale * (1.0 - kept) + full * kept;
                cos.push(libm::cosf(angle) * magnitude);
                sin.push(libm::sinf(angle) * magnitude);
                theta *= step;
            }
        }
        Ok(Self {
            cos: b.tensor(cos, &[n, half])?,
            sin: b.tensor(sin, &[n, half])?,
            pairs: rope.pairs,
        })
    }
}

/// Share of its unscaled angle that each pair keeps: all of it for pairs that turn more than `beta_fast` times within
/// the original context, none for those that turn less than `beta_slow` times (YaRN, Peng et al., 2023, section 3.2;
/// the boundaries are rounded outwards to whole pairs).
#[expect(clippy::cast_precision_loss, reason = "a head has at most thousands of elements")]
fn kept_by_yarn(yarn: Yarn, context: usize, (dims, base): (usize, f32)) -> Vec<f32> {
    let (half, dims) = (dims / 2, dims as f32);
    // Index of the pair that turns this often within the original context.
    let pair = |turns: f32| {
        let wavelength = context as f32 / (turns * 2.0 * std::f32::consts::PI);
        dims * libm::logf(wavelength) / (2.0 * libm::logf(base))
    };
    let low = pair(yarn.beta_fast).floor().max(0.0);
    let high = pair(yarn.beta_slow).ceil().min(dims - 1.0);
    let ramp = |i: usize| 1.0 - ((i as f32 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
    (0..half).map(|i| ramp(i) * yarn.extrapolation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yarn_keeps_fast_pairs_and_scales_slow_ones() {
        let yarn = Yarn { extrapolation: 1.0, beta_fast: 32.0, beta_slow: 1.0 };
        let kept = kept_by_yarn(yarn, 4096, (64, 10_000.0));
        assert_eq!((kept.len(), kept[0], kept[31]), (32, 1.0, 0.0));
        assert!(kept.windows(2).all(|w| w[0] >= w[1]));
        // 4096 / 2π positions a turn: pair 22.5 of 32 turns once, pair 10.5 turns 32 times.
        assert!(kept[10] > 0.99 && kept[11] < 1.0 && kept[22] > 0.0 && kept[23] < 0.01, "{kept:?}");
    }
}
