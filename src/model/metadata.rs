//! From a file's metadata to the numbers that nearly all families share.
//!
//! Input: metadata under the architecture's prefix. Output: a [`Spec`] for a family to finish. Knows no architecture by
//! name.

use super::checks::LAYERS_MAX;
use super::file::{FileError, ModelFile};
use super::spec::{
    DeltaNetSpec, Experts, Frequencies, Gating, Groups, Halves, KdaSpec, KeyOrder, KvHeads,
    LayerSpec, Mamba1Spec, Mamba2Spec, MixerSpec, NormKind, Pairs, Pooling, QkNorm, RecurrentSpec,
    Rope, Spec, Yarn,
};
use crate::kernels::{Act, Forgetting, Weigh, Window};

/// Metadata under the architecture's own prefix.
pub(super) struct Reader<'a> {
    pub file: &'a ModelFile,
    pub prefix: &'a str,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub fn has(&self, name: &str) -> bool {
        self.file.get(&self.key(name)).is_some()
    }

    pub fn number(&self, name: &str) -> Result<usize, FileError> {
        self.file.number(&self.key(name))
    }

    pub fn number_or(&self, name: &str, default: usize) -> Result<usize, FileError> {
        self.file.number_or(&self.key(name), default)
    }

    /// A number for each of `n` layers: one shared by all, or an array.
    pub fn each(&self, name: &str, n: usize, default: usize) -> Result<Vec<usize>, FileError> {
        let Some((array, bytes)) = self.file.array(&self.key(name)) else {
            return Ok(vec![self.number_or(name, default)?; n]);
        };
        let whole = |x: f64| (0.0..=f64::from(i32::MAX)).contains(&x) && x.fract() == 0.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as filtered")]
        let numbers = array.numbers(bytes).filter(|x| whole(*x)).map(|x| x as usize);
        let numbers: Vec<usize> = numbers.take(n).collect();
        if numbers.len() < n {
            return Err(FileError::Metadata {
                key: self.key(name),
                found: format!("found an array of length {}", array.len),
                expected: "a number, or a whole number for each layer",
            });
        }
        Ok(numbers)
    }

    /// A number, or the largest of an array's, where layers without any have 0.
    fn largest(&self, name: &str) -> Result<usize, FileError> {
        let Some((array, _)) = self.file.array(&self.key(name)) else { return self.number(name) };
        Ok(self.each(name, array.len.min(LAYERS_MAX), 0)?.into_iter().max().unwrap_or(0))
    }

    pub fn float_or(&self, name: &str, default: f32) -> Result<f32, FileError> {
        self.file.float_or(&self.key(name), default)
    }

    /// A number below 0, which has to be there.
    pub fn negative(&self, name: &str) -> Result<f32, FileError> {
        let (key, found) = (self.key(name), self.float_or(name, 0.0)?);
        if found < 0.0 {
            return Ok(found);
        }
        Err(ModelFile::unexpected(&key, self.file.get(&key), "a negative number"))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.file.text(&self.key(name))
    }

    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool, FileError> {
        self.file.flag_or(&self.key(name), default)
    }

    pub fn softcap(&self, name: &str, default: f32) -> Result<Option<f32>, FileError> {
        Ok(Some(self.float_or(name, default)?).filter(|&cap| cap > 0.0))
    }

    /// The rotary frequencies: their base and context scaling. A factor without a type means linear scaling; an unknown
    /// type is refused, because the answers would be silently wrong.
    fn frequencies(&self, key_dim: usize) -> Result<Frequencies, FileError> {
        let kind = self.file.text(&self.key("rope.scaling.type")).unwrap_or("linear");
        if !matches!(kind, "none" | "linear" | "yarn" | "longrope") {
            return Err(FileError::Metadata {
                key: self.key("rope.scaling.type"),
                found: format!("found {kind:?}"),
                expected: "none, linear, yarn or longrope",
            });
        }
        let old = self.float_or("rope.scale_linear", 1.0)?;
        let factor = self.float_or("rope.scaling.factor", old)?;
        let factor = if kind == "none" || factor <= 0.0 { 1.0 } else { factor };
        let mut frequencies = Frequencies {
            dims: self.number_or("rope.dimension_count", key_dim)?,
            base: self.float_or("rope.freq_base", 10_000.0)?,
            scale: 1.0 / factor,
            yarn: None,
            magnitude: self.float_or("rope.scaling.attn_factor", 1.0)?,
            divided: true,
        };
        let extrapolation = self.float_or("rope.scaling.yarn_ext_factor", 1.0)?;
        if kind == "yarn" && extrapolation > 0.0 {
            frequencies.yarn = Some(Yarn {
                extrapolation,
                beta_fast: self.float_or("rope.scaling.yarn_beta_fast", 32.0)?,
                beta_slow: self.float_or("rope.scaling.yarn_beta_slow", 1.0)?,
            });
            let whole = self.float_or("rope.scaling.yarn_log_multiplier", 0.0)?;
            frequencies.magnitude *= yarn_magnitude(factor, 1.0);
            if whole != 0.0 {
                frequencies.magnitude /= yarn_magnitude(factor, whole);
            }
        }
        Ok(frequencies)
    }

    /// The parameters of a mixture of experts, if there is one; `width` is the key of the experts' hidden width.
    /// Weights come from the softmax; `normed` makes them sum to 1.
    pub fn experts(&self, width: &str, normed: bool) -> Result<Option<Experts>, FileError> {
        let count = self.number_or("expert_count", 0)?;
        if count == 0 {
            return Ok(None);
        }
        let scale = self.float_or("expert_weights_scale", 0.0)?;
        let groups = self.number_or("expert_group_count", 0)?;
        let groups = if groups > 1 {
            Some(Groups { count: groups, used: self.number("expert_group_used_count")? })
        } else {
            None
        };
        Ok(Some(Experts {
            count,
            used: self.number("expert_used_count")?,
            d_ffn: self.largest(width)?,
            gating: Gating::Softmax,
            groups,
            normed,
            scale: if scale == 0.0 { 1.0 } else { scale },
            weigh: Weigh::Outputs,
            early: false,
        }))
    }

    /// Like [`Reader::experts`], for families whose files name the gating; `gating` is the default.
    pub fn experts_as_told(&self, gating: Gating) -> Result<Option<Experts>, FileError> {
        const NAME: &str = "expert_gating_func";
        let normed = self.flag_or("expert_weights_norm", false)?;
        let mut experts = self.experts("expert_feed_forward_length", normed)?;
        if let Some(experts) = &mut experts {
            experts.gating = match self.number_or(NAME, 0)? {
                0 => gating,
                1 => Gating::Softmax,
                2 => Gating::Sigmoid,
                other => {
                    return Err(FileError::Metadata {
                        key: self.key(NAME),
                        found: format!("found {other}"),
                        expected: "1 (softmax) or 2 (sigmoid)",
                    });
                }
            };
        }
        Ok(experts)
    }

    /// Gives layers the file's sliding window (`default` if it has none; 0: no window): those that an array marks, or
    /// all but every `every`-th.
    pub fn windows(&self, spec: &mut Spec, default: usize, every: usize) -> Result<(), FileError> {
        self.windows_after(spec, default, every, usize::MAX)
    }

    /// The same where `before` layers with windows come before the first without.
    pub fn windows_after(
        &self,
        spec: &mut Spec,
        default: usize,
        every: usize,
        before: usize,
    ) -> Result<(), FileError> {
        const NAME: &str = "attention.sliding_window_pattern";
        let n = spec.layers.len();
        let every = if self.file.array(&self.key(NAME)).is_some() {
            every
        } else {
            self.number_or(NAME, every)?
        };
        let first = before.min(every.saturating_sub(1));
        let windowed = self.marks(NAME, n, |layer| every == 0 || layer % every != first)?;
        let window = self.number_or("attention.sliding_window", default)?;
        for (layer, windowed) in spec.layers.iter_mut().zip(windowed) {
            layer.window = if windowed && window > 0 { Window::Last(window) } else { Window::All };
        }
        Ok(())
    }

    /// A gated delta net. Zero heads are left for `check` to refuse.
    pub fn delta_net(&self, order: KeyOrder) -> Result<RecurrentSpec, FileError> {
        let heads = self.number("ssm.time_step_rank")?;
        Ok(RecurrentSpec::DeltaNet(DeltaNetSpec {
            taps: self.number("ssm.conv_kernel")?,
            heads,
            key_heads: self.number("ssm.group_count")?,
            key_dim: self.number("ssm.state_size")?,
            value_dim: self.shared_by("ssm.inner_size", heads)?,
            order,
        }))
    }

    /// Mamba.
    pub fn mamba1(&self) -> Result<RecurrentSpec, FileError> {
        Ok(RecurrentSpec::Mamba1(Mamba1Spec {
            taps: self.number("ssm.conv_kernel")?,
            channels: self.number("ssm.inner_size")?,
            d_state: self.number("ssm.state_size")?,
            rank: self.number("ssm.time_step_rank")?,
            normed: self.flag_or("ssm.dt_b_c_rms", false)?,
        }))
    }

    /// Mamba 2.
    pub fn mamba2(&self) -> Result<RecurrentSpec, FileError> {
        self.mamba2_of(self.number("ssm.group_count")?, 0)
    }

    /// PLaMo 2's form of it.
    pub fn plamo2(&self) -> Result<RecurrentSpec, FileError> {
        const RANK_MIN: usize = 64;
        self.mamba2_of(1, RANK_MIN.max(self.number("embedding_length")? / 16))
    }

    /// Zero heads are left for `check` to refuse.
    fn mamba2_of(&self, groups: usize, rank: usize) -> Result<RecurrentSpec, FileError> {
        let heads = self.number("ssm.time_step_rank")?;
        Ok(RecurrentSpec::Mamba2(Mamba2Spec {
            taps: self.number("ssm.conv_kernel")?,
            heads,
            head_dim: self.shared_by("ssm.inner_size", heads)?,
            d_state: self.number("ssm.state_size")?,
            groups,
            rank,
        }))
    }

    /// Kimi's delta attention.
    pub fn kda(&self, heads: usize, forgetting: Forgetting) -> Result<RecurrentSpec, FileError> {
        Ok(RecurrentSpec::Kda(KdaSpec {
            taps: self.number("ssm.conv_kernel")?,
            heads,
            dim: self.number("kda.head_dim")?,
            forgetting,
        }))
    }

    /// A number divided by that of heads.
    fn shared_by(&self, name: &str, heads: usize) -> Result<usize, FileError> {
        let whole = self.number(name)?;
        if !whole.is_multiple_of(heads.max(1)) {
            return Err(FileError::Metadata {
                key: self.key(name),
                found: format!("found {whole}"),
                expected: "a multiple of the number of heads (ssm.time_step_rank)",
            });
        }
        Ok(whole / heads.max(1))
    }

    /// The layers whose mixer has a state of fixed size: those that an array marks, or all but every `every`-th.
    pub fn recurrent_layers(&self, n: usize, every: usize) -> Result<Vec<bool>, FileError> {
        const NAME: &str = "attention.recurrent_layers";
        let every = self.number_or("full_attention_interval", every)?;
        self.marks(NAME, n, |layer| every == 0 || (layer + 1) % every != 0)
    }

    /// Which of `n` layers an array of booleans or numbers marks; without one, `default` says.
    fn marks(
        &self,
        name: &str,
        n: usize,
        default: impl Fn(usize) -> bool,
    ) -> Result<Vec<bool>, FileError> {
        let Some((array, bytes)) = self.file.array(&self.key(name)) else {
            return Ok((0..n).map(default).collect());
        };
        let numbers = array.numbers(bytes).map(|x| x != 0.0);
        let marks: Vec<bool> = array.bools(bytes).chain(numbers).take(n).collect();
        if marks.len() == n {
            return Ok(marks);
        }
        Err(FileError::Metadata {
            key: self.key(name),
            found: format!("found an array of length {}", array.len),
            expected: "a number, or a boolean for each layer",
        })
    }

    /// Whether RoPE has sections for image positions; in text, all sections have the same position.
    pub fn has_sections(&self) -> bool {
        let sections = self.file.array(&self.key("rope.dimension_sections"));
        sections.is_some_and(|(array, bytes)| array.numbers(bytes).take(2).all(|n| n > 0.0))
    }

    /// How embeddings are pooled, if the file says. Pooling types that give no embedding, such as rank, count as unset.
    fn pooling(&self) -> Result<Option<Pooling>, FileError> {
        const NAME: &str = "pooling_type";
        Ok(match if self.has(NAME) { self.number(NAME)? } else { usize::MAX } {
            0 => Some(Pooling::None),
            1 => Some(Pooling::Mean),
            2 => Some(Pooling::Cls),
            3 => Some(Pooling::Last),
            4 => Some(Pooling::Rank),
            _ => None,
        })
    }

    /// Switches to layer norms instead of RMS norms.
    pub fn layer_norm(&self, spec: &mut Spec) -> Result<(), FileError> {
        spec.norm = NormKind::Layer;
        spec.norm_eps = self.float_or("attention.layer_norm_epsilon", 1e-5)?;
        Ok(())
    }

    /// The spec that nearly all families share: the standard GGUF keys and their defaults.
    #[expect(clippy::cast_precision_loss, reason = "a head size of at most thousands")]
    pub fn base(&self, pairs: Pairs, act: Act) -> Result<Spec, FileError> {
        let d_model = self.number("embedding_length")?;
        let n_heads = self.number("attention.head_count")?;
        let n_ctx_train = self.number("context_length")?;
        // Zero heads and hostile counts are left for `check` to refuse; they cause no allocation here.
        let even = d_model.checked_div(n_heads).unwrap_or(0);
        let n_guessing = self.number_or("nextn_predict_layers", 0)?;
        let n = self.number("block_count")?.saturating_sub(n_guessing).min(LAYERS_MAX + 1);
        let key_dim = self.number_or("attention.key_length", even)?;
        let value_dim = self.number_or("attention.value_length", even)?;
        let rope = Some(self.frequencies(key_dim)?);
        let counts = self.each("attention.head_count_kv", n, n_heads)?;
        let widths = self.each("feed_forward_length", n, d_model)?;
        let layer = |(count, d_ffn)| LayerSpec {
            heads: KvHeads { count, key_dim, value_dim },
            mixer: MixerSpec::Attention,
            shares: None,
            d_ffn,
            act: None,
            feed: None,
            output_scale: 1.0,
            sparsity: None,
            window: Window::All,
            rope,
            temperature: None,
        };
        Ok(Spec {
            architecture: self.prefix.to_owned(),
            d_model,
            n_vocab: self
                .file
                .tensor("token_embd.weight")
                .map_or(0, |t| t.dims.get(1).copied().unwrap_or(0)),
            n_ctx_train,
            causal: self.flag_or("attention.causal", true)?,
            pooling: self.pooling()?,
            ranked: Pooling::Cls,
            n_heads,
            latent: None,
            d_per_layer: 0,
            streams: 1,
            norm: NormKind::Rms,
            norm_eps: self.float_or("attention.layer_norm_rms_epsilon", 1e-5)?,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            attention_scale: 1.0 / (key_dim as f32).sqrt(),
            qk_norm: QkNorm::BeforeRope,
            gated_attention: false,
            adds_to_normed: false,
            normed_values: false,
            attention_softcap: None,
            alibi: None,
            clamp: None,
            logit_softcap: None,
            rope: Rope {
                pairs,
                original_context: self
                    .number_or("rope.scaling.original_context_length", n_ctx_train)?,
            },
            act,
            halves: Halves::InTurn,
            ffn_norm: "ffn_norm",
            after_norms: ["post_attention_norm", "post_ffw_norm"],
            final_norm: "output_norm",
            experts: None,
            layers: counts.into_iter().zip(widths).map(layer).collect(),
            n_guessing,
        })
    }
}

/// How much YaRN enlarges the rotated elements for a context extended by `factor`.
pub(super) fn yarn_magnitude(factor: f32, multiplier: f32) -> f32 {
    if factor > 1.0 { 0.1 * multiplier * libm::logf(factor) + 1.0 } else { 1.0 }
}
