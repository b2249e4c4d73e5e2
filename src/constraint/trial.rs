//! Tries a constraint in a worker process before it is compiled in this one.
//!
//! llguidance does not bound its work: sixty bytes of source can make it run forever or end the process. A constraint
//! that was compiled and followed for some steps over a byte vocabulary, with less stack than the real run has, does
//! neither with the model's own tokens.

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

/// Time limit for compiling a constraint and following it for a few steps.
pub const TIME_MAX: Duration = Duration::from_secs(5);
/// Stack for compiling: half of what the real run has.
const TRIAL_STACK_BYTES: usize = STACK_BYTES / 2;
/// Stack for following: half of that of a connection thread, which generates.
const STEP_STACK_BYTES: usize = 1 << 19;
/// Steps to follow.
const STEPS: usize = 48;

/// The constraint to try, and the vocabulary to try it with.
#[derive(Serialize, Deserialize)]
struct Job<C, V> {
    constraint: C,
    vocabulary: V,
}

/// The part of a model's vocabulary that a grammar can name.
#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct Vocabulary {
    /// Number of tokens in the model's vocabulary.
    size: usize,
    /// Ids and texts of its control tokens.
    control: Vec<(u32, String)>,
}

/// Has a constraint tried by `workers`. An invalid constraint is not an error here.
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

/// The worker's side: tries a constraint. The result is empty, whatever the outcome, unless the trial could not be run;
/// then it says why.
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
    // If the vocabulary is too large for llguidance, the compilation that follows says so.
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

/// A vocabulary and its factory, kept for the next job.
struct Kept {
    vocabulary: Vocabulary,
    factory: ParserFactory,
}

/// Picks a token from a mask, varying with the step.
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
    /// The vocabulary of a model.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let size = tokenizer.len();
        let ids = 0..u32::try_from(size).unwrap_or(u32::MAX);
        let text = |id| String::from_utf8_lossy(&tokenizer.decode(&[id], true)).into_owned();
        let control = ids.filter(|&id| tokenizer.is_control(id)).map(|id| (id, text(id))).collect();
        Self { size, control }
    }

    /// Control tokens under their own ids; after all of the model's ids, one token per byte and an end token.
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
