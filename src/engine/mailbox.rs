//! The channel from the scheduler to one request: bounded, so that whoever reads slowly pauses only itself.
//!
//! The scheduler never waits here: it keeps what doesn't fit and pauses the sequence. Dropping the [`Receiver`] cancels
//! the request. Knows nothing of models.

use super::error::EngineError;
use super::request::{Event, Outcome};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Events that wait to be read; more pause the sequence.
pub const EVENTS_MAX: usize = 64;

/// Wakes the scheduler.
pub trait Wake: Send + Sync {
    /// Something changed: a job arrived, a full mailbox was emptied, a request was cancelled.
    fn wake(&self);
}

/// What the scheduler holds.
pub struct Sender(Arc<Mailbox>);

/// What the request holds. Dropping it cancels.
pub struct Receiver {
    mailbox: Arc<Mailbox>,
    wake: Arc<dyn Wake>,
    /// Tokens generated up to the last event that was read.
    generated: usize,
}

struct Mailbox {
    state: Mutex<State>,
    ready: Condvar,
    /// Whether the receiver is gone.
    cancelled: AtomicBool,
}

/// Tells whether a request is still wanted, to whoever computes for it.
pub struct Watch(Arc<Mailbox>);

impl Watch {
    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<(Event, usize)>,
    ended: Option<Result<Outcome, EngineError>>,
    /// Requests that are served first, while it waits.
    before: Option<usize>,
}

/// What a receiver finds.
#[derive(Debug)]
pub enum Received {
    /// The next event.
    Event(Event),
    /// The end. Nothing comes after it.
    End(Result<Outcome, EngineError>),
    /// Nothing within the time.
    Nothing,
}

/// A channel.
#[must_use]
pub fn mailbox(wake: Arc<dyn Wake>) -> (Sender, Receiver) {
    let mailbox = Arc::new(Mailbox {
        state: Mutex::default(),
        ready: Condvar::new(),
        cancelled: AtomicBool::new(false),
    });
    (Sender(Arc::clone(&mailbox)), Receiver { mailbox, wake, generated: 0 })
}

impl Sender {
    /// Moves events to the receiver, in order, while there is room; `generated` counts the tokens up to each.
    pub fn send(&self, events: &mut VecDeque<(Event, usize)>) {
        if self.0.is_cancelled() {
            events.clear();
            return;
        }
        let mut state = self.0.lock();
        let room = EVENTS_MAX.saturating_sub(state.events.len()).min(events.len());
        if room > 0 {
            state.events.extend(events.drain(..room));
            self.0.ready.notify_one();
        }
    }

    /// Ends the request, after all its events.
    pub fn end(&self, outcome: Result<Outcome, EngineError>) {
        self.0.lock().ended = Some(outcome);
        self.0.ready.notify_one();
    }

    /// Says how many requests are served first.
    pub fn set_before(&self, before: Option<usize>) {
        let mut state = self.0.lock();
        if state.before != before {
            state.before = before;
            self.0.ready.notify_one();
        }
    }

    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A view of that.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.0))
    }
}

impl Drop for Sender {
    /// A sender that is lost, as in a panic, must not leave anyone waiting.
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let lost = || Err(EngineError::Compute("the engine stopped".to_owned()));
        state.ended.get_or_insert_with(lost);
        self.0.ready.notify_one();
    }
}

impl Receiver {
    /// The next event, waiting up to `wait` for one.
    pub fn next(&mut self, wait: Duration) -> Received {
        let nothing = |state: &mut State| state.events.is_empty() && state.ended.is_none();
        let state = self.mailbox.lock();
        let waited = self.mailbox.ready.wait_timeout_while(state, wait, nothing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let was_full = state.events.len() >= EVENTS_MAX;
        if let Some((event, generated)) = state.events.pop_front() {
            drop(state);
            self.generated = generated;
            if was_full {
                self.wake.wake();
            }
            return Received::Event(event);
        }
        state.ended.take().map_or(Received::Nothing, Received::End)
    }

    /// Tokens generated up to the last event that was read.
    #[must_use]
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Requests that are served before this one, while it waits.
    #[must_use]
    pub fn before(&self) -> Option<usize> {
        self.mailbox.lock().before
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.mailbox.cancelled.store(true, Ordering::Release);
        self.wake.wake();
    }
}

impl Mailbox {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Finish, Timings};
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn text(n: usize) -> (Event, usize) {
        (Event::Text { text: n.to_string(), tokens: Vec::new() }, n)
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_full_mailbox_keeps_events_back_and_wakes_the_scheduler_when_read() {
        let wake = Arc::new(Count::default());
        let (sender, mut receiver) = mailbox(Arc::clone(&wake) as Arc<dyn Wake>);
        let mut events: VecDeque<_> = (0..EVENTS_MAX + 2).map(text).collect();
        sender.send(&mut events);
        assert_eq!(events.len(), 2);
        for n in 0..3 {
            let Received::Event(Event::Text { text, .. }) = receiver.next(NOW) else {
                panic!("no event")
            };
            assert_eq!((text, receiver.generated()), (n.to_string(), n));
        }
        assert_eq!(wake.0.load(Ordering::Relaxed), 1, "only reading from a full one wakes");
        sender.send(&mut events);
        assert!(events.is_empty());
    }

    #[test]
    fn the_end_comes_after_all_events_and_once() {
        let (sender, mut receiver) = mailbox(Arc::new(Count::default()));
        sender.send(&mut VecDeque::from([text(1)]));
        let timings = Timings::default();
        sender.end(Ok(Outcome { finish: Finish::Stop, stopped_by_text: false, timings }));
        drop(sender);
        assert!(matches!(receiver.next(NOW), Received::Event(_)));
        assert!(matches!(receiver.next(NOW), Received::End(Ok(_))));
        assert!(matches!(receiver.next(NOW), Received::Nothing));
    }

    #[test]
    fn either_side_notices_that_the_other_is_gone() {
        let wake = Arc::new(Count::default());
        let (sender, mut receiver) = mailbox(Arc::clone(&wake) as Arc<dyn Wake>);
        drop(sender);
        assert!(matches!(receiver.next(NOW), Received::End(Err(EngineError::Compute(_)))));
        let (sender, receiver) = mailbox(Arc::clone(&wake) as Arc<dyn Wake>);
        assert!(!sender.is_cancelled());
        drop(receiver);
        assert!(sender.is_cancelled() && wake.0.load(Ordering::Relaxed) == 1);
        let mut events = VecDeque::from([text(1)]);
        sender.send(&mut events);
        assert!(events.is_empty(), "nobody will read them");
    }
}
