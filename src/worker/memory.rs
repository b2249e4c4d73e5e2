//! An allocator with a byte limit, which works the same on every system; the systems' own limits differ.

#![expect(unsafe_code, reason = "an allocator: it hands every call on to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// Whether to count allocations; only a child does.
static COUNTS: AtomicBool = AtomicBool::new(false);
/// Bytes that may still be allocated.
static LEFT: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, refusing allocations beyond [`limit`].
pub struct Bounded;

/// Allows at most `bytes` to be allocated from now on. Allocations beyond that fail, which ends the process if the code
/// can't handle it.
pub(super) fn limit(bytes: usize) {
    LEFT.store(isize::try_from(bytes).unwrap_or(isize::MAX), Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
}

/// Takes `bytes` from the remaining budget; takes nothing and returns false if less remains.
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

// SAFETY: every call is forwarded to the system's allocator with the same arguments; a refusal is a null pointer, as
// the trait allows, and counting touches only two atomics.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) && !take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) && !take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTS.load(Ordering::Relaxed) {
            give_back(layout.size());
        }
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) {
            // If the block moves, both exist for a moment.
            if !take(size) {
                return null_mut();
            }
            give_back(layout.size());
        }
        // SAFETY: the caller upholds the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
