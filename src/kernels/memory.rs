//! How the system's allocator treats what operations free.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "settings of the C library's allocator and of memory")
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

/// Wishes for large pages, as the weights have them, for elements that were not touched yet.
pub fn prefer_large_pages<T>(elements: &mut [T]) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Whole pages only.
        let skipped = elements.as_ptr().align_offset(4096);
        if let Some(elements) = elements.get_mut(skipped..) {
            let size = size_of_val(elements) / 4096 * 4096;
            // SAFETY: pages of these elements alone; the advice changes no content.
            unsafe { libc::madvise(elements.as_mut_ptr().cast(), size, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = elements;
}
