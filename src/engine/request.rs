//! What is asked of the engine, and what comes back.

use super::thought::ThoughtLimit;
use crate::constraint::Guide;
use crate::sampler::Sampling;
use std::time::Duration;

/// A request to generate text.
#[derive(Debug, Clone, Default)]
pub struct Generation {
    /// The whole prompt.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Maximum number of tokens; `None`: until the model ends or the context is full.
    pub max_tokens: Option<usize>,
    /// Maximum tokens of the prompt and its answer together; ignored if the prompt alone reaches it.
    pub context: Option<usize>,
    /// Stop strings: they end the answer and are not part of it.
    pub stops: Vec<String>,
    /// Number of tokens before the answer may end or is searched for `stops`.
    pub min_tokens: usize,
    /// If set, log probabilities are reported: that of each token and of this many most likely ones.
    pub logprobs: Option<usize>,
    /// Whether to report those of the prompt's tokens as well.
    pub score_prompt: bool,
    /// Whether end tokens are never chosen.
    pub ignore_end: bool,
    /// Control tokens whose text is part of the answer.
    pub visible: Vec<u32>,
    /// The constraint on the answer.
    pub guide: Option<Guide>,
    /// A limit on its thoughts.
    pub thoughts: Option<ThoughtLimit>,
    /// The slot to take, if it is free.
    pub slot: Option<usize>,
}

impl Generation {
    /// Bytes of memory that it takes, with what is made of it, beside the prompt: at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const FIXED: usize = 4096;
        let stops: usize = self.stops.iter().map(|stop| 2 * stop.len() + 64).sum();
        let breakers = &self.sampling.dry_sequence_breakers;
        let breakers: usize = breakers.iter().map(|text| 8 * text.len() + 256).sum();
        FIXED + stops + breakers + 2 * size_of_val(self.sampling.logit_bias.as_slice())
    }

    /// The request for answer number `index` of several, counted from 0. A given seed becomes seed + index: as the seed
    /// of a single answer, it would give the same text. Only the first answer scores the prompt.
    #[must_use]
    pub fn choice(&self, index: usize) -> Self {
        let mut choice = self.clone();
        let seed = |seed: u64| seed.wrapping_add(index as u64);
        choice.sampling.seed = self.sampling.seed.map(seed);
        choice.score_prompt &= index == 0;
        choice
    }
}

/// An event of a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Prefill progress.
    Prompt(Progress),
    /// The whole prompt is computed: its tokens, with log probabilities if requested.
    Scored(Vec<TokenChoice>),
    /// The vectors of an input, of a request for embeddings.
    Embedded(Vec<Vec<f32>>),
    /// Text that may be shown.
    Text {
        /// The text; it may be empty while tokens form no whole character.
        text: String,
        /// The tokens that begin in it, with log probabilities if requested.
        tokens: Vec<TokenChoice>,
    },
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenChoice {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability, if requested.
    pub logprob: Option<f32>,
    /// The most likely tokens in its place, if requested.
    pub top: Vec<(u32, f32)>,
    /// Offset of its text in the answer, in characters; 0 for prompt tokens.
    pub at: usize,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model or a stop string ended it.
    Stop,
    /// The token limit is reached, or the context is full.
    Length,
    /// The client cancelled.
    Cancelled,
}

/// A finished generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Why it ended.
    pub finish: Finish,
    /// Whether a stop string ended it.
    pub stopped_by_text: bool,
    /// Counts and times.
    pub timings: Timings,
}

impl Outcome {
    /// An end without counts and times.
    #[must_use]
    pub fn new(finish: Finish) -> Self {
        Self { finish, stopped_by_text: false, timings: Timings::default() }
    }
}

/// Counts and times of a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, reused because already computed.
    pub reused_tokens: usize,
    /// Tokens generated, the end token included.
    pub generated_tokens: usize,
    /// Time for the prompt.
    pub prompt_time: Duration,
    /// Time for the generated tokens.
    pub generation_time: Duration,
}

impl Timings {
    /// The combined counts and times of two answers to one prompt, which is counted once.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            prompt_time: self.prompt_time + next.prompt_time,
            generated_tokens: self.generated_tokens + next.generated_tokens,
            generation_time: self.generation_time + next.generation_time,
            ..self
        }
    }

    /// The combined counts and times of the answers to two prompts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            reused_tokens: self.reused_tokens + other.reused_tokens,
            ..self.and(other)
        }
    }

    /// Newly computed prompt tokens per second.
    #[must_use]
    pub fn prompt_per_second(&self) -> f64 {
        per_second(self.prompt_tokens - self.reused_tokens, self.prompt_time)
    }

    /// Generated tokens per second.
    #[must_use]
    pub fn generated_per_second(&self) -> f64 {
        per_second(self.generated_tokens, self.generation_time)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens")]
fn per_second(tokens: usize, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}

/// Prefill progress, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Computed so far, reused ones included.
    pub processed: usize,
    /// Length of the prompt.
    pub total: usize,
    /// Reused from before.
    pub reused: usize,
}
