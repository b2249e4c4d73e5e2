//! Mamba 2 (Dao and Gu, 2024): a state that forgets, with an input-dependent step.

use super::super::disjoint::Disjoint;
use super::super::{Compute, float};
use super::advance::advance;
use super::softplus;
use super::state::{Feed, Shape, Stretch, Vectors, state_len};

/// Shape and weights of a Mamba 2 mixer.
#[derive(Debug, Clone)]
pub struct Mamba2 {
    /// Heads.
    pub heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of a state for each of those.
    pub d_state: usize,
    /// Neighbouring heads of a group share B and C; the number of groups divides that of heads.
    pub groups: usize,
    /// Added to the steps, one for each head.
    pub bias: Vec<f32>,
    /// A: how fast each head forgets; negative.
    pub rates: Vec<f32>,
    /// D: how much of its input each head passes on.
    pub skips: Vec<f32>,
}

impl Mamba2 {
    /// Elements of a row of x, B and C.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads * self.head_dim + 2 * self.groups * self.d_state
    }

    /// Elements of the state.
    #[must_use]
    pub fn state_len(&self) -> usize {
        state_len(self.heads, self.d_state, self.head_dim)
    }
}

impl Compute {
    /// Mixes rows of x, B and C, (rows, [`Mamba2::width`]), with their pasts: (rows, heads · head_dim). `steps` are
    /// (rows, heads).
    #[must_use]
    pub fn mamba2(
        &self,
        mamba: &Mamba2,
        x: &[f32],
        steps: &[f32],
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let (heads, stride) = (mamba.heads, mamba.width());
        let (mut decays, mut rates) = (vec![0.0; steps.len()], vec![0.0; steps.len()]);
        let shared = [&mut decays, &mut rates].map(|all| Disjoint::new(all));
        self.for_ranges(steps.len(), 64, &|range| {
            let [decays, rates] = &shared;
            // SAFETY: ranges of different parts do not overlap.
            let (decays, rates) =
                unsafe { (decays.slice(range.clone()), rates.slice(range.clone())) };
            for ((index, decay), rate) in range.zip(decays).zip(rates) {
                let head = index % heads;
                *rate = softplus(steps[index] + mamba.bias[head]);
                *decay = float::exp(*rate * mamba.rates[head]);
            }
        });
        let inner = heads * mamba.head_dim;
        let vectors = |first, dim| Vectors { rows: x, stride, first, apart: dim, dim };
        let feed = Feed {
            shape: Shape { heads, key_dim: mamba.d_state, value_dim: mamba.head_dim },
            keys: vectors(inner, mamba.d_state),
            queries: vectors(inner + mamba.groups * mamba.d_state, mamba.d_state),
            values: vectors(0, mamba.head_dim),
            key_of: (0..heads).map(|head| head / (heads / mamba.groups)).collect(),
            decays: &decays,
            rates: &rates,
            corrects: false,
            skips: Some(&mamba.skips),
        };
        advance(self, &feed, stretches)
    }
}
