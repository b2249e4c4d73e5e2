//! A model for tests: it says what it is told to, or hashes what it reads, so that a token that sees anything but its own
//! past shows at once.

use super::forward::Forward;
use super::load::{Engine, ModelInfo, Parts};
use super::options::LoadOptions;
use super::queue::Limits;
use crate::backend::{Backend as _, Portable, Result};
use crate::chat::Chat;
use crate::kernels::{CacheType, Cached, CachedMut, Compute, Isa};
use crate::model::{
    Batch, Fixed, Inputs, KvHeads, Output, PAGE, PagePool, PageShape, Read, Sequence,
};
use crate::tokenizer::Tokenizer;
use crate::worker::Workers;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A "model" over bytes; 0 is the end.
pub struct Mock {
    pub says: Says,
    /// Whether it has a state of fixed size, which can't go back.
    pub fixed: bool,
    /// Rows and passes so far.
    pub computed: AtomicUsize,
    pub passes: AtomicUsize,
    /// Time that a pass takes.
    pub delay: Duration,
    /// Whether the next pass panics.
    pub panics: AtomicBool,
}

/// What it answers.
pub enum Says {
    /// What comes next in this text, whatever was read.
    Text(Vec<u8>),
    /// This, after the last [`ASK`] that was read.
    Answer(Vec<u8>),
    /// Letters that depend on all tokens before them.
    Hashes,
}

/// The byte after which an answer begins.
pub const ASK: u8 = 2;

impl Says {
    /// A text to continue.
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl Mock {
    pub fn new(says: Says) -> Self {
        Self {
            says,
            fixed: false,
            computed: AtomicUsize::new(0),
            passes: AtomicUsize::new(0),
            delay: Duration::ZERO,
            panics: AtomicBool::new(false),
        }
    }
}

/// At most so many pages for mocks.
pub fn pool(pages: usize) -> Arc<PagePool> {
    let heads = KvHeads { count: 1, key_dim: 1, value_dim: 1 };
    let shape = PageShape::of(&[Some(heads)], CacheType::F32, CacheType::F32);
    let bytes = shape.bytes();
    PagePool::new(shape, pages.saturating_mul(bytes))
}

/// An engine with a mock for its model, and a vocabulary of bytes. Its chat template ends in [`ASK`].
pub fn engine(mock: Mock, options: &LoadOptions) -> Engine {
    const TEMPLATE: &str =
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\u{2}";
    let file = crate::tokenizer::bytes();
    let tokenizer = Arc::new(Tokenizer::new(&file).unwrap());
    let parallel = options.parallel.unwrap_or(4);
    let limits = Limits {
        parallel,
        queue: options.queue,
        batch: options.batch,
        context: options.context,
        cached_pages: 100,
        cached_states: 100,
    };
    let info = ModelInfo {
        name: "mock".to_owned(),
        architecture: "mock".to_owned(),
        parameters: 1,
        weight_bytes: 1,
        context: options.context,
        parallel,
        context_train: options.context,
        vocab: 256,
        embedding: 3,
        scores: 0,
        pooling: None,
        makes_text: true,
        stand_in: None,
        cache_bytes_per_position: 8,
        notes: Vec::new(),
    };
    let chat = Chat::new(TEMPLATE, None, None, "", "").unwrap();
    let model = Arc::new(mock);
    let parts = Parts { file, tokenizer, chat, info, model, pool: pool(usize::MAX), limits };
    let workers = Arc::new(Workers::here(crate::jobs::HANDLER));
    Engine::of(parts, options, &Arc::new(Compute::new(Isa::SCALAR, 2)), &workers).unwrap()
}

impl Forward for Mock {
    fn n_vocab(&self) -> usize {
        256
    }

    fn d_model(&self) -> usize {
        3
    }

    fn is_causal(&self) -> bool {
        true
    }

    fn sequence(&self, pool: &Arc<PagePool>, context: usize) -> Sequence {
        let blank = if self.fixed { vec![Fixed::new(vec![f32::from_bits(7)])] } else { Vec::new() };
        Sequence::new(Arc::clone(pool), context, blank)
    }

    fn forward(&self, batch: &mut Batch<'_>, go_on: &dyn Fn() -> bool) -> Result<Option<Output>> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "as asked");
        let end = Instant::now() + self.delay;
        while Instant::now() < end {
            if !go_on() {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.passes.fetch_add(1, Ordering::SeqCst);
        let (mut hidden, mut rows) = (Vec::new(), Vec::new());
        for span in &mut batch.spans {
            let (start, wanted) = (hidden.len() / 3, span.wanted());
            let Inputs::Tokens(tokens) = span.inputs else { panic!("tokens") };
            for (index, token) in tokens.iter().enumerate() {
                let sequence = &mut *span.sequence;
                let at = sequence.len();
                assert!(at < sequence.context() && sequence.has_room(1));
                let before = if at == 0 { 7 } else { stored(sequence, at - 1) };
                if self.fixed {
                    assert_eq!(sequence.fixed()[0][0].to_bits(), before, "another past's state");
                }
                let hash =
                    before.wrapping_mul(31).wrapping_add(*token).rotate_left(7) & 0x3fff_ffff;
                let fresh = sequence.fresh(0, 1).unwrap();
                let mut pages = fresh.pages;
                let [_, CachedMut::F32(values)] = &mut pages[0] else { panic!("f32") };
                values[fresh.at] = f32::from_bits(hash);
                drop(pages);
                if self.fixed {
                    sequence.stage(1, vec![f32::from_bits(hash)]);
                }
                sequence.advance([Read::Token(*token)]);
                if span.stops.contains(&(index + 1)) {
                    sequence.checkpoint();
                }
                if wanted.contains(&index) {
                    let asked = |read: &Read| *read == Read::Token(ASK.into());
                    let place = match self.says {
                        Says::Answer(_) => {
                            sequence.read().iter().rev().take_while(|r| !asked(r)).count()
                        }
                        _ => at + 1,
                    };
                    hidden.extend([place as f32, (hash & 0x7fff) as f32, (hash >> 15) as f32]);
                }
            }
            self.computed.fetch_add(tokens.len(), Ordering::SeqCst);
            rows.push(start..hidden.len() / 3);
        }
        let count = hidden.len() / 3;
        Ok(Some(Output { hidden: Portable.tensor(hidden, &[count, 3])?, rows }))
    }

    fn logits(&self, output: &Output, rows: Range<usize>, logits: &mut Vec<f32>) -> Result<()> {
        let mut hidden = Vec::new();
        self.hidden(output, rows, &mut hidden)?;
        logits.clear();
        for row in hidden.as_chunks::<3>().0 {
            let start = logits.len();
            logits.resize(start + 256, 0.0);
            let next = match &self.says {
                Says::Text(text) | Says::Answer(text) => {
                    text.get(row[0] as usize).copied().unwrap_or(0)
                }
                // Letters, and now and then the end.
                Says::Hashes if (row[1] as u32).is_multiple_of(61) => 0,
                Says::Hashes => b'a' + (row[2] as u32 % 26) as u8,
            };
            logits[start + usize::from(next)] = 9.0;
            if matches!(self.says, Says::Hashes) {
                logits[start + usize::from(b'A' + (row[1] as u32 % 26) as u8)] = 8.5;
            }
        }
        Ok(())
    }

    fn hidden(&self, output: &Output, rows: Range<usize>, hidden: &mut Vec<f32>) -> Result<()> {
        Portable.read(&output.hidden.narrow(0, rows.start, rows.len())?, hidden)
    }
}

fn stored(sequence: &Sequence, position: usize) -> u32 {
    let past = sequence.past(0, 0, true).unwrap();
    let Cached::F32(values) = past.pages[position / PAGE][1] else { panic!("f32") };
    values[position % PAGE].to_bits()
}
