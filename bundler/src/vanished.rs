//! Ends the program with a message when a mapped file goes away while it is read: a USB stick was pulled out, or
//! another program shortened the file.
//!
//! Input: where files are mapped. Output: a message and an exit code when the system has no bytes for a mapped address.
//! The system reports that by SIGBUS, at whatever instruction read the address, so there is nothing to return to.
//! Windows refuses to shorten a mapped file; there, a stick that is pulled out still ends the program in Windows' own
//! way.

pub use known::Known;

#[cfg(unix)]
#[expect(unsafe_code, reason = "signals have no safe form; each call is argued")]
mod known {
    use libc::{c_int, c_void, siginfo_t};
    use std::mem::MaybeUninit;
    use std::path::Path;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

    /// Exit code of a process whose mapped file went away: that of any failure.
    const FAILED: c_int = 1;

    /// A mapped range, and the message for when it has no bytes any more. Never freed, because a handler may be reading
    /// it on any thread at any time. That leaks a few hundred bytes for each mapped file.
    struct Range {
        start: usize,
        /// 0 once it is no longer mapped.
        end: AtomicUsize,
        message: Box<[u8]>,
        next: *const Range,
    }

    /// The last range that was mapped; each links to the one before.
    static LAST: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());
    /// The previous action for SIGBUS: the standard library's handler for stack overflows.
    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
    /// Whether a thread is already printing the message.
    static SAYING: AtomicBool = AtomicBool::new(false);

    /// Registers a range as a mapped file, for as long as it lives.
    #[derive(Debug)]
    pub struct Known(&'static AtomicUsize);

    impl Known {
        /// Registers a mapping of `path`.
        #[must_use]
        pub fn new(bytes: &[u8], path: &Path) -> Known {
            let start = bytes.as_ptr() as usize;
            let message = format!(
                "error: {}: the file was truncated, or its drive was removed, while it was in use\n\
                 hint: leave the file unchanged and its drive connected until the program has ended\n",
                crate::shown::shown(&path.display().to_string())
            );
            let range: &'static mut Range = Box::leak(Box::new(Range {
                start,
                end: AtomicUsize::new(start + bytes.len()),
                message: message.into_bytes().into(),
                next: ptr::null(),
            }));
            let place = ptr::from_mut(range);
            let mut last = LAST.load(Ordering::Acquire);
            loop {
                // SAFETY: nobody else knows the range until the exchange succeeds, and it is never freed.
                unsafe { (*place).next = last };
                match LAST.compare_exchange(last, place, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break,
                    Err(newer) => last = newer,
                }
            }
            PREVIOUS.get_or_init(install);
            // SAFETY: never freed, and from here on only read.
            Known(unsafe { &(*place).end })
        }
    }

    impl Drop for Known {
        fn drop(&mut self) {
            self.0.store(0, Ordering::Release);
        }
    }

    /// Installs the handler. Returns the previous action.
    fn install() -> libc::sigaction {
        let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a struct of integers and pointers, for which zeros are valid. The first call only writes the current
        // action, to a place of its type; the second only reads the new one. `fault` has the type that is called with
        // SA_SIGINFO. SA_ONSTACK: after a stack overflow, which the standard library detects by the same signal, the
        // stack has no room for a handler.
        unsafe {
            libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr());
            let mut new = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            new.sa_sigaction = fault as *const () as usize;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const new, ptr::null_mut());
            previous.assume_init()
        }
    }

    /// The handler, which interrupts the instruction that read an address without bytes. Calls only functions that
    /// POSIX lists as safe in a handler, and takes no lock.
    extern "C" fn fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: with SA_SIGINFO the system passes a filled structure.
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        // A positive code means that the signal comes from the system itself, not from another process by `kill`.
        if code > 0
            && let Some(message) = message(address)
        {
            if SAYING.swap(true, Ordering::AcqRel) {
                // Another thread is printing the message, and ends the process.
                loop {
                    // SAFETY: only waits.
                    unsafe { libc::pause() };
                }
            }
            // SAFETY: reads the message, which is never freed; then the process ends.
            unsafe {
                libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
                libc::_exit(FAILED)
            }
        }
        pass_on(signal, info, context);
    }

    /// The message for the mapping that contains this address.
    fn message(address: usize) -> Option<&'static [u8]> {
        let mut range = LAST.load(Ordering::Acquire).cast_const();
        loop {
            // SAFETY: null, or a range that was complete before it was published, and is never freed.
            let Range { start, end, message, next } = unsafe { range.as_ref() }?;
            if (*start..end.load(Ordering::Acquire)).contains(&address) {
                return Some(message);
            }
            range = *next;
        }
    }

    /// Does what the process would have done without this module.
    fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let previous = PREVIOUS.get();
        let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
        match previous {
            Some(previous) if handler != libc::SIG_DFL && handler != libc::SIG_IGN => {
                // SAFETY: whoever set the action gave the address of a function of the type that its flags say.
                unsafe {
                    if previous.sa_flags & libc::SA_SIGINFO == 0 {
                        let handler = std::mem::transmute::<usize, extern "C" fn(c_int)>(handler);
                        handler(signal);
                    } else {
                        let handler = std::mem::transmute::<
                            usize,
                            extern "C" fn(c_int, *mut siginfo_t, *mut c_void),
                        >(handler);
                        handler(signal, info, context);
                    }
                }
            }
            // A fault can't be ignored: the instruction would be retried forever. The raised signal is blocked while
            // this handler runs, and takes its default action when it returns. SAFETY: a zeroed action is the default
            // one, which the call reads; `raise` takes a number.
            _ => unsafe {
                let default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                libc::raise(signal);
            },
        }
    }
}

#[cfg(not(unix))]
mod known {
    use std::path::Path;

    /// Does nothing on this system.
    #[derive(Debug)]
    pub struct Known(());

    impl Known {
        /// Registers nothing.
        #[must_use]
        pub fn new(_bytes: &[u8], _path: &Path) -> Known {
            Known(())
        }
    }
}
