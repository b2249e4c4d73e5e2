//! The model families: from a file's metadata to a [`Spec`].
//!
//! The only file that names architectures. A new family is one short function here, a test vector and a row in the
//! README.

use super::checks::{FamilyError, check};
use super::file::{FileError, ModelFile};
use super::metadata::{Reader, yarn_magnitude};
use super::spec::{
    Experts, Frequencies, Gating, Halves, KeyOrder, KvHeads, LatentSpec, LayerSpec, LightningSpec,
    MixerSpec, Pairs, Pooling, QkNorm, RecurrentSpec, RwkvSpec, Spec, Temperature,
};
use crate::kernels::{Act, Forgetting, Weigh, Window, Xielu, softplus};

/// Metadata keys for the experts' hidden width: a key of its own, or the one for all layers.
const OF_EXPERTS: &str = "expert_feed_forward_length";
const OF_ALL: &str = "feed_forward_length";
/// Rotary base of layers with windows, where the file has none.
const LOCAL_BASE: f32 = 10_000.0;
/// ALiBi's largest bias, where the file doesn't say.
const ALIBI: f32 = 8.0;

type Family = fn(&Reader<'_>) -> Result<Spec, FileError>;

/// `general.architecture` and the function that builds its spec.
const FAMILIES: &[(&str, Family)] = &[
    ("apertus", apertus),
    ("arcee", arcee),
    ("arwkv7", |r| time_mixes(r, neox(r)?, RecurrentSpec::Rwkv7)),
    ("bailingmoe", |r| mixture(llama(r), r.experts_as_told(Gating::Softmax))),
    ("bailingmoe2", |r| mixture(neox(r), r.experts_as_told(Gating::Softmax))),
    ("bailingmoe3", bailing3),
    ("bert", bert),
    ("bitnet", neox),
    ("chatglm", llama),
    ("cohere2", cohere2),
    ("command-r", command_r),
    ("deepseek", |r| mixture(llama(r), r.experts(OF_EXPERTS, false))),
    ("deepseek2", deepseek2),
    ("dots1", |r| mixture(neox(r), r.experts_as_told(Gating::Softmax))),
    ("ernie4_5", llama),
    ("ernie4_5-moe", |r| mixture(llama(r), r.experts(OF_EXPERTS, true))),
    ("exaone", neox),
    ("exaone4", exaone4),
    ("falcon", phi2),
    ("falcon-h1", falcon_h1),
    ("gemma", gemma),
    ("gemma-embedding", gemma_embedding),
    ("gemma2", gemma2),
    ("gemma3", gemma3),
    ("gemma3n", gemma3n),
    ("gemma4", gemma4),
    ("glm4", glm4),
    ("glm4moe", glm4moe),
    ("gpt-oss", gpt_oss),
    ("gpt2", gpt2),
    ("gptneox", gptneox),
    ("granite", granite),
    ("granitehybrid", granite_hybrid),
    ("granitemoe", granite),
    ("grok", grok),
    ("hunyuan-dense", hunyuan),
    ("hunyuan-moe", |r| mixture(hunyuan(r), r.experts(OF_ALL, true))),
    ("internlm2", llama),
    ("jamba", jamba),
    ("jina-bert-v2", jina_bert),
    ("kimi-linear", kimi_linear),
    ("lfm2", lfm2),
    ("lfm2moe", lfm2moe),
    ("llama", llama),
    ("llama4", llama4),
    ("mamba", |r| states_only(r, r.mamba1())),
    ("mamba2", |r| states_only(r, r.mamba2())),
    ("minicpm", minicpm),
    ("minimax-01", minimax_01),
    ("minimax-m2", minimax_m2),
    ("mistral3", mistral3),
    ("mistral4", deepseek2),
    ("modern-bert", modern_bert),
    ("mpt", mpt),
    ("nemotron", nemotron),
    ("nemotron_h", nemotron_h),
    ("nemotron_h_moe", |r| mixture(nemotron_h(r), r.experts_as_told(Gating::Sigmoid))),
    ("nomic-bert", nomic_bert),
    ("nomic-bert-moe", nomic_bert_moe),
    ("olmo2", olmo2),
    ("olmoe", |r| mixture(neox(r), r.experts(OF_ALL, false))),
    ("orion", stablelm),
    ("phi2", phi2),
    ("phi3", neox),
    ("phimoe", |r| mixture(neox(r), r.experts(OF_ALL, true))),
    ("plamo2", plamo2),
    ("plm", plm),
    ("qwen2", neox),
    ("qwen2moe", |r| mixture(neox(r), r.experts(OF_EXPERTS, false))),
    ("qwen2vl", neox),
    ("qwen3", qwen3),
    ("qwen35", |r| qwen35(r, KeyOrder::Alternating)),
    ("qwen35moe", |r| mixture(qwen35(r, KeyOrder::Alternating), r.experts(OF_EXPERTS, true))),
    ("qwen3moe", |r| mixture(neox(r), r.experts(OF_EXPERTS, true))),
    ("qwen3next", |r| mixture(qwen35(r, KeyOrder::Neighbours), r.experts(OF_EXPERTS, true))),
    ("qwen3vl", neox),
    ("qwen3vlmoe", |r| mixture(neox(r), r.experts(OF_EXPERTS, true))),
    ("rwkv6", |r| rwkv(r, RecurrentSpec::Rwkv6)),
    ("rwkv6qwen2", |r| time_mixes(r, neox(r)?, RecurrentSpec::Rwkv6)),
    ("rwkv7", |r| rwkv(r, RecurrentSpec::Rwkv7)),
    ("seed_oss", seed_oss),
    ("smallthinker", smallthinker),
    ("smollm3", smollm3),
    ("stablelm", stablelm),
    ("starcoder", gpt2),
    ("starcoder2", phi2),
];

/// Reads the spec of the model in `file`.
///
/// # Errors
/// When the architecture is unknown or its numbers are missing or impossible.
pub fn spec(file: &ModelFile) -> Result<Spec, FamilyError> {
    let name = file.text("general.architecture").unwrap_or("(none)").to_owned();
    let Some((_, family)) = FAMILIES.iter().find(|(known, _)| *known == name) else {
        let (near, known) = (near(&name), names().join(", "));
        return Err(FamilyError::Unknown { found: name, near, known });
    };
    let spec = family(&Reader { file, prefix: &name })?;
    check(&spec)?;
    Ok(spec)
}

/// The known architectures.
#[must_use]
pub fn names() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}

/// What to say of known architectures whose names begin like this one: models of the same makers.
fn near(name: &str) -> String {
    const ALIKE: usize = 3;
    let common = |known: &str| name.bytes().zip(known.bytes()).take_while(|(a, b)| a == b).count();
    let longest = names().into_iter().map(common).max().unwrap_or(0);
    if longest < ALIKE {
        return String::new();
    }
    let all: Vec<String> = names()
        .into_iter()
        .filter(|known| common(known) == longest)
        .map(|known| format!("`{known}`"))
        .collect();
    format!(" (near it, {} run)", all.join(", "))
}

/// Adds experts to a spec.
fn mixture(
    spec: Result<Spec, FileError>,
    experts: Result<Option<Experts>, FileError>,
) -> Result<Spec, FileError> {
    Ok(Spec { experts: experts?, ..spec? })
}

/// Llama 1 to 3, Mistral, SmolLM, Mixtral with its experts, and families that differ only in which tensors they have.
fn llama(r: &Reader<'_>) -> Result<Spec, FileError> {
    mixture(r.base(Pairs::Adjacent, Act::Silu), r.experts(OF_ALL, true))
}

/// Llama 4: three layers with chunked attention to each full layer without RoPE, and expert weights applied to the
/// inputs.
fn llama4(r: &Reader<'_>) -> Result<Spec, FileError> {
    const CHUNK: usize = 8192;
    const STEP: usize = 4;
    /// Maverick, recognized by its number of experts, doesn't normalize queries and keys.
    const EXPERTS_MAVERICK: usize = 128;
    let mut spec = r.base(Pairs::Adjacent, Act::Silu)?;
    spec.experts = r.experts(OF_EXPERTS, false)?;
    if let Some(experts) = &mut spec.experts {
        experts.gating = Gating::Sigmoid;
        experts.weigh = Weigh::Inputs;
        if experts.count != EXPERTS_MAVERICK {
            spec.qk_norm = QkNorm::Bare;
        }
    }
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if (index + 1) % STEP == 0 {
            layer.rope = None;
            layer.temperature = Some(Temperature { scale: 0.1, length: CHUNK, offset: 1 });
        } else {
            layer.window = Window::Chunk(CHUNK);
        }
    }
    Ok(spec)
}

/// Mistral 3 and Ministral 3: Llama with scores that grow beyond its original context.
fn mistral3(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = llama(r)?;
    let scale = r.float_or("attention.temperature_scale", 0.0)?;
    if scale != 0.0 {
        let length = spec.rope.original_context.max(1);
        for layer in &mut spec.layers {
            layer.temperature = Some(Temperature { scale, length, offset: 0 });
        }
    }
    Ok(spec)
}

/// BERT and its derivatives: bidirectional attention, and added position embeddings instead of RoPE.
fn bert(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = nomic_bert(r)?;
    spec.act = Act::GeluTanh;
    spec.layers.iter_mut().for_each(|layer| layer.rope = None);
    Ok(spec)
}

/// Nomic's BERT: with RoPE and a gated FFN.
fn nomic_bert(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    r.layer_norm(&mut spec)?;
    spec.causal = r.flag_or("attention.causal", false)?;
    Ok(spec)
}

/// Nomic's BERT with experts that have no gates.
fn nomic_bert_moe(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = mixture(nomic_bert(r), r.experts(OF_ALL, false))?;
    spec.act = Act::GeluTanh;
    Ok(spec)
}

/// Jina's BERT: scores that fall with the distance in place of positions.
fn jina_bert(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = bert(r)?;
    spec.alibi = Some(ALIBI);
    Ok(spec)
}

/// MPT: scores that fall with the distance, and plain feed-forward layers.
fn mpt(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = gpt2(r)?;
    spec.alibi = Some(r.float_or("attention.max_alibi_bias", 0.0)?).filter(|bias| *bias > 0.0);
    spec.clamp = Some(r.float_or("attention.clamp_kqv", 0.0)?).filter(|most| *most > 0.0);
    Ok(spec)
}

/// ModernBERT: two layers with windows after each without, with a rotary base of their own.
fn modern_bert(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 3;
    let mut spec = nomic_bert(r)?;
    spec.act = match r.text("hidden_activation") {
        Some("silu") => Act::Silu,
        _ => Act::GeluTanh,
    };
    if r.text("classifier_pooling") == Some("mean") {
        spec.ranked = Pooling::Mean;
    }
    r.windows_after(&mut spec, 0, PATTERN, 0)?;
    turn_windows_apart(r, &mut spec)?;
    around(&mut spec);
    Ok(spec)
}

/// Makes windows of earlier positions windows to both sides.
fn around(spec: &mut Spec) {
    for layer in &mut spec.layers {
        if let Window::Last(n) = layer.window {
            layer.window = Window::Around(n / 2);
        }
    }
}

/// Families that differ from Llama in the pairs of the rotation; otherwise they differ only in which tensors they have.
fn neox(r: &Reader<'_>) -> Result<Spec, FileError> {
    r.base(Pairs::Halves, Act::Silu)
}

/// Qwen 3, whose rerankers judge by the last position.
fn qwen3(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.ranked = Pooling::Last;
    Ok(spec)
}

/// Apertus: a plain feed-forward layer whose activation each layer shapes.
fn apertus(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    let n = spec.layers.len();
    let each = |name: &str| r.file.floats(&format!("xielu.{name}"), n);
    let (negative, positive) = (each("alpha_n")?, each("alpha_p")?);
    let (beta, eps) = (each("beta")?, each("eps")?);
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        layer.act = Some(Act::Xielu(Xielu {
            negative: beta[i] + softplus(negative[i]),
            positive: softplus(positive[i]),
            beta: beta[i],
            eps: eps[i],
        }));
    }
    Ok(spec)
}

/// SmallThinker: experts chosen by what a layer is given; windows, and positions only there, in three of four layers.
fn smallthinker(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 4;
    const WINDOW: usize = 4096;
    let mut spec = r.base(Pairs::Halves, Act::Relu)?;
    spec.experts = r.experts_as_told(Gating::Softmax)?;
    if let Some(experts) = &mut spec.experts {
        (experts.normed, experts.early) = (true, true);
    }
    if r.number_or("attention.sliding_window", 0)? > 0 {
        r.windows_after(&mut spec, 0, PATTERN, 0)?;
        windowed(&mut spec).for_each(|layer| layer.window = Window::Last(WINDOW));
        let base = spec.layers.iter().find_map(|layer| layer.rope).map_or(0.0, |rope| rope.base);
        let base = r.float_or("rope.freq_base_swa", base)?;
        for (index, layer) in spec.layers.iter_mut().enumerate() {
            let apart = layer.window != Window::All;
            layer.rope = layer.rope.filter(|_| index % PATTERN != 0);
            layer.rope =
                layer.rope.map(|rope| if apart { Frequencies { base, ..rope } } else { rope });
        }
    }
    Ok(spec)
}

/// Grok: experts with GELU, norms after each half, and soft caps.
fn grok(r: &Reader<'_>) -> Result<Spec, FileError> {
    /// What files of Grok 1 leave out.
    const EMBEDDING: f32 = 78.383_67;
    const LOGIT: f32 = 0.577_350_26;
    const SCORE: f32 = 0.088_388_35;
    const CAP: f32 = 30.0;
    let mut spec = r.base(Pairs::Halves, Act::GeluTanh)?;
    let width = if r.has(OF_EXPERTS) { OF_EXPERTS } else { OF_ALL };
    spec.experts = r.experts(width, true)?;
    spec.embedding_scale = r.float_or("embedding_scale", EMBEDDING)?;
    spec.logit_scale = r.float_or("logit_scale", LOGIT)?;
    spec.attention_scale = r.float_or("attention.output_scale", SCORE)?;
    spec.attention_softcap = r.softcap("attn_logit_softcapping", CAP)?;
    spec.logit_softcap = r.softcap("final_logit_softcapping", 0.0)?;
    let after = if r.file.has("blk.0.layer_output_norm.weight") {
        "layer_output_norm"
    } else {
        "post_ffw_norm"
    };
    spec.after_norms = ["attn_output_norm", after];
    Ok(spec)
}

/// PLM: latent attention with all keys and values cached, and plain feed-forward layers.
fn plm(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Adjacent, Act::ReluSquared)?;
    let Some(LayerSpec { heads, rope: Some(rope), .. }) = spec.layers.first().copied() else {
        return Ok(spec);
    };
    let rank = r.number("attention.kv_lora_rank")?;
    let KvHeads { key_dim, value_dim, .. } = heads;
    spec.latent = Some(LatentSpec { rank, key_dim, turned: rope.dims, value_dim });
    let cached = KvHeads { count: spec.n_heads, ..heads };
    spec.layers.iter_mut().for_each(|layer| layer.heads = cached);
    Ok(spec)
}

/// OLMo 2, and OLMo 3 with sliding windows: only its full layers use the context extension.
fn olmo2(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 4;
    let mut spec = neox(r)?;
    r.windows(&mut spec, 0, PATTERN)?;
    windowed(&mut spec).for_each(|layer| layer.rope = layer.rope.map(Frequencies::unstretched));
    Ok(spec)
}

/// Hunyuan: queries and keys are normalized after rotation, and `alpha` enlarges the rotary base.
fn hunyuan(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.qk_norm = QkNorm::AfterRope;
    let alpha = r.float_or("rope.scaling.alpha", 0.0)?;
    if alpha > 0.0 {
        for layer in &mut spec.layers {
            let dims = layer.heads.key_dim as f32;
            let grown = |rope: Frequencies| rope.base * libm::powf(alpha, dims / (dims - 2.0));
            layer.rope = layer.rope.map(|rope| Frequencies { base: grown(rope), ..rope });
        }
    }
    Ok(spec)
}

/// EXAONE 4: only the largest model has sliding windows, and RoPE only in those layers.
fn exaone4(r: &Reader<'_>) -> Result<Spec, FileError> {
    const LAYERS_32B: usize = 64;
    const WINDOW: usize = 4096;
    const PATTERN: usize = 4;
    let mut spec = neox(r)?;
    if spec.layers.len() == LAYERS_32B {
        r.windows(&mut spec, WINDOW, PATTERN)?;
        positions_in_windows_only(&mut spec);
    }
    Ok(spec)
}

fn seed_oss(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.ffn_norm = "post_attention_norm";
    Ok(spec)
}

fn minimax_m2(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = mixture(neox(r), r.experts(OF_ALL, true))?;
    if let Some(experts) = &mut spec.experts {
        experts.gating = Gating::Sigmoid;
    }
    Ok(spec)
}

/// GLM 4.5 and later.
fn glm4moe(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.experts = r.experts_as_told(Gating::Sigmoid)?;
    spec.ffn_norm = "post_attention_norm";
    Ok(spec)
}

/// DeepSeek 2 and 3, Kimi K2, GLM 4.7 Flash: latent attention, and a few dense layers before the MoE layers.
#[expect(clippy::cast_precision_loss, reason = "a head size of at most thousands")]
fn deepseek2(r: &Reader<'_>) -> Result<Spec, FileError> {
    /// GLM 4.7 Flash, recognized by its layer count and vocab size, uses sigmoid gating even if the file doesn't say
    /// so.
    const FLASH: (std::ops::RangeInclusive<usize>, usize) = (47..=48, 154_880);
    let mut spec = r.base(Pairs::Adjacent, Act::Silu)?;
    let flash = FLASH.0.contains(&spec.layers.len()) && spec.n_vocab == FLASH.1;
    spec.experts = r.experts_as_told(if flash { Gating::Sigmoid } else { Gating::Softmax })?;
    let Some(LayerSpec { heads, rope: Some(rope), .. }) = spec.layers.first().copied() else {
        return Ok(spec);
    };
    let latent = LatentSpec {
        rank: r.number("attention.kv_lora_rank")?,
        key_dim: r.number_or("attention.key_length_mla", heads.key_dim)?,
        turned: rope.dims,
        value_dim: r.number_or("attention.value_length_mla", heads.value_dim)?,
    };
    // Files with the two `_mla` lengths cache the latent vector itself.
    let cached = if r.has("attention.key_length_mla") {
        KvHeads { count: 1, key_dim: latent.rank + latent.turned, value_dim: latent.rank }
    } else {
        KvHeads { count: spec.n_heads, ..heads }
    };
    spec.layers.iter_mut().for_each(|layer| layer.heads = cached);
    spec.latent = Some(latent);
    spec.attention_scale = 1.0 / (latent.key_dim as f32).sqrt();
    stretch_scores(r, &mut spec)?;
    let scale = r.float_or("attention.temperature_scale", 0.0)?;
    if scale != 0.0 {
        let length = r.number("attention.temperature_length")?.max(1);
        for layer in &mut spec.layers {
            layer.temperature = Some(Temperature { scale, length, offset: 0 });
        }
    }
    Ok(spec)
}

/// DeepSeek's YaRN scales the scores of the whole head, not only of the rotated part. Its files store a tenth of the
/// multiplier.
fn stretch_scores(r: &Reader<'_>, spec: &mut Spec) -> Result<(), FileError> {
    let multiplier = r.float_or("rope.scaling.yarn_log_multiplier", 0.0)? * 10.0;
    let attention = r.float_or("rope.scaling.attn_factor", 1.0)?;
    for rope in spec.layers.iter_mut().filter_map(|layer| layer.rope.as_mut()) {
        if rope.yarn.is_some() && multiplier != 0.0 {
            rope.magnitude = attention;
        }
    }
    if let Some(rope) = spec.layers.first().and_then(|layer| layer.rope) {
        let stretched = yarn_magnitude(1.0 / rope.scale, multiplier);
        let magnitude = rope.magnitude * stretched;
        spec.attention_scale *= magnitude * magnitude;
    }
    Ok(())
}

/// gpt-oss: experts with biases, attention sinks, and a sliding window in every other layer.
fn gpt_oss(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 2;
    let mut spec = r.base(Pairs::Halves, Act::SwigluOai)?;
    spec.experts = r.experts(OF_EXPERTS, true)?;
    spec.ffn_norm = "post_attention_norm";
    r.windows(&mut spec, 0, PATTERN)?;
    Ok(spec)
}

/// Granite: Llama with four multipliers. Some of its files disable RoPE.
fn granite(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = llama(r)?;
    let factor = |name: &str| r.float_or(name, 0.0).map(|f| if f == 0.0 { 1.0 } else { f });
    spec.embedding_scale = factor("embedding_scale")?;
    spec.residual_scale = factor("residual_scale")?;
    spec.logit_scale = 1.0 / factor("logit_scale")?;
    spec.attention_scale = r.float_or("attention.scale", spec.attention_scale)?;
    if !r.flag_or("rope.scaling.finetuned", true)? {
        spec.layers.iter_mut().for_each(|layer| layer.rope = None);
    }
    Ok(spec)
}

/// MiniCPM: Granite's multipliers, with defaults because older files omit them.
#[expect(clippy::cast_precision_loss, reason = "numbers of layers and elements")]
fn minicpm(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = llama(r)?;
    let depth = (spec.layers.len() as f32).sqrt();
    spec.embedding_scale = r.float_or("embedding_scale", 12.0)?;
    spec.residual_scale = r.float_or("residual_scale", 1.4 / depth)?;
    spec.logit_scale = 1.0 / r.float_or("logit_scale", 256.0 / spec.d_model as f32)?;
    Ok(spec)
}

/// GLM 4; the vision models use other rotation pairs.
fn glm4(r: &Reader<'_>) -> Result<Spec, FileError> {
    let pairs = if r.has_sections() { Pairs::Halves } else { Pairs::Adjacent };
    r.base(pairs, Act::Silu)
}

/// Command R: attention and FFN share one norm.
fn command_r(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = llama(r)?;
    r.layer_norm(&mut spec)?;
    let scale = r.float_or("logit_scale", 0.0)?;
    spec.logit_scale = if scale == 0.0 { 1.0 } else { scale };
    Ok(spec)
}

/// Command R7B and A: sliding windows, and RoPE only in those layers.
fn cohere2(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 4;
    let mut spec = command_r(r)?;
    r.windows(&mut spec, 0, PATTERN)?;
    positions_in_windows_only(&mut spec);
    Ok(spec)
}

fn arcee(r: &Reader<'_>) -> Result<Spec, FileError> {
    r.base(Pairs::Adjacent, Act::ReluSquared)
}

fn nemotron(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::ReluSquared)?;
    r.layer_norm(&mut spec)?;
    Ok(spec)
}

/// SmolLM3: every fourth layer has no RoPE.
fn smollm3(r: &Reader<'_>) -> Result<Spec, FileError> {
    const STEP: usize = 4;
    let mut spec = r.base(Pairs::Adjacent, Act::Silu)?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if (index + 1) % STEP == 0 {
            layer.rope = None;
        }
    }
    Ok(spec)
}

fn stablelm(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::Silu)?;
    r.layer_norm(&mut spec)?;
    Ok(spec)
}

/// Phi 1 and 2, StarCoder 2, Falcon.
fn phi2(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::GeluTanh)?;
    r.layer_norm(&mut spec)?;
    Ok(spec)
}

/// GPT-NeoX and Pythia.
fn gptneox(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = phi2(r)?;
    if r.flag_or("use_parallel_residual", true)? {
        spec.halves = Halves::SideBySide;
    }
    Ok(spec)
}

/// GPT-2 and StarCoder: learned position embeddings.
fn gpt2(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = phi2(r)?;
    spec.layers.iter_mut().for_each(|layer| layer.rope = None);
    Ok(spec)
}

/// Gemma: embeddings scaled by the square root of their width.
fn gemma(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::GeluTanh)?;
    spec.embedding_scale = (spec.d_model as f32).sqrt();
    Ok(spec)
}

/// Gemma 2: soft caps, and a sliding window in every other layer.
fn gemma2(r: &Reader<'_>) -> Result<Spec, FileError> {
    const WINDOW: usize = 4096;
    const PATTERN: usize = 2;
    /// The 27B model, recognized by its layer count, scales scores by `d_model / n_heads` instead of the head size.
    const LAYERS_27B: usize = 46;
    let mut spec = gemma(r)?;
    spec.attention_softcap = r.softcap("attn_logit_softcapping", 50.0)?;
    spec.logit_softcap = r.softcap("final_logit_softcapping", 30.0)?;
    if spec.layers.len() == LAYERS_27B {
        spec.attention_scale = 1.0 / (spec.d_model as f32 / spec.n_heads as f32).sqrt();
    }
    r.windows(&mut spec, WINDOW, PATTERN)?;
    Ok(spec)
}

/// Gemma 3: scaled embeddings, and five sliding-window layers with their own rotary base to each full layer.
fn gemma3(r: &Reader<'_>) -> Result<Spec, FileError> {
    /// The 27B model, recognized by its layer count, scales scores by `d_model / n_heads` instead of the head size.
    const LAYERS_27B: usize = 62;
    const PATTERN: usize = 6;
    let mut spec = gemma(r)?;
    if spec.layers.len() == LAYERS_27B {
        spec.attention_scale = 1.0 / (spec.d_model as f32 / spec.n_heads as f32).sqrt();
    }
    spec.logit_softcap = r.softcap("final_logit_softcapping", 0.0)?;
    local_windows(r, &mut spec, PATTERN)?;
    Ok(spec)
}

/// Sliding windows in all but every `every`-th layer, with a rotary base of their own.
fn local_windows(r: &Reader<'_>, spec: &mut Spec, every: usize) -> Result<(), FileError> {
    r.windows(spec, 0, every)?;
    turn_windows_apart(r, spec)
}

/// Gives layers with windows their own rotary base.
fn turn_windows_apart(r: &Reader<'_>, spec: &mut Spec) -> Result<(), FileError> {
    let base = r.float_or("rope.freq_base_swa", LOCAL_BASE)?;
    for layer in windowed(spec) {
        layer.rope = layer.rope.map(|rope| Frequencies { base, ..rope.unstretched() });
    }
    Ok(())
}

/// Layers from `own` on reuse the keys and values of the last one before it with the same window.
fn share_the_last(spec: &mut Spec, own: usize) {
    let own = own.min(spec.layers.len());
    let (owning, sharing) = spec.layers.split_at_mut(own);
    for layer in sharing {
        let alike = |other: &LayerSpec| other.window == layer.window;
        layer.shares = Some(owning.iter().rposition(alike).unwrap_or(own));
    }
}

/// Gemma 3n: four residual streams, a way around each mixer, an input for each layer, sparse gates in the first layers; the
/// last layers reuse earlier keys and values.
fn gemma3n(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 5;
    const OWN: usize = 20;
    const SPARSE: usize = 10;
    /// 95% of a normal distribution are below so many standard deviations above its mean.
    const SPARSITY: f32 = 1.644_853_5;
    let mut spec = gemma(r)?;
    spec.streams = 4;
    spec.d_per_layer = r.number_or("embedding_length_per_layer_input", 256)?;
    spec.attention_scale = 1.0;
    spec.normed_values = true;
    spec.logit_softcap = r.softcap("final_logit_softcapping", 30.0)?;
    local_windows(r, &mut spec, PATTERN)?;
    spec.layers.iter_mut().take(SPARSE).for_each(|layer| layer.sparsity = Some(SPARSITY));
    share_the_last(&mut spec, OWN);
    Ok(spec)
}

/// EmbeddingGemma: Gemma 3 that looks both ways, also within its windows.
fn gemma_embedding(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = gemma3(r)?;
    spec.causal = false;
    spec.logit_softcap = None;
    around(&mut spec);
    Ok(spec)
}

/// Gemma 4: sliding-window layers have their own head shape, values are normalized, and the last layers reuse earlier
/// keys and values. The small models give each layer its own token embedding; the MoE model runs its experts beside a
/// dense layer.
fn gemma4(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 6;
    let mut spec = mixture(gemma(r), r.experts(OF_EXPERTS, true))?;
    spec.d_per_layer = r.number_or("embedding_length_per_layer_input", 0)?;
    spec.attention_scale = 1.0;
    spec.normed_values = true;
    spec.logit_softcap = r.softcap("final_logit_softcapping", 30.0)?;
    local_windows(r, &mut spec, PATTERN)?;
    for layer in windowed(&mut spec) {
        let heads = &mut layer.heads;
        heads.key_dim = r.number_or("attention.key_length_swa", heads.key_dim)?;
        heads.value_dim = r.number_or("attention.value_length_swa", heads.value_dim)?;
        if let Some(rope) = layer.rope {
            let dims = r.number_or("rope.dimension_count_swa", rope.dims)?;
            layer.rope = Some(Frequencies { dims, ..rope });
        }
    }
    let shared = r.number_or("attention.shared_kv_layers", 0)?;
    let own = spec.layers.len().saturating_sub(shared);
    share_the_last(&mut spec, own);
    Ok(spec)
}

/// Qwen 3 Next, 3.5 and 3.6: three gated delta nets to each layer with gated attention.
fn qwen35(r: &Reader<'_>, order: KeyOrder) -> Result<Spec, FileError> {
    const PATTERN: usize = 4;
    let mut spec = neox(r)?;
    spec.ffn_norm = "post_attention_norm";
    spec.gated_attention = true;
    let (net, marks) = (r.delta_net(order)?, r.recurrent_layers(spec.layers.len(), PATTERN)?);
    recurrent(&mut spec, net, |index, _| marks[index]);
    Ok(spec)
}

/// LFM 2: short convolutions, and attention in some layers.
fn lfm2(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.final_norm = "token_embd_norm";
    let taps = r.number("shortconv.l_cache")?;
    let window = r.number_or("attention.sliding_window", 0)?;
    for layer in spec.layers.iter_mut().filter(|_| window > 0) {
        layer.window = Window::Last(window);
    }
    let convolution = RecurrentSpec::ShortConvolution { taps };
    recurrent(&mut spec, convolution, |_, layer| layer.heads.count == 0);
    Ok(spec)
}

fn lfm2moe(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = mixture(lfm2(r), r.experts_as_told(Gating::Sigmoid))?;
    if let Some(experts) = &mut spec.experts {
        experts.normed = true;
    }
    Ok(spec)
}

/// Jamba: Mamba, and attention without positions in some layers.
fn jamba(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = mixture(llama(r), r.experts(OF_ALL, false))?;
    spec.layers.iter_mut().for_each(|layer| layer.rope = None);
    recurrent(&mut spec, r.mamba1()?, |_, layer| layer.heads.count == 0);
    Ok(spec)
}

/// Mamba and Mamba 2: a mixer in each layer and nothing else.
fn states_only(r: &Reader<'_>, mixer: Result<RecurrentSpec, FileError>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    spec.halves = Halves::Either;
    recurrent(&mut spec, mixer?, |_, _| true);
    Ok(spec)
}

/// Granite 4: Granite with Mamba 2 in most layers.
fn granite_hybrid(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = granite(r)?;
    recurrent(&mut spec, r.mamba2()?, |_, layer| layer.heads.count == 0);
    Ok(spec)
}

/// Falcon H1: attention and Mamba 2 side by side in every layer.
fn falcon_h1(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    let mamba = r.mamba2()?;
    spec.layers.iter_mut().for_each(|layer| layer.mixer = MixerSpec::Both(mamba));
    Ok(spec)
}

/// Nemotron H, Nemotron 3: each layer is Mamba 2, attention without positions, or a feed-forward layer.
fn nemotron_h(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = r.base(Pairs::Halves, Act::ReluSquared)?;
    spec.halves = Halves::Either;
    let old = r.float_or("attention.layer_norm_epsilon", spec.norm_eps)?;
    spec.norm_eps = r.float_or("attention.layer_norm_rms_epsilon", old)?;
    recurrent(&mut spec, r.mamba2()?, |_, layer| layer.heads.count == 0 && layer.d_ffn == 0);
    for layer in &mut spec.layers {
        layer.rope = None;
        if layer.d_ffn > 0 {
            layer.mixer = MixerSpec::None;
        }
    }
    Ok(spec)
}

/// PLaMo 2: Mamba in most layers.
fn plamo2(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    recurrent(&mut spec, r.plamo2()?, |_, layer| layer.heads.count == 0);
    Ok(spec)
}

/// RWKV: a time mix and a channel mix in each layer.
fn rwkv(r: &Reader<'_>, mixer: fn(RwkvSpec) -> RecurrentSpec) -> Result<Spec, FileError> {
    let mut spec = neox(r)?;
    r.layer_norm(&mut spec)?;
    spec.ffn_norm = "attn_norm_2";
    let every = r.number_or("rescale_every_n_layers", 0)?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        layer.feed = Some(RecurrentSpec::ChannelMix);
        if every > 0 && (index + 1) % every == 0 {
            layer.output_scale = 0.5;
        }
    }
    time_mixes(r, spec, mixer)
}

/// RWKV's time mixes in place of attention: also in models that were trained with attention.
fn time_mixes(
    r: &Reader<'_>,
    mut spec: Spec,
    mixer: fn(RwkvSpec) -> RecurrentSpec,
) -> Result<Spec, FileError> {
    let dim = r.number("wkv.head_size")?;
    let heads = spec.d_model.checked_div(dim).unwrap_or(0);
    let kv_heads = spec.layers.first().map_or(0, |layer| layer.heads.count);
    let kv_heads = if kv_heads == 0 { heads } else { kv_heads };
    recurrent(&mut spec, mixer(RwkvSpec { heads, kv_heads, dim }), |_, _| true);
    Ok(spec)
}

/// Kimi Linear: its delta attention, and latent attention without positions in every fourth layer.
fn kimi_linear(r: &Reader<'_>) -> Result<Spec, FileError> {
    let mut spec = delta_or_latent(r, Forgetting::Softplus)?;
    if let Some(experts) = &mut spec.experts {
        experts.normed = true;
    }
    spec.layers.iter_mut().for_each(|layer| layer.rope = None);
    Ok(spec)
}

/// Ling 3: like Kimi Linear, with positions and a gate for each head of latent attention, and a bound on forgetting.
fn bailing3(r: &Reader<'_>) -> Result<Spec, FileError> {
    let least = r.negative("kda.gate_lower_bound")?;
    delta_or_latent(r, Forgetting::Bounded { least })
}

/// DeepSeek's latent attention in layers with KV heads, Kimi's delta attention in the others.
fn delta_or_latent(r: &Reader<'_>, forgetting: Forgetting) -> Result<Spec, FileError> {
    let mut spec = deepseek2(r)?;
    let counts = r.each("attention.head_count_kv", spec.layers.len(), spec.n_heads)?;
    let kda = r.kda(spec.n_heads, forgetting)?;
    recurrent(&mut spec, kda, |index, _| counts[index] == 0);
    Ok(spec)
}

/// MiniMax 01: lightning attention in seven of eight layers; halves of layers add to their normed inputs.
fn minimax_01(r: &Reader<'_>) -> Result<Spec, FileError> {
    const PATTERN: usize = 8;
    let mut spec = mixture(neox(r), r.experts(OF_ALL, true))?;
    spec.adds_to_normed = true;
    spec.residual_scale = r.float_or("residual_scale", 1.0)?;
    let dim = spec.layers.first().map_or(0, |layer| layer.heads.key_dim);
    let lightning = RecurrentSpec::Lightning(LightningSpec { heads: spec.n_heads, dim });
    let marks = r.recurrent_layers(spec.layers.len(), PATTERN)?;
    recurrent(&mut spec, lightning, |index, _| marks[index]);
    Ok(spec)
}

/// Puts a mixer with a state of fixed size into some layers, in place of attention.
fn recurrent(spec: &mut Spec, mixer: RecurrentSpec, which: impl Fn(usize, &LayerSpec) -> bool) {
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if which(index, layer) {
            (layer.mixer, layer.rope) = (MixerSpec::Recurrent(mixer), None);
        }
    }
}

fn windowed(spec: &mut Spec) -> impl Iterator<Item = &mut LayerSpec> {
    spec.layers.iter_mut().filter(|layer| layer.window != Window::All)
}

/// Removes RoPE from layers without a window.
fn positions_in_windows_only(spec: &mut Spec) {
    for layer in spec.layers.iter_mut().filter(|layer| layer.window == Window::All) {
        layer.rope = None;
    }
}
