//! Sanity checks on a spec: impossible numbers are refused before anything is computed or allocated from them.

use super::file::FileError;
use super::spec::{Experts, Frequencies, LayerSpec, Spec};
use crate::kernels::Window;
use std::ops::RangeInclusive;

/// Maximum number of layers.
pub const LAYERS_MAX: usize = 1 << 10;
/// Maximum number of heads, and of elements per head.
const HEAD_MAX: usize = 1 << 14;
/// Maximum hidden width of a feed-forward layer.
const FFN_MAX: usize = 1 << 24;

/// An unknown architecture, or metadata that makes no sense for it.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// There is no function for it in `families.rs`.
    #[error(
        "architecture `{found}` is not supported, expected one of: {known}\nhint: a newer tealight may support it"
    )]
    Unknown {
        /// The file's architecture.
        found: String,
        /// The supported ones.
        known: String,
    },
    /// A number that is out of range or contradicts another.
    #[error(
        "{what}: found {found}, expected {expected}\nhint: the file is damaged, or was made by a faulty program; fetch it again"
    )]
    Number {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What is allowed.
        expected: String,
    },
    /// Metadata is missing or malformed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Refuses impossible numbers.
///
/// # Errors
/// [`FamilyError::Number`] with the first of them.
pub fn check(spec: &Spec) -> Result<(), FamilyError> {
    within("block_count", spec.layers.len(), 1..=LAYERS_MAX)?;
    within("nextn_predict_layers", spec.n_guessing, 0..=LAYERS_MAX)?;
    within("embedding_length", spec.d_model, 1..=1 << 20)?;
    within("embedding_length_per_layer_input", spec.d_per_layer, 0..=1 << 16)?;
    within("attention.head_count", spec.n_heads, 1..=HEAD_MAX)?;
    within("context_length", spec.n_ctx_train, 1..=1 << 30)?;
    within("rows of `token_embd.weight`", spec.n_vocab, 1..=1 << 24)?;
    let windows = spec.layers.iter().filter(|layer| layer.window != Window::All).count();
    if !spec.causal && windows > 0 {
        return Err(FamilyError::Number {
            what: "layers with a sliding window",
            found: windows,
            expected: "none with bidirectional attention".to_owned(),
        });
    }
    if let Some(experts) = &spec.experts {
        check_experts(experts)?;
    }
    if let Some(latent) = spec.latent {
        within("attention.kv_lora_rank", latent.rank, 1..=HEAD_MAX)?;
        within("attention.key_length", latent.key_dim, latent.turned + 1..=HEAD_MAX)?;
        within("attention.value_length", latent.value_dim, 1..=HEAD_MAX)?;
    }
    for layer in &spec.layers {
        check_layer(spec, layer)?;
    }
    Ok(())
}

fn check_experts(experts: &Experts) -> Result<(), FamilyError> {
    within("expert_count", experts.count, 1..=1 << 12)?;
    within("expert_used_count", experts.used, 1..=experts.count)?;
    within("expert_feed_forward_length", experts.d_ffn, 1..=FFN_MAX)?;
    let Some(groups) = experts.groups else { return Ok(()) };
    divides("expert_group_count", groups.count, ("expert_count", experts.count))?;
    // At least enough groups to contain `used` experts.
    let least = experts.used.div_ceil(experts.count / groups.count);
    within("expert_group_used_count", groups.used, least..=groups.count)
}

fn check_layer(spec: &Spec, layer: &LayerSpec) -> Result<(), FamilyError> {
    let heads = layer.heads;
    within("attention.head_count_kv", heads.count, 1..=spec.n_heads)?;
    divides("attention.head_count_kv", heads.count, ("head_count", spec.n_heads))?;
    within("attention.key_length", heads.key_dim, 1..=HEAD_MAX)?;
    within("attention.value_length", heads.value_dim, 1..=HEAD_MAX)?;
    within("feed_forward_length", layer.d_ffn, 1..=FFN_MAX)?;
    if let Some(Frequencies { dims, .. }) = layer.rope
        && (dims == 0 || dims > heads.key_dim || !dims.is_multiple_of(2))
    {
        return Err(FamilyError::Number {
            what: "rope.dimension_count",
            found: dims,
            expected: format!("an even number up to key_length {}", heads.key_dim),
        });
    }
    if let Some(other) = layer.shares {
        let fits = |other: &LayerSpec| other.shares.is_none() && other.heads == heads;
        if !spec.layers.get(other).is_some_and(fits) {
            return Err(FamilyError::Number {
                what: "attention.shared_kv_layers",
                found: other,
                expected: "a layer with keys and values of the same shape".to_owned(),
            });
        }
    }
    Ok(())
}

fn within(
    what: &'static str,
    found: usize,
    range: RangeInclusive<usize>,
) -> Result<(), FamilyError> {
    if range.contains(&found) {
        return Ok(());
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(FamilyError::Number { what, found, expected })
}

fn divides(
    what: &'static str,
    found: usize,
    (of, whole): (&str, usize),
) -> Result<(), FamilyError> {
    if found > 0 && whole.is_multiple_of(found) {
        return Ok(());
    }
    Err(FamilyError::Number { what, found, expected: format!("a divisor of {of} {whole}") })
}
