//! Per-layer token inputs (Gemma 3n and 4): a second embedding, mixed in at the end of every layer.
//!
//! Input: tokens and their embeddings; later a layer's output. Output: each layer's input; the layer's output with that
//! input mixed in.

use super::norm::Norm;
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Act, Matrix, dequantize};

/// Computes the inputs of all layers.
pub struct PerLayer {
    /// One row per token: the layers' inputs, concatenated.
    embedding: Matrix,
    /// d_model → the layers' inputs, concatenated.
    projection: Linear,
    norm: Norm,
}

impl PerLayer {
    /// The tensors `per_layer_*`, `None` for a model without per-layer inputs.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(s: &Spec, w: &Weights<'_>) -> std::result::Result<Option<Self>, WeightsError> {
        if s.d_per_layer == 0 {
            return Ok(None);
        }
        let all = s.layers.len() * s.d_per_layer;
        Ok(Some(Self {
            embedding: w.matrix("per_layer_token_embd.weight", s.n_vocab, all)?,
            projection: w.linear("per_layer_model_proj", all, s.d_model)?,
            norm: Norm::load(s, w, "per_layer_proj_norm", s.d_per_layer)?,
        }))
    }

    /// The layers' inputs, (layers, n, d_per_layer), for `tokens`, which must be in the vocabulary, and their scaled
    /// embeddings `x`, (n, d_model): the mean of both sources, times √2.
    ///
    /// # Errors
    /// When the shapes do not fit.
    #[expect(clippy::cast_precision_loss, reason = "numbers of elements, thousands")]
    pub fn inputs(&self, s: &Spec, b: &dyn Backend, tokens: &[u32], x: &Tensor) -> Result<Tensor> {
        let (n, width) = (tokens.len(), s.d_per_layer);
        let all = self.embedding.columns;
        let mut rows = vec![0.0; n * all];
        for (row, &token) in rows.chunks_exact_mut(all).zip(tokens) {
            dequantize(self.embedding.dtype, self.embedding.row(token as usize), row);
        }
        let shape = [n, s.layers.len(), width];
        let own = b.scale(&b.tensor(rows, &shape)?, (width as f64).sqrt())?;
        let projected = b.product(&self.projection, x)?;
        let projected = b.scale(&projected, 1.0 / f64::from(s.d_model as f32).sqrt())?;
        let projected = self.norm.forward(b, &projected.reshape(&shape)?)?;
        let both = b.add(&own, &projected)?;
        b.scale(&both, 0.5_f64.sqrt())?.transpose(0, 1)
    }

    /// The input of layer `index`, (n, d_per_layer), out of those of all layers.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn of_layer(inputs: &Tensor, index: usize) -> Result<Tensor> {
        let shape = [inputs.shape()[1], inputs.shape()[2]];
        inputs.narrow(0, index, 1)?.reshape(&shape)
    }
}

/// How a layer mixes its input in.
pub struct Mix {
    gate: Linear,
    out: Linear,
    norm: Norm,
}

impl Mix {
    /// The tensors `blk.{index}.inp_gate`, `proj` and `post_norm`, `None` for a model without per-layer inputs.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        if s.d_per_layer == 0 {
            return Ok(None);
        }
        let name = |part: &str| format!("blk.{index}.{part}");
        Ok(Some(Self {
            gate: w.linear(&name("inp_gate"), s.d_per_layer, s.d_model)?,
            out: w.linear(&name("proj"), s.d_model, s.d_per_layer)?,
            norm: Norm::load(s, w, &name("post_norm"), s.d_model)?,
        }))
    }

    /// `x`, (n, d_model), with `input`, (n, d_per_layer), mixed in.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, b: &dyn Backend, x: &Tensor, input: &Tensor) -> Result<Tensor> {
        b.add(x, &self.added(b, x, input)?)
    }

    /// What is added to `x`, (n, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn added(&self, b: &dyn Backend, x: &Tensor, input: &Tensor) -> Result<Tensor> {
        let gated = b.gate_up(Act::GeluTanh, &b.product(&self.gate, x)?, input)?;
        self.norm.forward(b, &b.product(&self.out, &gated)?)
    }
}
