//! Tries a constraint in a worker process before it is compiled for good.
//!
//! The library takes what it takes: sixty bytes can make it compute without end or end the process. What has been
//! compiled and followed for some steps over a vocabulary of bytes, with less stack than there will be, does neither
//! when the same is done with the model's own tokens.

use super::schema::Piece;
use super::source::{Words, grammars};
use super::vocabulary::{MARKER, env};
use super::{Constraint, ConstraintError, STACK_BYTES, Step, factory, guide};
use crate::system::on_stack;
use crate::tokenizer::Tokenizer;
use crate::worker::{Patience, Topic, Workers};
use llguidance::ParserFactory;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How long a constraint may take to be compiled and followed for a few steps.
pub const TIME_MAX: Duration = Duration::from_secs(5);
/// Stack to compile with: half of what there will be.
const TRIAL_STACK_BYTES: usize = STACK_BYTES / 2;
/// Stack to follow with: half of what a connection's thread has, which generates.
const STEP_STACK_BYTES: usize = 1 << 19;
/// Steps that are followed.
const STEPS: usize = 48;

/// What is tried, and over which tokens.
#[derive(Serialize, Deserialize)]
struct Job<C, V> {
    constraint: C,
    vocabulary: V,
}

/// A model's tokens as far as a grammar can name them.
#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct Vocabulary {
    /// Number of the model's tokens.
    size: usize,
    /// Its control tokens.
    control: Vec<(u32, String)>,
}

/// Has a constraint tried by `workers`. That it makes no sense is no error here.
pub(super) fn run(
    workers: &Workers,
    vocabulary: &Vocabulary,
    constraint: &Constraint,
    patience: &Patience<'_>,
) -> Result<(), ConstraintError> {
    let job = serde_json::to_vec(&Job { constraint, vocabulary });
    let job = job.map_err(|e| ConstraintError::Untried(e.to_string()))?;
    match workers.ask(Topic::Constraint, &job, patience) {
        Ok(problem) if problem.is_empty() => Ok(()),
        Ok(problem) => {
            Err(ConstraintError::Untried(String::from_utf8_lossy(&problem).into_owned()))
        }
        Err(error) if error.is_untried() => Err(ConstraintError::Untried(error.to_string())),
        Err(error) => Err(ConstraintError::Bound { what: constraint.what(), error }),
    }
}

/// Tries a constraint, in a worker process. There is no result, whatever came of it, but why it could not be tried.
pub(crate) fn work(job: &[u8]) -> Vec<u8> {
    let job = serde_json::from_slice(job).map_err(|e| e.to_string());
    let tried = job.and_then(|Job { constraint, vocabulary }| try_out(&constraint, vocabulary));
    tried.err().unwrap_or_default().into_bytes()
}

fn try_out(constraint: &Constraint, vocabulary: Vocabulary) -> Result<(), String> {
    thread_local! {
        static KEPT: RefCell<Option<Rc<Kept>>> = const { RefCell::new(None) };
    }
    let kept = KEPT.take().filter(|kept| kept.vocabulary == vocabulary);
    let fresh = || Some(Rc::new(Kept { factory: vocabulary.factory()?, vocabulary }));
    // A vocabulary too large for the library is told when the constraint is compiled.
    let Some(kept) = kept.or_else(fresh) else { return Ok(()) };
    KEPT.set(Some(Rc::clone(&kept)));
    let Kept { vocabulary, factory } = &*kept;
    let compiled = on_stack(TRIAL_STACK_BYTES, || {
        let all = grammars(constraint, vocabulary).unwrap_or_default();
        all.into_iter().filter_map(|grammar| guide(factory, grammar).ok()).collect::<Vec<_>>()
    });
    for mut guide in compiled.map_err(|e| e.to_string())?.into_iter().flatten() {
        let followed = on_stack(STEP_STACK_BYTES, move || {
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
        });
        followed.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// A vocabulary and what is compiled with it.
struct Kept {
    vocabulary: Vocabulary,
    factory: ParserFactory,
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
    /// That of a model.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let size = tokenizer.len();
        let ids = 0..u32::try_from(size).unwrap_or(u32::MAX);
        let text = |id| String::from_utf8_lossy(&tokenizer.decode(&[id], true)).into_owned();
        let control = ids.filter(|&id| tokenizer.is_control(id)).map(|id| (id, text(id))).collect();
        Self { size, control }
    }

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
