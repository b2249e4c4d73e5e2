//! The part of a layer that looks at other positions.
//!
//! Each kind says what it keeps of the past, and computes new positions of several sequences at once. Attention keeps
//! keys and values in a sequence's pages, and can go back to any position.

use super::attention::Attention;
use super::batch::Span;
use super::rope::Rotation;
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Result, Tensor};

/// A mixer.
pub enum Mixer {
    /// Attention over keys and values, projected directly or through a latent vector.
    Attention(Attention),
}

impl Mixer {
    /// The mixer of layer `index`.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Self, WeightsError> {
        Attention::load(s, w, index).map(Self::Attention)
    }

    /// The new rows `x`, (n, d_model), of `spans`, each mixed with its own sequence's past.
    ///
    /// # Errors
    /// When a sequence has no room.
    pub fn forward(
        &self,
        s: &Spec,
        b: &dyn Backend,
        x: &Tensor,
        rotation: Option<&Rotation>,
        spans: &mut [Span<'_>],
    ) -> Result<Tensor> {
        match self {
            Self::Attention(attention) => attention.forward(s, b, x, rotation, spans),
        }
    }
}
