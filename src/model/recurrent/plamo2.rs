//! PLaMo 2's mixer: Mamba 2's states, with B, C and the steps made after the convolution as in Mamba.

use super::super::norm::Norm;
use super::super::spec::{Mamba2Spec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::{Pasts, StateMixer, convolution};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Act, Convolution, Finish, Mamba2, Recurrence};

/// Such a mixer with its projections.
pub struct Mamba {
    recurrence: Mamba2,
    /// For each head its gate z and its x.
    inputs: Linear,
    convolution: Convolution,
    /// To B, C and what steps are made of.
    inner: [Linear; 3],
    /// Of these three.
    norms: [Norm; 3],
    steps: Linear,
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
        let name = |part: &str| format!("blk.{index}.ssm_{part}");
        let Mamba2Spec { taps, heads, head_dim, d_state, groups, rank } = spec;
        let (d, channels) = (s.d_model, heads * head_dim);
        // Files leave the ending of their names out.
        let norm = |part: &str, len: usize| {
            let norm = Norm::load_if(s, w, &name(part), len)?;
            norm.map_or_else(|| Norm::load(s, w, &name(part), len), Ok)
        };
        Ok(Self {
            recurrence: Mamba2 {
                heads,
                head_dim,
                d_state,
                groups,
                bias: w.floats(&name("dt.bias"), heads)?,
                rates: w.floats(&name("a"), heads)?,
                skips: w.floats(&name("d"), heads)?,
            },
            inputs: w.linear(&name("in"), 2 * channels, d)?,
            convolution: convolution(w, &name("conv1d"), (channels, taps), true)?,
            inner: w.linear_parts(&name("x"), [d_state, d_state, rank], channels)?,
            norms: [norm("b_norm", d_state)?, norm("c_norm", d_state)?, norm("dt_norm", rank)?],
            steps: w
                .backend()
                .linear(w.matrix(&name("dt.weight"), heads, rank)?, Finish::default())?,
            out: w.linear(&name("out"), d, channels)?,
        })
    }
}

impl StateMixer for Mamba {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let (n, Mamba2 { heads, head_dim, .. }) = (x.rows(), &self.recurrence);
        let woven = b.product(&self.inputs, x)?.reshape(&[n, *heads, 2 * head_dim])?;
        let part =
            |first: usize| woven.narrow(2, first, *head_dim)?.reshape(&[n, heads * head_dim]);
        let (z, x) = (part(0)?, part(*head_dim)?);
        let x = pasts.recur(b, 0, Recurrence::Convolution(&self.convolution), &[&x])?;
        let [before, after, steps] = b.products_of(self.inner.each_ref(), &x)?;
        let [of_before, of_after, of_steps] = &self.norms;
        let (before, after) = (of_before.forward(b, &before)?, of_after.forward(b, &after)?);
        let steps = b.product(&self.steps, &of_steps.forward(b, &steps)?)?;
        let rows = Tensor::concat(&[&x, &before, &after], 1)?;
        let (first, mamba) = (self.convolution.state_len(), Recurrence::Mamba2(&self.recurrence));
        let mixed = pasts.recur(b, first, mamba, &[&rows, &steps])?;
        b.product(&self.out, &b.gate_up(Act::Silu, &z, &mixed)?)
    }
}
