//! A classification head: scores for a text, from the pooled row of its positions.

use super::norm::Norm;
use super::spec::{NormKind, Pooling, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::Act;

/// One or two layers; which tensors exist decides.
pub struct Classifier {
    /// d_model → d_model, before an activation.
    dense: Option<Linear>,
    /// With it, the activation is GELU instead of the hyperbolic tangent (ModernBERT).
    norm: Option<Norm>,
    /// To a score for each class.
    out: Option<Linear>,
    /// Whether scores are made shares of 1: those of language models that judge by the last position (Qwen 3).
    softmax: bool,
}

impl Classifier {
    /// The tensors `cls*`; `None` when there are none.
    ///
    /// # Errors
    /// When one has the wrong shape.
    pub fn load(s: &Spec, w: &Weights<'_>) -> std::result::Result<Option<Self>, WeightsError> {
        let d = s.d_model;
        let layer = |name: &str| match w.elements(&format!("{name}.weight")) {
            Some(elements) => w.linear(name, elements / d, d).map(Some),
            None => Ok(None),
        };
        let (dense, out) = (layer("cls")?, layer("cls.output")?);
        if dense.is_none() && out.is_none() {
            return Ok(None);
        }
        let layer_norms = Spec { norm: NormKind::Layer, ..s.clone() };
        let norm = Norm::load_if(&layer_norms, w, "cls.norm", d)?;
        let softmax = s.ranked == Pooling::Last;
        Ok(Some(Self { dense, norm, out, softmax }))
    }

    /// Number of scores.
    #[must_use]
    pub fn classes(&self, d_model: usize) -> usize {
        let last = self.out.as_ref().or(self.dense.as_ref());
        last.map_or(d_model, Linear::outputs)
    }

    /// The scores of a text with this pooled row, (1, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn scores(&self, b: &dyn Backend, mut x: Tensor) -> Result<Vec<f32>> {
        if let Some(dense) = &self.dense {
            let inner = b.product(dense, &x)?;
            x = if self.norm.is_some() { b.act(Act::GeluTanh, &inner)? } else { b.tanh(&inner)? };
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(b, &x)?;
        }
        if let Some(out) = &self.out {
            x = b.product(out, &x)?;
        }
        let mut scores = Vec::new();
        b.read(&x, &mut scores)?;
        if self.softmax {
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score = libm::expf(*score - max));
            let sum: f32 = scores.iter().sum();
            scores.iter_mut().for_each(|score| *score /= sum);
        }
        Ok(scores)
    }
}
