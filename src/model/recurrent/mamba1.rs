//! Mamba with its projections: a convolution, steps, B and C made of its output, the recurrence, a gate.

use super::super::norm::Norm;
use super::super::spec::{Mamba1Spec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::{Pasts, StateMixer, convolution};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Act, Convolution, Finish, Mamba1, Recurrence};

/// Mamba with its projections.
pub struct Mamba {
    recurrence: Mamba1,
    /// x and the gate z.
    inputs: [Linear; 2],
    convolution: Convolution,
    /// To what steps are made of, B and C.
    inner: [Linear; 3],
    /// Of these three, in some families.
    norms: Option<[Norm; 3]>,
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
        spec: Mamba1Spec,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let Mamba1Spec { taps, channels, d_state, rank, normed } = spec;
        let d = s.d_model;
        let by_channel = w.numbers(&name("ssm_a"), channels, d_state)?;
        let by_element = (0..d_state * channels)
            .map(|i| by_channel[i % channels * d_state + i / channels])
            .collect();
        let norms = if w.has(&name("ssm_dt_norm.weight")) {
            Some([
                Norm::load(s, w, &name("ssm_dt_norm"), rank)?,
                Norm::load(s, w, &name("ssm_b_norm"), d_state)?,
                Norm::load(s, w, &name("ssm_c_norm"), d_state)?,
            ])
        } else if normed {
            let bare = |len| Norm::bare(s, w, len);
            Some([bare(rank)?, bare(d_state)?, bare(d_state)?])
        } else {
            None
        };
        // The bias of the steps is added with the softplus, not by the layer.
        let weight = w.matrix(&name("ssm_dt.weight"), channels, rank)?;
        Ok(Self {
            recurrence: Mamba1 {
                channels,
                d_state,
                rates: by_element,
                bias: w.floats(&name("ssm_dt.bias"), channels)?,
                skips: w.floats(&name("ssm_d"), channels)?,
            },
            inputs: w.linear_parts(&name("ssm_in"), [channels; 2], d)?,
            convolution: convolution(w, &name("ssm_conv1d"), (channels, taps), true)?,
            inner: w.linear_parts(&name("ssm_x"), [rank, d_state, d_state], channels)?,
            norms,
            steps: w.backend().linear(weight, Finish::default())?,
            out: w.linear(&name("ssm_out"), d, channels)?,
        })
    }
}

impl StateMixer for Mamba {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let [x, z] = b.products_of(self.inputs.each_ref(), x)?;
        let kept = self.convolution.state_len();
        let x = pasts.recur(b, 0, Recurrence::Convolution(&self.convolution), &[&x])?;
        let [mut steps, mut before, mut after] = b.products_of(self.inner.each_ref(), &x)?;
        if let Some([of_steps, of_before, of_after]) = &self.norms {
            steps = of_steps.forward(b, &steps)?;
            (before, after) = (of_before.forward(b, &before)?, of_after.forward(b, &after)?);
        }
        let steps = b.product(&self.steps, &steps)?;
        let rows = [&x, &steps, &before, &after];
        let mixed = pasts.recur(b, kept, Recurrence::Mamba1(&self.recurrence), &rows)?;
        b.product(&self.out, &b.gate_up(Act::Silu, &z, &mixed)?)
    }
}
