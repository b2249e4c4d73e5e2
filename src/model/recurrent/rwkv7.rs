//! The time mix of RWKV 7, and of attention models converted to it.

use super::super::norm::Norm;
use super::super::spec::{RwkvSpec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::shift::{Shift, moved};
use super::{Pasts, StateMixer};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Recurrence, Shape};

/// A time mix with its projections.
pub struct TimeMix {
    shape: Shape,
    shift: Shift,
    /// Shares of the position before in what receptances, decays, keys, values, rates and the gate are made of.
    shares: Vec<Tensor>,
    receptance: Linear,
    key: Linear,
    value: Linear,
    decay: Narrow,
    rate: Narrow,
    /// How much of the first layer's values a later layer takes.
    first: Option<Narrow>,
    gate: Option<Narrow>,
    /// Of keys: which part of them is taken back, and how rates weaken them.
    removed: Tensor,
    weakened: Tensor,
    /// How much of its own value a position sees, (heads, dim).
    bonus: Vec<f32>,
    norm: Option<Norm>,
    out: Linear,
}

/// Two layers with a short vector between them.
struct Narrow {
    down: Linear,
    up: Linear,
    base: Option<Tensor>,
}

impl Narrow {
    fn load(
        w: &Weights<'_>,
        name: &dyn Fn(&str) -> String,
        part: &str,
        d: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let of = |number: usize| name(&format!("{part}{number}"));
        let rank = w.elements(&format!("{}.weight", of(1))).unwrap_or(0) / d;
        let base = w.vector_if(&format!("{}.weight", of(0)), d)?;
        Ok(Self { down: w.linear(&of(1), rank, d)?, up: w.linear(&of(2), d, rank)?, base })
    }

    /// `between` is applied to the short vector.
    fn forward(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        between: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let out = b.product(&self.up, &between(b.product(&self.down, x)?)?)?;
        self.base.as_ref().map_or(Ok(out.clone()), |base| b.add_each(&out, base))
    }
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
        let (d, RwkvSpec { heads, dim, .. }) = (s.d_model, spec);
        let narrow = |part: &str| Narrow::load(w, &name, part, d);
        let has_gate = w.has(&name("g1.weight"));
        let lerp = name("lerp_fused.weight");
        let parts = w.elements(&lerp).unwrap_or(0) / d;
        let parts = parts.clamp(5 + usize::from(has_gate), 6);
        let all = w.numbers(&lerp, parts, d)?;
        let part = |part: &[f32]| w.backend().tensor(part.to_vec(), &[d]);
        let first = if index > 0 {
            Some(narrow("v")?)
        } else {
            // Files may hold weights that mix in the first layer's values, for the first layer too.
            w.pass(&name("v0."));
            w.pass(&name("v1."));
            w.pass(&name("v2."));
            None
        };
        Ok(Self {
            shape: Shape { heads, key_dim: dim, value_dim: dim },
            shift: Shift::new(d),
            shares: all.chunks_exact(d).map(part).collect::<Result<_>>()?,
            receptance: w.linear(&name("receptance"), d, d)?,
            key: w.linear(&name("key"), d, d)?,
            value: w.linear(&name("value"), d, d)?,
            decay: narrow("w")?,
            rate: narrow("a")?,
            first,
            gate: if has_gate { Some(narrow("g")?) } else { None },
            removed: w.vector(&name("k_k.weight"), d)?,
            weakened: w.vector(&name("k_a.weight"), d)?,
            bonus: w.floats(&name("r_k.weight"), d)?,
            norm: Norm::load_grouped(w, &name("ln"), heads, dim)?,
            out: w.linear(&name("output"), d, d)?,
        })
    }

    /// The values, mixed with those of the first layer; `x` is what they are made of.
    fn values(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let values = b.product(&self.value, x)?;
        let (Some(narrow), Some(first)) = (&self.first, &pasts.carried.values) else {
            pasts.carried.values = Some(values.clone());
            return Ok(values);
        };
        let share = b.sigmoid(&narrow.forward(b, x, Ok)?)?;
        let lacking = b.add(first, &b.scale(&values, -1.0)?)?;
        b.add(&values, &b.multiply_each(&lacking, &share)?)
    }

    /// What each head sees of its own value: Σ receptance · key · bonus, (n, heads, 1).
    fn seen(&self, b: &dyn Backend, receptances: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let Shape { heads, key_dim: dim, .. } = self.shape;
        let mut both = Vec::new();
        b.read(&b.multiply_each(receptances, keys)?, &mut both)?;
        let n = receptances.rows();
        let bonus = self.bonus.chunks_exact(dim).cycle();
        let sum = |(both, bonus): (&[f32], &[f32])| {
            both.iter().zip(bonus).fold(0.0_f32, |sum, (x, u)| x.mul_add(*u, sum))
        };
        b.tensor(both.chunks_exact(dim).zip(bonus).map(sum).collect(), &[n, heads, 1])
    }
}

impl StateMixer for TimeMix {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let (n, Shape { heads, key_dim: dim, .. }) = (x.rows(), self.shape);
        let difference = self.shift.difference(b, x, pasts)?;
        let part = |index: usize| moved(b, x, &difference, &self.shares[index]);
        let receptances = b.product(&self.receptance, &part(0)?)?;
        let decays = self.decay.forward(b, &part(1)?, |short| b.tanh(&short))?;
        let keys = b.product(&self.key, &part(2)?)?;
        let values = self.values(b, &part(3)?, pasts)?;
        let rates = b.sigmoid(&self.rate.forward(b, &part(4)?, Ok)?)?;
        let removed = b.multiply_each(&keys, &self.removed)?;
        // k + k · weakened · (rate − 1)
        let less = b.add_each(&rates, &b.tensor(vec![-1.0], &[1])?)?;
        let weaker = b.multiply_each(&b.multiply_each(&keys, &self.weakened)?, &less)?;
        let keys = b.add(&keys, &weaker)?;
        let rows = [&receptances, &decays, &keys, &values, &removed, &rates];
        let first = self.shift.state_len();
        let mixed = pasts.recur(b, first, Recurrence::Rwkv7(self.shape), &rows)?;
        let by_head = |x: &Tensor| x.reshape(&[n, heads, dim]);
        let mixed = match &self.norm {
            Some(norm) => norm.forward(b, &by_head(&mixed)?)?,
            None => by_head(&mixed)?,
        };
        let own = b.multiply_each(&by_head(&values)?, &self.seen(b, &receptances, &keys)?)?;
        let mixed = b.add(&mixed, &own)?.reshape(&[n, heads * dim])?;
        let mixed = match &self.gate {
            Some(gate) => {
                let gate = gate.forward(b, &part(5)?, |short| b.sigmoid(&short))?;
                b.multiply_each(&mixed, &gate)?
            }
            None => mixed,
        };
        b.product(&self.out, &mixed)
    }
}
