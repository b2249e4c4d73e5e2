//! Sanity checks on a spec: impossible numbers are refused before anything is computed or allocated from them.

use super::file::FileError;
use super::spec::{
    DeltaNetSpec, Experts, Frequencies, Halves, KdaSpec, LayerSpec, LightningSpec, Mamba1Spec,
    Mamba2Spec, MixerSpec, RecurrentSpec, RwkvSpec, Spec,
};
use crate::kernels::Window;
use std::ops::RangeInclusive;

/// Maximum number of layers.
pub const LAYERS_MAX: usize = 1 << 10;
/// Maximum number of heads, and of elements per head.
const HEAD_MAX: usize = 1 << 14;
/// Maximum hidden width of a feed-forward layer.
const FFN_MAX: usize = 1 << 24;
/// Maximum number of positions that a convolution covers.
const TAPS_MAX: usize = 1 << 8;
/// Maximum number of elements of a layer's state of fixed size.
const STATE_MAX: usize = 1 << 26;

/// An unknown architecture, or metadata that makes no sense for it.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// There is no function for it in `families.rs`.
    #[error(
        "architecture `{found}` is not supported{near}, expected one of: {known}\nhint: a newer tealight may support it"
    )]
    Unknown {
        /// The file's architecture.
        found: String,
        /// Supported ones that are called much alike, in words; empty if there are none.
        near: String,
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
    let attends = spec.layers.iter().any(|layer| layer.mixer.attends());
    within("attention.head_count", spec.n_heads, usize::from(attends)..=HEAD_MAX)?;
    within("context_length", spec.n_ctx_train, 1..=1 << 30)?;
    within("rows of `token_embd.weight`", spec.n_vocab, 1..=1 << 24)?;
    let looks_back = |window| !matches!(window, Window::All | Window::Around(_));
    let windows = spec.layers.iter().filter(|layer| looks_back(layer.window)).count();
    if !spec.causal && windows > 0 {
        return Err(FamilyError::Number {
            what: "layers with a window of earlier positions",
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
    for recurrent in layer.states() {
        check_recurrent(spec, recurrent)?;
    }
    if spec.halves != Halves::Either || layer.mixer == MixerSpec::None {
        within("feed_forward_length", layer.d_ffn, 1..=FFN_MAX)?;
    }
    if !layer.mixer.attends() {
        return Ok(());
    }
    let heads = layer.heads;
    within("attention.head_count_kv", heads.count, 1..=spec.n_heads)?;
    divides("attention.head_count_kv", heads.count, ("head_count", spec.n_heads))?;
    within("attention.key_length", heads.key_dim, 1..=HEAD_MAX)?;
    within("attention.value_length", heads.value_dim, 1..=HEAD_MAX)?;
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

fn check_recurrent(spec: &Spec, recurrent: RecurrentSpec) -> Result<(), FamilyError> {
    match recurrent {
        RecurrentSpec::DeltaNet(DeltaNetSpec {
            taps,
            heads,
            key_heads,
            key_dim,
            value_dim,
            ..
        }) => {
            within("ssm.conv_kernel", taps, 2..=TAPS_MAX)?;
            within("ssm.time_step_rank", heads, 1..=HEAD_MAX)?;
            divides("ssm.group_count", key_heads, ("ssm.time_step_rank", heads))?;
            within("ssm.state_size", key_dim, 1..=HEAD_MAX)?;
            within("ssm.inner_size per head", value_dim, 1..=HEAD_MAX)?;
        }
        RecurrentSpec::Mamba1(Mamba1Spec { taps, channels, d_state, rank, .. }) => {
            within("ssm.conv_kernel", taps, 2..=TAPS_MAX)?;
            within("ssm.inner_size", channels, 1..=FFN_MAX)?;
            within("ssm.state_size", d_state, 1..=HEAD_MAX)?;
            within("ssm.time_step_rank", rank, 1..=HEAD_MAX)?;
        }
        RecurrentSpec::Kda(KdaSpec { taps, heads, dim, .. }) => {
            within("ssm.conv_kernel", taps, 2..=TAPS_MAX)?;
            within("attention.head_count", heads, 1..=HEAD_MAX)?;
            within("kda.head_dim", dim, 1..=HEAD_MAX)?;
        }
        RecurrentSpec::Lightning(LightningSpec { heads, dim }) => {
            within("attention.head_count", heads, 1..=HEAD_MAX)?;
            within("attention.key_length", dim, 1..=HEAD_MAX)?;
        }
        RecurrentSpec::Rwkv6(RwkvSpec { heads, kv_heads, dim })
        | RecurrentSpec::Rwkv7(RwkvSpec { heads, kv_heads, dim }) => {
            divides("wkv.head_size", dim, ("embedding_length", spec.d_model))?;
            divides("attention.head_count_kv", kv_heads, ("the number of heads", heads))?;
        }
        RecurrentSpec::ChannelMix => {}
        RecurrentSpec::Mamba2(Mamba2Spec { taps, heads, head_dim, d_state, groups, rank }) => {
            within("embedding_length / 16", rank, 0..=HEAD_MAX)?;
            within("ssm.conv_kernel", taps, 2..=TAPS_MAX)?;
            within("ssm.time_step_rank", heads, 1..=HEAD_MAX)?;
            divides("ssm.group_count", groups, ("ssm.time_step_rank", heads))?;
            within("ssm.state_size", d_state, 1..=HEAD_MAX)?;
            within("ssm.inner_size per head", head_dim, 1..=HEAD_MAX)?;
        }
        RecurrentSpec::ShortConvolution { taps } => {
            within("shortconv.l_cache", taps, 2..=TAPS_MAX)?;
        }
    }
    within("elements of a recurrent state", recurrent.state_len(spec.d_model), 1..=STATE_MAX)
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
