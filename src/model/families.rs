//! The model families: from a file's metadata to a [`Spec`].
//!
//! The only file that names architectures. A new family is one short function here, a test vector and
//! a row of the README.

use super::file::{FileError, ModelFile};
use super::spec::{Experts, LayerSpec, NormKind, Pairs, Rope, Spec};
use crate::kernels::Act;

type Family = fn(&Reader<'_>) -> Result<Spec, FileError>;

/// `general.architecture` and what makes its spec.
const FAMILIES: &[(&str, Family)] = &[
    ("gemma", gemma),
    ("gemma2", gemma2),
    ("gemma3", gemma3),
    ("glm4", glm4),
    ("granite", granite),
    ("llama", llama),
    ("olmo2", neox),
    ("olmoe", olmoe),
    ("phi3", neox),
    ("qwen2", neox),
    ("qwen2moe", qwen2moe),
    ("qwen3", neox),
    ("qwen3moe", qwen3moe),
    ("smollm3", smollm3),
    ("stablelm", stablelm),
    ("starcoder2", starcoder2),
];

/// An architecture that is not known, or metadata that makes no sense for it.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// No function above knows it.
    #[error(
        "architecture `{found}` is not supported, expected one of: {known}\nhint: a newer tealight may support it"
    )]
    Unknown {
        /// What the file says.
        found: String,
        /// What there is.
        known: String,
    },
    /// Numbers that do not fit each other.
    #[error(
        "{what}: found {found}, expected {expected}\nhint: the file is damaged, or was made by a faulty program; get it again"
    )]
    Number {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What it may be.
        expected: String,
    },
    /// Metadata is missing or malformed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads the spec of the model in `file`.
///
/// # Errors
/// When the architecture is unknown or its numbers are missing or impossible.
pub fn spec(file: &ModelFile) -> Result<Spec, FamilyError> {
    let name = file.text("general.architecture").unwrap_or("(none)").to_owned();
    let Some((_, family)) = FAMILIES.iter().find(|(known, _)| *known == name) else {
        return Err(FamilyError::Unknown { found: name, known: names().join(", ") });
    };
    let spec = family(&Reader { file, prefix: &name })?;
    check(&spec)?;
    Ok(spec)
}

/// The architectures that are known.
#[must_use]
pub fn names() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}

/// Llama 1 to 3, Mistral, SmolLM, and Mixtral with its experts.
fn llama(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Adjacent, Act::Silu)?;
    spec.experts = r.experts("feed_forward_length", true)?;
    Ok(spec)
}

/// Families that differ from Llama in the pairs of their rotation, and else in which tensors there are.
fn neox(r: &Reader<'_>) -> Result<Spec, FileError> {
    r.base(Pairs::Halves, Act::Silu)
}

fn olmoe(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.experts = r.experts("feed_forward_length", false)?;
    Ok(spec)
}

fn qwen2moe(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.experts = r.experts("expert_feed_forward_length", false)?;
    Ok(spec)
}

fn qwen3moe(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.experts = r.experts("expert_feed_forward_length", true)?;
    Ok(spec)
}

/// Granite: Llama with four factors.
fn granite(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Adjacent, Act::Silu)?;
    let factor = |name: &str| r.float_or(name, 0.0).map(|f| if f == 0.0 { 1.0 } else { f });
    spec.embedding_scale = factor("embedding_scale")?;
    spec.residual_scale = factor("residual_scale")?;
    spec.logit_scale = 1.0 / factor("logit_scale")?;
    spec.attention_scale = r.float_or("attention.scale", spec.attention_scale)?;
    Ok(spec)
}

fn glm4(r: &Reader<'_>) -> Result<Spec, FileError> {
    r.base(Pairs::Adjacent, Act::Silu)
}

/// SmolLM3: every fourth layer knows no positions.
fn smollm3(r: &Reader<'_>) -> Result<Spec, FileError> {
    const STEP: usize = 4;
    let mut spec = r.base(Pairs::Adjacent, Act::Silu)?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        layer.rope = (index + 1) % STEP != 0;
    }
    Ok(spec)
}

fn stablelm(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::Silu)?;
    r.layer_norm(&mut spec)?;
    Ok(spec)
}

fn starcoder2(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::GeluTanh)?;
    r.layer_norm(&mut spec)?;
    Ok(spec)
}

/// Gemma: embeddings scaled by the root of their width.
fn gemma(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::GeluTanh)?;
    spec.embedding_scale = (spec.d_model as f32).sqrt();
    Ok(spec)
}

/// Gemma 2: soft caps, and a window in every other layer.
fn gemma2(r: &Reader<'_>) -> Result<Spec, FileError> {
    const WINDOW: usize = 4096;
    /// The 27B model, told by its layers, scales by the width of a head it would have had.
    const LAYERS_27B: usize = 46;
    let mut spec = gemma(r)?;
    spec.attention_softcap = r.softcap("attn_logit_softcapping")?;
    spec.logit_softcap = r.softcap("final_logit_softcapping")?;
    if spec.layers.len() == LAYERS_27B {
        spec.attention_scale = 1.0 / (spec.d_model as f32 / spec.n_heads as f32).sqrt();
    }
    let window = r.number_or("attention.sliding_window", WINDOW)?;
    for layer in spec.layers.iter_mut().step_by(2) {
        layer.window = Some(window).filter(|&w| w > 0);
    }
    Ok(spec)
}

/// Gemma 3: scaled embeddings, five windowed layers with their own rotary base to one full layer.
fn gemma3(r: &Reader<'_>) -> Result<Spec, FileError> {
    /// The 27B model, told by its layers, scales by the width of a head it would have had.
    const LAYERS_27B: usize = 62;
    const PATTERN: usize = 6;
    const LOCAL_BASE: f32 = 10_000.0;
    let pattern = r.number_or("attention.sliding_window_pattern", PATTERN)?.max(1);
    let local_base = r.float_or("rope.freq_base_swa", LOCAL_BASE)?;
    let mut spec = gemma(r)?;
    if spec.layers.len() == LAYERS_27B {
        spec.attention_scale = 1.0 / (spec.d_model as f32 / spec.n_heads as f32).sqrt();
    }
    spec.logit_softcap = r.softcap("final_logit_softcapping")?;
    let window = r.number_or("attention.sliding_window", 0)?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if window > 0 && index % pattern != pattern - 1 {
            layer.window = Some(window);
            layer.rope_base = local_base;
            layer.rope_scale = 1.0;
        }
    }
    Ok(spec)
}

/// Metadata under the architecture's own prefix.
struct Reader<'a> {
    file: &'a ModelFile,
    prefix: &'a str,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn number(&self, name: &str) -> Result<usize, FileError> {
        self.file.number(&self.key(name))
    }

    fn number_or(&self, name: &str, default: usize) -> Result<usize, FileError> {
        self.file.number_or(&self.key(name), default)
    }

    fn float_or(&self, name: &str, default: f32) -> Result<f32, FileError> {
        self.file.float_or(&self.key(name), default)
    }

    fn softcap(&self, name: &str) -> Result<Option<f32>, FileError> {
        Ok(Some(self.float_or(name, 0.0)?).filter(|&cap| cap > 0.0))
    }

    /// The factor by which positions are stretched: linear scaling, which is what a factor without a
    /// type means. Other kinds are refused: their answers would be wrong in silence.
    fn rope_factor(&self) -> Result<f32, FileError> {
        let refuse = |name: &str, found: String, expected| {
            Err(FileError::Metadata {
                key: self.key(name),
                found: format!("found {found}"),
                expected,
            })
        };
        let kind = self.file.text(&self.key("rope.scaling.type")).unwrap_or("linear");
        if !matches!(kind, "none" | "linear") {
            return refuse("rope.scaling.type", format!("{kind:?}"), "none or linear");
        }
        let attention = self.float_or("rope.scaling.attn_factor", 1.0)?;
        if (attention - 1.0).abs() > f32::EPSILON {
            return refuse("rope.scaling.attn_factor", attention.to_string(), "1");
        }
        let old = self.float_or("rope.scale_linear", 1.0)?;
        let factor = self.float_or("rope.scaling.factor", old)?;
        Ok(if kind == "none" || factor <= 0.0 { 1.0 } else { factor })
    }

    /// The experts of a mixture, if there are any; `width`: the key of their inner width.
    fn experts(&self, width: &str, normed: bool) -> Result<Option<Experts>, FileError> {
        let count = self.number_or("expert_count", 0)?;
        if count == 0 {
            return Ok(None);
        }
        let scale = self.float_or("expert_weights_scale", 0.0)?;
        Ok(Some(Experts {
            count,
            used: self.number("expert_used_count")?,
            d_ffn: self.number(width)?,
            normed,
            scale: if scale == 0.0 { 1.0 } else { scale },
        }))
    }

    /// Layer norms instead of RMS norms.
    fn layer_norm(&self, spec: &mut Spec) -> Result<(), FileError> {
        spec.norm = NormKind::Layer;
        spec.norm_eps = self.float_or("attention.layer_norm_epsilon", 1e-5)?;
        Ok(())
    }

    /// What nearly all families share: the keys of the GGUF naming scheme and their defaults.
    #[expect(clippy::cast_precision_loss, reason = "a head size of at most thousands")]
    fn base(&self, pairs: Pairs, act: Act) -> Result<Spec, FileError> {
        let d_model = self.number("embedding_length")?;
        let n_heads = self.number("attention.head_count")?;
        let n_layers = self.number("block_count")?;
        let key_dim = match d_model.checked_div(n_heads) {
            Some(even) => self.number_or("attention.key_length", even)?,
            None => 0,
        };
        let factor = self.rope_factor()?;
        let layer = LayerSpec {
            window: None,
            rope: true,
            rope_base: self.float_or("rope.freq_base", 10_000.0)?,
            rope_scale: 1.0 / factor,
        };
        // Hostile counts end in an error of `check`, not in an allocation here.
        let layers = vec![layer; n_layers.min(LAYERS_MAX + 1)];
        Ok(Spec {
            architecture: self.prefix.to_owned(),
            d_model,
            n_vocab: self
                .file
                .tensor("token_embd.weight")
                .map_or(0, |t| t.dims.get(1).copied().unwrap_or(0)),
            n_ctx_train: self.number("context_length")?,
            n_heads,
            n_kv_heads: self.number_or("attention.head_count_kv", n_heads)?,
            key_dim,
            value_dim: self.number_or("attention.value_length", key_dim)?,
            d_ffn: self.number_or("feed_forward_length", d_model)?,
            norm: NormKind::Rms,
            norm_eps: self.float_or("attention.layer_norm_rms_epsilon", 1e-5)?,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            attention_scale: 1.0 / (key_dim as f32).sqrt(),
            attention_softcap: None,
            logit_softcap: None,
            rope: Rope { pairs, dims: self.number_or("rope.dimension_count", key_dim)? },
            act,
            experts: None,
            layers,
        })
    }
}

const LAYERS_MAX: usize = 1 << 10;

/// Refuses numbers that no model has, before anything is computed or allocated from them.
fn check(spec: &Spec) -> Result<(), FamilyError> {
    let bounds: [(&'static str, usize, usize); 9] = [
        ("block_count", spec.layers.len(), LAYERS_MAX),
        ("embedding_length", spec.d_model, 1 << 20),
        ("attention.head_count", spec.n_heads, 1 << 14),
        ("attention.head_count_kv", spec.n_kv_heads, spec.n_heads),
        ("attention.key_length", spec.key_dim, 1 << 14),
        ("attention.value_length", spec.value_dim, 1 << 14),
        ("feed_forward_length", spec.d_ffn, 1 << 24),
        ("context_length", spec.n_ctx_train, 1 << 30),
        ("rows of `token_embd.weight`", spec.n_vocab, 1 << 24),
    ];
    for (what, found, max) in bounds {
        if !(1..=max).contains(&found) {
            return Err(FamilyError::Number { what, found, expected: format!("1 to {max}") });
        }
    }
    if let Some(experts) = spec.experts {
        let bounds = [
            ("expert_count", experts.count, 1 << 12),
            ("expert_used_count", experts.used, experts.count),
            ("expert_feed_forward_length", experts.d_ffn, 1 << 24),
        ];
        for (what, found, max) in bounds {
            if !(1..=max).contains(&found) {
                return Err(FamilyError::Number { what, found, expected: format!("1 to {max}") });
            }
        }
    }
    if !spec.n_heads.is_multiple_of(spec.n_kv_heads) {
        return Err(FamilyError::Number {
            what: "attention.head_count_kv",
            found: spec.n_kv_heads,
            expected: format!("a divisor of head_count {}", spec.n_heads),
        });
    }
    if spec.rope.dims > spec.key_dim || !spec.rope.dims.is_multiple_of(2) {
        return Err(FamilyError::Number {
            what: "rope.dimension_count",
            found: spec.rope.dims,
            expected: format!("an even number up to key_length {}", spec.key_dim),
        });
    }
    Ok(())
}
