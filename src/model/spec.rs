//! An architecture as data: everything the one transformer needs to know about a model family.
//!
//! Metadata decides numbers, the presence of a tensor decides which weights there are, and the enums
//! here decide mathematics. [`super::families`] makes a [`Spec`]; [`super::Model`] runs it.

use crate::kernels::{Act, Weigh, Window};

/// The shape and the mathematics of a model.
#[derive(Debug, Clone)]
pub struct Spec {
    /// `general.architecture`.
    pub architecture: String,
    /// Elements of the residual stream.
    pub d_model: usize,
    /// Words of the vocabulary.
    pub n_vocab: usize,
    /// Positions the model was trained on.
    pub n_ctx_train: usize,
    /// Whether a position sees only those up to its own. Models where all see all make embeddings of a
    /// text, and no text.
    pub causal: bool,
    /// How an embedding is made of those of the positions, if the file says.
    pub pooling: Option<Pooling>,
    /// Query heads.
    pub n_heads: usize,
    /// If some: queries, keys and values come by way of a latent vector.
    pub latent: Option<LatentSpec>,
    /// Elements of the token's own input to each layer, 0 without one.
    pub d_per_layer: usize,
    /// Which norm, everywhere.
    pub norm: NormKind,
    /// Its ε.
    pub norm_eps: f32,
    /// Factor of the embeddings.
    pub embedding_scale: f32,
    /// Factor of what each half of a layer adds to the residual stream.
    pub residual_scale: f32,
    /// Factor of the logits.
    pub logit_scale: f32,
    /// Factor of the attention scores.
    pub attention_scale: f32,
    /// When queries and keys are normed.
    pub qk_norm: QkNorm,
    /// Whether values are normed, without weights; without a projection of their own, they are the keys
    /// as projected.
    pub normed_values: bool,
    /// Scores become `cap · tanh(score / cap)`.
    pub attention_softcap: Option<f32>,
    /// Logits become `cap · tanh(logit / cap)`.
    pub logit_softcap: Option<f32>,
    /// How positions enter.
    pub rope: Rope,
    /// Activation of the feed-forward layers.
    pub act: Act,
    /// Whether the halves of a layer run beside each other although each has a norm of its own.
    pub parallel: bool,
    /// What the norm before the feed-forward half is called.
    pub ffn_norm: &'static str,
    /// The experts of its mixtures, if it has any.
    pub experts: Option<Experts>,
    /// What differs between layers; its length is the number of layers.
    pub layers: Vec<LayerSpec>,
    /// Layers after those, which guess more than one token and are not computed.
    pub n_guessing: usize,
}

/// How the embedding of a text is made of those of its positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Not at all: each position has its own.
    None,
    /// Their mean.
    Mean,
    /// The first one's.
    Cls,
    /// The last one's.
    Last,
}

/// Multi-head latent attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentSpec {
    /// Elements of the latent vector.
    pub rank: usize,
    /// Elements of a query or key head, its turned part included.
    pub key_dim: usize,
    /// Elements of the turned part.
    pub turned: usize,
    /// Elements of a value head.
    pub value_dim: usize,
}

/// What is particular to one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// Its keys and values.
    pub heads: KvHeads,
    /// If some: it has no keys and values of its own and uses those of this earlier layer.
    pub shares: Option<usize>,
    /// Elements between the two halves of its feed-forward layer.
    pub d_ffn: usize,
    /// Which positions a query sees.
    pub window: Window,
    /// How positions turn its queries and keys; `None`: they don't.
    pub rope: Option<Frequencies>,
    /// How scores grow with the query's position.
    pub temperature: Option<Temperature>,
}

/// Keys and values of a layer, as attention sees them and the cache holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHeads {
    /// How many heads.
    pub count: usize,
    /// Elements of a query or key head.
    pub key_dim: usize,
    /// Elements of a value head.
    pub value_dim: usize,
}

/// Scores grow by the factor 1 + scale · ln(1 + ⌊(position + offset) / length⌋).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    /// How much.
    pub scale: f32,
    /// Positions after which it first grows.
    pub length: usize,
    /// Added to the position.
    pub offset: usize,
}

/// When queries and keys are normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Before they are turned, by the weights that are there.
    BeforeRope,
    /// After they are turned, by the weights that are there.
    AfterRope,
    /// After they are turned, without weights; not where they aren't turned.
    Bare,
}

/// The frequencies of a rotary embedding, and what stretches them over a longer context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frequencies {
    /// Elements of a head that are turned; the rest stay.
    pub dims: usize,
    /// Pair i of n turns by base^(−i/n) for each position.
    pub base: f32,
    /// Factor of the positions (linear scaling).
    pub scale: f32,
    /// Which pairs are spared the scaling.
    pub yarn: Option<Yarn>,
    /// Factor of the turned elements.
    pub magnitude: f32,
    /// Whether the divisors that the file brings, if it does, are for this layer.
    pub divided: bool,
}

impl Frequencies {
    /// The same frequencies for a context that was not stretched.
    #[must_use]
    pub fn unstretched(self) -> Self {
        Self { scale: 1.0, yarn: None, magnitude: 1.0, divided: false, ..self }
    }
}

/// YaRN: pairs that turn often within the original context keep their positions, slow ones are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// How much of its position a pair keeps at most; 1 but for experiments.
    pub extrapolation: f32,
    /// Pairs with more turns than this are kept.
    pub beta_fast: f32,
    /// Pairs with fewer turns than this are scaled.
    pub beta_slow: f32,
}

/// How a mixture of experts chooses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many are used for a token.
    pub used: usize,
    /// Elements between the two halves of an expert.
    pub d_ffn: usize,
    /// What makes weights out of the router's scores.
    pub gating: Gating,
    /// If some: only experts of the best groups are chosen.
    pub groups: Option<Groups>,
    /// Whether the weights of the chosen ones are made to sum to 1.
    pub normed: bool,
    /// Factor of the weights.
    pub scale: f32,
    /// Where the weights enter.
    pub weigh: Weigh,
}

/// What makes weights out of a router's scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gating {
    /// The softmax over all experts.
    Softmax,
    /// The sigmoid of each.
    Sigmoid,
}

/// Groups of neighbouring experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// How many there are.
    pub count: usize,
    /// How many are used for a token.
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
    /// Positions before the context was stretched.
    pub original_context: usize,
}

/// Which elements of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// 2i and 2i + 1, as in GGUF files of the `llama` family.
    Adjacent,
    /// i and i + dims/2, as in GPT-NeoX.
    Halves,
}
