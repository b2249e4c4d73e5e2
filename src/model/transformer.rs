//! The one decoder-only transformer that all families share.
//!
//! Input: token ids and the KV cache of their past. Output: logits. Knows token ids; knows nothing of text. Written
//! once on candle tensors; `ops` chooses our kernels or candle's by device.

use super::attention::Attention;
use super::beside::Beside;
use super::cache::{CacheShape, KvCache};
use super::ffn::Ffn;
use super::linear::Linear;
use super::norm::Norm;
use super::ops;
use super::per_layer::{Mix, PerLayer};
use super::rope::Rotation;
use super::rope_factors::Factors;
use super::spec::{Frequencies, Spec};
use super::weights::{Weights, WeightsError};
use crate::kernels::{CacheType, Compute, Matrix, dequantize};
use candle_core::{DType, Device, Result, Tensor};
use std::sync::Arc;

/// A loaded model. Immutable, and shared by everything that computes with it.
pub struct Model {
    spec: Spec,
    compute: Arc<Compute>,
    device: Device,
    embedding: Matrix,
    /// Learned position embeddings, one row per position.
    positions: Option<Matrix>,
    per_layer: Option<PerLayer>,
    /// Embedding of the token type of a single text, added to every token.
    token_type: Option<Vec<f32>>,
    embedding_norm: Option<Norm>,
    rope_factors: Factors,
    layers: Vec<Layer>,
    /// Missing only if layers end in a norm.
    norm: Option<Norm>,
    head: Linear,
}

/// One layer. Families differ in which of the norms they have.
struct Layer {
    attention_norm: Option<Norm>,
    attention: Attention,
    post_attention_norm: Option<Norm>,
    /// After the residual add, not before it.
    attention_sum_norm: Option<Norm>,
    ffn_norm: Option<Norm>,
    ffn: Ffn,
    beside: Option<Beside>,
    post_ffn_norm: Option<Norm>,
    mix: Option<Mix>,
    scale: Option<f32>,
    sum_norm: Option<Norm>,
}

/// Which positions need logits: the head is a large part of a small model's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: the tokens only fill the cache.
    None,
    /// Only those after the last token.
    Last,
    /// Those after every token.
    All,
}

impl Model {
    /// Builds the model of `spec`, which must use all of the weights.
    ///
    /// # Errors
    /// When a tensor is missing, has the wrong shape or a type without a kernel, or is left over.
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
        let positions = "position_embd.weight";
        let positions = weights
            .has(positions)
            .then(|| weights.matrix(positions, spec.n_ctx_train, d))
            .transpose()?;
        let per_layer = PerLayer::load(&spec, &weights)?;
        let rope_factors = Factors::load(&spec, &weights)?;
        let layers = (0..spec.layers.len())
            .map(|index| Layer::load(&spec, &weights, index))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        for index in spec.layers.len()..spec.layers.len() + spec.n_guessing {
            weights.pass(&format!("blk.{index}."));
        }
        let types = "token_types.weight";
        let token_type = match weights.elements(types) {
            Some(elements) => {
                let types = weights.matrix(types, elements / d, d)?;
                let mut first = vec![0.0; d];
                dequantize(types.dtype, types.row(0), &mut first);
                Some(first)
            }
            None => None,
        };
        let embedding_norm = Norm::load_if(&spec, &weights, "token_embd_norm", d)?;
        let norm = match layers.last() {
            Some(last) if last.sum_norm.is_some() => None,
            _ => Some(Norm::load(&spec, &weights, "output_norm", d)?),
        };
        weights.finish(&spec.architecture)?;
        Ok(Self {
            compute: Arc::clone(compute),
            device: device.clone(),
            embedding,
            positions,
            per_layer,
            token_type,
            embedding_norm,
            rope_factors,
            layers,
            norm,
            head,
            spec,
        })
    }

    /// The model's spec.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// An empty cache for at most `max` positions.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn cache(&self, max: usize, key_type: CacheType, value_type: CacheType) -> Result<KvCache> {
        let shape = CacheShape::new(&self.spec, key_type, value_type, max);
        KvCache::new(shape, &self.device)
    }

    /// Computes `tokens` after what is in `cache`, adds them to it and returns the wanted logits,
    /// (positions, n_vocab) row after row.
    ///
    /// # Errors
    /// When a token is outside the vocabulary or the cache has no room; the cache is then unchanged.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache, wanted: Wanted) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        if let Some(hidden) = self.hidden_while(tokens, cache, wanted, &|| true)? {
            self.logits(&hidden, &mut logits)?;
        }
        Ok(logits)
    }

    /// Like [`Model::forward`], but stops before the head and returns the final norm's output at the wanted positions,
    /// (positions, d_model). If attention is bidirectional, `tokens` must be the whole text.
    ///
    /// Calls `go_on` before each layer; if it returns false, stops with `None` and leaves the cache unchanged. A prompt
    /// takes seconds, and the client may be gone.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn hidden_while(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        wanted: Wanted,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Tensor>> {
        let n = tokens.len();
        let none = || Tensor::zeros((0, self.spec.d_model), DType::F32, &self.device).map(Some);
        if n == 0 {
            return none();
        }
        cache.reserve(n)?;
        let mut x = self.embed(tokens, cache.len())?; // (n, d_model)
        let inputs = match &self.per_layer {
            Some(per_layer) => Some(per_layer.inputs(&self.spec, &self.compute, tokens, &x)?),
            None => None,
        };
        let rotations = self.rotations(cache, n)?;
        for (index, layer) in self.layers.iter().enumerate() {
            if !go_on() {
                return Ok(None);
            }
            let input = inputs.as_ref().map(|all| all.get(index)).transpose()?;
            x = self.layer(layer, &x, cache, rotations[index].as_deref(), input.as_ref())?;
        }
        cache.advance(n);
        let x = match wanted {
            Wanted::None => return none(),
            Wanted::Last => x.narrow(0, n - 1, 1)?,
            Wanted::All => x,
        };
        self.norm_if(self.norm.as_ref(), &x).map(Some)
    }

    /// Writes the logits for the output of [`Model::hidden_while`] to `logits`: (positions, n_vocab), row after row.
    ///
    /// # Errors
    /// When `hidden` has the wrong width.
    pub fn logits(&self, hidden: &Tensor, logits: &mut Vec<f32>) -> Result<()> {
        if hidden.elem_count() == 0 {
            logits.clear();
            return Ok(());
        }
        self.head.elements(hidden, logits)?; // (positions, n_vocab)
        if (self.spec.logit_scale - 1.0).abs() > f32::EPSILON {
            logits.iter_mut().for_each(|l| *l *= self.spec.logit_scale);
        }
        if let Some(cap) = self.spec.logit_softcap {
            logits.iter_mut().for_each(|l| *l = cap * (*l / cap).tanh());
        }
        Ok(())
    }

    fn embed(&self, tokens: &[u32], past: usize) -> Result<Tensor> {
        let d = self.spec.d_model;
        let mut rows = vec![0.0; tokens.len() * d];
        for (row, &token) in rows.chunks_exact_mut(d).zip(tokens) {
            let index = token as usize;
            if index >= self.embedding.rows {
                candle_core::bail!(
                    "token {token} is not in the vocabulary of {}",
                    self.embedding.rows
                )
            }
            dequantize(self.embedding.dtype, self.embedding.row(index), row);
            row.iter_mut().for_each(|x| *x *= self.spec.embedding_scale);
        }
        if let Some(positions) = &self.positions {
            let mut added = vec![0.0; d];
            for (row, position) in rows.chunks_exact_mut(d).zip(past..) {
                if position >= positions.rows {
                    candle_core::bail!(
                        "position {position} is beyond the model's {}",
                        positions.rows
                    )
                }
                dequantize(positions.dtype, positions.row(position), &mut added);
                row.iter_mut().zip(&added).for_each(|(x, a)| *x += a);
            }
        }
        if let Some(added) = &self.token_type {
            for row in rows.chunks_exact_mut(d) {
                row.iter_mut().zip(added).for_each(|(x, a)| *x += a);
            }
        }
        let x = Tensor::from_vec(rows, (tokens.len(), d), &self.device)?;
        self.norm_if(self.embedding_norm.as_ref(), &x)
    }

    /// The rotary angles of each layer, `None` without RoPE; layers with the same frequencies share them.
    fn rotations(&self, cache: &KvCache, n: usize) -> Result<Vec<Option<Arc<Rotation>>>> {
        let factors = self.rope_factors.of(cache.max());
        let mut made: Vec<(Frequencies, Arc<Rotation>)> = Vec::new();
        let mut all = Vec::with_capacity(self.layers.len());
        for layer in &self.spec.layers {
            let Some(frequencies) = layer.rope else {
                all.push(None);
                continue;
            };
            if let Some((_, rotation)) = made.iter().find(|(key, _)| *key == frequencies) {
                all.push(Some(Arc::clone(rotation)));
                continue;
            }
            let rope = self.spec.rope;
            let rotation = Rotation::new(cache.len(), n, rope, frequencies, factors, &self.device)?;
            let rotation = Arc::new(rotation);
            made.push((frequencies, Arc::clone(&rotation)));
            all.push(Some(rotation));
        }
        Ok(all)
    }

    fn layer(
        &self,
        layer: &Layer,
        x: &Tensor,
        cache: &KvCache,
        rotation: Option<&Rotation>,
        input: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (s, compute) = (&self.spec, &self.compute);
        let normed = self.norm_if(layer.attention_norm.as_ref(), x)?;
        let mixed = layer.attention.forward(s, compute, &normed, cache, rotation)?;
        let mixed = self.norm_if(layer.post_attention_norm.as_ref(), &mixed)?;
        // If attention has a norm and the FFN has none, the FFN shares it and runs in parallel.
        let parallel = layer.ffn_norm.is_none() && layer.attention_norm.is_some();
        let after = ops::add(compute, x, &self.residual(mixed)?)?;
        let after = self.norm_if(layer.attention_sum_norm.as_ref(), &after)?;
        let ffn_input = if parallel {
            normed
        } else {
            self.norm_if(layer.ffn_norm.as_ref(), if s.parallel { x } else { &after })?
        };
        let out = layer.ffn.forward(s, compute, &ffn_input)?;
        let out = match &layer.beside {
            Some(experts) => experts.forward(s, compute, &after, &out)?,
            None => out,
        };
        let out = self.norm_if(layer.post_ffn_norm.as_ref(), &out)?;
        let out = ops::add(compute, &after, &self.residual(out)?)?;
        let out = self.norm_if(layer.sum_norm.as_ref(), &out)?;
        let out = match (&layer.mix, input) {
            (Some(mix), Some(input)) => mix.forward(compute, &out, input)?,
            _ => out,
        };
        layer.scale.map_or(Ok(out.clone()), |scale| out * f64::from(scale))
    }

    fn residual(&self, x: Tensor) -> Result<Tensor> {
        let scale = self.spec.residual_scale;
        if (scale - 1.0).abs() > f32::EPSILON { x * f64::from(scale) } else { Ok(x) }
    }

    fn norm_if(&self, norm: Option<&Norm>, x: &Tensor) -> Result<Tensor> {
        norm.map_or_else(|| Ok(x.clone()), |norm| norm.forward(&self.compute, x))
    }
}

impl Layer {
    fn load(s: &Spec, w: &Weights<'_>, index: usize) -> std::result::Result<Self, WeightsError> {
        let norm = |part: &str| Norm::load_if(s, w, &format!("blk.{index}.{part}"), s.d_model);
        // Some files name the norm before the feed-forward half `post_attention_norm`.
        let after_attention = "post_attention_norm";
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            attention: Attention::load(s, w, index)?,
            post_attention_norm: if s.ffn_norm == after_attention {
                None
            } else {
                norm(after_attention)?
            },
            attention_sum_norm: norm("attn_output_norm")?,
            ffn_norm: norm(s.ffn_norm)?,
            ffn: Ffn::load(s, w, index)?,
            beside: Beside::load(s, w, index)?,
            post_ffn_norm: norm("post_ffw_norm")?,
            mix: Mix::load(s, w, index)?,
            scale: w.scalar_if(&format!("blk.{index}.layer_output_scale.weight"))?,
            sum_norm: norm("layer_output_norm")?,
        })
    }
}
