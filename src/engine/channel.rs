//! The ways into the scheduler and out of it, as a protocol alone: an inbox that many fill, and for each request a
//! mailbox that one fills and one reads.
//!
//! The scheduler never waits for a reader: what doesn't fit, it keeps, and comes back when it is woken. Knows nothing of
//! what is sent. loom tries every order of what both sides do (`tests/kernels`).

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;
use sync::{Arc, AtomicBool, Condvar, Mutex, MutexGuard, Ordering};

#[cfg(not(loom))]
mod sync {
    pub use std::sync::atomic::{AtomicBool, Ordering};
    pub use std::sync::{Arc, Condvar, Mutex, MutexGuard};
}

#[cfg(loom)]
mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering};
    pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
}

/// What waits for the scheduler. `J` is a job.
pub struct Inbox<J> {
    state: Mutex<Waiting<J>>,
    changed: Condvar,
}

struct Waiting<J> {
    jobs: VecDeque<J>,
    /// Jobs that were taken and that wait elsewhere.
    elsewhere: usize,
    woken: bool,
    closed: bool,
}

impl<J> Default for Inbox<J> {
    fn default() -> Self {
        let state = Waiting { jobs: VecDeque::new(), elsewhere: 0, woken: false, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<J> Inbox<J> {
    /// Adds a job; returns false if `most` wait already.
    pub fn submit(&self, job: J, most: usize) -> bool {
        let mut state = lock(&self.state);
        let fits = state.jobs.len() + state.elsewhere < most;
        if fits {
            state.jobs.push_back(job);
            self.changed.notify_one();
        }
        fits
    }

    /// Says that something changed: a full mailbox was read, a request was cancelled.
    pub fn wake(&self) {
        lock(&self.state).woken = true;
        self.changed.notify_one();
    }

    /// Counts the jobs that were taken and still wait.
    pub fn set_elsewhere(&self, count: usize) {
        lock(&self.state).elsewhere = count;
    }

    /// Ends the scheduler.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_one();
    }

    /// Whether the scheduler is to end.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Appends all jobs to `jobs`, where they count as waiting until [`Inbox::set_elsewhere`]. With `idle`, waits first until there is a job or a change, though not for longer than
    /// `wait`. Returns false at the end.
    pub fn take(&self, jobs: &mut VecDeque<J>, idle: bool, wait: Option<Duration>) -> bool {
        let mut state = lock(&self.state);
        if idle {
            let nothing = |s: &Waiting<J>| s.jobs.is_empty() && !s.woken && !s.closed;
            state = wait_while(&self.changed, state, wait, nothing);
        }
        state.woken = false;
        jobs.append(&mut state.jobs);
        state.elsewhere = jobs.len();
        !state.closed
    }
}

/// Wakes the scheduler.
pub trait Wake: Send + Sync {
    /// Something changed.
    fn wake(&self);
}

/// Events of one request on their way: `E` is an event, `O` the end.
struct Mailbox<E, O> {
    state: Mutex<Letters<E, O>>,
    ready: Condvar,
    /// Whether the receiver is gone.
    cancelled: AtomicBool,
    /// Maximum number of events that wait to be read.
    most: usize,
    /// The end if the sender is lost, as in a panic.
    lost: fn() -> O,
}

struct Letters<E, O> {
    events: VecDeque<E>,
    ended: Option<O>,
    /// Whether an end was sent, read or not.
    closed: bool,
    /// Requests that are served first, while it waits.
    before: Option<usize>,
}

/// What the scheduler holds.
pub struct Sender<E, O>(Arc<Mailbox<E, O>>);

/// What the request holds. Dropping it cancels.
pub struct Receiver<E, O> {
    mailbox: Arc<Mailbox<E, O>>,
    wake: std::sync::Arc<dyn Wake>,
}

/// Tells whether a request is still wanted, to whoever computes for it.
pub struct Watch<E, O>(Arc<Mailbox<E, O>>);

/// What a receiver finds.
#[derive(Debug)]
pub enum Received<E, O> {
    /// The next event.
    Event(E),
    /// The end. Nothing comes after it.
    End(O),
    /// Nothing within the time.
    Nothing,
}

/// A mailbox for at most `most` events; `lost` is the end if its sender is dropped without one.
#[must_use]
pub fn mailbox<E, O>(
    most: usize,
    lost: fn() -> O,
    wake: std::sync::Arc<dyn Wake>,
) -> (Sender<E, O>, Receiver<E, O>) {
    let letters = Letters { events: VecDeque::new(), ended: None, closed: false, before: None };
    let mailbox = Arc::new(Mailbox {
        state: Mutex::new(letters),
        ready: Condvar::new(),
        cancelled: AtomicBool::new(false),
        most,
        lost,
    });
    (Sender(Arc::clone(&mailbox)), Receiver { mailbox, wake })
}

impl<E, O> Sender<E, O> {
    /// Moves events to the receiver, in order, while there is room.
    pub fn send(&self, events: &mut VecDeque<E>) {
        if self.is_cancelled() {
            events.clear();
            return;
        }
        let mut state = lock(&self.0.state);
        let room = self.0.most.saturating_sub(state.events.len()).min(events.len());
        if room > 0 {
            state.events.extend(events.drain(..room));
            self.0.ready.notify_one();
        }
    }

    /// Ends the request, after all its events.
    pub fn end(&self, end: O) {
        let mut state = lock(&self.0.state);
        (state.ended, state.closed) = (Some(end), true);
        self.0.ready.notify_one();
    }

    /// Says how many requests are served first.
    pub fn set_before(&self, before: Option<usize>) {
        let mut state = lock(&self.0.state);
        if state.before != before {
            state.before = before;
            self.0.ready.notify_one();
        }
    }

    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// A view of that.
    #[must_use]
    pub fn watch(&self) -> Watch<E, O> {
        Watch(Arc::clone(&self.0))
    }
}

impl<E, O> Drop for Sender<E, O> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if !state.closed {
            (state.ended, state.closed) = (Some((self.0.lost)()), true);
        }
        self.0.ready.notify_one();
    }
}

impl<E, O> Watch<E, O> {
    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }
}

impl<E, O> Receiver<E, O> {
    /// The next event, waiting up to `wait` for one.
    pub fn next(&mut self, wait: Duration) -> Received<E, O> {
        let nothing = |s: &Letters<E, O>| s.events.is_empty() && s.ended.is_none();
        let state = lock(&self.mailbox.state);
        let mut state = wait_while(&self.mailbox.ready, state, Some(wait), nothing);
        let was_full = state.events.len() >= self.mailbox.most;
        let Some(event) = state.events.pop_front() else {
            return state.ended.take().map_or(Received::Nothing, Received::End);
        };
        drop(state);
        if was_full {
            self.wake.wake();
        }
        Received::Event(event)
    }

    /// Requests that are served before this one, while it waits.
    #[must_use]
    pub fn before(&self) -> Option<usize> {
        lock(&self.mailbox.state).before
    }
}

impl<E, O> Drop for Receiver<E, O> {
    fn drop(&mut self) {
        self.mailbox.cancelled.store(true, Ordering::Release);
        self.wake.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits while `nothing` holds, up to `wait`.
#[cfg(not(loom))]
fn wait_while<'m, T>(
    changed: &Condvar,
    guard: MutexGuard<'m, T>,
    wait: Option<Duration>,
    nothing: impl Fn(&T) -> bool,
) -> MutexGuard<'m, T> {
    let nothing = |state: &mut T| nothing(state);
    match wait {
        None => changed.wait_while(guard, nothing).unwrap_or_else(PoisonError::into_inner),
        Some(wait) => {
            let waited = changed.wait_timeout_while(guard, wait, nothing);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

/// Under loom no time passes: only a wake-up ends the wait, so one that is lost is found.
#[cfg(loom)]
fn wait_while<'m, T>(
    changed: &Condvar,
    mut guard: MutexGuard<'m, T>,
    _: Option<Duration>,
    nothing: impl Fn(&T) -> bool,
) -> MutexGuard<'m, T> {
    while nothing(&guard) {
        guard = changed.wait(guard).unwrap();
    }
    guard
}

/// Every order in which a scheduler and a request can do what they do.
#[cfg(all(test, loom))]
mod every_order {
    use super::*;

    struct Bell(Arc<Inbox<Job>>);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.wake();
        }
    }

    type Job = Sender<u32, ()>;

    /// Sends three events through a mailbox for one, then the end; says whether the request was cancelled.
    fn scheduler(inbox: &Inbox<Job>) -> bool {
        let (mut jobs, mut idle) = (VecDeque::new(), true);
        let mut events: VecDeque<u32> = (0..3).collect();
        loop {
            assert!(inbox.take(&mut jobs, idle, None));
            let Some(job) = jobs.front() else { continue };
            if job.is_cancelled() {
                return true;
            }
            let before = events.len();
            job.send(&mut events);
            if events.is_empty() {
                job.end(());
                return job.is_cancelled();
            }
            // A step that did something is followed by another without waiting.
            idle = events.len() == before;
        }
    }

    fn check(request: fn(Receiver<u32, ()>)) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let inbox = Arc::new(Inbox::default());
            let thread = {
                let inbox = Arc::clone(&inbox);
                loom::thread::spawn(move || scheduler(&inbox))
            };
            let bell = std::sync::Arc::new(Bell(Arc::clone(&inbox)));
            let (sender, receiver) = mailbox(1, || (), bell);
            assert!(inbox.submit(sender, 5));
            request(receiver);
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_slow_reader_gets_every_event_in_order_and_the_end() {
        check(|mut receiver| {
            for expected in 0..3 {
                let Received::Event(event) = receiver.next(Duration::ZERO) else {
                    panic!("no event")
                };
                assert_eq!(event, expected);
            }
            assert!(matches!(receiver.next(Duration::ZERO), Received::End(())));
        });
    }

    #[test]
    fn whoever_leaves_is_noticed_and_nobody_waits_for_ever() {
        check(|mut receiver| {
            let _ = receiver.next(Duration::ZERO);
        });
        check(drop);
    }
}
