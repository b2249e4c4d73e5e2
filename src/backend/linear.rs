//! Linear layers: the weights of a matrix, wherever a backend keeps them.

use crate::kernels::{Finish, Matrix};
use candle_core::quantized::QMatMul;

/// A linear layer, y = scale · x Wᵀ + b, placed by [`super::Backend::linear`].
pub struct Linear {
    pub(super) weight: Weight,
    pub(super) finish: Finish,
    /// Elements of an output row.
    pub(super) outputs: usize,
}

pub(super) enum Weight {
    /// Read in place from the mapped file.
    Mapped(Matrix),
    /// A copy that candle multiplies with.
    Candle(QMatMul),
}

impl Linear {
    /// Elements of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}
