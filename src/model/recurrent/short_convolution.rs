//! The gated short convolution of LFM 2: C · convolution(B · x).

use super::super::spec::Spec;
use super::super::weights::{Weights, WeightsError};
use super::{Pasts, StateMixer, convolution};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Convolution, Recurrence};

/// A gated short convolution with its projections.
pub struct ShortConvolution {
    /// B, C and x.
    inputs: [Linear; 3],
    convolution: Convolution,
    out: Linear,
}

impl ShortConvolution {
    /// The tensors `blk.{index}.shortconv.*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        taps: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.shortconv.{part}");
        let d = s.d_model;
        Ok(Self {
            inputs: w.linear_parts(&name("in_proj"), [d; 3], d)?,
            convolution: convolution(w, &name("conv"), (d, taps), false)?,
            out: w.linear(&name("out_proj"), d, d)?,
        })
    }
}

impl StateMixer for ShortConvolution {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let [before, after, x] = b.products_of(self.inputs.each_ref(), x)?;
        let x = b.multiply_each(&before, &x)?;
        let x = pasts.recur(b, 0, Recurrence::Convolution(&self.convolution), &[&x])?;
        b.product(&self.out, &b.multiply_each(&after, &x)?)
    }
}
