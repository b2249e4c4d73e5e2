//! Decides how many threads of a pool take part in calls, by how long these wait for the last one.
//!
//! A thread whose core is taken away, by another program or by a neighbour of a virtual machine, holds up every call that
//! it has begun a part of. From some share of the time on, one thread less is faster.

use std::time::Duration;

/// What `n` threads may lose before `n - 1` would be faster: 0.9 of those is still worth more than trying.
const WORTH: f64 = 0.9;
/// Below this share of the time, waiting is that of unequal parts.
const SHARE_MIN: f64 = 0.3;
/// Time waited beyond the tolerated share that costs a thread its place.
const EXCESS_MAX: Duration = Duration::from_millis(50);
/// What a single wait counts at most: a computer that slept has no busy neighbour.
const WAIT_MAX: Duration = Duration::from_millis(40);
/// How long a thread stays out: at first, and when it was soon too slow again, at last.
const REST_MIN: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(4);

/// How many threads take part.
pub struct Patience {
    threads: usize,
    limit: usize,
    /// Time waited beyond the tolerated share.
    excess: Duration,
    /// When that was brought up to date.
    at: Duration,
    /// When one more thread is tried.
    again: Duration,
    rest: Duration,
}

impl Patience {
    /// At first, all threads take part.
    pub fn new(threads: usize) -> Self {
        let zero = Duration::ZERO;
        Self { threads, limit: threads, excess: zero, at: zero, again: zero, rest: REST_MIN }
    }

    /// The number of threads that take part.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether some don't: then [`Patience::try_more`] wants to be called.
    pub fn is_short(&self) -> bool {
        self.limit < self.threads
    }

    /// A call that ended at `now` has waited for the last thread. Times are those of one clock.
    pub fn waited(&mut self, now: Duration, waited: Duration) {
        let tolerated = now.saturating_sub(self.at).mul_f64(share(self.limit));
        self.at = now;
        self.excess = (self.excess + waited.min(WAIT_MAX)).saturating_sub(tolerated);
        if self.excess < EXCESS_MAX || self.limit == 1 {
            return;
        }
        // It was tried and is out again soon.
        let soon = now.saturating_sub(self.again) < self.rest;
        self.rest = if self.again > Duration::ZERO && soon {
            (2 * self.rest).min(REST_MAX)
        } else {
            REST_MIN
        };
        self.limit -= 1;
        self.again = now + self.rest;
        self.excess = Duration::ZERO;
    }

    /// Lets one more thread take part, if it is time to try that.
    pub fn try_more(&mut self, now: Duration) {
        if self.is_short() && now >= self.again {
            self.limit += 1;
            // The next one has to wait its turn; this one is soon out again if it is as slow as before.
            self.again = now + self.rest;
            (self.at, self.excess) = (now, EXCESS_MAX / 4 * 3);
        }
    }
}

/// The share of the time that `threads` may wait.
fn share(threads: usize) -> f64 {
    let n = threads as f64;
    (1.0 - WORTH * (n - 1.0) / n).max(SHARE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Milliseconds of `all` in which two threads took part, if of each such call of four milliseconds `waited` are spent
    /// waiting.
    fn together(patience: &mut Patience, from: u32, all: u32, waited: u32) -> u32 {
        let mut both = 0;
        for call in 0..all / 4 {
            let now = (from + 4 * call) * MS;
            patience.try_more(now);
            if patience.limit() == 2 {
                both += 4;
                patience.waited(now + 4 * MS, waited * MS);
            }
        }
        both
    }

    #[test]
    fn a_thread_that_is_waited_for_most_of_the_time_is_left_out_and_tried_now_and_then() {
        let mut patience = Patience::new(2);
        let slow = together(&mut patience, 0, 10_000, 3);
        assert!((100..1_000).contains(&slow), "{slow} ms of 10 s");
        // Its core is free again.
        let fast = together(&mut patience, 10_000, 20_000, 0);
        assert!(fast >= 15_000, "{fast} ms of 20 s");
    }

    #[test]
    fn a_thread_that_helps_stays() {
        for waited in 0..=2 {
            let mut patience = Patience::new(2);
            assert_eq!(together(&mut patience, 0, 10_000, waited), 10_000, "{waited} of 4 ms");
        }
    }

    #[test]
    fn one_long_wait_is_forgiven_and_one_thread_always_stays() {
        let mut patience = Patience::new(4);
        patience.waited(1_000 * MS, 1_000 * MS);
        assert_eq!(patience.limit(), 4);
        for call in 0..10_000 {
            patience.waited((1_000 + call) * MS, MS);
        }
        assert_eq!(patience.limit(), 1);
        assert!(patience.is_short());
    }

    #[test]
    fn more_threads_wait_less_before_one_is_left_out() {
        assert!((share(2) - 0.55).abs() < 1e-9 && (share(3) - 0.4).abs() < 1e-9);
        assert!((share(16) - SHARE_MIN).abs() < 1e-9);
    }
}
