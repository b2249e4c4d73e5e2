//! Models: from the weights in a mapped file to logits.
//!
//! `file` (metadata and tensors) → `families` ([`Spec`]: an architecture as data) → `weights` (every
//! tensor claimed) → [`Model`] (the one transformer), which reads on a [`Batch`] of [`Sequence`]s.

mod altup;
mod attention;
mod batch;
mod beside;
mod checks;
mod classifier;
mod experts;
mod families;
mod ffn;
mod file;
mod latent;
mod metadata;
mod mixer;
mod mtp;
mod norm;
mod pages;
mod per_layer;
mod recurrent;
mod rope;
mod rope_factors;
mod router;
mod sequence;
mod spec;
mod strings;
mod transformer;
mod weights;

pub use batch::{Batch, Inputs, Output, Span, Wanted};
pub use checks::FamilyError;
pub use families::{names as family_names, spec};
pub use file::{FileError, ModelFile, Shard};
pub use pages::{NoRoom, PAGE, Page, PagePool, PageShape};
pub use sequence::{Checkpoint, Fixed, Read, Sequence};
pub use spec::{
    DeltaNetSpec, Experts, Frequencies, Gating, Groups, Halves, KeyOrder, KvHeads, LatentSpec,
    LayerSpec, Mamba1Spec, Mamba2Spec, MixerSpec, NormKind, Pairs, Pooling, QkNorm, RecurrentSpec,
    Rope, Spec, Temperature, Yarn,
};
pub use strings::Strings;
pub use transformer::Model;
pub use weights::{Weights, WeightsError};
