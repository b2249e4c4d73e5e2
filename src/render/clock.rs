//! How long the current thread has worked.
//!
//! A busy computer must not cost an answer its colours, so the thread's own time is used where the system counts it.

use std::time::Duration;
#[cfg(not(unix))]
use std::time::Instant;

/// The thread's CPU time since a start.
#[cfg(unix)]
pub struct Stopwatch(Duration);
/// Wall-clock time since a start.
#[cfg(not(unix))]
pub struct Stopwatch(Instant);

#[cfg(unix)]
impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Self::now())
    }

    /// The thread's own time since the start.
    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }

    fn now() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

#[cfg(not(unix))]
impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
