//! Memory for requests, counted over all of them: a body, what is parsed from it, what is computed from that, and the
//! answer. Who asks for more than is left is told to come back; nobody else suffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory that all requests share.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
    taken: AtomicUsize,
}

/// What one request has taken of it, until it is dropped.
#[derive(Debug, Default)]
pub struct Share {
    budget: Option<Arc<Budget>>,
    taken: AtomicUsize,
}

/// Memory that is needed for a moment; dropping it gives it back.
#[derive(Debug)]
pub struct Loan<'s> {
    share: &'s Share,
    bytes: usize,
}

/// Why a request gets no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// It would not fit if it were alone, and would take so many bytes of so many.
    Ever(usize, usize),
    /// Others have it at the moment.
    Now,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, taken: AtomicUsize::new(0) })
    }

    /// A share for a new request.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: Some(Arc::clone(self)), taken: AtomicUsize::new(0) }
    }

    /// How much all requests have.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Takes more bytes.
    ///
    /// # Errors
    /// When they are not there; the share is as before.
    pub fn take(&self, bytes: usize) -> Result<(), Short> {
        let Some(budget) = &self.budget else { return Ok(()) };
        let mine = self.taken.load(Ordering::Relaxed).saturating_add(bytes);
        if mine > budget.bytes {
            return Err(Short::Ever(mine, budget.bytes));
        }
        let more = |all: usize| all.checked_add(bytes).filter(|all| *all <= budget.bytes);
        let taken = budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if taken.is_err() {
            return Err(Short::Now);
        }
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes bytes for a moment.
    ///
    /// # Errors
    /// As for [`Share::take`].
    pub fn lend(&self, bytes: usize) -> Result<Loan<'_>, Short> {
        self.take(bytes).map(|()| Loan { share: self, bytes })
    }

    fn give_back(&self, bytes: usize) {
        if let Some(budget) = &self.budget {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
            budget.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.share.give_back(self.bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.taken.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(100);
        let (one, two) = (budget.share(), budget.share());
        assert_eq!((one.take(60), two.take(50)), (Ok(()), Err(Short::Now)));
        assert_eq!((two.take(40), budget.taken()), (Ok(()), 100));
        assert_eq!(one.take(50), Err(Short::Ever(110, 100)));
        drop(one);
        assert_eq!((two.take(60), budget.taken()), (Ok(()), 100));
        let loan = two.lend(1);
        assert_eq!(loan.err(), Some(Short::Ever(101, 100)));
        drop(two);
        let three = budget.share();
        drop(three.lend(30).unwrap());
        assert_eq!((three.take(100), budget.taken()), (Ok(()), 100));
        drop(three);
        assert_eq!(budget.taken(), 0);
        assert_eq!(budget.share().take(usize::MAX), Err(Short::Ever(usize::MAX, 100)));
    }
}
