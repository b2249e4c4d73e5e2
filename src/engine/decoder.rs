//! One answer while it is generated: from logits to tokens, text and its end.
//!
//! Input: the logits after the last computed token. Output: events, and which tokens to compute next. Knows nothing of
//! models, and sees a tokenizer only as a [`Vocabulary`]. Decoders share nothing, so those of several sequences run in
//! parallel.

use super::error::EngineError;
use super::request::{Event, Finish, Generation, TokenChoice};
use super::thought::Watch;
use crate::constraint::{Guide, Step};
use crate::sampler::{Breakers, Sampler, log_probabilities};
use crate::text::{Places, TextStream};
use crate::tokenizer::Tokenizer;
use std::sync::Arc;

/// What a decoder has to know of tokens.
pub trait Vocabulary: Send + Sync {
    /// Appends a token's text to `out`; that of a control token only if `visible`.
    fn piece(&self, id: u32, visible: bool, out: &mut Vec<u8>);
    /// Whether a token ends an answer.
    fn is_end(&self, id: u32) -> bool;
    /// Whether a token is a control token.
    fn is_control(&self, id: u32) -> bool;
}

impl Vocabulary for Tokenizer {
    fn piece(&self, id: u32, visible: bool, out: &mut Vec<u8>) {
        self.piece(id, visible, out);
    }

    fn is_end(&self, id: u32) -> bool {
        self.is_end(id)
    }

    fn is_control(&self, id: u32) -> bool {
        self.is_control(id)
    }
}

/// The state of one answer.
pub struct Decoder {
    request: Generation,
    vocabulary: Arc<dyn Vocabulary>,
    sampler: Sampler,
    guide: Option<Guide>,
    thoughts: Option<Watch>,
    stream: TextStream,
    places: Places,
    /// Maximum number of positions of the prompt and the answer.
    room: usize,
    /// What the constraint says of the next token, once it was asked.
    next: Option<Next>,
    /// The tokens allowed next, one bit each, if `next` says so.
    allowed: Vec<u32>,
    /// All tokens but end tokens, if the answer has a minimum length.
    not_end: Option<Vec<u32>>,
    /// Chosen, but not computed yet: forced tokens need no logits.
    pending: Vec<u32>,
    /// Tokens whose text is not emitted yet.
    waiting: Vec<TokenChoice>,
    /// Characters emitted.
    given: usize,
    generated: usize,
    bytes: Vec<u8>,
}

enum Next {
    Forced(u32),
    /// One of `allowed`.
    Among,
    Any,
}

/// Builds the sampler of a request; settings given as text become tokens.
#[must_use]
pub fn sampler(tokenizer: &Tokenizer, request: &Generation) -> Sampler {
    let mut sampling = request.sampling.clone();
    if request.ignore_end {
        sampling.logit_bias.extend(tokenizer.ends().iter().map(|&id| (id, f32::NEG_INFINITY)));
    }
    let breakers = if sampling.dry_multiplier == 0.0 {
        Breakers::default()
    } else {
        Breakers::new(
            &sampling.dry_sequence_breakers,
            tokenizer.len(),
            |id, out| tokenizer.piece(id, true, out),
            |text| tokenizer.encode(text, false, false),
        )
    };
    Sampler::new(sampling, breakers)
}

impl Decoder {
    /// A decoder for an answer to `request`, in a context of `context` positions.
    #[must_use]
    pub fn new(
        request: Generation,
        sampler: Sampler,
        vocabulary: Arc<dyn Vocabulary>,
        context: usize,
    ) -> Self {
        let limit = request.context.filter(|limit| request.prompt.len() < *limit);
        let stops = if request.min_tokens > 0 { &[] } else { &request.stops[..] };
        Self {
            stream: TextStream::new(stops),
            guide: request.guide.clone(),
            thoughts: request.thoughts.clone().map(Watch::new),
            room: context.min(limit.unwrap_or(usize::MAX)),
            request,
            vocabulary,
            sampler,
            places: Places::default(),
            next: None,
            allowed: Vec::new(),
            not_end: None,
            pending: Vec::new(),
            waiting: Vec::new(),
            given: 0,
            generated: 0,
            bytes: Vec::new(),
        }
    }

    /// Whether a token is a control token.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.is_control(id)
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &Generation {
        &self.request
    }

    /// Tokens generated, the end token included.
    #[must_use]
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Whether a stop string ended the answer.
    #[must_use]
    pub fn stopped_by_text(&self) -> bool {
        self.stream.stopped()
    }

    /// The tokens to compute next, after [`Decoder::choose`].
    #[must_use]
    pub fn pending(&self) -> &[u32] {
        &self.pending
    }

    /// Chooses tokens until some have to be computed ([`Decoder::pending`]), or until the answer ends. `logits` are
    /// those after `past`, all tokens computed so far; those pending before are among them. `emit` gets events, with the
    /// number of tokens generated up to each.
    ///
    /// # Errors
    /// When the constraint can't be followed, or the logits are all NaN or infinite.
    pub fn choose(
        &mut self,
        logits: &[f32],
        past: &[u32],
        emit: &mut dyn FnMut(Event, usize),
    ) -> Result<Option<Finish>, EngineError> {
        self.pending.clear();
        let finish = self.run(logits, past, emit)?;
        if finish.is_some() {
            self.finish(emit);
        }
        Ok(finish)
    }

    fn run(
        &mut self,
        logits: &[f32],
        past: &[u32],
        emit: &mut dyn FnMut(Event, usize),
    ) -> Result<Option<Finish>, EngineError> {
        loop {
            let next = match self.next.take() {
                Some(next) => next,
                None => match self.guide.as_mut().map(Guide::step).transpose()? {
                    Some(Step::End) => return Ok(Some(Finish::Stop)),
                    Some(Step::Forced(id)) => Next::Forced(id),
                    Some(Step::Among(allowed)) => {
                        allowed.clone_into(&mut self.allowed);
                        Next::Among
                    }
                    None => Next::Any,
                },
            };
            if self.request.max_tokens.is_some_and(|max| self.generated >= max) {
                return Ok(Some(Finish::Length));
            }
            // The next token would have no position in the context.
            if past.len() + self.pending.len() >= self.room {
                return Ok(Some(Finish::Length));
            }
            let forced = if let Next::Forced(id) = next { Some(id) } else { None };
            if !self.pending.is_empty() && (forced.is_none() || self.request.logprobs.is_some()) {
                self.next = Some(next);
                return Ok(None);
            }
            if let Some(finish) = self.take(logits, past, &next, emit)? {
                return Ok(Some(finish));
            }
        }
    }

    /// Takes one token; returns why the answer ends with it, if it does.
    fn take(
        &mut self,
        logits: &[f32],
        past: &[u32],
        next: &Next,
        emit: &mut dyn FnMut(Event, usize),
    ) -> Result<Option<Finish>, EngineError> {
        if !logits.iter().any(|l| l.is_finite()) {
            let message = "the model's logits are all NaN or infinite; its weights are damaged";
            return Err(EngineError::Compute(message.to_owned()));
        }
        let id = match next {
            Next::Forced(id) => *id,
            Next::Among | Next::Any => {
                let allowed =
                    if let Next::Among = next { Some(self.allowed.as_slice()) } else { None };
                let ending = self.thoughts.as_ref().and_then(Watch::next);
                let ending = ending.filter(|id| allowed.is_none_or(|mask| has(mask, *id)));
                let longer = if self.generated < self.request.min_tokens {
                    let is_end = |id| self.vocabulary.is_end(id);
                    let mask = self.not_end.get_or_insert_with(|| all_but(&is_end, logits.len()));
                    within(mask, allowed)
                } else {
                    None
                };
                let mask = longer.as_deref().or(allowed);
                ending.unwrap_or_else(|| self.sampler.sample(logits, past, mask))
            }
        };
        self.generated += 1;
        if self.request.min_tokens > 0 && self.generated == self.request.min_tokens {
            self.stream.watch(&self.request.stops);
        }
        if self.vocabulary.is_end(id) {
            return Ok(Some(Finish::Stop));
        }
        if let (Some(guide), Next::Among) = (&mut self.guide, next) {
            guide.accept(id)?;
        }
        self.bytes.clear();
        self.vocabulary.piece(id, self.request.visible.contains(&id), &mut self.bytes);
        if let Some(thoughts) = &mut self.thoughts {
            thoughts.take(id, &self.bytes);
        }
        let at = self.places.next(&self.bytes);
        self.waiting.push(TokenChoice { at, ..choice(logits, id, self.request.logprobs) });
        let text = self.stream.push(&self.bytes);
        self.given += text.chars().count();
        let shown = self.waiting.partition_point(|token| token.at < self.given);
        let tokens = self.waiting.drain(..shown).collect();
        emit(Event::Text { text, tokens }, self.generated);
        if self.stream.stopped() {
            return Ok(Some(Finish::Stop));
        }
        self.pending.push(id);
        Ok(None)
    }

    /// Emits the text that was held back.
    fn finish(&mut self, emit: &mut dyn FnMut(Event, usize)) {
        let text = self.stream.finish();
        if self.stream.stopped() {
            self.waiting.clear();
        }
        if !(text.is_empty() && self.waiting.is_empty()) {
            let tokens = std::mem::take(&mut self.waiting);
            emit(Event::Text { text, tokens }, self.generated);
        }
    }
}

/// A token with its log probability and those of the likeliest, if `wanted`.
#[must_use]
pub fn choice(logits: &[f32], id: u32, wanted: Option<usize>) -> TokenChoice {
    match wanted {
        None => TokenChoice { id, logprob: None, top: Vec::new(), at: 0 },
        Some(n) => {
            let (logprob, top) = log_probabilities(logits, id, n);
            TokenChoice { id, logprob: Some(logprob), top, at: 0 }
        }
    }
}

/// A mask with one bit for each of `len` tokens, lowest first, that excludes end tokens.
fn all_but(is_end: &dyn Fn(u32) -> bool, len: usize) -> Vec<u32> {
    let mut mask = vec![u32::MAX; len.div_ceil(32)];
    for id in (0..u32::try_from(len).unwrap_or(u32::MAX)).filter(|id| is_end(*id)) {
        mask[id as usize / 32] &= !(1 << (id % 32));
    }
    // Clear the bits beyond the last token.
    if let (Some(last), used @ 1..) = (mask.last_mut(), len % 32) {
        *last &= (1 << used) - 1;
    }
    mask
}

/// Whether a mask allows a token.
fn has(mask: &[u32], id: u32) -> bool {
    mask.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

/// The intersection of two masks; `None` if it is empty.
fn within(mask: &[u32], allowed: Option<&[u32]>) -> Option<Vec<u32>> {
    let both: Vec<u32> = match allowed {
        None => mask.to_vec(),
        Some(allowed) => mask.iter().zip(allowed).map(|(a, b)| a & b).collect(),
    };
    both.iter().any(|word| *word != 0).then_some(both)
}
