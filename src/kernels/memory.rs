//! How the system's allocator treats what operations free.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "two settings of the C library's allocator")
)]

/// Bytes of freed memory that are kept for the next operation, and the size from which on an allocation
/// would get pages of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 32 << 20;

/// Keeps freed memory for the next operation. Every operation of a prompt allocates its result and frees its
/// operands; given back each time, the pages would be cleared by the kernel again, which takes a sixth of a
/// prompt's time. To be called before threads are started.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the allocator, which takes any value.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Asks for elements that will be read soon.
#[cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "a hint to the processor"))]
#[inline]
pub fn fetch<T>(soon: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in soon.chunks((64 / size_of::<T>()).max(1)) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint that every x86-64 processor has; it changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = soon;
}
