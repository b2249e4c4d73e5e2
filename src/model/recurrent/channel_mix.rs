//! The channel mix of RWKV: a feed-forward layer that sees the position before as well.

use super::super::spec::Spec;
use super::super::weights::{Weights, WeightsError};
use super::shift::{Shift, moved};
use super::{Pasts, StateMixer};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::Act;

/// down(max(up(x), 0)²), times a gate in RWKV 6.
pub struct ChannelMix {
    shift: Shift,
    share: Tensor,
    up: Linear,
    down: Linear,
    /// Its share of the position before, and the gate.
    gate: Option<(Tensor, Linear)>,
}

impl ChannelMix {
    /// The tensors `blk.{index}.channel_mix_*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.channel_mix_{part}");
        let (d, ffn) = (s.d_model, s.layers[index].d_ffn);
        let gate = if w.has(&name("receptance.weight")) {
            Some((w.vector(&name("lerp_r.weight"), d)?, w.linear(&name("receptance"), d, d)?))
        } else {
            None
        };
        Ok(Self {
            shift: Shift::new(d),
            share: w.vector(&name("lerp_k.weight"), d)?,
            up: w.linear(&name("key"), ffn, d)?,
            down: w.linear(&name("value"), d, ffn)?,
            gate,
        })
    }
}

impl StateMixer for ChannelMix {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let difference = self.shift.difference(b, x, pasts)?;
        let hidden = b.product(&self.up, &moved(b, x, &difference, &self.share)?)?;
        let out = b.product(&self.down, &b.act(Act::ReluSquared, &hidden)?)?;
        let Some((share, gate)) = &self.gate else { return Ok(out) };
        let gate = b.product(gate, &moved(b, x, &difference, share)?)?;
        b.multiply_each(&out, &b.sigmoid(&gate)?)
    }
}
