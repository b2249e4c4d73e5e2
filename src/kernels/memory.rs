//! Settings of the system's allocator and of memory pages.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "settings of the C library's allocator and of memory")
)]

/// Bytes of freed memory that are kept for reuse, and the size above which an allocation gets its own
/// mapping.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 32 << 20;

/// Keeps freed memory for the next operation. In prefill, every operation allocates its result and frees its
/// operands. If the pages went back to the kernel each time, clearing them again would take a sixth of the prefill
/// time. Call this before threads are started.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two parameters of the allocator, which accepts any value.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Requests huge pages, as the weights have, for elements that have not been touched yet.
pub fn prefer_large_pages<T>(elements: &mut [T]) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Whole pages only.
        let skipped = elements.as_ptr().align_offset(4096);
        if let Some(elements) = elements.get_mut(skipped..) {
            let size = size_of_val(elements) / 4096 * 4096;
            // SAFETY: the pages hold only these elements; the advice doesn't change their contents.
            unsafe { libc::madvise(elements.as_mut_ptr().cast(), size, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = elements;
}
