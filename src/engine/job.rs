//! A request in the scheduler: what it has to compute, and what becomes of the results.

use super::decoder::{Decoder, choice};
use super::error::EngineError;
use super::mailbox::Sender;
use super::pooling::Pooler;
use super::request::{Event, Finish, Outcome, Progress, Timings, TokenChoice};
use super::saved::Saved;
use crate::model::{Pooling, Sequence, Wanted};
use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Instant;

/// A request that waits.
pub struct Job {
    /// What is asked.
    pub task: Task,
    /// Who asks.
    pub sender: Sender,
}

/// What is done between two passes, and who waits for it.
pub enum Command {
    /// Looks up what slot `slot` has read last.
    Look {
        /// The slot.
        slot: usize,
        /// Gets it; nothing if there is none.
        reply: mpsc::Sender<Saved>,
    },
    /// Keeps what was read elsewhere, as if slot `slot` had read it.
    Keep {
        /// The slot.
        slot: usize,
        /// What was read.
        saved: Saved,
        /// Gets the number of tokens.
        reply: mpsc::Sender<usize>,
    },
    /// Forgets what slot `slot` has read last.
    Erase {
        /// The slot.
        slot: usize,
        /// Gets the number of tokens.
        reply: mpsc::Sender<usize>,
    },
}

/// What is asked.
pub enum Task {
    /// An answer to a prompt.
    Generate(Box<Decoder>),
    /// Vectors for texts.
    Embed {
        /// The texts' tokens.
        inputs: Vec<Vec<u32>>,
        /// How rows become vectors.
        pooling: Pooling,
    },
}

/// A request that is being computed.
pub struct Run {
    /// Position in the order of arrival.
    pub number: u64,
    /// The slot that it takes.
    pub slot: usize,
    pub work: Work,
    pub sender: Sender,
    /// Events that the mailbox has no room for yet, with the tokens generated up to each.
    pub outbox: VecDeque<(Event, usize)>,
    /// How the request ended; it is told after the events.
    pub ended: Option<Result<Outcome, EngineError>>,
    /// Since when the client doesn't read.
    pub stalled: Option<Instant>,
    /// Whether it waits for pages.
    pub blocked: bool,
}

/// What it computes.
pub enum Work {
    Answer(Box<Answer>),
    Embedding(Embedding),
}

/// An answer being generated.
pub struct Answer {
    pub timeline: Timeline,
    pub decoder: Decoder,
    /// Whether the prompt is computed.
    pub decoding: bool,
    /// The logits after the last token computed, when they are new.
    pub logits: Option<Vec<f32>>,
    /// The prompt's tokens with their log probabilities, if asked for.
    pub scored: Vec<TokenChoice>,
    pub timings: Timings,
    pub since: Instant,
}

/// Texts being embedded.
pub struct Embedding {
    pub inputs: Vec<Vec<u32>>,
    pub pooling: Pooling,
    /// The next input to begin.
    pub next: usize,
    /// Those begun, in order.
    pub active: Vec<(Timeline, Pooler)>,
}

/// A sequence and what it has to read.
pub struct Timeline {
    pub sequence: Sequence,
    /// All its tokens: those read, then those to be read.
    pub tokens: Vec<u32>,
    /// Tokens to read in this step.
    pub planned: usize,
    pub wanted: Wanted,
    /// Places whose states of fixed size are kept, in ascending order.
    pub stops: Vec<usize>,
    /// Those that this step passes, counted from where it begins.
    pub passed: Vec<usize>,
}

impl Timeline {
    /// Tokens to be read.
    pub fn left(&self) -> usize {
        self.tokens.len() - self.sequence.len()
    }

    /// Plans to read `count` tokens in this step.
    pub fn plan(&mut self, count: usize, wanted: Wanted) {
        let first = self.sequence.len();
        let passed = self.stops.iter().filter(|stop| (first + 1..first + count).contains(stop));
        self.passed = passed.map(|stop| stop - first).collect();
        (self.planned, self.wanted) = (count, wanted);
    }
}

impl Run {
    /// Whether it takes timeline in steps.
    pub fn is_active(&self) -> bool {
        self.ended.is_none() && self.outbox.is_empty()
    }

    /// The sequences that have something to read.
    pub fn timelines(&mut self) -> impl Iterator<Item = &mut Timeline> {
        let (one, several) = match &mut self.work {
            Work::Answer(answer) => (Some(&mut answer.timeline), None),
            Work::Embedding(embedding) => (None, Some(&mut embedding.active)),
        };
        one.into_iter().chain(several.into_iter().flatten().map(|(timeline, _)| timeline))
    }
}

impl Answer {
    /// An answer whose prompt is the timeline's tokens.
    pub fn new(timeline: Timeline, decoder: Decoder) -> Self {
        let prompt_tokens = timeline.tokens.len();
        Self {
            timeline,
            decoder,
            decoding: false,
            logits: None,
            scored: Vec::new(),
            timings: Timings { prompt_tokens, ..Timings::default() },
            since: Instant::now(),
        }
    }

    /// Takes the logits after one of the wanted positions, in order.
    pub fn take_logits(&mut self, logits: &[f32]) {
        let request = self.decoder.request();
        if self.decoding || !request.score_prompt {
            self.logits = Some(logits.to_vec());
            return;
        }
        if self.scored.is_empty() {
            let first = |id: &u32| TokenChoice { id: *id, logprob: None, top: Vec::new(), at: 0 };
            self.scored.extend(request.prompt.first().map(first));
        }
        match request.prompt.get(self.scored.len()) {
            Some(token) => self.scored.push(choice(logits, *token, request.logprobs)),
            None => self.logits = Some(logits.to_vec()),
        }
    }

    /// Progress after a step of the prompt.
    pub fn progress(&self) -> Progress {
        Progress {
            processed: self.timeline.sequence.len(),
            total: self.timings.prompt_tokens,
            reused: self.timings.reused_tokens,
        }
    }

    /// Continues once the prompt is computed and its logits are there: chooses tokens, and returns why the answer ends,
    /// if it does.
    pub fn go_on(
        &mut self,
        outbox: &mut VecDeque<(Event, usize)>,
    ) -> Result<Option<Finish>, EngineError> {
        let Some(logits) = self.logits.take() else { return Ok(None) };
        if !self.decoding {
            self.decoding = true;
            self.timings.prompt_time = self.since.elapsed();
            self.since = Instant::now();
            if self.decoder.request().score_prompt {
                outbox.push_back((Event::Scored(std::mem::take(&mut self.scored)), 0));
            }
        }
        let mut emit = |event, generated| outbox.push_back((event, generated));
        let finish = self.decoder.choose(&logits, &self.timeline.tokens, &mut emit)?;
        if finish.is_none() {
            self.timeline.tokens.extend_from_slice(self.decoder.pending());
        }
        Ok(finish)
    }

    /// The outcome of an answer that ends now.
    pub fn outcome(&self, finish: Finish) -> Outcome {
        let mut timings = Timings { generated_tokens: self.decoder.generated(), ..self.timings };
        if self.decoding {
            timings.generation_time = self.since.elapsed();
        }
        Outcome { finish, stopped_by_text: self.decoder.stopped_by_text(), timings }
    }
}

/// Whether an answer is being generated.
pub fn is_decoding(run: &Run) -> bool {
    matches!(&run.work, Work::Answer(answer) if answer.decoding)
}

/// Whether an answer can choose its next token.
pub fn has_logits(run: &Run) -> bool {
    matches!(&run.work, Work::Answer(answer) if answer.logits.is_some() && run.ended.is_none())
}
