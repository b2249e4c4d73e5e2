//! Runs work on hostile input in a child process, so that running out of time, memory or stack ends only the child.
//!
//! A chat template or a schema can make its library compute forever or end the process. A thread can't be stopped or
//! limited in memory; a child process can. Input: a [`Topic`] and the bytes of a job. Output: the bytes of its result,
//! or a [`WorkerError`] that names the limit it hit. Knows nothing of what the bytes mean.

mod child;
mod memory;
mod pool;

pub use child::{CHILD_FLAG, run};
pub use memory::Bounded;
pub use pool::Workers;

use crate::system::THREADS_HINT;
use std::cell::Cell;
use std::time::Duration;

/// Most bytes that a child may have allocated at a time.
pub const MEMORY_BYTES_MAX: usize = 512 << 20;
/// Stack of the thread that works on a job. It bounds the recursion of the libraries.
const STACK_BYTES: usize = 128 << 20;

/// The kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Compile or render a chat template.
    Template,
    /// Try a schema, a regex or a grammar.
    Constraint,
}

impl Topic {
    const ALL: [Self; 2] = [Self::Template, Self::Constraint];

    /// Most jobs of a topic that run at the same time, so that neither topic keeps the other waiting.
    const fn running_max(self) -> usize {
        match self {
            Self::Template => 4,
            Self::Constraint => 2,
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// Works on a job: the same function in a child and, in tests or if no child can be started, in this process.
pub type Handler = fn(Topic, &[u8]) -> Vec<u8>;

/// How long a caller waits for a result, over all the jobs that it takes.
pub struct Patience<'w> {
    left: Cell<Duration>,
    total: Duration,
    wanted: &'w dyn Fn() -> bool,
}

impl<'w> Patience<'w> {
    /// Waits for a time, as long as the result is wanted. `wanted` is polled every few milliseconds.
    #[must_use]
    pub fn new(time: Duration, wanted: &'w dyn Fn() -> bool) -> Self {
        Self { left: Cell::new(time), total: time, wanted }
    }

    /// Whether the result is still wanted.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        (self.wanted)()
    }

    /// Whether the time is used up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left.get().is_zero()
    }

    fn spend(&self, time: Duration) {
        self.left.set(self.left.get().saturating_sub(time));
    }
}

/// Why a job has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The caller is gone.
    #[error("the request was cancelled")]
    Unwanted,
    /// It takes too long.
    #[error("it did not finish within {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// It takes too much memory.
    #[error("it needs more than {} MiB of memory", MEMORY_BYTES_MAX >> 20)]
    Memory,
    /// It is nested too deeply.
    #[error("it is nested too deeply")]
    Depth,
    /// The child ended for another reason.
    #[error("its worker process ended unexpectedly")]
    Ended,
    /// No child can be started.
    #[error(
        "cannot start a worker process: {0}\nhint: the system's limit on processes or memory may be reached"
    )]
    Start(String),
    /// No thread can be started to do the work in this process.
    #[error("no thread could be started: {0}\n{THREADS_HINT}")]
    Thread(String),
    /// Too many jobs of this topic are running.
    #[error("too many similar jobs are running\nhint: try again in a moment")]
    Busy,
}

impl WorkerError {
    /// Whether the job is not to blame: it was never run, or not to its end.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        matches!(self, Self::Unwanted | Self::Start(_) | Self::Thread(_) | Self::Busy)
    }
}
