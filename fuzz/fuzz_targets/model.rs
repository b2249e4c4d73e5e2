//! Loads a tiny model of any family whose metadata and tensor descriptions were changed, and computes two tokens with it:
//! it is refused, or it computes; nothing panics, and no absurd size is allocated.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tealight::backend::Portable;
use tealight::kernels::CacheType;
use tealight::model::{Batch, Inputs, Model, ModelFile, Span, Wanted, Weights, spec};
use tealight::source;

/// The tiny models, and how many bytes of each come before its weights.
static MODELS: LazyLock<Vec<(Vec<u8>, usize)>> = LazyLock::new(|| {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let files = ["tiny", "guesses"].into_iter().flat_map(|folder| {
        std::fs::read_dir(golden.join(folder)).unwrap().map(|file| file.unwrap().path())
    });
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    files.sort();
    let head = |bytes: &[u8]| {
        let gguf = tealight_bundle::gguf::Gguf::parse(bytes).unwrap();
        gguf.tensors().iter().map(|tensor| tensor.range.start).min().unwrap()
    };
    files
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .map(|bytes| (bytes.clone(), head(&bytes)))
        .collect()
});

fuzz_target!(|input: (u8, Vec<(u16, u8)>)| {
    let (which, changes) = input;
    let (bytes, head) = &MODELS[usize::from(which) % MODELS.len()];
    let mut bytes = bytes.clone();
    for (at, value) in changes {
        bytes[usize::from(at) % head] = value;
    }
    let path = std::env::temp_dir().join(format!("tealight-fuzz-{}.gguf", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let _ = load(&path);
});

/// Loads a model, and what guesses for it, and computes two tokens with each.
fn load(path: &Path) -> Option<()> {
    let file = ModelFile::open(source::open(path).ok()?).ok()?;
    let spec = spec(&file).ok()?;
    if let Ok(Some(guesser)) = Model::guesser(&spec, &file, Arc::new(Portable)) {
        let hidden = vec![0.5; 2 * guesser.spec().d_model];
        let _ = compute(&guesser, Inputs::Following { tokens: &[0, 0], hidden: &hidden });
    }
    let model = Model::load(spec, Weights::new(&file, Arc::new(Portable))).ok()?;
    compute(&model, Inputs::Tokens(&[0, 0]))
}

fn compute(model: &Model, inputs: Inputs<'_>) -> Option<()> {
    let pool = model.pages(CacheType::F32, CacheType::F32, 64 << 20);
    let mut sequence = model.sequence(&pool, 64);
    let causal = model.spec().causal;
    sequence.reserve(2).ok()?;
    let span = Span { inputs, ..Span::tokens(&mut sequence, &[], causal, Wanted::Last) };
    let output = model.forward(&mut Batch { spans: vec![span] }, &|| true).ok()??;
    model.logits(&output, 0..1, &mut Vec::new()).ok()
}
