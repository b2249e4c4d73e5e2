//! A pool of threads for work that is measured in microseconds.
//!
//! Enters: a number of parts and a function of the part's index. Leaves: when every part was done.
//! A token is some two hundred such calls, so workers spin for a moment between calls before they
//! sleep, and a call never waits for a worker that is still asleep: each thread has a share of the parts,
//! whoever is done with its own takes of the others', and a worker that comes late finds the door closed.
//! Between calls a worker fetches what it was told it will read next, before it spins.

#![expect(unsafe_code, reason = "a borrowed closure is handed to threads that outlive the call")]

use super::prefetch::Ahead;
use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{JoinHandle, Thread};

/// Turns of the spin loop before a worker sleeps: about a millisecond, longer than what lies
/// between two calls of one token and much shorter than what a person would notice as load.
const SPINS_BEFORE_SLEEP: u32 = 20_000;
/// Turns before a thread that waits for the last part yields its core (a loaded machine).
const SPINS_BEFORE_YIELD: u32 = 2_000;

/// While set in `Shared::state`, workers may join the call; the low bits count those inside.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const GENERATION_ONE: u64 = 1 << 32;

/// A fixed number of threads, the caller's own included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    sleepers: Vec<Thread>,
    /// One call at a time.
    turn: Mutex<()>,
}

type Job<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    /// Generation of the call (high half), the open flag and the number of workers inside.
    state: AtomicU64,
    /// One for each thread.
    shares: Box<[Share]>,
    /// What each thread reads at the beginning of a call, for the calls that were learned.
    ahead: RwLock<Vec<Vec<Ahead>>>,
    /// The current job; written only while the door is closed and empty.
    job: UnsafeCell<Option<Job<'static>>>,
    asleep: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What is left of a thread's parts, and what it fetches after them. In a cache line of its own, with the one that
/// processors fetch beside it.
#[repr(align(128))]
#[derive(Default)]
struct Share {
    next: AtomicUsize,
    end: AtomicUsize,
    /// What it reads after the call it takes part in, an index of `Shared::ahead`.
    upcoming: AtomicUsize,
}

// SAFETY: `job` is written by the caller of `run` only while no worker is inside (closed door, count
// zero, under `turn`) and read by workers only after they were counted in through the open door; the
// Release/Acquire pair on `state` orders the two.
unsafe impl Sync for Shared {}
// SAFETY: the job reference is `Sync`, so it may be used from any thread.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads in all (at least one, the caller's).
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            shares: (0..threads.max(1)).map(|_| Share::default()).collect(),
            ahead: RwLock::default(),
            job: UnsafeCell::new(None),
            asleep: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let spare = (threads > 1).then(Spare::take);
        let workers: Vec<_> = (1..threads.max(1))
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("compute-{index}"))
                    .spawn(move || work(&shared, index))
                    .ok()
            })
            .collect();
        drop(spare);
        let sleepers = workers.iter().map(|w| w.thread().clone()).collect();
        Self { shared, workers, sleepers, turn: Mutex::new(()) }
    }

    /// How many threads take part.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Learns what each thread reads at the beginning of a call: returns what [`Pool::foresee`] takes.
    pub fn learn(&self, ahead: Vec<Ahead>) -> usize {
        let mut all = self.shared.ahead.write().unwrap_or_else(PoisonError::into_inner);
        all.push(ahead);
        all.len() - 1
    }

    /// Forgets all that was learned.
    pub fn forget(&self) {
        self.shared.ahead.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Says which call comes after the next one: threads that wait for it fetch what they will read.
    pub fn foresee(&self, learned: usize) {
        for share in &self.shared.shares {
            share.upcoming.store(learned, Ordering::Relaxed);
        }
    }

    /// Calls `job(0)`, …, `job(parts - 1)`, each once, on any of the threads, and returns when all
    /// are done. A panic in a part is passed on to the caller.
    pub fn run(&self, parts: usize, job: Job<'_>) {
        let threads = self.threads();
        if threads == 1 || parts <= 1 {
            (0..parts).for_each(job);
            return;
        }
        self.run_shares(&|thread| thread * parts / threads..(thread + 1) * parts / threads, job);
    }

    /// As [`Pool::run`], of the parts in the ranges that `share` gives each thread. A thread begins with its
    /// own, in their order.
    pub fn run_shares(&self, share: &dyn Fn(usize) -> Range<usize>, job: Job<'_>) {
        if self.workers.is_empty() {
            share(0).for_each(job);
            return;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        for (thread, left) in shared.shares.iter().enumerate() {
            // A thread that could not be started has none.
            let range = if thread < self.threads() { share(thread) } else { 0..0 };
            left.next.store(range.start, Ordering::Relaxed);
            left.end.store(range.end, Ordering::Relaxed);
        }
        // SAFETY: the lifetime is lengthened only for the time of this call: before it returns, the
        // door is closed and everyone who saw the job has left. No worker is inside now, because the
        // last call waited for that, so nobody reads the cell while it is written.
        unsafe {
            *shared.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job));
        }
        let generation = (shared.state.load(Ordering::Relaxed) & !INSIDE & !OPEN) + GENERATION_ONE;
        shared.state.store(generation | OPEN, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            self.sleepers.iter().for_each(Thread::unpark);
        }
        shared.take_parts(0, job);
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// Holds back threads while a pool starts, so that it can't use up the user's limit: one for a request, two for what its
/// chat template needs.
struct Spare(Vec<JoinHandle<()>>);

impl Spare {
    const THREADS: usize = 3;

    fn take() -> Self {
        let thread =
            || std::thread::Builder::new().name("spare".to_owned()).spawn(std::thread::park);
        Self((0..Self::THREADS).filter_map(|_| thread().ok()).collect())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.sleepers.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Works on the share of `thread`, then on what is left of the others'.
    fn take_parts(&self, thread: usize, job: Job<'_>) {
        let (before, own) = self.shares.split_at(thread);
        let result = catch_unwind(AssertUnwindSafe(|| {
            for share in own.iter().chain(before) {
                let end = share.end.load(Ordering::Relaxed);
                loop {
                    let part = share.next.fetch_add(1, Ordering::Relaxed);
                    if part >= end {
                        break;
                    }
                    job(part);
                }
            }
        }));
        if let Err(panic) = result {
            // The others find no part left, so the call ends soon and reports this.
            self.shares
                .iter()
                .for_each(|s| s.next.store(s.end.load(Ordering::Relaxed), Ordering::Relaxed));
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }

    /// Enters the call after `seen` if its door is open. Returns the generation that was seen.
    fn try_join(&self, seen: u64) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        let generation = state & !INSIDE & !OPEN;
        if generation == seen || state & OPEN == 0 {
            return None;
        }
        self.state
            .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| generation)
    }
}

fn work(shared: &Shared, thread: usize) {
    let mut seen = 0;
    let mut spins = 0;
    let (mut upcoming, mut ahead) = (usize::MAX, Ahead::default());
    while !shared.stop.load(Ordering::Relaxed) {
        if let Some(generation) = shared.try_join(seen) {
            seen = generation;
            spins = 0;
            // SAFETY: this worker was counted in while the door was open, so the caller waits for it
            // and does not write the cell.
            if let Some(job) = unsafe { *shared.job.get() } {
                shared.take_parts(thread, job);
            }
            shared.state.fetch_sub(1, Ordering::Release);
            let told = shared.shares[thread].upcoming.load(Ordering::Relaxed);
            if told != upcoming {
                upcoming = told;
                let all = shared.ahead.read().unwrap_or_else(PoisonError::into_inner);
                ahead = all.get(told).map(|all| all[thread].clone()).unwrap_or_default();
            }
            continue;
        }
        if ahead.fetch_lines() {
            continue;
        }
        spins += 1;
        if spins < SPINS_BEFORE_SLEEP {
            std::hint::spin_loop();
            continue;
        }
        // Say "asleep" first and look once more, so that a call which opens in between either sees
        // the sleeper and wakes it, or is seen here.
        shared.asleep.fetch_add(1, Ordering::SeqCst);
        let state = shared.state.load(Ordering::SeqCst);
        let news = state & OPEN != 0 && state & !INSIDE & !OPEN != seen;
        if !news && !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        shared.asleep.fetch_sub(1, Ordering::SeqCst);
        spins = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_for_any_number_of_threads_and_parts() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for parts in [0, 1, 2, 7, 64, 1000] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..50 {
                    pool.run(parts, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 50));
            }
        }
    }

    #[test]
    fn sleeping_workers_are_woken_and_a_panic_is_passed_on() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|i| assert!(i != 5, "part five"));
        }));
        assert!(caught.is_err());
        pool.run(8, &|_| {});
    }
}
