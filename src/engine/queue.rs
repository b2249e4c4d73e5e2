//! What requests and the scheduler's thread share: the queue of requests, and what is known of their state.

use super::channel::{Inbox, Wake};
use super::error::EngineError;
use super::job::{Command, Job};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bounds of a scheduler.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests computed at a time.
    pub parallel: usize,
    /// Requests that wait besides.
    pub queue: usize,
    /// Maximum rows of prompts in a pass.
    pub batch: usize,
    /// Positions of a sequence.
    pub context: usize,
    /// Pages of finished sequences that are kept.
    pub cached_pages: usize,
    /// Places whose states of fixed size are kept.
    pub cached_states: usize,
}

/// How a request stands, for `/slots`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub id: usize,
    /// Tokens of its prompt.
    pub prompt: usize,
    /// Tokens read: of the prompt, then of the answer.
    pub read: usize,
    /// Tokens generated.
    pub generated: usize,
    /// Whether the prompt is computed.
    pub decoding: bool,
}

/// What the scheduler does and has done.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The requests being computed.
    pub slots: Vec<Slot>,
    /// Requests that wait.
    pub waiting: usize,
    /// Prompt tokens computed so far, and the time for them.
    pub prompt_tokens: u64,
    /// Time spent on prompts.
    pub prompt_time: Duration,
    /// Tokens generated so far.
    pub generated_tokens: u64,
    /// Time spent on answers.
    pub generation_time: Duration,
    /// Forward passes.
    pub passes: u64,
    /// Sequences in all forward passes together.
    pub spans: u64,
    /// Pages in use.
    pub pages: usize,
    /// Of these, kept for prompts to come.
    pub cached_pages: usize,
}

/// The queue, and what the scheduler tells of itself.
pub struct Queue {
    inbox: Inbox<Job>,
    commands: Mutex<Vec<Command>>,
    status: Mutex<Status>,
    waiting_max: usize,
}

impl Wake for Queue {
    fn wake(&self) {
        self.inbox.wake();
    }
}

impl Queue {
    /// A queue without a thread yet.
    #[must_use]
    pub fn new(waiting_max: usize) -> Arc<Self> {
        let (inbox, commands) = (Inbox::default(), Mutex::default());
        Arc::new(Self { inbox, commands, status: Mutex::default(), waiting_max })
    }

    /// Adds a request.
    ///
    /// # Errors
    /// When too many wait.
    pub fn submit(&self, job: Job) -> Result<(), EngineError> {
        let fits = self.inbox.submit(job, self.waiting_max);
        fits.then_some(()).ok_or(EngineError::Busy(self.waiting_max))
    }

    /// Requests that may wait.
    #[must_use]
    pub fn waiting_max(&self) -> usize {
        self.waiting_max
    }

    /// Gives the scheduler something to do between two passes.
    pub fn command(&self, command: Command) {
        lock(&self.commands).push(command);
        self.inbox.wake();
    }

    /// Ends the thread, and with it all requests.
    pub fn close(&self) {
        self.inbox.close();
    }

    /// Whether the thread is to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Appends new requests to `waiting`, and returns what else is to be done; `None` at the end. If nothing is to do
    /// (`idle`), waits for something first, though not for longer than `look`.
    pub fn take(
        &self,
        waiting: &mut VecDeque<Job>,
        idle: bool,
        look: Option<Duration>,
    ) -> Option<Vec<Command>> {
        let goes_on = self.inbox.take(waiting, idle, look);
        goes_on.then(|| std::mem::take(&mut *lock(&self.commands)))
    }

    /// Counts the requests that were taken and still wait.
    pub fn set_waiting(&self, count: usize) {
        self.inbox.set_elsewhere(count);
    }

    /// Changes what is known of the scheduler.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.status));
    }

    /// What the scheduler does.
    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
