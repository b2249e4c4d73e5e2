//! A mixture of experts beside a dense layer (Gemma 4), each with its own norms.
//!
//! Input: the dense layer's output, and the residual stream before it. Output: the sum of both halves.

use super::experts::Mixture;
use super::norm::Norm;
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Result, Tensor};

/// The experts and the norms around both halves.
pub struct Beside {
    /// On the dense layer's output.
    dense_norm: Norm,
    /// On the router's input.
    router_norm: Norm,
    /// On the experts' input.
    norm: Norm,
    mixture: Mixture,
    /// On the experts' output.
    out_norm: Norm,
}

impl Beside {
    /// Whether layer `index` has experts beside a dense layer.
    #[must_use]
    pub fn is_there(w: &Weights<'_>, index: usize) -> bool {
        w.has(&format!("blk.{index}.pre_ffw_norm_2.weight"))
    }

    /// The tensors of the experts of layer `index`, `None` when it has none.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    #[expect(clippy::cast_precision_loss, reason = "a width of thousands")]
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        let Some(rule) = s.experts.filter(|_| Self::is_there(w, index)) else { return Ok(None) };
        let name = |part: &str| format!("blk.{index}.{part}");
        let norm = |part: &str| Norm::load(s, w, &name(part), s.d_model);
        // Divided by √d_model, so that the router's input has unit length before it is scaled.
        let scale = w.vector(&name("ffn_gate_inp.scale"), s.d_model)?;
        let scale = w.backend().scale(&scale, 1.0 / (s.d_model as f64).sqrt())?;
        Ok(Some(Self {
            dense_norm: norm("post_ffw_norm_1")?,
            router_norm: Norm::of(s, scale),
            norm: norm("pre_ffw_norm_2")?,
            mixture: Mixture::load(s, rule, w, &name)?,
            out_norm: norm("post_ffw_norm_2")?,
        }))
    }

    /// The sum of both halves for `x`, (n, d_model); `dense` is the dense layer's output.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, s: &Spec, b: &dyn Backend, x: &Tensor, dense: &Tensor) -> Result<Tensor> {
        let routed = self.router_norm.forward(b, x)?;
        let mixed = self.mixture.forward(s, b, &routed, &self.norm.forward(b, x)?)?;
        let mixed = self.out_norm.forward(b, &mixed)?;
        b.add(&self.dense_norm.forward(b, dense)?, &mixed)
    }
}
