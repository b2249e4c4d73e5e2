//! The part of a layer that looks at other positions.
//!
//! Each kind says what it keeps of the past, and computes new positions of several sequences at once. Attention keeps
//! keys and values in a sequence's pages, and can go back to any position; the others keep a state of fixed size.

use super::attention::Attention;
use super::batch::Span;
use super::recurrent::{Carried, Recurrent};
use super::rope::Rotation;
use super::spec::{MixerSpec, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Result, Tensor};

/// A mixer.
pub enum Mixer {
    /// Attention over keys and values, projected directly or through a latent vector.
    Attention(Box<Attention>),
    /// A recurrence.
    Recurrent(Recurrent),
    /// Both, of the same input; their outputs are added.
    Both(Box<Attention>, Recurrent),
}

impl Mixer {
    /// The mixer of layer `index`, if it has one.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        let attention = || Attention::load(s, w, index).map(Box::new);
        let recurrent = |spec| Recurrent::load(s, w, index, spec);
        Ok(match s.layers[index].mixer {
            MixerSpec::None => None,
            MixerSpec::Attention => Some(Self::Attention(attention()?)),
            MixerSpec::Recurrent(spec) => Some(Self::Recurrent(recurrent(spec)?)),
            MixerSpec::Both(spec) => Some(Self::Both(attention()?, recurrent(spec)?)),
        })
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
        carried: &mut Carried,
    ) -> Result<Tensor> {
        match self {
            Self::Attention(attention) => attention.forward(s, b, x, rotation, spans),
            Self::Recurrent(recurrent) => recurrent.forward(b, x, spans, carried),
            Self::Both(attention, recurrent) => {
                let attended = attention.forward(s, b, x, rotation, spans)?;
                b.add(&attended, &recurrent.forward(b, x, spans, carried)?)
            }
        }
    }
}
