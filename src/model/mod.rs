//! Models: from the weights in a mapped file to logits.
//!
//! `file` (metadata and tensors) → `families` ([`Spec`]: an architecture as data) → `weights` (every
//! tensor claimed) → [`Model`] (the one transformer) with a [`KvCache`] for each timeline.

mod attention;
mod beside;
mod cache;
mod checks;
mod experts;
mod families;
mod ffn;
mod file;
mod latent;
mod linear;
mod metadata;
mod norm;
mod ops;
mod per_layer;
mod rope;
mod rope_factors;
mod router;
mod spec;
mod strings;
mod transformer;
mod weights;

pub use cache::{CacheShape, KvCache};
pub use checks::FamilyError;
pub use families::{names as family_names, spec};
pub use file::{FileError, ModelFile, Shard};
pub use spec::{
    Experts, Frequencies, Gating, Groups, KvHeads, LatentSpec, LayerSpec, NormKind, Pairs, Pooling,
    QkNorm, Rope, Spec, Temperature, Yarn,
};
pub use strings::Strings;
pub use transformer::{Model, Wanted};
pub use weights::{Weights, WeightsError};
