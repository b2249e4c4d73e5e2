//! Mamba 2 with its projections: a convolution, the recurrence, a gate and a norm.

use super::super::norm::Norm;
use super::super::spec::{Mamba2Spec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::{Pasts, StateMixer, convolution};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Act, Convolution, Mamba2, Recurrence};

/// Mamba 2 with its projections.
pub struct Mamba {
    recurrence: Mamba2,
    /// The gate z; x, B and C; the steps.
    inputs: [Linear; 3],
    convolution: Convolution,
    /// Over each group of heads.
    norm: Option<Norm>,
    out: Linear,
}

impl Mamba {
    /// The tensors `blk.{index}.ssm_*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        spec: Mamba2Spec,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let Mamba2Spec { taps, heads, head_dim, d_state, groups, .. } = spec;
        let (d, inner) = (s.d_model, heads * head_dim);
        let recurrence = Mamba2 {
            heads,
            head_dim,
            d_state,
            groups,
            bias: w.floats(&name("ssm_dt.bias"), heads)?,
            rates: w.numbers(&name("ssm_a"), heads, 1)?,
            skips: w.numbers(&name("ssm_d"), heads, 1)?,
        };
        let width = recurrence.width();
        let norm = name("ssm_norm");
        let has_norm = w.has(&format!("{norm}.weight"));
        let norm = has_norm.then(|| Norm::load_by_head(s, w, &norm, groups, inner / groups));
        Ok(Self {
            inputs: w.linear_parts(&name("ssm_in"), [inner, width, heads], d)?,
            convolution: convolution(w, &name("ssm_conv1d"), (width, taps), true)?,
            norm: norm.transpose()?,
            out: w.linear(&name("ssm_out"), d, inner)?,
            recurrence,
        })
    }
}

impl StateMixer for Mamba {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let [z, x, steps] = b.products_of(self.inputs.each_ref(), x)?;
        let kept = self.convolution.state_len();
        let x = pasts.recur(b, 0, Recurrence::Convolution(&self.convolution), &[&x])?;
        let mamba = Recurrence::Mamba2(&self.recurrence);
        let mixed = pasts.recur(b, kept, mamba, &[&x, &steps])?;
        let mixed = b.gate_up(Act::Silu, &z, &mixed)?;
        let mixed = match &self.norm {
            Some(norm) => {
                let shape = [mixed.rows(), mixed.shape()[1]];
                let groups = [shape[0], self.recurrence.groups, shape[1] / self.recurrence.groups];
                norm.forward(b, &mixed.reshape(&groups)?)?.reshape(&shape)?
            }
            None => mixed,
        };
        b.product(&self.out, &mixed)
    }
}
