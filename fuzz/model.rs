//! The vocabulary of a real model, `models/smollm2…`, which `make test` fetches.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use tealight::constraint::{Compiler, Constraint, Step};
use tealight::model::ModelFile;
use tealight::source;
use tealight::tokenizer::Tokenizer;

pub static FILE: LazyLock<ModelFile> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/smollm2-135m-instruct-q4_1.gguf");
    let shards = source::open(Path::new(path)).expect("python3 tools/models.py get smollm2");
    ModelFile::open(shards).expect("a whole model")
});

/// Compiles a constraint and follows it for up to 20 steps.
#[allow(dead_code, reason = "not every target has a constraint")]
pub fn follow(constraint: &Constraint) {
    static COMPILER: LazyLock<Compiler> = LazyLock::new(|| {
        Compiler::new(Arc::new(Tokenizer::new(&FILE).expect("a whole vocabulary")))
    });
    let Ok(mut guide) = COMPILER.compile(constraint) else { return };
    for _ in 0..20 {
        let id = match guide.step() {
            Ok(Step::Forced(_)) => continue,
            Ok(Step::Among(mask)) => {
                let word = mask.iter().position(|word| *word != 0);
                let Some(word) = word else { return };
                u32::try_from(word).expect("a vocabulary of u32") * 32 + mask[word].trailing_zeros()
            }
            _ => return,
        };
        if guide.accept(id).is_err() {
            return;
        }
    }
}
