//! Ctrl-C and similar signals.
//!
//! Input: signals of the system. Output: a call for each, on a dedicated thread. Signals that the program was started
//! to ignore (`nohup`, a script's `&`) stay ignored. SIGQUIT is left alone. SIGPIPE is left to the standard library,
//! which ignores it, so that a closed pipe is a write error.
//!
//! This calls the system directly because no library fits: `ctrlc` overrides ignored signals and does not say which
//! signal came, and `signal-hook` keeps a socket open, which a program that promises to have none must not.

#[cfg(unix)]
pub use unix::watch;
#[cfg(windows)]
pub use windows::watch;

/// Why the program is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Ctrl-C, SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The terminal is gone, SIGHUP.
    HangUp,
}

impl Ending {
    /// The exit code that shells use for this signal.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Ending::HangUp => 128 + 1,
            Ending::Interrupt => 128 + 2,
            Ending::Terminate => 128 + 15,
        }
    }

    /// Ends the process as the unhandled signal would, so that whoever waits for it sees that it was interrupted.
    pub fn die(self) -> ! {
        #[cfg(unix)]
        unix::raise(self);
        std::process::exit(self.code().into())
    }
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "signals have no safe form; each call is argued")]
mod unix {
    use super::Ending;
    use libc::c_int;
    use std::io::{self, Read as _};
    use std::mem::MaybeUninit;
    use std::os::fd::IntoRawFd as _;
    use std::ptr;
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::thread;

    const ENDINGS: [(c_int, Ending); 3] = [
        (libc::SIGINT, Ending::Interrupt),
        (libc::SIGTERM, Ending::Terminate),
        (libc::SIGHUP, Ending::HangUp),
    ];

    /// The write end of the handler's pipe.
    static PIPE: AtomicI32 = AtomicI32::new(-1);

    /// Calls `act` for each signal, on a dedicated thread. Call it once per process.
    ///
    /// # Errors
    ///
    /// The system has no more threads or descriptors; then signals keep their previous actions.
    pub fn watch(mut act: impl FnMut(Ending) + Send + 'static) -> io::Result<()> {
        let (mut reader, writer) = io::pipe()?;
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut signal = [0];
            while reader.read_exact(&mut signal).is_ok() {
                let known = ENDINGS.iter().find(|(number, _)| *number == c_int::from(signal[0]));
                if let Some((_, ending)) = known {
                    act(*ending);
                }
            }
        })?;
        PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
        for (signal, _) in ENDINGS {
            if action(signal)?.sa_sigaction != libc::SIG_IGN {
                handle(signal, arrived as *const () as usize)?;
            }
        }
        Ok(())
    }

    /// Raises the signal with its default action. Returns only if the system refuses.
    pub fn raise(ending: Ending) {
        let Some((signal, _)) = ENDINGS.iter().find(|(_, known)| *known == ending) else { return };
        let _ = handle(*signal, libc::SIG_DFL);
        // SAFETY: takes a number and touches no memory.
        unsafe { libc::raise(*signal) };
    }

    /// The handler. It may run between any two instructions of the program, so it calls only `write`, which POSIX lists
    /// as safe in handlers.
    extern "C" fn arrived(signal: c_int) {
        let number = signal as u8;
        // SAFETY: reads one byte of this frame. The descriptor was stored before the handler was set and is never
        // closed; the pipe holds at least 4,096 unread signals.
        unsafe { libc::write(PIPE.load(Ordering::SeqCst), ptr::from_ref(&number).cast(), 1) };
    }

    /// The process's current action for a signal.
    fn action(signal: c_int) -> io::Result<libc::sigaction> {
        let mut found = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action the call only writes the current one, to a place of the right type.
        let refused = unsafe { libc::sigaction(signal, ptr::null(), found.as_mut_ptr()) } != 0;
        if refused {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroed, which is valid for every field, and then filled by the call, which succeeded.
        Ok(unsafe { found.assume_init() })
    }

    /// Sets the action for a signal: a handler with one argument, or one of the `SIG_*` constants.
    fn handle(signal: c_int, handler: libc::sighandler_t) -> io::Result<()> {
        // SAFETY: a struct of integers and pointers, for which zeros are valid; the call reads it. Both handlers passed
        // here have the type that is called without SA_SIGINFO. SA_RESTART: reads and writes resume by themselves.
        let refused = unsafe {
            let mut new = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            new.sa_sigaction = handler;
            new.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &raw const new, ptr::null_mut())
        } != 0;
        if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(windows)]
mod windows {
    use super::Ending;
    use std::io;

    /// Calls `act` for each Ctrl-C, Ctrl-Break and closed window, on a dedicated thread. Call it once per process.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn watch(mut act: impl FnMut(Ending) + Send + 'static) -> io::Result<()> {
        ctrlc::set_handler(move || act(Ending::Interrupt)).map_err(io::Error::other)
    }
}
