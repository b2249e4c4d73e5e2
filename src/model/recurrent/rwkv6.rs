//! The time mix of RWKV 6, and of Qwen 2 converted to it.

use super::super::norm::Norm;
use super::super::spec::{RwkvSpec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::shift::{Shift, moved};
use super::{Pasts, StateMixer};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Recurrence, Rwkv6, Shape};

/// What is made of rows moved towards the position before, in the order of the file: decays, keys, values, receptances and
/// the gate.
const PARTS: usize = 5;

/// A time mix with its projections.
pub struct TimeMix {
    rwkv: Rwkv6,
    kv_heads: usize,
    shift: Shift,
    /// Share of the position before in what shares are made of.
    share: Tensor,
    /// To a short vector for each part, and from these to the parts' shares.
    narrow: Linear,
    wide: Vec<Linear>,
    /// Added to the shares.
    shares: Vec<Tensor>,
    decay: Tensor,
    decay_narrow: Linear,
    decay_wide: Linear,
    receptance: Linear,
    key: Linear,
    value: Linear,
    gate: Linear,
    norm: Option<Norm>,
    out: Linear,
}

impl TimeMix {
    /// The tensors `blk.{index}.time_mix_*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        spec: RwkvSpec,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.time_mix_{part}");
        let rank = |part: &str, out: usize| {
            w.elements(&name(&format!("{part}.weight"))).unwrap_or(0) / out.max(1)
        };
        let (d, RwkvSpec { heads, kv_heads, dim }) = (s.d_model, spec);
        let kv_rows = kv_heads * dim;
        let shares = if w.has(&name("lerp_fused.weight")) {
            let all = w.numbers(&name("lerp_fused.weight"), PARTS, d)?;
            let part = |part: &[f32]| w.backend().tensor(part.to_vec(), &[d]);
            all.chunks_exact(d).map(part).collect::<Result<_>>()?
        } else {
            let part = |part| w.vector(&name(&format!("lerp_{part}.weight")), d);
            ["w", "k", "v", "r", "g"]
                .into_iter()
                .map(part)
                .collect::<std::result::Result<_, _>>()?
        };
        let extra = rank("w2", PARTS * d);
        let first = name("first.weight");
        let bonus = w.has(&first).then(|| w.numbers(&first, heads, dim)).transpose()?;
        let of_decay = rank("decay_w2", d);
        Ok(Self {
            rwkv: Rwkv6 { shape: Shape { heads, key_dim: dim, value_dim: dim }, bonus },
            kv_heads,
            shift: Shift::new(d),
            share: w.vector(&name("lerp_x.weight"), d)?,
            narrow: w.linear(&name("w1"), PARTS * extra, d)?,
            wide: w.linear_stack(&name("w2"), PARTS, d, extra)?,
            shares,
            decay: w.vector(&name("decay.weight"), d)?,
            decay_narrow: w.linear(&name("decay_w1"), of_decay, d)?,
            decay_wide: w.linear(&name("decay_w2"), d, of_decay)?,
            receptance: w.linear(&name("receptance"), d, d)?,
            key: w.linear(&name("key"), kv_rows, d)?,
            value: w.linear(&name("value"), kv_rows, d)?,
            gate: w.linear(&name("gate"), d, d)?,
            norm: Norm::load_grouped(w, &name("ln"), heads, dim)?,
            out: w.linear(&name("output"), d, d)?,
        })
    }

    /// Keys or values, (n, kv_heads · dim), for each head.
    fn spread(&self, x: Tensor) -> Result<Tensor> {
        let Shape { heads, key_dim, .. } = self.rwkv.shape;
        if self.kv_heads == heads {
            return Ok(x);
        }
        let n = x.rows();
        let x = x.reshape(&[n * self.kv_heads, 1, key_dim])?.repeat_heads(heads / self.kv_heads)?;
        x.reshape(&[n, heads * key_dim])
    }
}

impl StateMixer for TimeMix {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let (n, Shape { heads, key_dim, .. }) = (x.rows(), self.rwkv.shape);
        let difference = self.shift.difference(b, x, pasts)?;
        let short = b.product(&self.narrow, &moved(b, x, &difference, &self.share)?)?;
        let short = b.tanh(&short)?; // (n, 5 · extra)
        let extra = short.shape()[1] / PARTS;
        let part = |index: usize| {
            let own = short.narrow(1, index * extra, extra)?;
            let share = b.add_each(&b.product(&self.wide[index], &own)?, &self.shares[index])?;
            moved(b, x, &difference, &share)
        };
        let decays =
            b.product(&self.decay_wide, &b.tanh(&b.product(&self.decay_narrow, &part(0)?)?)?)?;
        let decays = b.add_each(&decays, &self.decay)?;
        let keys = self.spread(b.product(&self.key, &part(1)?)?)?;
        let values = self.spread(b.product(&self.value, &part(2)?)?)?;
        let receptances = b.product(&self.receptance, &part(3)?)?;
        let gate = b.product(&self.gate, &part(4)?)?;
        let rows = [&receptances, &keys, &values, &decays];
        let first = self.shift.state_len();
        let mixed = pasts.recur(b, first, Recurrence::Rwkv6(&self.rwkv), &rows)?;
        let (mixed, gate) = match &self.norm {
            Some(norm) => {
                let mixed = norm.forward(b, &mixed.reshape(&[n, heads, key_dim])?)?;
                (mixed.reshape(&[n, heads * key_dim])?, b.silu(&gate)?)
            }
            None => (mixed, b.sigmoid(&gate)?),
        };
        b.product(&self.out, &b.multiply_each(&mixed, &gate)?)
    }
}
