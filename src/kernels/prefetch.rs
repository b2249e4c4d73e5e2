//! Asking memory for what will be read soon.

use std::sync::Arc;

/// Bytes of a processor's cache line.
const LINE: usize = 64;

/// What will be read soon, by address.
#[derive(Clone, Copy, Default)]
pub struct Soon {
    at: usize,
    end: usize,
}

impl Soon {
    /// These elements, with every line they touch.
    pub fn of<T>(elements: &[T]) -> Self {
        let range = elements.as_ptr_range();
        Self { at: range.start.addr() / LINE * LINE, end: range.end.addr() }
    }

    /// Asks for the next line, if one is left, for the second cache.
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

/// What will be read after some time, piece after piece, each at four places at once as products read. It may never
/// be, and may be gone by then: these are addresses to ask for, not references.
#[derive(Clone, Default)]
pub struct Ahead {
    pieces: Arc<[[Soon; 4]]>,
    at: usize,
    piece: [Soon; 4],
}

impl Ahead {
    /// These pieces, in their order.
    pub fn new(pieces: Vec<[Soon; 4]>) -> Self {
        Self { pieces: pieces.into(), ..Self::default() }
    }

    /// Asks for the next line at each of the places; says whether there was any.
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

/// Asks for elements that will be read soon.
#[inline]
pub fn fetch<T>(soon: &[T]) {
    let mut soon = Soon::of(soon);
    while !soon.is_done() {
        soon.fetch_line();
    }
}

/// Asks for what lies at an address, for the second cache. Nothing happens where nothing lies.
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    allow(unsafe_code, reason = "a hint to the processor")
)]
#[inline]
fn fetch_address(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint that every x86-64 processor has; it changes nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::without_provenance(address)) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint that every processor of this architecture has; it changes nothing, whatever the address.
    unsafe {
        std::arch::asm!(
            "prfm pldl2keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
