//! Lightning attention (MiniMax 01) with its projections.

use super::super::norm::Norm;
use super::super::spec::{LightningSpec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::{Pasts, StateMixer};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Lightning, Recurrence};

/// Lightning attention with its projections.
pub struct LightningAttention {
    lightning: Lightning,
    inputs: Linear,
    gate: Linear,
    norm: Norm,
    out: Linear,
}

impl LightningAttention {
    /// The tensors `blk.{index}.attn_*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        LightningSpec { heads, dim }: LightningSpec,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (d, inner) = (s.d_model, heads * dim);
        let lightning = Lightning { dim, decays: decays(heads, index, s.layers.len()) };
        Ok(Self {
            inputs: w.linear(&name("attn_qkv"), lightning.width(), d)?,
            gate: w.linear(&name("attn_gate"), inner, d)?,
            norm: Norm::load(s, w, &name("attn_norm_2"), inner)?,
            out: w.linear(&name("attn_output"), d, inner)?,
            lightning,
        })
    }
}

impl StateMixer for LightningAttention {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let [inputs, gate] = b.products_of([&self.inputs, &self.gate], x)?;
        let lightning = Recurrence::Lightning(&self.lightning);
        let mixed = pasts.recur(b, 0, lightning, &[&b.silu(&inputs)?])?;
        let mixed = self.norm.forward(b, &mixed)?;
        b.product(&self.out, &b.multiply_each(&mixed, &b.sigmoid(&gate)?)?)
    }
}

/// What each head of a layer keeps: e^−slope, with ALiBi's slopes, which become flatter from layer to layer.
#[expect(clippy::cast_precision_loss, reason = "numbers of heads and layers")]
fn decays(heads: usize, layer: usize, layers: usize) -> Vec<f32> {
    let base = libm::exp2f(-libm::exp2f(-(libm::log2f(heads as f32) - 3.0)));
    let flatter = 1.0 - layer as f32 / layers.saturating_sub(1).max(1) as f32 + 1e-5;
    let slope = |head: usize| libm::powf(base, head as f32 + 1.0) * flatter;
    (0..heads).map(|head| libm::expf(-slope(head))).collect()
}
