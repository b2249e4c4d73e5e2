//! The norms of a model: a kind, a weight, and a bias where there is one.

use super::spec::{NormKind, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Result, Tensor};

/// A norm over the last dimension, or over heads of that length within it.
pub struct Norm {
    kind: NormKind,
    weight: Tensor,
    bias: Option<Tensor>,
    /// Separate weights for each head, (heads, len).
    by_head: Option<Tensor>,
    eps: f32,
}

impl Norm {
    /// The norm `{name}.weight` (and `{name}.bias` if it exists) of `len` elements.
    ///
    /// # Errors
    /// When it is missing or has another length.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        name: &str,
        len: usize,
    ) -> std::result::Result<Self, WeightsError> {
        Ok(Self {
            kind: s.norm,
            weight: w.vector(&format!("{name}.weight"), len)?,
            bias: w.vector_if(&format!("{name}.bias"), len)?,
            by_head: None,
            eps: s.norm_eps,
        })
    }

    /// The norm `{name}.weight`, (heads, len), with separate weights for each head of `len` elements.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn load_by_head(
        s: &Spec,
        w: &Weights<'_>,
        name: &str,
        heads: usize,
        len: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let by_head = w.table(&format!("{name}.weight"), heads, len)?;
        Ok(Self { by_head: Some(by_head), ..Self::bare(s, w, len)? })
    }

    /// The layer norm `{name}.weight` and `{name}.bias`, (heads · len), over each head of `len` elements, as in RWKV; `None`
    /// when there is no such tensor.
    ///
    /// # Errors
    /// When one of them exists with another length.
    pub fn load_grouped(
        w: &Weights<'_>,
        name: &str,
        heads: usize,
        len: usize,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        const EPS: f32 = 64e-5;
        if !w.has(&format!("{name}.weight")) {
            return Ok(None);
        }
        let (b, shape) = (w.backend(), [heads, len]);
        let by_head = b.tensor(w.floats(&format!("{name}.weight"), heads * len)?, &shape)?;
        let bias = b.tensor(w.floats(&format!("{name}.bias"), heads * len)?, &shape)?;
        Ok(Some(Self {
            kind: NormKind::Layer,
            weight: b.tensor(vec![1.0; len], &[len])?,
            bias: Some(bias),
            by_head: Some(by_head),
            eps: EPS,
        }))
    }

    /// Like [`Norm::load`], `None` when there is no such tensor.
    ///
    /// # Errors
    /// When it exists with another length.
    pub fn load_if(
        s: &Spec,
        w: &Weights<'_>,
        name: &str,
        len: usize,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        if w.has(&format!("{name}.weight")) {
            return Self::load(s, w, name, len).map(Some);
        }
        // Files of Falcon H1 leave the ending out.
        let bare = w.vector_if(name, len)?;
        Ok(bare.map(|weight| Self::of(s, weight)))
    }

    /// A norm of `len` elements without weights.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn bare(s: &Spec, w: &Weights<'_>, len: usize) -> std::result::Result<Self, WeightsError> {
        Ok(Self::of(s, w.backend().tensor(vec![1.0; len], &[len])?))
    }

    /// A norm with these weights.
    #[must_use]
    pub fn of(s: &Spec, weight: Tensor) -> Self {
        Self { kind: s.norm, weight, bias: None, by_head: None, eps: s.norm_eps }
    }

    /// Elements normalized together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.weight.elements()
    }

    /// Applies the norm to `x`, whose last dimension is [`Norm::len`].
    ///
    /// # Errors
    /// When the last dimension differs.
    pub fn forward(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        let normed = match self.kind {
            NormKind::Rms => b.rms_norm(x, &self.weight, self.eps)?,
            // A layer norm is an RMS norm of x − mean(x).
            NormKind::Layer => b.rms_norm(&b.center(x)?, &self.weight, self.eps)?,
        };
        let normed = match &self.by_head {
            Some(weights) => b.multiply_each(&normed, weights)?,
            None => normed,
        };
        match &self.bias {
            Some(bias) => b.add_each(&normed, bias),
            None => Ok(normed),
        }
    }
}
