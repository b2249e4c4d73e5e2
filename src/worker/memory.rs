//! An allocator that can be told how much it may give: the same on every system, where limits of the systems differ.

#![expect(unsafe_code, reason = "an allocator: it hands every call on to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// Whether allocations are counted at all; only a child does.
static COUNTS: AtomicBool = AtomicBool::new(false);
/// Bytes that may still be allocated.
static LEFT: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, refusing what goes beyond [`limit`].
pub struct Bounded;

/// Lets at most `bytes` be allocated from now on. What is beyond is refused, which ends the process where the code can't
/// go on without.
pub(super) fn limit(bytes: usize) {
    LEFT.store(isize::try_from(bytes).unwrap_or(isize::MAX), Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
}

/// Takes `bytes` of what is left, or nothing if that is less.
fn take(bytes: usize) -> bool {
    let bytes = isize::try_from(bytes).unwrap_or(isize::MAX);
    let before = LEFT.fetch_sub(bytes, Ordering::Relaxed);
    if before < bytes {
        LEFT.fetch_add(bytes, Ordering::Relaxed);
        return false;
    }
    true
}

fn give_back(bytes: usize) {
    LEFT.fetch_add(isize::try_from(bytes).unwrap_or(isize::MAX), Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator with what it was given; a refusal is a null pointer, as the trait
// has it, and counting touches two atomics only.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) && !take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) && !take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTS.load(Ordering::Relaxed) {
            give_back(layout.size());
        }
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) {
            // Both exist for a moment where the block moves.
            if !take(size) {
                return null_mut();
            }
            give_back(layout.size());
        }
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
