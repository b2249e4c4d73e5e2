//! Turns on a resource that one request at a time can use, in order of arrival.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a waiting request checks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// A bounded queue for one resource.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    waiting_max: usize,
}

#[derive(Default)]
struct State {
    next: u64,
    busy: bool,
    waiting: VecDeque<u64>,
}

/// The right to use the resource; released when dropped.
pub struct Turn<'q>(&'q Queue);

/// Why there is no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue is full.
    #[error("the model is busy and {0} requests are already waiting; try again later")]
    Full(usize),
    /// The waiting request was cancelled.
    #[error("cancelled while waiting")]
    Cancelled,
}

impl Queue {
    /// A queue in which at most `waiting_max` requests wait besides the running one.
    #[must_use]
    pub fn new(waiting_max: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), waiting_max }
    }

    /// Waits for a turn as long as `wanted` returns true.
    ///
    /// # Errors
    /// At once when the queue is full; later when the request is no longer wanted.
    pub fn enter(&self, wanted: &dyn Fn() -> bool) -> Result<Turn<'_>, QueueError> {
        let mut state = self.lock();
        if !state.busy && state.waiting.is_empty() {
            state.busy = true;
            return Ok(Turn(self));
        }
        if state.waiting.len() >= self.waiting_max {
            return Err(QueueError::Full(self.waiting_max));
        }
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back(ticket);
        loop {
            if !state.busy && state.waiting.front() == Some(&ticket) {
                state.waiting.pop_front();
                state.busy = true;
                return Ok(Turn(self));
            }
            state =
                self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            if !wanted() {
                state.waiting.retain(|&t| t != ticket);
                self.changed.notify_all();
                return Err(QueueError::Cancelled);
            }
        }
    }

    /// Number of waiting requests.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().busy = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn turns_come_in_order_and_the_queue_is_bounded() {
        let queue = Queue::new(2);
        let order = Mutex::new(Vec::new());
        let first = queue.enter(&|| true).unwrap();
        std::thread::scope(|scope| {
            for name in [1, 2] {
                let (queue, order) = (&queue, &order);
                scope.spawn(move || {
                    let _turn = queue.enter(&|| true).unwrap();
                    order.lock().unwrap().push(name);
                });
                while queue.waiting() < name {
                    std::thread::yield_now();
                }
            }
            assert_eq!(queue.enter(&|| true).err(), Some(QueueError::Full(2)));
            drop(first);
        });
        assert_eq!(*order.lock().unwrap(), [1, 2]);
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_the_queue() {
        let queue = Queue::new(1);
        let wanted = AtomicBool::new(true);
        let turn = queue.enter(&|| true).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.enter(&|| wanted.load(Ordering::SeqCst)).err());
            while queue.waiting() == 0 {
                std::thread::yield_now();
            }
            wanted.store(false, Ordering::SeqCst);
            assert_eq!(waiter.join().unwrap(), Some(QueueError::Cancelled));
        });
        drop(turn);
        assert!(queue.enter(&|| true).is_ok());
    }
}
