//! Turns in order of arrival, for those who share the threads: several models compute in one process, and none of them
//! starves another.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Hands out turns.
#[derive(Default)]
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of the next to come.
    next: u64,
    /// The number of the one whose turn it is.
    serving: u64,
}

/// A turn; it ends when dropped.
pub struct Turn<'t>(&'t Turns);

impl Turns {
    /// Waits for a turn.
    #[must_use]
    pub fn enter(&self) -> Turn<'_> {
        let mut state = self.lock();
        let own = state.next;
        state.next += 1;
        let waited = self.changed.wait_while(state, |state| state.serving != own);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        Turn(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().serving += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Whether another waits while one has its turn.
    fn is_awaited(turns: &Turns) -> bool {
        let state = turns.lock();
        state.next >= state.serving + 2
    }

    #[test]
    fn turns_exclude_each_other_and_alternate() {
        let turns = Turns::default();
        let (inside, last) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let first = turns.enter();
        std::thread::scope(|scope| {
            for name in 0..2 {
                let (turns, inside, last) = (&turns, &inside, &last);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let turn = turns.enter();
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
            while turns.lock().next < 3 {
                std::thread::yield_now();
            }
            drop(first);
        });
        let order = last.into_inner().unwrap();
        assert_eq!(order.len(), 100);
        assert!(order[..90].windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
    }
}
