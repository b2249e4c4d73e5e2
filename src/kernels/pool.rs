//! A thread pool for work that takes microseconds.
//!
//! Input: a number of parts and a function of the part's index. Returns when every part is done. A token
//! takes some two hundred calls, so workers spin briefly between calls before they sleep. A call never waits
//! for a sleeping worker: each thread has a share of the parts, threads that finish early steal from the
//! others, and a worker that wakes too late no longer joins; one that is held up too often is left out for a
//! while ([`super::patience`]). Between calls, before spinning, a worker prefetches the data announced for its
//! next call.

#![expect(unsafe_code, reason = "a borrowed closure is handed to threads that outlive the call")]

use super::patience::Patience;
use super::prefetch::Ahead;
use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::time::Instant;
use sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Builder, JoinHandle, Mutex, Ordering, RwLock, Thread,
    UnsafeCell, order, park, spin_loop, yield_now,
};

/// What the pool is made of: the standard library's, or loom's, which tries every order of what threads do.
#[cfg(not(loom))]
mod sync {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    pub use std::sync::{Arc, Mutex, RwLock};
    pub use std::thread::{Builder, JoinHandle, Thread, park, yield_now};

    /// Nothing: `SeqCst` accesses have one order among them.
    pub fn order() {}

    /// As loom has it.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(loom)]
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    pub use loom::sync::{Arc, Mutex, RwLock};
    pub use loom::thread::{Builder, JoinHandle, Thread, park, yield_now};

    /// loom takes `SeqCst` accesses for `AcqRel`; only its fences have one order among them.
    pub fn order() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// Looks for a call before a worker sleeps: about a millisecond, longer than the gap between two calls of one token
/// and far too short for a person to notice the load.
const SPINS_BEFORE_SLEEP: u32 = if cfg!(any(loom, miri)) { 1 } else { 4_000 };
/// Spin-loop iterations before a thread that waits offers its core to others. Where cores are busy, what it waits for
/// may have to run on the same one: three busy programs on one of two cores left 0.67 of one thread's speed before
/// workers did so too, and 1.0 since.
const SPINS_BEFORE_YIELD: u32 = if cfg!(any(loom, miri)) { 0 } else { 2_000 };

/// While set in `Shared::state`, workers may join the call; the low bits count the workers inside.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const GENERATION_ONE: u64 = 1 << 32;

/// A fixed number of threads, including the caller's.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    sleepers: Vec<Thread>,
    /// Allows one call at a time.
    turn: Mutex<Patience>,
    /// What times are measured from.
    start: Instant,
}

type Job<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    /// Generation of the call (high half), the `OPEN` flag and the number of workers inside.
    state: AtomicU64,
    /// One for each thread.
    shares: Box<[Share]>,
    /// For each learned call, what each thread reads first.
    ahead: RwLock<Vec<Vec<Ahead>>>,
    /// The current job; written only while `OPEN` is clear and no worker is inside.
    job: UnsafeCell<Option<Job<'static>>>,
    /// Threads that take part in calls, the first ones.
    active: AtomicUsize,
    asleep: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A thread's remaining parts, and what it prefetches after them. Two cache lines, because processors also fetch
/// the adjacent line.
#[repr(align(128))]
#[derive(Default)]
struct Share {
    next: AtomicUsize,
    end: AtomicUsize,
    /// Index into `Shared::ahead` of what the thread reads in the call after this one.
    upcoming: AtomicUsize,
}

// SAFETY: the caller of `run` writes `job` only while no worker is inside (`OPEN` clear, count zero, under
// `turn`); workers read it only after they were counted in while `OPEN` was set. The Release/Acquire pair on
// `state` orders the two.
unsafe impl Sync for Shared {}
// SAFETY: the job reference is `Sync`, so it may be used from any thread.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads in total, including the caller's (at least one).
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            shares: (0..threads.max(1)).map(|_| Share::default()).collect(),
            ahead: RwLock::default(),
            job: UnsafeCell::new(None),
            active: AtomicUsize::new(threads),
            asleep: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let spare = (threads > 1 && !cfg!(loom)).then(Spare::take);
        let workers: Vec<_> = (1..threads.max(1))
            // Threads are numbered without a gap: after one that can't be started there are no more.
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let thread = Builder::new().name(format!("compute-{index}"));
                thread.spawn(move || work(&shared, index)).ok()
            })
            .collect();
        drop(spare);
        let sleepers = workers.iter().map(|w| w.thread().clone()).collect();
        let turn = Mutex::new(Patience::new(workers.len() + 1));
        Self { shared, workers, sleepers, turn, start: Instant::now() }
    }

    /// Number of threads, including the caller's.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Stores what each thread reads first in a call; returns an id for [`Pool::foresee`].
    pub fn learn(&self, ahead: Vec<Ahead>) -> usize {
        let mut all = self.shared.ahead.write().unwrap_or_else(PoisonError::into_inner);
        all.push(ahead);
        all.len() - 1
    }

    /// Forgets all learned calls.
    pub fn forget(&self) {
        self.shared.ahead.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Announces the call after the next one, so that threads waiting for it prefetch what they will read.
    pub fn foresee(&self, learned: usize) {
        for share in &self.shared.shares {
            share.upcoming.store(learned, Ordering::Relaxed);
        }
    }

    /// Calls `job(0)`, …, `job(parts - 1)` once each, on any of the threads, and returns when all are done.
    /// A panic in a part is propagated to the caller.
    pub fn run(&self, parts: usize, job: Job<'_>) {
        let threads = self.threads();
        if threads == 1 || parts <= 1 {
            (0..parts).for_each(job);
            return;
        }
        self.run_shares(&|thread| thread * parts / threads..(thread + 1) * parts / threads, job);
    }

    /// Like [`Pool::run`], with the range of parts for each thread given by `share`. A thread starts with its
    /// own parts, in order.
    pub fn run_shares(&self, share: &dyn Fn(usize) -> Range<usize>, job: Job<'_>) {
        if self.workers.is_empty() {
            share(0).for_each(job);
            return;
        }
        let mut patience = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        if patience.is_short() {
            patience.try_more(self.start.elapsed());
            shared.active.store(patience.limit(), Ordering::SeqCst);
        }
        for (thread, left) in shared.shares.iter().enumerate() {
            // If threads could not be started, the last shares are empty.
            let range = if thread < self.threads() { share(thread) } else { 0..0 };
            left.next.store(range.start, Ordering::Relaxed);
            left.end.store(range.end, Ordering::Relaxed);
        }
        // SAFETY: the lifetime is extended only for the duration of this call: before it returns, `OPEN` is
        // cleared and every worker that saw the job has left. No worker is inside now, because the previous
        // call waited for that, so nothing reads the cell while it is written.
        shared.job.with_mut(|place| unsafe {
            *place = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job));
        });
        let generation = (shared.state.load(Ordering::Relaxed) & !INSIDE & !OPEN) + GENERATION_ONE;
        shared.state.store(generation | OPEN, Ordering::SeqCst);
        order();
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            self.sleepers.iter().for_each(Thread::unpark);
        }
        shared.take_parts(0, job);
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let (mut spins, mut since) = (0, None);
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                spin_loop();
            } else {
                since = since.or_else(|| (!cfg!(loom)).then(|| self.start.elapsed()));
                yield_now();
            }
        }
        if let Some(since) = since {
            let now = self.start.elapsed();
            patience.waited(now, now.saturating_sub(since));
            shared.active.store(patience.limit(), Ordering::SeqCst);
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// Reserves threads while a pool starts, so that the pool can't exhaust the user's thread limit: one for the
/// scheduler, one for a request, two for its chat template.
struct Spare(Vec<JoinHandle<()>>);

impl Spare {
    const THREADS: usize = 4;

    fn take() -> Self {
        let thread = || Builder::new().name("spare".to_owned()).spawn(park);
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
    /// Works through the share of `thread`, then steals from the others.
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
            // Empty all shares, so that the call ends soon and reports the panic.
            self.shares
                .iter()
                .for_each(|s| s.next.store(s.end.load(Ordering::Relaxed), Ordering::Relaxed));
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }

    /// Whether a thread may join a call that is open and newer than `seen`.
    fn is_news(&self, thread: usize, state: u64, seen: u64) -> bool {
        state & OPEN != 0
            && state & !INSIDE & !OPEN != seen
            && thread < self.active.load(Ordering::SeqCst)
    }

    /// Joins the current call if the thread may. Returns its generation.
    fn try_join(&self, thread: usize, seen: u64) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        if !self.is_news(thread, state, seen) {
            return None;
        }
        self.state
            .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| state & !INSIDE & !OPEN)
    }
}

fn work(shared: &Shared, thread: usize) {
    let mut seen = 0;
    let mut spins = 0;
    let (mut upcoming, mut ahead) = (usize::MAX, Ahead::default());
    while !shared.stop.load(Ordering::Relaxed) {
        if let Some(generation) = shared.try_join(thread, seen) {
            seen = generation;
            spins = 0;
            // SAFETY: this worker was counted in while `OPEN` was set, so the caller waits for it and does
            // not write the cell.
            if let Some(job) = shared.job.with(|place| unsafe { *place }) {
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
            if spins < SPINS_BEFORE_YIELD {
                spin_loop();
            } else {
                yield_now();
            }
            continue;
        }
        // Count as asleep first, then check again: a call that opens in between either sees this sleeper and
        // wakes it, or is seen here.
        shared.asleep.fetch_add(1, Ordering::SeqCst);
        order();
        let state = shared.state.load(Ordering::SeqCst);
        if !shared.is_news(thread, state, seen) && !shared.stop.load(Ordering::SeqCst) {
            park();
        }
        shared.asleep.fetch_sub(1, Ordering::SeqCst);
        spins = 0;
    }
}

/// Every order in which two threads can do what the pool does, as far as loom can tell:
/// `RUSTFLAGS="--cfg loom" cargo test --release pool` in `tests/kernels`.
#[cfg(all(test, loom))]
mod every_order {
    use super::*;
    use loom::sync::Condvar;

    #[test]
    fn no_wake_up_is_lost_and_each_part_runs_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let pool = Pool::new(2);
            let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
            pool.run(2, &|part| _ = counts[part].fetch_add(1, Ordering::Relaxed));
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            // The caller's part waits for the worker's, which may be asleep: a wake-up that is lost blocks it.
            let (done, changed) = (Mutex::new(false), Condvar::new());
            pool.run(2, &|part| {
                let mut done = done.lock().unwrap();
                if part == 1 {
                    *done = true;
                    changed.notify_one();
                }
                while !*done {
                    done = changed.wait(done).unwrap();
                }
            });
            // A sleeping worker has to hear of the end, too.
            drop(pool);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_for_any_number_of_threads_and_parts() {
        // Miri runs a thousand times slower.
        let rounds = if cfg!(miri) { 2 } else { 50 };
        let sizes = if cfg!(miri) { &[0, 2, 7, 20][..] } else { &[0, 1, 2, 7, 64, 1000] };
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for &parts in sizes {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..rounds {
                    pool.run(parts, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == rounds));
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
