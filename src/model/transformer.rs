//! The one decoder-only transformer that all families share.
//!
//! Enters: token ids and the KV cache of their past. Leaves: logits. Knows token ids; knows nothing of
//! text. Written once on candle tensors; `ops` chooses our kernels or candle's by device.

use super::cache::{CacheShape, KvCache};
use super::ops::{self, Linear, Rotation};
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::kernels::{Compute, Heads, Matrix, dequantize};
use candle_core::{D, DType, Device, Result, Tensor};
use std::sync::Arc;

/// A loaded model. Shared by all who compute with it; nothing in it changes.
pub struct Model {
    spec: Spec,
    compute: Arc<Compute>,
    device: Device,
    embedding: Matrix,
    rope_factors: Option<Vec<f32>>,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Linear,
}

struct Layer {
    attention_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    out: Linear,
    post_attention_norm: Option<Tensor>,
    ffn_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
    post_ffn_norm: Option<Tensor>,
}

/// Of which positions the logits are wanted: the head is a large part of a small model's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: the tokens only fill the cache.
    None,
    /// Those after the last token.
    Last,
    /// Those after every token.
    All,
}

impl Model {
    /// Builds the model of `spec` from weights, all of which it must use.
    ///
    /// # Errors
    /// When a tensor is missing, misshapen, of a type without kernel, or left over.
    pub fn load(
        spec: Spec,
        weights: Weights<'_>,
        compute: &Arc<Compute>,
        device: &Device,
    ) -> std::result::Result<Self, WeightsError> {
        let d = spec.d_model;
        let embedding = weights.matrix("token_embd.weight", spec.n_vocab, d)?;
        let head = if weights.has("output.weight") {
            weights.linear("output", spec.n_vocab, d)?
        } else {
            Linear::new(compute, embedding.clone(), None, device)?
        };
        let rope_factors = if weights.has("rope_freqs.weight") {
            Some(weights.floats("rope_freqs.weight", spec.rope.dims / 2)?)
        } else {
            None
        };
        let layers = (0..spec.layers.len())
            .map(|index| Layer::load(&spec, &weights, index))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let norm = weights.vector("output_norm.weight", d)?;
        weights.finish(&spec.architecture)?;
        Ok(Self {
            compute: Arc::clone(compute),
            device: device.clone(),
            embedding,
            rope_factors,
            layers,
            norm,
            head,
            spec,
        })
    }

    /// What the model is.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// An empty cache for at most `max` positions.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn cache(&self, max: usize, key_type: DType, value_type: DType) -> Result<KvCache> {
        let shape = CacheShape {
            layers: self.layers.len(),
            kv_heads: self.spec.n_kv_heads,
            key_dim: self.spec.key_dim,
            value_dim: self.spec.value_dim,
            key_type,
            value_type,
            max,
        };
        KvCache::new(shape, &self.device)
    }

    /// Computes `tokens` after what is in `cache`, adds them to it and returns the wanted logits,
    /// (positions, n_vocab) row after row.
    ///
    /// # Errors
    /// When a token is outside the vocabulary or the cache has no room; the cache is then unchanged.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache, wanted: Wanted) -> Result<Vec<f32>> {
        self.forward_while(tokens, cache, wanted, &|| true).map(Option::unwrap_or_default)
    }

    /// As [`Model::forward`], but asks `go_on` before each layer and stops with `None` and an unchanged
    /// cache when it says no: a prompt takes seconds, and whoever asked may have gone.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_while(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        wanted: Wanted,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<f32>>> {
        let n = tokens.len();
        if n == 0 {
            return Ok(Some(Vec::new()));
        }
        cache.reserve(n)?;
        let mut x = self.embed(tokens)?; // (n, d_model)
        let rotations = self.rotations(cache.len(), n)?;
        for (index, layer) in self.layers.iter().enumerate() {
            if !go_on() {
                return Ok(None);
            }
            x = self.attention(layer, index, &x, cache, &rotations)?;
            x = self.feed_forward(layer, &x)?;
        }
        cache.advance(n);
        let x = match wanted {
            Wanted::None => return Ok(Some(Vec::new())),
            Wanted::Last => x.narrow(0, n - 1, 1)?,
            Wanted::All => x,
        };
        let x = ops::rms_norm(&self.compute, &x, &self.norm, self.spec.norm_eps)?;
        let logits = self.head.forward(&x)?; // (positions, n_vocab)
        let mut logits = logits.flatten_all()?.to_vec1::<f32>()?;
        if let Some(cap) = self.spec.logit_softcap {
            logits.iter_mut().for_each(|l| *l = cap * (*l / cap).tanh());
        }
        Ok(Some(logits))
    }

    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let d = self.spec.d_model;
        let mut rows = vec![0.0; tokens.len() * d];
        for (row, &token) in rows.chunks_exact_mut(d).zip(tokens) {
            let index = token as usize;
            if index >= self.embedding.rows {
                candle_core::bail!("token {token} of a vocabulary of {}", self.embedding.rows)
            }
            dequantize(self.embedding.dtype, self.embedding.row(index), row);
            row.iter_mut().for_each(|x| *x *= self.spec.embedding_scale);
        }
        Tensor::from_vec(rows, (tokens.len(), d), &self.device)
    }

    /// The angles of each layer's rotary embedding; layers with the same numbers share them.
    fn rotations(&self, start: usize, n: usize) -> Result<Vec<Arc<Rotation>>> {
        let mut made: Vec<((f32, f32), Arc<Rotation>)> = Vec::new();
        let mut all = Vec::with_capacity(self.layers.len());
        for layer in &self.spec.layers {
            let numbers = (layer.rope_base, layer.rope_scale);
            if let Some((_, rotation)) = made.iter().find(|(key, _)| *key == numbers) {
                all.push(Arc::clone(rotation));
                continue;
            }
            let factors = self.rope_factors.as_deref();
            let dims = self.spec.rope.dims;
            let rotation = Arc::new(Rotation::new(start, n, dims, numbers, factors, &self.device)?);
            made.push((numbers, Arc::clone(&rotation)));
            all.push(rotation);
        }
        Ok(all)
    }

    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        x: &Tensor,
        cache: &KvCache,
        rotations: &[Arc<Rotation>],
    ) -> Result<Tensor> {
        let s = &self.spec;
        let n = x.dim(0)?;
        let normed = self.norm(x, &layer.attention_norm)?;
        let q = layer.q.forward(&normed)?.reshape((n, s.n_heads, s.key_dim))?;
        let k = layer.k.forward(&normed)?.reshape((n, s.n_kv_heads, s.key_dim))?;
        let v = layer.v.forward(&normed)?.reshape((n, s.n_kv_heads, s.value_dim))?;
        let q = self.norm_if(q, layer.q_norm.as_ref())?;
        let k = self.norm_if(k, layer.k_norm.as_ref())?;
        let q = ops::rotate(&q, &rotations[index], s.rope)?;
        let k = ops::rotate(&k, &rotations[index], s.rope)?;
        let (k, v) = cache.append(index, &k, &v)?;
        let heads = Heads {
            heads: s.n_heads,
            kv_heads: s.n_kv_heads,
            key_dim: s.key_dim,
            value_dim: s.value_dim,
            capacity: cache.capacity(),
            past: cache.len(),
            window: s.layers[index].window,
            scale: s.attention_scale,
            softcap: s.attention_softcap,
        };
        let mixed = ops::attention(&self.compute, heads, &q, k, v)?; // (n, n_heads · value_dim)
        let out = layer.out.forward(&mixed)?;
        x.add(&self.norm_if(out, layer.post_attention_norm.as_ref())?)
    }

    fn feed_forward(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm(x, &layer.ffn_norm)?;
        let gate = layer.gate.forward(&normed)?; // (n, d_ffn)
        let up = layer.up.forward(&normed)?;
        let hidden = ops::gate_up(&self.compute, self.spec.act, &gate, &up)?;
        let out = layer.down.forward(&hidden)?; // (n, d_model)
        x.add(&self.norm_if(out, layer.post_ffn_norm.as_ref())?)
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        debug_assert_eq!(x.dim(D::Minus1)?, weight.elem_count());
        ops::rms_norm(&self.compute, x, weight, self.spec.norm_eps)
    }

    fn norm_if(&self, x: Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
        match weight {
            Some(weight) => self.norm(&x, weight),
            None => Ok(x),
        }
    }
}

impl Layer {
    fn load(s: &Spec, w: &Weights<'_>, index: usize) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (q_width, k_width) = (s.n_heads * s.key_dim, s.n_kv_heads * s.key_dim);
        let v_width = s.n_kv_heads * s.value_dim;
        Ok(Self {
            attention_norm: w.vector(&name("attn_norm.weight"), s.d_model)?,
            q: w.linear(&name("attn_q"), q_width, s.d_model)?,
            k: w.linear(&name("attn_k"), k_width, s.d_model)?,
            v: w.linear(&name("attn_v"), v_width, s.d_model)?,
            q_norm: w.vector_if(&name("attn_q_norm.weight"), s.key_dim)?,
            k_norm: w.vector_if(&name("attn_k_norm.weight"), s.key_dim)?,
            out: w.linear(&name("attn_output"), s.d_model, s.n_heads * s.value_dim)?,
            post_attention_norm: w.vector_if(&name("post_attention_norm.weight"), s.d_model)?,
            ffn_norm: w.vector(&name("ffn_norm.weight"), s.d_model)?,
            gate: w.linear(&name("ffn_gate"), s.d_ffn, s.d_model)?,
            up: w.linear(&name("ffn_up"), s.d_ffn, s.d_model)?,
            down: w.linear(&name("ffn_down"), s.d_model, s.d_ffn)?,
            post_ffn_norm: w.vector_if(&name("post_ffw_norm.weight"), s.d_model)?,
        })
    }
}
