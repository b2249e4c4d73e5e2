//! Multi-token prediction (DeepSeek-AI, 2024): a layer behind the last one guesses one token further.
//!
//! Enters: a token, and what the model's final norm gave at the position before it. Leaves: the input of that layer, the
//! only one of a [`super::Model`] of its own.

use super::norm::Norm;
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Linear, Result, Tensor};

/// Joins the two: project([norm(token); norm(hidden)]).
pub struct Seed {
    token_norm: Norm,
    hidden_norm: Norm,
    project: Linear,
}

impl Seed {
    /// The tensors `blk.0.nextn.*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(s: &Spec, w: &Weights<'_>) -> std::result::Result<Self, WeightsError> {
        let d = s.d_model;
        Ok(Self {
            token_norm: Norm::load(s, w, "blk.0.nextn.enorm", d)?,
            hidden_norm: Norm::load(s, w, "blk.0.nextn.hnorm", d)?,
            project: w.linear("blk.0.nextn.eh_proj", d, 2 * d)?,
        })
    }

    /// The layer's input; `tokens` and `hidden` are (n, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn join(&self, b: &dyn Backend, tokens: &Tensor, hidden: &Tensor) -> Result<Tensor> {
        let (tokens, hidden) =
            (self.token_norm.forward(b, tokens)?, self.hidden_norm.forward(b, hidden)?);
        b.product(&self.project, &Tensor::concat(&[&tokens, &hidden], 1)?)
    }
}
