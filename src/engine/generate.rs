//! Requests from the side of those who ask: they give a request to the scheduler and get its events.

use super::Engine;
use super::decoder::{Decoder, sampler};
use super::error::EngineError;
use super::job::{Job, Task};
use super::mailbox::{self, Receiver, Wake};
use super::request::{Event, Finish, Generation, Outcome, Timings};
use crate::model::Pooling;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often to ask whether the answer is still wanted.
const LOOK: Duration = Duration::from_millis(20);

impl Engine {
    /// Generates an answer, passing events to `emit`. Asks `wanted` often, and ends once it returns false; waiting for
    /// others, too, ends then.
    ///
    /// # Errors
    /// When the prompt does not fit, too many requests wait, or computing fails. Cancellation is not an error.
    pub fn generate(
        &self,
        request: &Generation,
        wanted: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Outcome, EngineError> {
        let mut answer = self.begin(request.clone())?;
        while wanted() {
            match answer.next(LOOK) {
                Received::Event(event) => emit(event),
                Received::End(outcome) => return outcome,
                Received::Nothing => {}
            }
        }
        Ok(answer.cut())
    }

    /// Gives a request to the scheduler. Dropping what it returns cancels it.
    ///
    /// # Errors
    /// When the prompt does not fit, or too many requests wait.
    pub fn begin(&self, request: Generation) -> Result<Generating, EngineError> {
        self.check_prompt(&request.prompt)?;
        let timings = Timings { prompt_tokens: request.prompt.len(), ..Timings::default() };
        let sampler = sampler(&self.tokenizer, &request);
        let vocabulary = Arc::clone(&self.tokenizer) as Arc<_>;
        let decoder = Decoder::new(request, sampler, vocabulary, self.info.context);
        let receiver = self.send(Task::Generate(Box::new(decoder)))?;
        Ok(Generating { receiver, timings, start: Instant::now() })
    }

    /// Requests that can be computed and wait at a time.
    #[must_use]
    pub fn requests_max(&self) -> usize {
        self.info.parallel + self.scheduler.waiting_max()
    }

    /// Whether a prompt can be continued.
    ///
    /// # Errors
    /// When it is empty, does not fit, or holds an unknown token.
    pub fn check_prompt(&self, prompt: &[u32]) -> Result<(), EngineError> {
        let (tokens, context) = (prompt.len(), self.info.context);
        match tokens {
            0 => Err(EngineError::Empty),
            _ if tokens >= context => Err(EngineError::ContextFull { prompt: tokens, context }),
            _ => self.check_tokens(prompt),
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), EngineError> {
        let vocab = self.info.vocab;
        match tokens.iter().position(|&id| id as usize >= vocab) {
            None => Ok(()),
            Some(position) => Err(EngineError::Token { position, id: tokens[position], vocab }),
        }
    }

    /// Maximum number of tokens of a text to embed.
    #[must_use]
    pub fn embedding_tokens_max(&self) -> usize {
        // Models with bidirectional attention know only the positions they were trained on.
        let info = &self.info;
        if info.makes_text { info.context } else { info.context.min(info.context_train) }
    }

    /// Embeds texts: one row for each, or one per token without pooling. `None` once `wanted` returns false.
    ///
    /// # Errors
    /// When a text has no tokens or too many, too many requests wait, or computing fails.
    pub fn embed(
        &self,
        inputs: Vec<Vec<u32>>,
        pooling: Pooling,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Vec<Vec<f32>>>>, EngineError> {
        let context = self.embedding_tokens_max();
        for tokens in &inputs {
            match tokens.len() {
                0 => return Err(EngineError::NothingToEmbed),
                n if n > context => return Err(EngineError::TooLong { tokens: n, context }),
                _ => self.check_tokens(tokens)?,
            }
        }
        let mut all = Vec::with_capacity(inputs.len());
        let mut receiver = self.send(Task::Embed { inputs, pooling })?;
        while wanted() {
            match receiver.next(LOOK) {
                mailbox::Received::Event((Event::Embedded(rows), _)) => all.push(rows),
                mailbox::Received::Event(_) | mailbox::Received::Nothing => {}
                mailbox::Received::End(outcome) => return outcome.map(|_| Some(all)),
            }
        }
        Ok(None)
    }

    fn send(&self, task: Task) -> Result<Receiver, EngineError> {
        let (sender, receiver) = mailbox::mailbox(Arc::clone(&self.scheduler) as Arc<dyn Wake>);
        self.scheduler.submit(Job { task, sender })?;
        Ok(receiver)
    }
}

/// What an answer on its way brings.
#[derive(Debug)]
pub enum Received {
    /// The next event.
    Event(Event),
    /// The end. Nothing comes after it.
    End(Result<Outcome, EngineError>),
    /// Nothing within the time.
    Nothing,
}

/// An answer on its way.
pub struct Generating {
    receiver: Receiver,
    /// As seen from here, for an answer that is cut.
    timings: Timings,
    start: Instant,
}

impl Generating {
    /// The next event, waiting up to `wait` for one.
    pub fn next(&mut self, wait: Duration) -> Received {
        let (event, generated) = match self.receiver.next(wait) {
            mailbox::Received::Event(letter) => letter,
            mailbox::Received::End(outcome) => return Received::End(outcome),
            mailbox::Received::Nothing => return Received::Nothing,
        };
        self.timings.generated_tokens = generated;
        match &event {
            Event::Prompt(progress) => self.timings.reused_tokens = progress.reused,
            _ if self.timings.prompt_time.is_zero() => {
                self.timings.prompt_time = self.start.elapsed();
            }
            _ => {}
        }
        Received::Event(event)
    }

    /// Requests that are served before this one, while it waits.
    #[must_use]
    pub fn before(&self) -> Option<usize> {
        self.receiver.before()
    }

    /// Cancels the rest. The outcome counts what was read.
    #[must_use]
    pub fn cut(self) -> Outcome {
        let timings = Timings {
            generation_time: self.start.elapsed().saturating_sub(self.timings.prompt_time),
            ..self.timings
        };
        Outcome { timings, ..Outcome::new(Finish::Cancelled) }
    }
}
