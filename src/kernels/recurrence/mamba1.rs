//! Mamba (Gu and Dao, 2023): each channel has a small state of its own, whose elements forget at rates of their own.

use super::super::Compute;
use super::super::disjoint::Disjoint;
use super::super::float::{self, Channels};
use super::super::isa::by_floats;
use super::softplus;
use super::state::Stretch;

/// Channels that a thread takes through all rows at once.
pub const TOGETHER: usize = 64;

/// Shape and weights of a Mamba mixer.
#[derive(Debug, Clone)]
pub struct Mamba1 {
    /// Channels.
    pub channels: usize,
    /// Elements of a channel's state.
    pub d_state: usize,
    /// A: how fast each element forgets, (d_state, channels); negative.
    pub rates: Vec<f32>,
    /// Added to the steps, one for each channel.
    pub bias: Vec<f32>,
    /// D: how much of its input each channel passes on.
    pub skips: Vec<f32>,
}

/// What rows bring to a Mamba mixer.
#[derive(Clone, Copy)]
pub struct MambaRows<'a> {
    /// x, (rows, channels).
    pub x: &'a [f32],
    /// Steps before bias and softplus, (rows, channels).
    pub steps: &'a [f32],
    /// B, (rows, d_state).
    pub b: &'a [f32],
    /// C, (rows, d_state).
    pub c: &'a [f32],
}

impl Mamba1 {
    /// Elements of the state, (d_state, channels).
    #[must_use]
    pub fn state_len(&self) -> usize {
        self.channels * self.d_state
    }
}

impl Compute {
    /// Mixes rows with their pasts: (rows, channels).
    #[must_use]
    pub fn mamba1(
        &self,
        mamba: &Mamba1,
        rows: MambaRows<'_>,
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        let (n, d_state) = (mamba.channels, mamba.d_state);
        let mut out = vec![0.0; rows.x.len()];
        let results = Disjoint::new(&mut out);
        let mut first = 0;
        for stretch in stretches {
            let after = stretch.after.iter_mut().map(|(rows, s)| (*rows, Disjoint::new(s)));
            let after: Vec<(usize, Disjoint<'_>)> = after.collect();
            let before = stretch.before;
            let cost = 8 * TOGETHER * d_state * stretch.rows;
            self.for_ranges(n.div_ceil(TOGETHER), cost, &|blocks| {
                let mut state = vec![0.0; TOGETHER * d_state];
                for block in blocks {
                    let channels = TOGETHER * block..n.min(TOGETHER * (block + 1));
                    let width = channels.len();
                    let line = |i: usize| i * n + channels.start..i * n + channels.end;
                    for (i, state) in state.chunks_exact_mut(width).take(d_state).enumerate() {
                        match before {
                            Some(before) => state.copy_from_slice(&before[line(i)]),
                            // SAFETY: each block of channels belongs to one task.
                            None => state.copy_from_slice(unsafe { after[0].1.slice(line(i)) }),
                        }
                    }
                    let mut ends = after.iter();
                    let mut end = ends.next();
                    for row in 0..stretch.rows {
                        let at = line(first + row);
                        let mut steps = [0.0; TOGETHER];
                        let given =
                            rows.steps[at.clone()].iter().zip(&mamba.bias[channels.clone()]);
                        steps.iter_mut().zip(given).for_each(|(to, (s, b))| *to = softplus(s + b));
                        let of_row = (first + row) * d_state..(first + row + 1) * d_state;
                        // SAFETY: each block of channels belongs to one task.
                        let out = unsafe { results.slice(at.clone()) };
                        let step = Channels {
                            x: &rows.x[at],
                            steps: &steps[..width],
                            rates: &mamba.rates[channels.start..],
                            stride: n,
                            b: &rows.b[of_row.clone()],
                            c: &rows.c[of_row],
                            skips: &mamba.skips[channels.clone()],
                        };
                        by_floats!(
                            self.isa,
                            scalar: float::channels(&step, &mut state, out),
                            channels(&step, &mut state, out)
                        );
                        if let Some((_, to)) = end.filter(|(rows, _)| *rows == row + 1) {
                            for (i, state) in state.chunks_exact(width).take(d_state).enumerate() {
                                // SAFETY: as above.
                                unsafe { to.slice(line(i)) }.copy_from_slice(state);
                            }
                            end = ends.next();
                        }
                    }
                }
            });
            first += stretch.rows;
        }
        out
    }
}
