//! The token shift of RWKV: rows moved towards the position before them.

use super::Pasts;
use crate::backend::{Backend, Result, Tensor};
use crate::kernels::{Convolution, Recurrence};

/// Keeps the last row of a sequence.
pub struct Shift(Convolution);

impl Shift {
    /// For rows of `width` elements.
    pub fn new(width: usize) -> Self {
        let taps = [vec![1.0; width], vec![0.0; width]].concat();
        Self(Convolution { channels: width, taps, bias: None, silu: false })
    }

    /// Elements of the state.
    pub fn state_len(&self) -> usize {
        self.0.state_len()
    }

    /// What each row lacks to the one before it.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn difference(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        pasts: &mut Pasts<'_, '_>,
    ) -> Result<Tensor> {
        let before = pasts.recur(b, 0, Recurrence::Convolution(&self.0), &[x])?;
        b.add(&before, &b.scale(x, -1.0)?)
    }
}

/// Rows moved by some of their differences.
///
/// # Errors
/// When the shapes do not fit.
pub fn moved(b: &dyn Backend, x: &Tensor, difference: &Tensor, share: &Tensor) -> Result<Tensor> {
    b.add(x, &b.multiply_each(difference, share)?)
}
