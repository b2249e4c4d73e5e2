//! A buffer that several threads write at once, each to its own pieces.

#![expect(unsafe_code, reason = "disjoint writes into one buffer")]

use std::marker::PhantomData;
use std::ops::Range;

/// A buffer from which the parts of one [`super::Pool::run`] take disjoint pieces.
///
/// It borrows the buffer mutably, so nothing else can reach it. Callers guarantee that the pieces are disjoint.
pub struct Disjoint<'a, T = f32> {
    start: *mut T,
    len: usize,
    buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` from which threads take disjoint pieces (the contract of `slice` and `set`).
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Wraps the whole buffer.
    pub fn new(buffer: &'a mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// Writes one element.
    ///
    /// # Safety
    /// No other thread accesses the element at the same time, and no piece that contains it is alive.
    ///
    /// # Panics
    /// When `index` is out of bounds.
    #[inline]
    pub unsafe fn set(&self, index: usize, value: T) {
        assert!(index < self.len, "index {index} of {}", self.len);
        // SAFETY: in bounds by the assertion; the caller guarantees that nothing else accesses it.
        unsafe { self.start.add(index).write(value) }
    }

    /// A mutable piece.
    ///
    /// # Safety
    /// While the piece is alive, no other piece overlaps it and no element of it is set.
    ///
    /// # Panics
    /// When `range` is out of bounds.
    #[expect(clippy::mut_from_ref, reason = "pieces are disjoint, as the caller says")]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: in bounds by the assertion; the caller guarantees that it is disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
