//! Recurrences over the positions of a sequence: mixers whose past is a state of fixed size.
//!
//! Input: rows of several sequences, and the state of each before its rows. Output: mixed rows, and the states after
//! some of them. Position follows position in the same order however many come at once, and no two columns of a state
//! depend on each other: they are divided among the threads, each of which keeps its own in its cache. So results depend
//! neither on how a prompt is cut nor on threads or neighbours. Knows nothing of layers or models.

#![expect(
    unsafe_code,
    reason = "disjoint parts of results, and calls into the instruction set that was detected"
)]

mod advance;
mod convolution;
mod delta_net;
mod kda;
mod lanes;
mod lightning;
mod mamba1;
mod mamba2;
mod rwkv;
mod state;
#[cfg(test)]
mod tests;

pub use convolution::Convolution;
pub use delta_net::{DeltaNet, Gates, KeyOrder};
pub use kda::{Forgetting, Kda};
pub(super) use lanes::lanes;
pub use lightning::Lightning;
pub use mamba1::{Mamba1, MambaRows};
pub use mamba2::Mamba2;
pub use rwkv::{Rwkv6, Rwkv6Rows, Rwkv7Rows};
pub use state::{Feed, Shape, Stretch, state_len};
pub(super) use state::{KeyedFeed, Part};

use super::Compute;

/// A recurrence with its shape and weights. Its inputs are rows of several sequences.
#[derive(Clone, Copy)]
pub enum Recurrence<'a> {
    /// A causal convolution of rows.
    Convolution(&'a Convolution),
    /// A gated delta net of queries, keys and values together, alphas, and betas.
    DeltaNet(&'a DeltaNet),
    /// Kimi's delta attention of queries, keys and values together, alphas, and betas.
    Kda(&'a Kda),
    /// Lightning attention of queries, keys and values together.
    Lightning(&'a Lightning),
    /// Mamba of x, steps, B and C.
    Mamba1(&'a Mamba1),
    /// Mamba 2 of x, B and C together, and steps.
    Mamba2(&'a Mamba2),
    /// RWKV 6 of receptances, keys, values and decays.
    Rwkv6(&'a Rwkv6),
    /// RWKV 7 of receptances, decays, keys, values, keys that are taken back, and rates.
    Rwkv7(Shape),
}

impl Recurrence<'_> {
    /// Elements of a row of each input.
    #[must_use]
    pub fn inputs(self) -> Vec<usize> {
        let inner = |shape: Shape| shape.heads * shape.key_dim;
        match self {
            Self::Convolution(convolution) => vec![convolution.channels],
            Self::DeltaNet(net) => vec![net.width(), net.heads, net.heads],
            Self::Kda(net) => vec![net.width(), net.heads * net.dim, net.heads],
            Self::Lightning(lightning) => vec![lightning.width()],
            Self::Mamba1(m) => vec![m.channels, m.channels, m.d_state, m.d_state],
            Self::Mamba2(mamba) => vec![mamba.width(), mamba.heads],
            Self::Rwkv6(rwkv) => vec![inner(rwkv.shape); 4],
            Self::Rwkv7(shape) => vec![inner(shape); 6],
        }
    }

    /// Elements of a row of the result.
    #[must_use]
    pub fn width(self) -> usize {
        let inner = |shape: Shape| shape.heads * shape.value_dim;
        match self {
            Self::Convolution(convolution) => convolution.channels,
            Self::DeltaNet(net) => net.heads * net.value_dim,
            Self::Kda(net) => inner(net.shape()),
            Self::Lightning(lightning) => inner(lightning.shape()),
            Self::Mamba1(mamba) => mamba.channels,
            Self::Mamba2(mamba) => mamba.heads * mamba.head_dim,
            Self::Rwkv6(Rwkv6 { shape, .. }) => inner(*shape),
            Self::Rwkv7(shape) => inner(shape),
        }
    }

    /// Elements of the state.
    #[must_use]
    pub fn state_len(self) -> usize {
        match self {
            Self::Convolution(convolution) => convolution.state_len(),
            Self::DeltaNet(net) => net.state_len(),
            Self::Kda(net) => net.shape().state_len(),
            Self::Lightning(lightning) => lightning.shape().state_len(),
            Self::Mamba1(mamba) => mamba.state_len(),
            Self::Mamba2(mamba) => mamba.state_len(),
            Self::Rwkv6(rwkv) => rwkv.shape.state_len(),
            Self::Rwkv7(shape) => shape.state_len(),
        }
    }
}

impl Compute {
    /// Takes states through rows: (rows, [`Recurrence::width`]).
    ///
    /// # Panics
    /// When there are not as many inputs as [`Recurrence::inputs`] says.
    #[must_use]
    pub fn recur(
        &self,
        recurrence: Recurrence<'_>,
        inputs: &[&[f32]],
        stretches: &mut [Stretch<'_>],
    ) -> Vec<f32> {
        match (recurrence, inputs) {
            (Recurrence::Convolution(convolution), &[x]) => {
                self.convolve(convolution, x, stretches)
            }
            (Recurrence::DeltaNet(net), &[x, alpha, beta]) => {
                self.delta_net(net, x, Gates { alpha, beta }, stretches)
            }
            (Recurrence::Kda(net), &[x, alpha, beta]) => {
                self.kda(net, x, Gates { alpha, beta }, stretches)
            }
            (Recurrence::Lightning(lightning), &[x]) => self.lightning(lightning, x, stretches),
            (Recurrence::Mamba1(mamba), &[x, steps, b, c]) => {
                self.mamba1(mamba, MambaRows { x, steps, b, c }, stretches)
            }
            (Recurrence::Mamba2(mamba), &[x, steps]) => self.mamba2(mamba, x, steps, stretches),
            (Recurrence::Rwkv6(rwkv), &[receptances, keys, values, decays]) => {
                self.rwkv6(rwkv, Rwkv6Rows { receptances, keys, values, decays }, stretches)
            }
            (Recurrence::Rwkv7(shape), &[receptances, decays, keys, values, removed, rates]) => {
                let rows = Rwkv7Rows { receptances, decays, keys, values, removed, rates };
                self.rwkv7(shape, rows, stretches)
            }
            (_, inputs) => panic!("{} inputs for a recurrence", inputs.len()),
        }
    }
}

/// ln(1 + eˣ), as [Mamba's code](https://github.com/state-spaces/mamba) has it: x itself above 20.
#[must_use]
pub fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { libm::log1pf(super::float::exp(x)) }
}

/// 1 / (1 + e^−x).
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + super::float::exp(-x))
}
