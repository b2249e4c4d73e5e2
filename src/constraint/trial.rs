//! Tries a constraint in a worker process before it is compiled for good.
//!
//! The library takes what it takes: sixty bytes can make it compute without end or end the process. What has been
//! compiled and followed for some steps over a vocabulary of bytes, with less stack than there will be, does neither
//! when the same is done with the model's own tokens.

use super::schema::Piece;
use super::source::{Words, grammars};
use super::vocabulary::{MARKER, env};
use super::{Constraint, ConstraintError, STACK_BYTES, Step, factory, guide, on_stack};
use crate::tokenizer::{Kind, Tokenizer};
use crate::worker::{Patience, Topic, WorkerError, Workers};
use llguidance::ParserFactory;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How long a constraint may take to be compiled and followed for a few steps.
pub const TIME_MAX: Duration = Duration::from_secs(5);
/// Stack to compile with: half of what there will be.
const TRIAL_STACK_BYTES: usize = STACK_BYTES / 2;
/// Stack to follow with: half of what the threads have that generate.
const STEP_STACK_BYTES: usize = 1 << 20;
/// Steps that are followed.
const STEPS: usize = 48;

/// What is tried, and the model's tokens as far as a grammar can name them.
#[derive(Serialize, Deserialize)]
struct Job {
    constraint: Constraint,
    vocabulary: Vocabulary,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Vocabulary {
    /// Number of the model's tokens.
    size: usize,
    /// Its control tokens.
    control: Vec<(u32, String)>,
}

/// Has a constraint tried by `workers`. That it makes no sense is no error here.
pub(super) fn run(
    workers: &Workers,
    tokenizer: &Tokenizer,
    constraint: &Constraint,
    patience: &Patience<'_>,
) -> Result<(), ConstraintError> {
    let control = |id: &u32| tokenizer.kind(*id) == Some(Kind::Control);
    let size = tokenizer.len();
    let ids = (0..u32::try_from(size).unwrap_or(u32::MAX)).filter(control);
    let text = |id: u32| String::from_utf8_lossy(&tokenizer.decode(&[id], true)).into_owned();
    let vocabulary = Vocabulary { size, control: ids.map(|id| (id, text(id))).collect() };
    let job = serde_json::to_vec(&Job { constraint: constraint.clone(), vocabulary });
    let job = job.map_err(|e| ConstraintError::Untried(e.to_string()))?;
    match workers.ask(Topic::Constraint, &job, patience) {
        Ok(_) => Ok(()),
        Err(
            error @ (WorkerError::Unwanted
            | WorkerError::Start(_)
            | WorkerError::Thread(_)
            | WorkerError::Busy),
        ) => Err(ConstraintError::Untried(error.to_string())),
        Err(error) => Err(ConstraintError::Bound { what: constraint.what(), error }),
    }
}

/// Tries a constraint, in a worker process. There is no result: it is over, whatever came of it.
pub(crate) fn work(job: &[u8]) -> Vec<u8> {
    if let Ok(Job { constraint, vocabulary }) = serde_json::from_slice(job) {
        try_out(&constraint, &vocabulary);
    }
    Vec::new()
}

fn try_out(constraint: &Constraint, vocabulary: &Vocabulary) {
    thread_local! {
        static KEPT: RefCell<Option<(Vocabulary, Rc<ParserFactory>)>> = const { RefCell::new(None) };
    }
    let kept = KEPT.with_borrow(|kept| {
        kept.as_ref().filter(|(of, _)| of == vocabulary).map(|(_, factory)| Rc::clone(factory))
    });
    let factory = kept.or_else(|| vocabulary.factory().map(Rc::new));
    let Some(factory) = factory else { return };
    KEPT.set(Some((vocabulary.clone(), Rc::clone(&factory))));
    let factory: &ParserFactory = &factory;
    let compiled = on_stack(TRIAL_STACK_BYTES, || {
        let all = grammars(constraint, vocabulary)?;
        Ok(all.into_iter().filter_map(|grammar| guide(factory, grammar).ok()).collect::<Vec<_>>())
    });
    for mut guide in compiled.unwrap_or_default() {
        let _ = on_stack(STEP_STACK_BYTES, move || {
            for step in 0..STEPS {
                let next = match guide.step() {
                    Ok(Step::Forced(_)) => continue,
                    Ok(Step::Among(mask)) => chosen(mask, step),
                    Ok(Step::End) | Err(_) => break,
                };
                if next.is_none_or(|id| guide.accept(id).is_err()) {
                    break;
                }
            }
            Ok(())
        });
    }
}

/// One of the tokens in a mask; another one at each step.
fn chosen(mask: &[u32], step: usize) -> Option<u32> {
    let count: usize = mask.iter().map(|word| word.count_ones() as usize).sum();
    let mut left = (step * 7919).checked_rem(count)?;
    for (index, word) in mask.iter().enumerate() {
        let ones = word.count_ones() as usize;
        if left < ones {
            let bit = (0..32).filter(|bit| word >> bit & 1 == 1).nth(left)?;
            return Some(index as u32 * 32 + bit);
        }
        left -= ones;
    }
    None
}

impl Vocabulary {
    /// The control tokens under their own ids, behind all ids a token for each byte, and an end.
    fn factory(&self) -> Option<ParserFactory> {
        let mut words = vec![Vec::new(); self.size];
        for (id, text) in &self.control {
            if let Some(word) = words.get_mut(*id as usize) {
                word.push(MARKER);
                word.extend(text.bytes());
            }
        }
        words
            .extend((0..=u8::MAX).map(|byte| if byte == MARKER { Vec::new() } else { vec![byte] }));
        words.push([&[MARKER][..], b"<end>"].concat());
        let end = u32::try_from(words.len() - 1).ok()?;
        let first = end - 256;
        let tokenize =
            move |_: &_, bytes: &[u8]| bytes.iter().map(|&b| first + u32::from(b)).collect();
        factory(&env(&words, &[end], tokenize)?)
    }
}

impl Words for Vocabulary {
    fn token(&self, text: &str) -> Option<u32> {
        let named = self.control.iter().find(|(_, name)| name == text);
        named.or(self.control.first()).map(|(id, _)| *id)
    }

    fn pieces(&self, text: &str) -> Vec<Piece> {
        let named = |rest: &str| {
            self.control.iter().find(|(_, n)| !n.is_empty() && rest.starts_with(n.as_str()))
        };
        let (mut pieces, mut plain, mut at) = (Vec::new(), String::new(), 0);
        while let Some(c) = text[at..].chars().next() {
            if let Some((id, name)) = named(&text[at..]) {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Token(*id));
                at += name.len();
            } else {
                plain.push(c);
                at += c.len_utf8();
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        pieces
    }
}
