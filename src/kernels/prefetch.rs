//! Prefetching: loads memory into the cache before it is read.

use std::sync::Arc;

/// Bytes in a cache line.
const LINE: usize = 64;

/// An address range that will be read soon.
#[derive(Clone, Copy, Default)]
pub struct Soon {
    at: usize,
    end: usize,
}

impl Soon {
    /// Every cache line that these elements touch.
    pub fn of<T>(elements: &[T]) -> Self {
        let range = elements.as_ptr_range();
        Self { at: range.start.addr() / LINE * LINE, end: range.end.addr() }
    }

    /// Prefetches the next line, if any is left, into the L2 cache.
    #[inline]
    pub fn fetch_line(&mut self) {
        if !self.is_done() {
            fetch_address(self.at);
            self.at += LINE;
        }
    }

    fn is_done(&self) -> bool {
        self.at >= self.end
    }
}

/// What will be read later, in order: pieces of four streams, as products read them. These are addresses to prefetch,
/// not references: the memory may never be read and may be gone by then.
#[derive(Clone, Default)]
pub struct Ahead {
    pieces: Arc<[[Soon; 4]]>,
    at: usize,
    piece: [Soon; 4],
}

impl Ahead {
    /// These pieces, in this order.
    pub fn new(pieces: Vec<[Soon; 4]>) -> Self {
        Self { pieces: pieces.into(), ..Self::default() }
    }

    /// Prefetches the next line of each stream; returns whether any was left.
    #[inline]
    pub fn fetch_lines(&mut self) -> bool {
        while self.piece.iter().all(Soon::is_done) {
            let Some(&next) = self.pieces.get(self.at) else { return false };
            self.piece = next;
            self.at += 1;
        }
        self.piece.iter_mut().for_each(Soon::fetch_line);
        true
    }
}

/// Prefetches elements that will be read soon.
#[inline]
pub fn fetch<T>(soon: &[T]) {
    let mut soon = Soon::of(soon);
    while !soon.is_done() {
        soon.fetch_line();
    }
}

/// Prefetches the line at an address into the L2 cache. Does nothing if the address isn't mapped.
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    allow(unsafe_code, reason = "a hint to the processor")
)]
#[inline]
fn fetch_address(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint that every x86-64 processor supports; it has no effect on the program, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::without_provenance(address)) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint that every processor of this architecture supports; it has no effect on the program, whatever the
    // address.
    unsafe {
        std::arch::asm!(
            "prfm pldl2keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
