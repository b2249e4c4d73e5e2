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
mod lanes;
mod mamba1;
mod mamba2;
mod state;
#[cfg(test)]
mod tests;

pub use convolution::Convolution;
pub use delta_net::{DeltaNet, Gates, KeyOrder};
pub(super) use lanes::lanes;
pub use mamba1::{Mamba1, MambaRows};
pub use mamba2::Mamba2;
pub use state::{Feed, Stretch, state_len};

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
