//! The attention half of a layer.

use super::cache::KvCache;
use super::latent::Latent;
use super::linear::Linear;
use super::norm::Norm;
use super::ops;
use super::rope::Rotation;
use super::spec::{QkNorm, Spec, Temperature};
use super::weights::{Weights, WeightsError};
use crate::kernels::{Compute, Heads};
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// Attention with its projections.
pub struct Attention {
    index: usize,
    inputs: Inputs,
    sinks: Option<Arc<Vec<f32>>>,
    out: Linear,
}

/// What makes queries, keys and values.
enum Inputs {
    Direct(Direct),
    Latent(Latent),
}

/// A projection each, and the norms of queries and keys.
struct Direct {
    q: Linear,
    k: Linear,
    v: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
}

impl Attention {
    /// The tensors `blk.{index}.attn_*`.
    ///
    /// # Errors
    /// When one is missing or misshapen.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let (inputs, value_dim) = match s.latent {
            Some(latent) => (Inputs::Latent(Latent::load(s, latent, w, index)?), latent.value_dim),
            None => (Inputs::Direct(Direct::load(s, w, index)?), s.value_dim),
        };
        let sinks = format!("blk.{index}.attn_sinks.weight");
        let sinks = w.has(&sinks).then(|| w.floats(&sinks, s.n_heads)).transpose()?;
        let out = format!("blk.{index}.attn_output");
        Ok(Self {
            index,
            inputs,
            sinks: sinks.map(Arc::new),
            out: w.linear(&out, s.d_model, s.n_heads * value_dim)?,
        })
    }

    /// Attention of `x`, (n, d_model), over itself and the cache, to which its keys and values are added.
    ///
    /// # Errors
    /// When the cache has no room.
    pub fn forward(
        &self,
        s: &Spec,
        compute: &Arc<Compute>,
        x: &Tensor,
        cache: &KvCache,
        rotation: Option<&Rotation>,
    ) -> Result<Tensor> {
        let layer = s.layers[self.index];
        let (q, k, v) = match &self.inputs {
            Inputs::Direct(direct) => direct.project(s, compute, x, rotation)?,
            Inputs::Latent(latent) => latent.project(s, compute, x, rotation)?,
        };
        let q = match layer.temperature {
            Some(temperature) => warmed(&q, temperature, cache.len())?,
            None => q,
        };
        let (k, v) = cache.append(self.index, &k, &v)?;
        let shape = Heads {
            heads: s.n_heads,
            kv_heads: s.n_kv_heads,
            key_dim: s.key_dim,
            value_dim: s.value_dim,
            capacity: cache.capacity(),
            past: cache.len(),
            window: layer.window,
            scale: s.attention_scale,
            softcap: s.attention_softcap,
        };
        let mixed = ops::attention(compute, shape, self.sinks.as_ref(), &q, k, v)?;
        let mixed = match &self.inputs {
            Inputs::Direct(_) => mixed,
            Inputs::Latent(latent) => latent.values(s, mixed)?,
        };
        self.out.forward(&mixed) // (n, d_model)
    }
}

impl Direct {
    /// Queries, keys and values may lie in one tensor.
    fn load(s: &Spec, w: &Weights<'_>, index: usize) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (d, q_rows, k_rows) = (s.d_model, s.n_heads * s.key_dim, s.n_kv_heads * s.key_dim);
        let v_rows = s.n_kv_heads * s.value_dim;
        let fused = name("attn_qkv");
        let [q, k, v] = if w.has(&format!("{fused}.weight")) {
            w.linear_parts(&fused, [q_rows, k_rows, v_rows], d)?
        } else {
            [
                w.linear(&name("attn_q"), q_rows, d)?,
                w.linear(&name("attn_k"), k_rows, d)?,
                w.linear(&name("attn_v"), v_rows, d)?,
            ]
        };
        let q_norm = head_norm(s, w, &name("attn_q_norm"), (index, s.n_heads))?;
        let k_norm = head_norm(s, w, &name("attn_k_norm"), (index, s.n_kv_heads))?;
        Ok(Self { q, k, v, q_norm, k_norm })
    }

    /// Queries, keys and values of `x`, (n, heads, dim) each.
    fn project(
        &self,
        s: &Spec,
        compute: &Arc<Compute>,
        x: &Tensor,
        rotation: Option<&Rotation>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let n = x.dim(0)?;
        let [q, k, v] = Linear::forward_all([&self.q, &self.k, &self.v], x)?;
        let q = q.reshape((n, s.n_heads, s.key_dim))?;
        let k = k.reshape((n, s.n_kv_heads, s.key_dim))?;
        let v = v.reshape((n, s.n_kv_heads, s.value_dim))?;
        let turned = |x: Tensor, norm: Option<&Norm>| {
            let x = if s.qk_norm == QkNorm::BeforeRope { normed(compute, norm, x)? } else { x };
            let x = match rotation {
                Some(rotation) => ops::rotate(compute, &x, rotation, s.rope)?,
                None => x,
            };
            if s.qk_norm == QkNorm::BeforeRope { Ok(x) } else { normed(compute, norm, x) }
        };
        Ok((turned(q, self.q_norm.as_ref())?, turned(k, self.k_norm.as_ref())?, v))
    }
}

/// Norms `x`, (n, heads, dim): a norm as long as a head works on each head, a longer one on all of them
/// together.
fn normed(compute: &Arc<Compute>, norm: Option<&Norm>, x: Tensor) -> Result<Tensor> {
    match norm {
        None => Ok(x),
        Some(norm) if norm.len() == x.dim(2)? => norm.forward(compute, &x),
        Some(norm) => norm.forward(compute, &x.flatten_from(1)?)?.reshape(x.shape()),
    }
}

/// Queries `q`, (n, heads, key_dim), of the positions from `past` on times their temperatures.
#[expect(clippy::cast_precision_loss, reason = "positions are below 2^24 in practice")]
fn warmed(q: &Tensor, t: Temperature, past: usize) -> Result<Tensor> {
    let n = q.dim(0)?;
    let grown = |position: usize| {
        let steps = (position + t.offset) / t.length;
        1.0 + t.scale * (1.0 + steps as f32).ln()
    };
    let factors: Vec<f32> = (past..past + n).map(grown).collect();
    q.broadcast_mul(&Tensor::from_vec(factors, (n, 1, 1), q.device())?)
}

/// A norm of each of the heads (`key_dim` elements), the same or different ones, or of all of them
/// together.
fn head_norm(
    s: &Spec,
    w: &Weights<'_>,
    name: &str,
    (index, heads): (usize, usize),
) -> std::result::Result<Option<Norm>, WeightsError> {
    if s.qk_norm == QkNorm::Bare {
        return s.layers[index].rope.map(|_| Norm::bare(s, w, s.key_dim)).transpose();
    }
    let weight = format!("{name}.weight");
    if w.rank(&weight) == 2 {
        return Norm::load_by_head(s, w, name, heads, s.key_dim).map(Some);
    }
    let together = w.elements(&weight) == Some(heads * s.key_dim);
    Norm::load_if(s, w, name, if together { heads * s.key_dim } else { s.key_dim })
}
