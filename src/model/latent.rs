//! Multi-head latent attention (DeepSeek): the keys and values of all heads come from one short vector.
//!
//! Files come in two forms. With `attn_k_b` and `attn_v_b`, queries are projected into the latent space and attention
//! outputs out of it, so the cache holds one latent vector per position. With `attn_kv_b`, as in older files, the
//! latent vector is expanded to the keys and values of every head, and these are cached.

use super::linear::Linear;
use super::norm::Norm;
use super::ops;
use super::rope::Rotation;
use super::spec::{LatentSpec, Spec};
use super::weights::{Weights, WeightsError};
use crate::kernels::Compute;
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// Projects to queries, keys and values through a latent vector.
pub struct Latent {
    spec: LatentSpec,
    /// Down-projection to the queries' own latent vector, if they have one.
    q_down: Option<(Linear, Norm)>,
    q: Linear,
    /// d_model → latent vector and the rotated key part, which all heads share.
    kv: Linear,
    norm: Norm,
    form: Form,
}

enum Form {
    /// Per head, a projection into the latent space and one out of it.
    Absorbed { k: Vec<Linear>, v: Vec<Linear> },
    /// Latent vector → keys (without their rotated part) and values of all heads.
    Expanded(Linear),
}

impl Latent {
    /// The tensors `blk.{index}.attn_q*` and `attn_k*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        spec: LatentSpec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (d, heads, rank) = (s.d_model, s.n_heads, spec.rank);
        let fixed = spec.key_dim - spec.turned;
        let q_rows = heads * spec.key_dim;
        let (q_down, q) = match w.elements(&name("attn_q_a.weight")) {
            None => (None, w.linear(&name("attn_q"), q_rows, d)?),
            Some(elements) => {
                let q_rank = elements / d;
                let down = w.linear(&name("attn_q_a"), q_rank, d)?;
                let norm = Norm::load(s, w, &name("attn_q_a_norm"), q_rank)?;
                (Some((down, norm)), w.linear(&name("attn_q_b"), q_rows, q_rank)?)
            }
        };
        let form = if w.has(&name("attn_kv_b.weight")) {
            Form::Expanded(w.linear(&name("attn_kv_b"), heads * (fixed + spec.value_dim), rank)?)
        } else {
            Form::Absorbed {
                k: w.linear_stack(&name("attn_k_b"), heads, rank, fixed)?,
                v: w.linear_stack(&name("attn_v_b"), heads, spec.value_dim, rank)?,
            }
        };
        Ok(Self {
            spec,
            q_down,
            q,
            kv: w.linear(&name("attn_kv_a_mqa"), rank + spec.turned, d)?,
            norm: Norm::load(s, w, &name("attn_kv_a_norm"), rank)?,
            form,
        })
    }

    /// Queries (n, n_heads, key_dim), keys and values (n, KV heads, key_dim or value_dim) of `x`, (n, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn project(
        &self,
        s: &Spec,
        compute: &Arc<Compute>,
        x: &Tensor,
        rotation: Option<&Rotation>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (n, heads, rank) = (x.dim(0)?, s.n_heads, self.spec.rank);
        let (fixed, turned) = (self.spec.key_dim - self.spec.turned, self.spec.turned);
        let turn = |x: Tensor| match rotation {
            Some(rotation) => ops::rotate(compute, &x.contiguous()?, rotation, s.rope.pairs),
            None => Ok(x),
        };
        // kv is (n, rank + turned).
        let (first, norm) = match &self.q_down {
            Some((down, norm)) => (down, Some(norm)),
            None => (&self.q, None),
        };
        let [q, kv] = Linear::forward_all([first, &self.kv], x)?;
        let q = match norm {
            Some(norm) => self.q.forward(&norm.forward(compute, &q)?)?,
            None => q,
        };
        let q = q.reshape((n, heads, self.spec.key_dim))?;
        let q_fixed = q.narrow(2, 0, fixed)?;
        let q_turned = turn(q.narrow(2, fixed, turned)?)?;
        let k_turned = turn(kv.narrow(1, rank, turned)?.unsqueeze(1)?)?;
        let latent = self.norm.forward(compute, &kv.narrow(1, 0, rank)?.contiguous()?)?;
        match &self.form {
            Form::Absorbed { k, .. } => {
                let q = join(&each_head(k, &q_fixed)?, &q_turned)?;
                let latent = latent.unsqueeze(1)?;
                Ok((q, join(&latent, &k_turned)?, latent))
            }
            Form::Expanded(expand) => {
                let value_dim = self.spec.value_dim;
                let all = expand.forward(&latent)?.reshape((n, heads, fixed + value_dim))?;
                let k_turned = k_turned.expand((n, heads, turned))?;
                Ok((
                    join(&q_fixed, &q_turned)?,
                    join(&all.narrow(2, 0, fixed)?, &k_turned)?,
                    all.narrow(2, fixed, value_dim)?.contiguous()?,
                ))
            }
        }
    }

    /// Maps attention's output, (n, n_heads · cached value_dim), to the heads' values, (n, n_heads · value_dim).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn values(&self, s: &Spec, mixed: Tensor) -> Result<Tensor> {
        match &self.form {
            Form::Expanded(_) => Ok(mixed),
            Form::Absorbed { v, .. } => {
                let mixed = mixed.reshape((mixed.dim(0)?, s.n_heads, self.spec.rank))?;
                each_head(v, &mixed)?.flatten_from(1)
            }
        }
    }
}

/// Passes each head of `x`, (n, heads, in), through its own layer: (n, heads, out).
fn each_head(layers: &[Linear], x: &Tensor) -> Result<Tensor> {
    let heads = layers
        .iter()
        .enumerate()
        .map(|(head, layer)| layer.forward(&x.narrow(1, head, 1)?.squeeze(1)?.contiguous()?))
        .collect::<Result<Vec<_>>>()?;
    Tensor::stack(&heads, 1)
}

/// Concatenates two parts of each head.
fn join(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Tensor::cat(&[a, b], 2)?.contiguous()
}
