//! Multi-head latent attention (DeepSeek): the keys and values of all heads come from one short vector.
//!
//! Files come in two forms. With `attn_k_b` and `attn_v_b`, queries are projected into the latent space and attention
//! outputs out of it, so the cache holds one latent vector per position. With `attn_kv_b`, as in older files, the
//! latent vector is expanded to the keys and values of every head, and these are cached.

use super::norm::Norm;
use super::rope::Rotation;
use super::spec::{LatentSpec, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Linear, Result, Tensor};

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
        b: &dyn Backend,
        x: &Tensor,
        rotation: Option<&Rotation>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (n, heads, rank) = (x.rows(), s.n_heads, self.spec.rank);
        let (fixed, turned) = (self.spec.key_dim - self.spec.turned, self.spec.turned);
        let turn = |x: Tensor| match rotation {
            Some(rotation) => rotation.apply(b, &x),
            None => Ok(x),
        };
        // kv is (n, rank + turned).
        let (first, norm) = match &self.q_down {
            Some((down, norm)) => (down, Some(norm)),
            None => (&self.q, None),
        };
        let [q, kv] = b.products_of([first, &self.kv], x)?;
        let q = match norm {
            Some(norm) => b.product(&self.q, &norm.forward(b, &q)?)?,
            None => q,
        };
        let q = q.reshape(&[n, heads, self.spec.key_dim])?;
        let q_fixed = q.narrow(2, 0, fixed)?;
        let q_turned = turn(q.narrow(2, fixed, turned)?)?;
        let k_turned = turn(kv.narrow(1, rank, turned)?.reshape(&[n, 1, turned])?)?;
        let latent = self.norm.forward(b, &kv.narrow(1, 0, rank)?)?;
        match &self.form {
            Form::Absorbed { k, .. } => {
                let q = Tensor::concat(&[&each_head(b, k, &q_fixed)?, &q_turned], 2)?;
                let latent = latent.reshape(&[n, 1, rank])?;
                Ok((q, Tensor::concat(&[&latent, &k_turned], 2)?, latent))
            }
            Form::Expanded(expand) => {
                let value_dim = self.spec.value_dim;
                let all = b.product(expand, &latent)?.reshape(&[n, heads, fixed + value_dim])?;
                let k_turned = k_turned.repeat_heads(heads)?;
                Ok((
                    Tensor::concat(&[&q_fixed, &q_turned], 2)?,
                    Tensor::concat(&[&all.narrow(2, 0, fixed)?, &k_turned], 2)?,
                    all.narrow(2, fixed, value_dim)?,
                ))
            }
        }
    }

    /// Maps attention's output, (n, n_heads · cached value_dim), to the heads' values, (n, n_heads · value_dim).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn values(&self, s: &Spec, b: &dyn Backend, mixed: Tensor) -> Result<Tensor> {
        match &self.form {
            Form::Expanded(_) => Ok(mixed),
            Form::Absorbed { v, .. } => {
                let (n, heads) = (mixed.rows(), s.n_heads);
                let mixed = mixed.reshape(&[n, heads, self.spec.rank])?;
                each_head(b, v, &mixed)?.reshape(&[n, heads * self.spec.value_dim])
            }
        }
    }
}

/// Passes each head of `x`, (n, heads, in), through its own layer: (n, heads, out).
fn each_head(b: &dyn Backend, layers: &[Linear], x: &Tensor) -> Result<Tensor> {
    let &[n, _, width] = x.shape() else { unreachable!("heads of rows") };
    let heads = layers.iter().enumerate().map(|(head, layer)| {
        let own = x.narrow(1, head, 1)?.reshape(&[n, width])?;
        b.product(layer, &own)?.reshape(&[n, 1, layer.outputs()])
    });
    let heads = heads.collect::<Result<Vec<_>>>()?;
    Tensor::concat(&heads.iter().collect::<Vec<_>>(), 1)
}
