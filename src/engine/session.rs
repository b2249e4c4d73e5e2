//! One timeline of computed tokens, reused from request to request.
//!
//! Callers always give the whole prompt; the session finds out how much of it is already computed.

use crate::constraint::ConstraintError;
use crate::model::{KvCache, Model, Wanted};
use std::sync::Arc;

/// What a session computes on: a model with its cache, or a stand-in in tests.
pub trait Timeline: Send {
    /// Positions computed so far.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Maximum number of positions.
    fn max(&self) -> usize;
    /// Forgets the positions from `len` on.
    fn truncate(&mut self, len: usize);
    /// Computes `tokens` after the existing ones and writes the logits after the last to `logits`, if given. Polls
    /// `wanted` and, if it returns false, stops early with [`SessionError::Cancelled`] and an unchanged timeline.
    ///
    /// # Errors
    /// When it was cancelled, or computing fails.
    fn forward(
        &mut self,
        tokens: &[u32],
        logits: Option<&mut Vec<f32>>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), SessionError>;
    /// Like [`Timeline::forward`], but passes the logits after each of the tokens to `each`.
    ///
    /// # Errors
    /// As [`Timeline::forward`].
    fn forward_each(
        &mut self,
        tokens: &[u32],
        each: &mut dyn FnMut(&[f32]),
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), SessionError> {
        let mut logits = Vec::new();
        tokens.iter().try_for_each(|token| {
            self.forward(&[*token], Some(&mut logits), wanted)?;
            each(&logits);
            Ok(())
        })
    }
}

/// A timeline and the tokens on it.
pub struct Session {
    timeline: Box<dyn Timeline>,
    tokens: Vec<u32>,
    batch: usize,
    /// The logits after the last token.
    logits: Vec<f32>,
    /// Length of the last prompt and the logits after it, kept for another answer to it.
    after_prompt: (usize, Vec<f32>),
}

/// Why a session could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The client cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The prompt and at least one more token do not fit.
    #[error(
        "the prompt has {prompt} tokens, but the context has room for {context} including the answer\nhint: shorten the conversation, or start with a larger --ctx-size"
    )]
    ContextFull {
        /// Tokens of the prompt.
        prompt: usize,
        /// Size of the context.
        context: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty: nothing to continue\nhint: this model does not add a BOS token")]
    Empty,
    /// The constraint cannot be followed.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// Computing failed.
    #[error("computing failed: {0}")]
    Compute(String),
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

impl Session {
    /// An empty session; it computes prompts `batch` tokens at a time.
    #[must_use]
    pub fn new(timeline: Box<dyn Timeline>, batch: usize) -> Self {
        let batch = batch.max(1);
        let after_prompt = (0, Vec::new());
        Self { timeline, tokens: Vec::new(), batch, logits: Vec::new(), after_prompt }
    }

    /// Size of the context.
    #[must_use]
    pub fn context(&self) -> usize {
        self.timeline.max()
    }

    /// The tokens on the timeline.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The logits after the last token, once [`Session::prefill`] or [`Session::advance`] has computed them.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Makes the timeline hold `prompt`, computes the logits after it, and returns how many tokens were reused. Calls
    /// `progress` after each batch.
    ///
    /// # Errors
    /// When it does not fit or was cancelled; tokens computed by then are kept for the next time.
    pub fn prefill(
        &mut self,
        prompt: &[u32],
        wanted: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<usize, SessionError> {
        self.check(prompt)?;
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        if common == prompt.len() && self.after_prompt.0 == common {
            self.truncate(common);
            self.logits.clone_from(&self.after_prompt.1);
            return Ok(common);
        }
        // No other logits are kept, so the last token is always computed.
        let reused = common.min(prompt.len() - 1);
        self.truncate(reused);
        for batch in prompt[reused..].chunks(self.batch) {
            let last = self.tokens.len() + batch.len() == prompt.len();
            self.forward(batch, last, wanted)?;
            progress(Progress { processed: self.tokens.len(), total: prompt.len(), reused });
        }
        self.after_prompt = (prompt.len(), self.logits.clone());
        Ok(reused)
    }

    /// Like [`Session::prefill`], but computes all of the prompt and passes every token but the first to `each`, with
    /// the logits before it.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn score(
        &mut self,
        prompt: &[u32],
        wanted: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(Progress),
        each: &mut dyn FnMut(u32, &[f32]),
    ) -> Result<(), SessionError> {
        self.check(prompt)?;
        self.truncate(0);
        for batch in prompt.chunks(self.batch) {
            let (mut at, last) = (self.tokens.len(), &mut self.logits);
            let mut row = |logits: &[f32]| {
                at += 1;
                match prompt.get(at) {
                    Some(token) => each(*token, logits),
                    None => logits.clone_into(last),
                }
            };
            self.timeline.forward_each(batch, &mut row, wanted)?;
            self.tokens.extend_from_slice(batch);
            progress(Progress { processed: self.tokens.len(), total: prompt.len(), reused: 0 });
        }
        self.after_prompt = (prompt.len(), self.logits.clone());
        Ok(())
    }

    fn check(&self, prompt: &[u32]) -> Result<(), SessionError> {
        let (prompt, context) = (prompt.len(), self.context());
        match prompt {
            0 => Err(SessionError::Empty),
            _ if prompt >= context => Err(SessionError::ContextFull { prompt, context }),
            _ => Ok(()),
        }
    }

    /// Computes more tokens and the logits after the last.
    ///
    /// # Errors
    /// When the context is full, or it was cancelled.
    pub fn advance(
        &mut self,
        tokens: &[u32],
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), SessionError> {
        if self.tokens.len() + tokens.len() > self.context() {
            let context = self.context();
            return Err(SessionError::ContextFull { prompt: self.tokens.len(), context });
        }
        let mut left = tokens.len();
        for batch in tokens.chunks(self.batch) {
            left -= batch.len();
            self.forward(batch, left == 0, wanted)?;
        }
        Ok(())
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        logits: bool,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), SessionError> {
        self.timeline.forward(tokens, logits.then_some(&mut self.logits), wanted)?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        if len < self.after_prompt.0 {
            self.after_prompt = (0, Vec::new());
        }
        self.tokens.truncate(len);
        self.timeline.truncate(len);
    }
}

/// A model and its cache.
pub struct ModelTimeline {
    model: Arc<Model>,
    cache: KvCache,
}

impl ModelTimeline {
    /// An empty timeline.
    #[must_use]
    pub fn new(model: Arc<Model>, cache: KvCache) -> Self {
        Self { model, cache }
    }
}

impl Timeline for ModelTimeline {
    fn len(&self) -> usize {
        self.cache.len()
    }

    fn max(&self) -> usize {
        self.cache.max()
    }

    fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        logits: Option<&mut Vec<f32>>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), SessionError> {
        let failed = |error: candle_core::Error| SessionError::Compute(error.to_string());
        let which = if logits.is_some() { Wanted::Last } else { Wanted::None };
        let hidden = self.model.hidden_while(tokens, &mut self.cache, which, wanted);
        let hidden = hidden.map_err(failed)?.ok_or(SessionError::Cancelled)?;
        logits.map_or(Ok(()), |logits| self.model.logits(&hidden, logits)).map_err(failed)
    }

    fn forward_each(
        &mut self,
        tokens: &[u32],
        each: &mut dyn FnMut(&[f32]),
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), SessionError> {
        /// Positions whose logits are held at a time: 16 MB for a vocab of 262,144 tokens.
        const ROWS: usize = 16;
        let failed = |error: candle_core::Error| SessionError::Compute(error.to_string());
        let before = self.cache.len();
        let hidden = self.model.hidden_while(tokens, &mut self.cache, Wanted::All, wanted);
        let hidden = hidden.map_err(failed)?.ok_or(SessionError::Cancelled)?;
        let mut logits = Vec::new();
        for at in (0..tokens.len()).step_by(ROWS) {
            if !wanted() {
                self.cache.truncate(before);
                return Err(SessionError::Cancelled);
            }
            let rows = hidden.narrow(0, at, ROWS.min(tokens.len() - at)).map_err(failed)?;
            self.model.logits(&rows, &mut logits).map_err(failed)?;
            logits.chunks_exact(self.model.spec().n_vocab).for_each(&mut *each);
        }
        Ok(())
    }
}
