//! A semaphore for heavy work: tokenizing megabytes, rendering them, compiling constraints. Who gets no permit waits in
//! turn, for a while, as long as the work is wanted.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one that waits asks whether its work is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// The permits, and who waits for one.
pub struct Semaphore {
    permits: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    working: usize,
    /// The numbers of those who wait, in order.
    waiting: VecDeque<u64>,
    next: u64,
}

/// The right to work; dropping it gives it to the next.
pub struct Permit<'s>(&'s Semaphore);

/// Why there was no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// Nobody wants the work any more.
    #[error("the client has disconnected")]
    Unwanted,
    /// Others took too long.
    #[error("too many such requests are waiting; try again in a moment")]
    Late,
}

impl Semaphore {
    /// So many permits.
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self { permits, queue: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for a permit. `wanted` is asked every few milliseconds.
    ///
    /// # Errors
    /// When there is none in time, or it is not wanted any more.
    pub fn acquire(
        &self,
        wait: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Permit<'_>, NoPermit> {
        let end = Instant::now() + wait;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(number);
        let problem = loop {
            if !wanted() {
                break Some(NoPermit::Unwanted);
            }
            if queue.working < self.permits && queue.waiting.front() == Some(&number) {
                break None;
            }
            if Instant::now() >= end {
                break Some(NoPermit::Late);
            }
            let waited = self.changed.wait_timeout(queue, LOOK);
            (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        };
        queue.waiting.retain(|other| *other != number);
        queue.working += usize::from(problem.is_none());
        self.changed.notify_all();
        match problem {
            None => Ok(Permit(self)),
            Some(problem) => Err(problem),
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).working -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn only_a_few_work_and_the_others_wait_in_turn() {
        let semaphore = Semaphore::new(3);
        let (working, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    let _permit = semaphore.acquire(Duration::from_secs(60), &|| true).unwrap();
                    most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(2));
                    working.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn waiting_ends_with_the_client_or_the_time_and_leaves_nothing_behind() {
        let semaphore = Semaphore::new(2);
        let acquire = || semaphore.acquire(Duration::ZERO, &|| true);
        let all = (acquire().unwrap(), acquire().unwrap());
        assert_eq!(acquire().err(), Some(NoPermit::Late));
        let unwanted = semaphore.acquire(Duration::from_secs(60), &|| false);
        assert_eq!(unwanted.err(), Some(NoPermit::Unwanted));
        drop(all);
        assert!(acquire().is_ok());
        let unwanted = semaphore.acquire(Duration::ZERO, &|| false);
        assert_eq!(unwanted.err(), Some(NoPermit::Unwanted), "though there is a permit");
    }
}
