//! Every family compared with llama.cpp, on tiny random models in F32, where nothing is rounded.
//!
//! `tests/golden/tiny.py` makes the models and the reference's logits.

mod bits;

use bits::Bits;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tealight::backend::{Backend, Cpu, Portable};
use tealight::engine::{LoadOptions, Pages};
use tealight::kernels::{CacheType, Compute, Isa};
use tealight::model::{
    Batch, Model, ModelFile, PagePool, Sequence, Span, Spec, Wanted, Weights, WeightsError,
    family_names, spec,
};
use tealight::source;

/// Largest allowed difference of a logit; the logits themselves have a standard deviation of about 1.
const TOLERANCE: f32 = 1e-3;
const POSITIONS: usize = 64;
/// Positions kept when a timeline is truncated.
const KEPT: usize = 21;

#[test]
fn every_family_agrees_with_the_reference_however_its_tokens_come() {
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    let mut bits = Bits::of("families");
    for path in models() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(path.with_extension("logits")).unwrap();
        let expected: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
        let past = file.number_or("tiny.past", 0).unwrap();
        let vocab = expected.len() / POSITIONS;
        let tokens: Vec<u32> =
            (0..past + POSITIONS).map(|i| ((7 * i + 3) % vocab) as u32).collect();
        let (before, tokens) = tokens.split_at(past);
        // A long past takes a while, and tests nothing that depends on the instruction set.
        let isas = if past == 0 { Isa::available() } else { vec![Isa::detect()] };
        let same_bits: Vec<String> =
            isas.iter().filter(|isa| isa.is_exact()).map(ToString::to_string).collect();
        let mut backends: Vec<(String, Arc<dyn Backend>)> =
            isas.into_iter().map(|isa| (isa.to_string(), cpu(isa))).collect();
        if past == 0 {
            backends.push(("candle's operations".to_owned(), Arc::new(Portable)));
        }
        for (isa, backend) in backends {
            let model = match build(&file, spec(&file).unwrap(), backend) {
                Ok(model) => model,
                Err(error) => {
                    wrong.push(format!("{name}: {error}"));
                    break;
                }
            };
            let mut close = |how: &str, ours: &[f32], expected: &[f32]| {
                let worst = largest_difference(ours, expected);
                println!("{name} on {isa}, {how}: {worst}");
                if worst > TOLERANCE {
                    wrong.push(format!("{name} on {isa}, {how}: {worst}"));
                }
            };
            seen.push(model.spec().architecture.clone());
            // Once with all positions of all layers, and once with what sliding windows reach.
            let pool = model.pages(CacheType::F32, CacheType::F32, usize::MAX);
            let exact = !isa.contains("candle");
            let reading = Reading { before, tokens, expected: &expected, exact };
            let whole = reading.in_every_way(&model, &pool, &mut close);
            if model.spec().slides(usize::MAX).is_some() && past == 0 {
                let pool = sliding(&model, CacheType::F32, usize::MAX);
                let same = reading.in_every_way(&model, &pool, &mut close);
                assert!(same == whole, "{name} on {isa}: other bits with windows");
            }
            if same_bits.contains(&isa) {
                bits.add(&name, &whole, &isa);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bits.check();
    for family in family_names() {
        // Families that only make embeddings have their vectors elsewhere: `tests/embeddings.rs`.
        let embeds = folder().with_file_name(format!("embeddings/{family}.gguf")).is_file();
        assert!(embeds || seen.iter().any(|s| s == family), "{family} has no vector");
    }
}

/// Takes how logits came about, these, and those expected.
type Close<'a> = dyn FnMut(&str, &[f32], &[f32]) + 'a;

/// Tokens to be read after some others, and the logits that are expected.
struct Reading<'a> {
    before: &'a [u32],
    tokens: &'a [u32],
    expected: &'a [f32],
    /// Whether bits are the same however tokens come.
    exact: bool,
}

impl Reading<'_> {
    /// Reads them in one batch, from stops, one by one, after going back and among others. Hands all logits to `close`, with
    /// those expected. Returns those of one batch.
    fn in_every_way(&self, model: &Model, pool: &Arc<PagePool>, close: &mut Close<'_>) -> Vec<f32> {
        let Self { before, tokens, expected, exact } = *self;
        let (past, vocab) = (before.len(), expected.len() / POSITIONS);
        let name = &model.spec().architecture;
        let new = || model.sequence(pool, past + POSITIONS);
        let mut sequence = new();
        read(model, &mut [(&mut sequence, before)], Wanted::None);
        let mut other = sequence.fork();
        let whole = read(model, &mut [(&mut sequence, tokens)], Wanted::All).remove(0);
        // States of fixed size are kept after each pass, and at stops within it.
        let places: Vec<usize> = sequence.checkpoints().iter().map(|c| c.len).collect();
        assert!(sequence.can_rewind() || places.ends_with(&[past + KEPT, past + POSITIONS]));
        close("in one batch", &whole, expected);
        assert_eq!(sequence.rewind(past + KEPT), past + KEPT);
        let rest = read(model, &mut [(&mut sequence, &tokens[KEPT..])], Wanted::All).remove(0);
        close("from a stop within a pass", &rest, &expected[KEPT * vocab..]);
        assert_eq!(sequence.rewind(past), past);
        let mut single = Vec::new();
        for token in tokens {
            single.extend(read(model, &mut [(&mut sequence, &[*token])], Wanted::Last).remove(0));
        }
        close("token by token", &single, expected);
        assert!(!exact || single == whole, "{name}: other bits token by token");
        assert_eq!(sequence.rewind(past + KEPT), past + KEPT);
        let rest = read(model, &mut [(&mut sequence, &tokens[KEPT..])], Wanted::All).remove(0);
        close("after going back", &rest, &expected[KEPT * vocab..]);
        // Others of other lengths, one of them in the middle of its tokens.
        let (mut first, mut last) = (new(), new());
        read(model, &mut [(&mut other, &tokens[..KEPT])], Wanted::None);
        let others: &mut [(&mut Sequence, &[u32])] = &mut [
            (&mut first, &tokens[7..9]),
            (&mut other, &tokens[KEPT..]),
            (&mut last, &tokens[3..50]),
        ];
        let mut among = read(model, others, Wanted::All);
        close("among others", &among[1], &expected[KEPT * vocab..]);
        let alone = read(model, &mut [(&mut new(), &tokens[7..9])], Wanted::All).remove(0);
        assert!(
            !exact || (among.remove(1) == rest && among[0] == alone),
            "{name}: other bits among others"
        );
        whole
    }
}

/// Tokens read in pieces, alone and after going back, with pages for all positions and with those that windows reach.
#[test]
fn layers_with_sliding_windows_need_no_more_than_these_reach() {
    const LEN: usize = 400;
    for name in ["gemma2", "gemma3", "gemma4", "gpt-oss", "cohere2", "olmo3"] {
        let path = folder().join(format!("{name}.gguf"));
        let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
        let model = build(&file, spec(&file).unwrap(), cpu(Isa::detect())).unwrap();
        let kind = CacheType::F16;
        let pools = [model.pages(kind, kind, usize::MAX), sliding(&model, kind, LEN)];
        let (windows, longest) = pools[1].windows().unwrap();
        let vocab = model.spec().n_vocab;
        let tokens: Vec<u32> = (0..LEN).map(|i| ((11 * i + i / 7) % vocab) as u32).collect();
        let all = pools.each_ref().map(|pool| {
            let mut sequence = model.sequence(pool, LEN);
            let (mut logits, mut at) = (Vec::new(), 0);
            for piece in [130, 1, 1, 62, 6, 100].into_iter().chain([1; 70]) {
                let new = &tokens[at..at + piece];
                logits.extend(read(&model, &mut [(&mut sequence, new)], Wanted::All).remove(0));
                at += piece;
                if at == 200 {
                    sequence.checkpoint();
                }
                if pool.windows().is_some() {
                    // Each piece leaves two places to go back to, with pages that others share.
                    let held = (longest / 64 + 2) * (sequence.checkpoints().len() + 1) + 3;
                    assert!(windows.used() <= held, "{name}: {} of {held}", windows.used());
                }
            }
            let other = sequence.fork();
            // Back to a stop within the first piece, to a place kept between pieces, and to the end of another.
            for (to, least) in [(200, 200), (150, 132), (KEPT, KEPT)] {
                let reached = sequence.rewind(to);
                assert!((least..=to).contains(&reached), "{name}: {reached} of {to}");
                let again = &tokens[reached..reached + 90];
                logits.extend(
                    read(&model, &mut [(&mut sequence, again)], Wanted::All)[0]
                        [vocab * (to - reached)..][..20 * vocab]
                        .to_vec(),
                );
                assert!(sequence.rewind(reached) <= reached);
            }
            drop(sequence);
            let mut other = other;
            let rest = &tokens[at..at + 5];
            logits.extend(read(&model, &mut [(&mut other, rest)], Wanted::All).remove(0));
            assert_eq!(other.rewind(0), 0);
            logits
        });
        assert!(all[0] == all[1], "{name}");
        assert_eq!(windows.used(), 0, "{name}: pages are left");
    }
}

#[test]
fn the_readme_names_every_family() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    for family in family_names() {
        assert!(readme.contains(&format!("`{family}`")), "{family}");
    }
}

#[test]
fn a_tensor_that_nobody_claims_is_an_error() {
    let file = ModelFile::open(source::open(&folder().join("llama.gguf")).unwrap()).unwrap();
    let mut spec = spec(&file).unwrap();
    spec.layers.pop();
    let error = build(&file, spec, cpu(Isa::detect())).err().unwrap().to_string();
    assert!(error.contains("`blk.2.attn_norm.weight` (and 8 more)"), "{error}");
}

#[test]
fn an_unknown_architecture_names_itself_and_what_is_known() {
    let refusal = |name: &[u8; 5]| {
        let mut bytes = std::fs::read(folder().join("llama.gguf")).unwrap();
        let at = bytes.windows(5).position(|w| w == b"llama").unwrap();
        bytes[at..at + 5].copy_from_slice(name);
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(copy.path(), bytes).unwrap();
        let file = ModelFile::open(source::open(copy.path()).unwrap()).unwrap();
        spec(&file).err().unwrap().to_string()
    };
    let near = refusal(b"lfm99");
    assert!(near.contains("`lfm99` is not supported (near it, `lfm2`, `lfm2moe` run)"), "{near}");
    let error = refusal(b"camel");
    assert!(error.contains("`camel` is not supported, expected"), "{error}");
    assert!(family_names().iter().all(|name| error.contains(name)), "{error}");
}

#[test]
fn contradictions_of_recurrent_layers_are_errors_that_name_them() {
    let refusal = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(folder().join(format!("{name}.gguf"))).unwrap();
        change(&mut bytes);
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(copy.path(), bytes).unwrap();
        let file = ModelFile::open(source::open(copy.path()).unwrap()).unwrap();
        match spec(&file) {
            Err(error) => error.to_string(),
            Ok(spec) => build(&file, spec, cpu(Isa::detect())).err().unwrap().to_string(),
        }
    };
    // Sets a number of 32 bits, which follows its key and its type.
    let set = |key: &'static str, value: u32| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap();
            let at = at + key.len() + 4;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    };
    for (name, key, value, parts) in [
        ("qwen35", "ssm.group_count", 3, ["ssm.group_count", "a divisor of ssm.time_step_rank 4"]),
        ("qwen35", "ssm.group_count", 0, ["ssm.group_count", "found 0"]),
        ("qwen35", "ssm.inner_size", 25, ["ssm.inner_size", "multiple of the number of heads"]),
        ("qwen35", "ssm.conv_kernel", 1, ["ssm.conv_kernel: found 1", "2 to"]),
        ("qwen35", "ssm.state_size", 1 << 20, ["ssm.state_size", "found 1048576"]),
        ("qwen35", "ssm.state_size", 7, ["blk.0.", "expected"]),
        ("granitehybrid", "ssm.time_step_rank", 0, ["ssm.time_step_rank", "found 0"]),
        ("granitehybrid", "ssm.group_count", 4, ["ssm.group_count", "a divisor of"]),
        ("granitehybrid", "ssm.inner_size", u32::MAX, ["ssm.inner_size", "4294967295"]),
        ("lfm2", "shortconv.l_cache", 0, ["shortconv.l_cache: found 0", "2 to"]),
        ("lfm2", "shortconv.l_cache", 9, ["blk.0.shortconv.conv.weight", "expected"]),
        ("mamba", "ssm.state_size", 1 << 30, ["ssm.state_size", "found 1073741824"]),
        (
            "bailingmoe3",
            "kda.gate_lower_bound",
            3.5_f32.to_bits(),
            ["found 3.5", "a negative number"],
        ),
        (
            "bailingmoe3",
            "kda.gate_lower_bound",
            f32::NAN.to_bits(),
            ["gate_lower_bound", "a finite number"],
        ),
        ("plamo2", "ssm.time_step_rank", 0, ["ssm.time_step_rank", "found 0"]),
    ] {
        let error = refusal(name, &set(key, value));
        for part in parts {
            assert!(error.contains(part), "{name}, {key} = {value}: {error}");
        }
    }
    for (name, tensor) in [
        ("qwen35", "blk.0.ssm_conv1d.weight"),
        ("qwen35moe", "blk.0.attn_gate.weight"),
        ("lfm2", "blk.0.shortconv.in_proj.weight"),
        ("nemotron_h", "blk.0.ssm_dt.bias"),
    ] {
        let error = refusal(name, &|bytes| {
            let at = bytes.windows(tensor.len()).position(|w| w == tensor.as_bytes()).unwrap();
            bytes[at + 4] = b'9'; // the layer's number
        });
        assert!(error.contains(&format!("`{tensor}`")), "{error}");
    }
}

/// The logits of new tokens of some sequences, computed in one batch.
fn read(model: &Model, all: &mut [(&mut Sequence, &[u32])], wanted: Wanted) -> Vec<Vec<f32>> {
    let mut batch = Batch::default();
    for (sequence, tokens) in all {
        sequence.reserve(tokens.len()).unwrap();
        let span = Span::tokens(sequence, tokens, true, wanted);
        batch.spans.push(Span { stops: &[KEPT], ..span });
    }
    let output = model.forward(&mut batch, &|| true).unwrap().unwrap();
    batch.spans.iter_mut().for_each(|span| drop(span.sequence.checkpoint()));
    let logits = |rows: &std::ops::Range<usize>| {
        let mut logits = Vec::new();
        model.logits(&output, rows.clone(), &mut logits).unwrap();
        logits
    };
    output.rows.iter().map(logits).collect()
}

/// Pages as the engine has them, where windows have some of their own.
fn sliding(model: &Model, kind: CacheType, context: usize) -> Arc<PagePool> {
    let options = LoadOptions { key_type: kind, value_type: kind, context, ..Default::default() };
    Pages::of(model.spec(), &options).pool(usize::MAX)
}

fn cpu(isa: Isa) -> Arc<dyn Backend> {
    Arc::new(Cpu::new(Arc::new(Compute::new(isa, 2))))
}

fn build(file: &ModelFile, spec: Spec, backend: Arc<dyn Backend>) -> Result<Model, WeightsError> {
    Model::load(spec, Weights::new(file, backend))
}

/// Infinite if a value is NaN.
fn largest_difference(ours: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(ours.len(), expected.len());
    let difference = |(a, b): (&f32, &f32)| Some((a - b).abs()).filter(|d| !d.is_nan());
    ours.iter()
        .zip(expected)
        .map(|pair| difference(pair).unwrap_or(f32::INFINITY))
        .fold(0.0, f32::max)
}

fn models() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
        .collect();
    all.sort();
    all
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny")
}
