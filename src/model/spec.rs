//! An architecture as data: everything the one transformer needs to know about a model family.
//!
//! Metadata sets the numbers, the presence of a tensor decides which weights exist, and the enums here select the math.
//! [`super::families`] builds a [`Spec`]; [`super::Model`] runs it.

pub use crate::backend::Pairs;
pub use crate::kernels::KeyOrder;
use crate::kernels::{Act, Forgetting, Weigh, Window, state_len};

/// The shape and the math of a model.
#[expect(
    clippy::struct_excessive_bools,
    reason = "properties that have nothing to do with each other"
)]
#[derive(Debug, Clone)]
pub struct Spec {
    /// `general.architecture`.
    pub architecture: String,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of tokens in the vocabulary.
    pub n_vocab: usize,
    /// Context length the model was trained with, in positions.
    pub n_ctx_train: usize,
    /// Whether attention is causal. Models with bidirectional attention make embeddings and cannot generate text.
    pub causal: bool,
    /// How per-position embeddings are pooled into one, if the file says.
    pub pooling: Option<Pooling>,
    /// How they are pooled before a classification head.
    pub ranked: Pooling,
    /// Query heads.
    pub n_heads: usize,
    /// Multi-head latent attention, if the model uses it.
    pub latent: Option<LatentSpec>,
    /// Width of the per-layer token embeddings, 0 without any.
    pub d_per_layer: usize,
    /// Residual streams.
    pub streams: usize,
    /// The norm used throughout.
    pub norm: NormKind,
    /// ε of the norm.
    pub norm_eps: f32,
    /// Multiplier on the embeddings.
    pub embedding_scale: f32,
    /// Multiplier on what each half of a layer adds to the residual stream.
    pub residual_scale: f32,
    /// Multiplier on the logits.
    pub logit_scale: f32,
    /// Multiplier on the attention scores.
    pub attention_scale: f32,
    /// When queries and keys are normalized.
    pub qk_norm: QkNorm,
    /// Whether queries come with a gate each, whose sigmoid multiplies what their heads give.
    pub gated_attention: bool,
    /// Whether halves of a layer add to their normed inputs, with [`Spec::residual_scale`] as a multiplier on these.
    pub adds_to_normed: bool,
    /// Whether values are normalized, without weights. Layers without a value projection then use the projected keys as
    /// values.
    pub normed_values: bool,
    /// Scores become `cap · tanh(score / cap)`.
    pub attention_softcap: Option<f32>,
    /// ALiBi's largest bias: scores fall with the distance.
    pub alibi: Option<f32>,
    /// Largest absolute value of queries, keys and values before they are turned.
    pub clamp: Option<f32>,
    /// Logits become `cap · tanh(logit / cap)`.
    pub logit_softcap: Option<f32>,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Activation of the feed-forward layers.
    pub act: Act,
    /// How a layer's mixer and its feed-forward half follow each other.
    pub halves: Halves,
    /// Tensor name of the norm before the feed-forward half.
    pub ffn_norm: &'static str,
    /// Tensor names of the norms of what the halves give, before it is added.
    pub after_norms: [&'static str; 2],
    /// Tensor name of the norm after all layers.
    pub final_norm: &'static str,
    /// Mixture-of-experts parameters, if there are experts.
    pub experts: Option<Experts>,
    /// Per-layer parameters; the length is the number of layers.
    pub layers: Vec<LayerSpec>,
    /// Number of multi-token prediction layers after those; they are of use to [`super::Model::guesser`] alone.
    pub n_guessing: usize,
}

/// How a layer's mixer and its feed-forward half follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halves {
    /// One after the other; side by side, if there is one norm for both.
    InTurn,
    /// Side by side, though each has a norm of its own.
    SideBySide,
    /// A layer has one of them, after one norm.
    Either,
}

/// How per-position embeddings become the embedding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// No pooling: one embedding per position.
    None,
    /// The mean.
    Mean,
    /// The first position's.
    Cls,
    /// The last position's.
    Last,
    /// The scores that a classification head gives the text.
    Rank,
}

/// Multi-head latent attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentSpec {
    /// Elements of the latent vector.
    pub rank: usize,
    /// Elements of a query or key head, including the rotated part.
    pub key_dim: usize,
    /// Elements of the rotated part.
    pub turned: usize,
    /// Elements of a value head.
    pub value_dim: usize,
}

/// Per-layer parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// Its KV heads.
    pub heads: KvHeads,
    /// What looks at other positions.
    pub mixer: MixerSpec,
    /// The earlier layer whose keys and values it reuses, if it has none of its own.
    pub shares: Option<usize>,
    /// Hidden width of its feed-forward layer; 0 if it has none.
    pub d_ffn: usize,
    /// The activation of its feed-forward layer, if not that of all.
    pub act: Option<Act>,
    /// What looks at other positions in its feed-forward half, if something does.
    pub feed: Option<RecurrentSpec>,
    /// Multiplier on its output.
    pub output_scale: f32,
    /// Gates less than so many standard deviations above their mean count as 0, if set.
    pub sparsity: Option<f32>,
    /// Which positions a query sees.
    pub window: Window,
    /// Rotary frequencies of its queries and keys; `None`: no RoPE.
    pub rope: Option<Frequencies>,
    /// How scores grow with the query's position, if they do.
    pub temperature: Option<Temperature>,
}

impl Spec {
    /// The spec of the model that guesses: the first of the layers for multi-token prediction, and no other. `None`
    /// without any.
    #[must_use]
    pub fn guesser(&self) -> Option<Self> {
        let is_like = |layer: &&LayerSpec| layer.mixer == MixerSpec::Attention;
        let like = self.layers.iter().rfind(is_like).filter(|_| self.n_guessing > 0)?;
        Some(Self { layers: vec![*like], n_guessing: 0, ..self.clone() })
    }

    /// The longest of its sliding windows, if keeping only what they reach saves memory in a context of `context`
    /// positions.
    #[must_use]
    pub fn slides(&self, context: usize) -> Option<usize> {
        /// As many windows fit the context at least.
        const LEAST: usize = 4;
        let windows = self.layers.iter().filter_map(|layer| match layer.window {
            Window::Last(n) => Some(n),
            _ => None,
        });
        windows.max().filter(|longest| self.causal && longest.saturating_mul(LEAST) <= context)
    }
}

impl LayerSpec {
    /// The mixers with states of fixed size, in the order in which a sequence keeps their states.
    pub fn states(&self) -> impl Iterator<Item = RecurrentSpec> {
        self.mixer.recurrent().into_iter().chain(self.feed)
    }
}

/// What looks at other positions in a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MixerSpec {
    /// Nothing.
    None,
    /// Attention.
    Attention,
    /// A mixer with a state of fixed size.
    Recurrent(RecurrentSpec),
    /// Attention and such a mixer, whose outputs are added.
    Both(RecurrentSpec),
}

impl MixerSpec {
    /// Whether there is attention.
    #[must_use]
    pub fn attends(self) -> bool {
        matches!(self, Self::Attention | Self::Both(_))
    }

    /// The mixer with a state of fixed size, if there is one.
    #[must_use]
    pub fn recurrent(self) -> Option<RecurrentSpec> {
        match self {
            Self::Recurrent(spec) | Self::Both(spec) => Some(spec),
            Self::None | Self::Attention => None,
        }
    }
}

/// A mixer with a state of fixed size. `taps` are the positions that its causal convolution covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RecurrentSpec {
    /// A gated delta net.
    DeltaNet(DeltaNetSpec),
    /// Kimi's delta attention.
    Kda(KdaSpec),
    /// Lightning attention.
    Lightning(LightningSpec),
    /// The time mix of RWKV 6.
    Rwkv6(RwkvSpec),
    /// The time mix of RWKV 7.
    Rwkv7(RwkvSpec),
    /// The channel mix of RWKV, a feed-forward half.
    ChannelMix,
    /// Mamba.
    Mamba1(Mamba1Spec),
    /// Mamba 2.
    Mamba2(Mamba2Spec),
    /// A gated convolution alone.
    ShortConvolution {
        /// Positions that it covers.
        taps: usize,
    },
}

/// A gated delta net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaNetSpec {
    /// Positions that the convolution covers.
    pub taps: usize,
    /// Heads, each with values of its own.
    pub heads: usize,
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Elements of a query or key.
    pub key_dim: usize,
    /// Elements of a value.
    pub value_dim: usize,
    /// Which heads share a key.
    pub order: KeyOrder,
}

/// Kimi's delta attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KdaSpec {
    /// Positions that the convolution covers.
    pub taps: usize,
    /// Heads.
    pub heads: usize,
    /// Elements of a query, a key and a value.
    pub dim: usize,
    /// How its states forget.
    pub forgetting: Forgetting,
}

/// Lightning attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LightningSpec {
    /// Heads.
    pub heads: usize,
    /// Elements of a query, a key and a value.
    pub dim: usize,
}

/// The time mix of RWKV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RwkvSpec {
    /// Heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of each of these.
    pub dim: usize,
}

/// Mamba.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mamba1Spec {
    /// Positions that the convolution covers.
    pub taps: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of a channel's state.
    pub d_state: usize,
    /// Elements of the vector that steps are made of.
    pub rank: usize,
    /// Whether that vector, B and C are normed even without weights for it.
    pub normed: bool,
}

/// Mamba 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mamba2Spec {
    /// Positions that the convolution covers.
    pub taps: usize,
    /// Heads.
    pub heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of a state for each of those.
    pub d_state: usize,
    /// Groups of heads that share B and C.
    pub groups: usize,
    /// Elements of the vector that steps are made of after the convolution, and B and C beside it; 0 if all three come
    /// from the input.
    pub rank: usize,
}

impl RecurrentSpec {
    /// Elements of a sequence's state, in a model of this width.
    #[must_use]
    pub fn state_len(self, d_model: usize) -> usize {
        match self {
            Self::DeltaNet(net) => {
                let channels = 2 * net.key_heads * net.key_dim + net.heads * net.value_dim;
                (net.taps - 1) * channels + state_len(net.heads, net.key_dim, net.value_dim)
            }
            Self::Kda(kda) => {
                (kda.taps - 1) * 3 * kda.heads * kda.dim + state_len(kda.heads, kda.dim, kda.dim)
            }
            Self::Lightning(lightning) => state_len(lightning.heads, lightning.dim, lightning.dim),
            Self::Rwkv6(rwkv) | Self::Rwkv7(rwkv) => {
                d_model + state_len(rwkv.heads, rwkv.dim, rwkv.dim)
            }
            Self::ChannelMix => d_model,
            Self::Mamba1(mamba) => (mamba.taps - 1 + mamba.d_state) * mamba.channels,
            Self::Mamba2(mamba) => {
                let beside = if mamba.rank == 0 { 2 * mamba.groups * mamba.d_state } else { 0 };
                let channels = mamba.heads * mamba.head_dim + beside;
                (mamba.taps - 1) * channels + state_len(mamba.heads, mamba.d_state, mamba.head_dim)
            }
            Self::ShortConvolution { taps } => (taps - 1) * d_model,
        }
    }
}

/// Shape of a layer's keys and values, as attention sees them and the cache stores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHeads {
    /// Number of heads.
    pub count: usize,
    /// Elements of a query or key head.
    pub key_dim: usize,
    /// Elements of a value head.
    pub value_dim: usize,
}

/// Scores are multiplied by 1 + scale · ln(1 + ⌊(position + offset) / length⌋).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// Growth rate.
    pub scale: f32,
    /// Positions per step.
    pub length: usize,
    /// Added to the position.
    pub offset: usize,
}

/// When queries and keys are normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Before rotation, with whichever norm weights exist.
    BeforeRope,
    /// After rotation, with whichever norm weights exist.
    AfterRope,
    /// After rotation, without weights; skipped in layers without RoPE.
    Bare,
}

/// Rotary frequencies, and how they are scaled to a longer context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frequencies {
    /// Elements of a head that are rotated; the rest pass through.
    pub dims: usize,
    /// Pair i of n rotates by base^(−i/n) per position.
    pub base: f32,
    /// Multiplier on the positions (linear scaling).
    pub scale: f32,
    /// Exempts fast pairs from the scaling, if set.
    pub yarn: Option<Yarn>,
    /// Multiplier on the rotated elements.
    pub magnitude: f32,
    /// Whether this layer uses the file's frequency divisors, if there are any.
    pub divided: bool,
}

impl Frequencies {
    /// The same frequencies without context extension.
    #[must_use]
    pub fn unstretched(self) -> Self {
        Self { scale: 1.0, yarn: None, magnitude: 1.0, divided: false, ..self }
    }
}

/// YaRN: pairs that turn often within the original context keep their angles, slow ones are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Largest share of its unscaled angle that a pair keeps; 1 except in experiments.
    pub extrapolation: f32,
    /// Pairs with more turns than this are kept.
    pub beta_fast: f32,
    /// Pairs with fewer turns than this are scaled.
    pub beta_slow: f32,
}

/// Parameters of a mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// Number of experts.
    pub count: usize,
    /// Experts used per token.
    pub used: usize,
    /// Hidden width of an expert.
    pub d_ffn: usize,
    /// How router scores become weights.
    pub gating: Gating,
    /// If set, only experts of the best groups are chosen.
    pub groups: Option<Groups>,
    /// Whether the chosen experts' weights are normalized to sum to 1.
    pub normed: bool,
    /// Multiplier on the weights.
    pub scale: f32,
    /// Where the weights are applied.
    pub weigh: Weigh,
    /// Whether the router sees the layer's input, before its mixer.
    pub early: bool,
}

/// How router scores become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gating {
    /// The softmax over all experts.
    Softmax,
    /// The sigmoid of each score.
    Sigmoid,
}

/// Groups of neighbouring experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Number of groups.
    pub count: usize,
    /// Groups used per token.
    pub used: usize,
}

/// The norm of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// x / sqrt(mean(x²) + ε) · weight.
    Rms,
    /// (x − mean(x)) / sqrt(var(x) + ε) · weight + bias.
    Layer,
}

/// Rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rope {
    /// Which elements form a rotated pair.
    pub pairs: Pairs,
    /// Context length before it was extended, in positions.
    pub original_context: usize,
}
