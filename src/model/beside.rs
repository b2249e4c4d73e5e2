//! A mixture of experts beside a dense layer (Gemma 4), each with its own norms.
//!
//! Input: the dense layer's output, and the residual stream before it. Output: the sum of both halves.

use super::experts;
use super::linear::Linear;
use super::norm::Norm;
use super::ops::{self, ExpertPool};
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::kernels::Compute;
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// The experts and the norms around both halves.
pub struct Beside {
    /// On the dense layer's output.
    dense_norm: Norm,
    /// On the router's input.
    router_norm: Norm,
    router: Linear,
    /// On the experts' input.
    norm: Norm,
    pool: Arc<ExpertPool>,
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
        let scale = (scale / (s.d_model as f64).sqrt())?;
        Ok(Some(Self {
            dense_norm: norm("post_ffw_norm_1")?,
            router_norm: Norm::of(s, scale),
            router: w.linear(&name("ffn_gate_inp"), rule.count, s.d_model)?,
            norm: norm("pre_ffw_norm_2")?,
            pool: experts::load(s, rule, w, &name)?,
            out_norm: norm("post_ffw_norm_2")?,
        }))
    }

    /// The sum of both halves for `x`, (n, d_model); `dense` is the dense layer's output.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(
        &self,
        s: &Spec,
        compute: &Arc<Compute>,
        x: &Tensor,
        dense: &Tensor,
    ) -> Result<Tensor> {
        let scores = self.router.forward(&self.router_norm.forward(compute, x)?)?;
        let input = self.norm.forward(compute, x)?;
        let mixed = ops::mixture(compute, &self.pool, s.act, &input, &scores)?;
        let mixed = self.out_norm.forward(compute, &mixed)?;
        ops::add(compute, &self.dense_norm.forward(compute, dense)?, &mixed)
    }
}
