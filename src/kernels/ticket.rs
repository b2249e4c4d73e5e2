//! A ticket lock: a mutex that serves in order of arrival. Several models share the threads of a process, and none of
//! them starves another.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A lock that serves in order of arrival.
#[derive(Default)]
pub struct TicketLock {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of the next to come.
    next: u64,
    /// The number of the one that holds the lock.
    serving: u64,
}

/// Holds the lock until dropped.
pub struct Ticket<'t>(&'t TicketLock);

impl TicketLock {
    /// Waits for the lock.
    #[must_use]
    pub fn take(&self) -> Ticket<'_> {
        let mut state = self.state();
        let own = state.next;
        state.next += 1;
        let waited = self.changed.wait_while(state, |state| state.serving != own);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        Ticket(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.state().serving += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Whether another waits while one holds it.
    fn is_awaited(turns: &TicketLock) -> bool {
        let state = turns.state();
        state.next >= state.serving + 2
    }

    #[test]
    fn holders_exclude_each_other_and_alternate() {
        let turns = TicketLock::default();
        let (inside, last) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let first = turns.take();
        std::thread::scope(|scope| {
            for name in 0..2 {
                let (turns, inside, last) = (&turns, &inside, &last);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let turn = turns.take();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        last.lock().unwrap().push(name);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        // Whoever comes back at once waits behind the other.
                        while !is_awaited(turns) && last.lock().unwrap().len() < 90 {
                            std::thread::yield_now();
                        }
                        drop(turn);
                    }
                });
            }
            while turns.state().next < 3 {
                std::thread::yield_now();
            }
            drop(first);
        });
        let order = last.into_inner().unwrap();
        assert_eq!(order.len(), 100);
        assert!(order[..90].windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    }
}
