//! One buffer that several threads write at once, each at places of its own.

#![expect(unsafe_code, reason = "disjoint writes into one buffer")]

use std::marker::PhantomData;
use std::ops::Range;

/// A buffer of which several parts of one [`super::Pool::run`] take disjoint pieces.
///
/// While it lives nobody else reaches the buffer. That pieces are disjoint is for who takes them to say.
pub struct Disjoint<'a, T = f32> {
    start: *mut T,
    len: usize,
    buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]`, of which threads take disjoint pieces (the contract of `slice` and `set`).
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// The whole buffer.
    pub fn new(buffer: &'a mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// Writes one element.
    ///
    /// # Safety
    /// No other thread takes it at the same time, and no piece that holds it is alive.
    ///
    /// # Panics
    /// When it lies outside.
    #[inline]
    pub unsafe fn set(&self, index: usize, value: T) {
        assert!(index < self.len, "index {index} of {}", self.len);
        // SAFETY: in bounds by the assertion; nobody else takes it, as the caller says.
        unsafe { self.start.add(index).write(value) }
    }

    /// A piece.
    ///
    /// # Safety
    /// No other piece that is alive, and no element that is set meanwhile, lies in it.
    ///
    /// # Panics
    /// When it lies outside.
    #[expect(clippy::mut_from_ref, reason = "pieces are disjoint, as the caller says")]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: in bounds by the assertion; disjoint, as the caller says.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
