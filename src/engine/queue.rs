//! What requests and the scheduler's thread share: the queue of requests, and what is known of their state.

use super::error::EngineError;
use super::job::{Command, Job};
use super::mailbox::Wake;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    inbox: Mutex<Inbox>,
    changed: Condvar,
    status: Mutex<Status>,
    waiting_max: usize,
}

#[derive(Default)]
struct Inbox {
    jobs: VecDeque<Job>,
    commands: Vec<Command>,
    /// Jobs that the thread has taken and that wait for a place.
    waiting: usize,
    woken: bool,
    closed: bool,
}

impl Wake for Queue {
    fn wake(&self) {
        lock(&self.inbox).woken = true;
        self.changed.notify_one();
    }
}

impl Queue {
    /// A queue without a thread yet.
    #[must_use]
    pub fn new(waiting_max: usize) -> Arc<Self> {
        let (inbox, status) = (Mutex::default(), Mutex::default());
        Arc::new(Self { inbox, changed: Condvar::new(), status, waiting_max })
    }

    /// Adds a request.
    ///
    /// # Errors
    /// When too many wait.
    pub fn submit(&self, job: Job) -> Result<(), EngineError> {
        let mut inbox = lock(&self.inbox);
        if inbox.jobs.len() + inbox.waiting >= self.waiting_max {
            return Err(EngineError::Busy(self.waiting_max));
        }
        inbox.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Gives the scheduler something to do between two passes.
    pub fn command(&self, command: Command) {
        lock(&self.inbox).commands.push(command);
        self.wake();
    }

    /// Ends the thread, and with it all requests.
    pub fn close(&self) {
        lock(&self.inbox).closed = true;
        self.changed.notify_one();
    }

    /// Appends new requests to `waiting`, and what else is to be done to `commands`. If nothing is to do (`idle`), waits for something first, though not for longer
    /// than `look`. Returns false at the end.
    pub fn take(
        &self,
        waiting: &mut VecDeque<Job>,
        commands: &mut Vec<Command>,
        idle: bool,
        look: Option<Duration>,
    ) -> bool {
        let mut inbox = lock(&self.inbox);
        if idle {
            let nothing =
                |inbox: &mut Inbox| inbox.jobs.is_empty() && !inbox.woken && !inbox.closed;
            inbox = match look {
                None => {
                    let waited = self.changed.wait_while(inbox, nothing);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Some(look) => {
                    let waited = self.changed.wait_timeout_while(inbox, look, nothing);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        inbox.woken = false;
        waiting.append(&mut inbox.jobs);
        commands.append(&mut inbox.commands);
        inbox.waiting = waiting.len();
        !inbox.closed
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
