//! Layers for multi-token prediction compared with llama.cpp, on tiny random models in F32, where nothing is rounded.
//!
//! `tests/golden/guesses.py` makes the models and the reference's guesses.

use std::path::Path;
use std::sync::Arc;
use tealight::backend::{Backend, Cpu, Portable};
use tealight::kernels::{CacheType, Compute, Isa};
use tealight::model::{
    Batch, Inputs, Model, ModelFile, PagePool, Sequence, Span, Wanted, Weights, spec,
};
use tealight::source;

/// Largest allowed difference of a logit; the logits themselves have a standard deviation of about 1.
const TOLERANCE: f32 = 1e-3;
const POSITIONS: usize = 64;
const VOCAB: usize = 40;

#[test]
fn layers_that_guess_agree_with_the_reference_however_tokens_come() {
    for name in ["qwen35", "qwen35moe", "glm4moe", "deepseek2"] {
        let file = open(&format!("guesses/{name}.gguf"));
        let expected = std::fs::read(golden(&format!("guesses/{name}.logits"))).unwrap();
        let expected: Vec<f32> =
            expected.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let tokens: Vec<u32> = (0..POSITIONS).map(|i| ((7 * i + 3) % VOCAB) as u32).collect();
        let mut backends: Vec<Arc<dyn Backend>> = vec![Arc::new(Portable)];
        backends.extend(Isa::available().into_iter().map(cpu));
        for (index, backend) in backends.into_iter().enumerate() {
            let (model, guesser) = both(&file, backend);
            let d = model.spec().d_model;
            let pool = pages(&model);
            let mut sequence = model.sequence(&pool, POSITIONS);
            let read = forward(&model, &mut sequence, Inputs::Tokens(&tokens)).unwrap();
            let pool = pages(&guesser);
            let whole = &mut guesser.sequence(&pool, POSITIONS);
            let (next, before) = (&tokens[1..], &read.hidden[..d * (POSITIONS - 1)]);
            let whole =
                forward(&guesser, whole, Inputs::Following { tokens: next, hidden: before });
            let whole = whole.unwrap().logits;
            let worst = whole.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name}, backend {index}: {worst}");
            assert_eq!(whole.len(), expected.len());
            assert!(worst <= TOLERANCE && whole.iter().all(|x| x.is_finite()), "{name}: {worst}");
            let sequence = &mut guesser.sequence(&pool, POSITIONS);
            let mut single = Vec::new();
            for (token, hidden) in next.chunks(1).zip(before.chunks(d)) {
                let inputs = Inputs::Following { tokens: token, hidden };
                single.extend(forward(&guesser, sequence, inputs).unwrap().logits);
            }
            assert!(index == 0 || single == whole, "{name}, backend {index}: other bits");
        }
    }
}

#[test]
fn who_guesses_reads_what_it_follows_and_nothing_else() {
    let file = open("guesses/qwen35.gguf");
    let (model, guesser) = both(&file, cpu(Isa::detect()));
    let pools = [pages(&model), pages(&guesser)];
    let hidden = vec![0.5; 2 * model.spec().d_model];
    let following = Inputs::Following { tokens: &[1, 2], hidden: &hidden };
    let short = Inputs::Following { tokens: &[1, 2], hidden: &hidden[1..] };
    let mut sequence = model.sequence(&pools[0], POSITIONS);
    assert!(forward(&model, &mut sequence, following).is_err());
    assert!(forward(&model, &mut sequence, Inputs::Tokens(&[1, 2])).is_ok());
    let mut sequence = guesser.sequence(&pools[1], POSITIONS);
    assert!(forward(&guesser, &mut sequence, Inputs::Tokens(&[1, 2])).is_err());
    assert!(forward(&guesser, &mut sequence, short).is_err());
    assert!(forward(&guesser, &mut sequence, following).is_ok());
}

#[test]
fn a_model_without_such_layers_has_no_guesser_and_one_with_a_part_missing_says_which() {
    let file = open("tiny/llama.gguf");
    assert!(guesser(&file).unwrap().is_none());
    let mut bytes = std::fs::read(golden("guesses/qwen35.gguf")).unwrap();
    let at = bytes.windows(8).position(|w| w == b"nextn.eh").unwrap();
    bytes[at] = b'm';
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(copy.path(), bytes).unwrap();
    let file = ModelFile::open(source::open(copy.path()).unwrap()).unwrap();
    let error = guesser(&file).err().unwrap();
    assert!(error.contains("`blk.2.nextn.eh_proj.weight`"), "{error}");
    // Not asked for, nothing of it is looked at.
    let weights = Weights::new(&file, cpu(Isa::detect()));
    assert!(Model::load(spec(&file).unwrap(), weights).is_ok());
}

/// What a pass gave, at every position.
struct Given {
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

fn forward(model: &Model, sequence: &mut Sequence, inputs: Inputs<'_>) -> Result<Given, String> {
    sequence.reserve(inputs.len()).unwrap();
    let span = Span { inputs, ..Span::tokens(sequence, &[], true, Wanted::All) };
    let mut batch = Batch { spans: vec![span] };
    let output = model.forward(&mut batch, &|| true).map_err(|error| error.to_string())?.unwrap();
    let (mut hidden, mut logits) = (Vec::new(), Vec::new());
    model.hidden(&output, output.rows[0].clone(), &mut hidden).unwrap();
    model.logits(&output, output.rows[0].clone(), &mut logits).unwrap();
    Ok(Given { hidden, logits })
}

fn both(file: &ModelFile, backend: Arc<dyn Backend>) -> (Model, Model) {
    let spec = spec(file).unwrap();
    let guesser = Model::guesser(&spec, file, Arc::clone(&backend)).unwrap().unwrap();
    (Model::load(spec, Weights::new(file, backend)).unwrap(), guesser)
}

fn guesser(file: &ModelFile) -> Result<Option<Model>, String> {
    Model::guesser(&spec(file).unwrap(), file, cpu(Isa::detect()))
        .map_err(|error| error.to_string())
}

fn pages(model: &Model) -> Arc<PagePool> {
    model.pages(CacheType::F32, CacheType::F32, usize::MAX)
}

fn cpu(isa: Isa) -> Arc<dyn Backend> {
    Arc::new(Cpu::new(Arc::new(Compute::new(isa, 2))))
}

fn open(name: &str) -> ModelFile {
    ModelFile::open(source::open(&golden(name)).unwrap()).unwrap()
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}
