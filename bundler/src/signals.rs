//! Ctrl-C and its kin.
//!
//! Enters: signals of the system. Leaves: a call on a thread of its own for each. What the program was started to ignore
//! (`nohup`, a script's `&`) stays ignored: whoever started it said so. SIGQUIT is left alone, and SIGPIPE to the
//! standard library, which ignores it, so that a closed pipe is an error of writing.
//!
//! The calls into the system that no library makes as needed: `ctrlc` overrides what is ignored and does not say which
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
    /// The exit code by which shells know this end.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Ending::HangUp => 128 + 1,
            Ending::Interrupt => 128 + 2,
            Ending::Terminate => 128 + 15,
        }
    }

    /// Ends the process as the signal does where nobody watches: whoever waits for it sees that it was interrupted.
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

    /// The writing end of the pipe that handlers write to.
    static PIPE: AtomicI32 = AtomicI32::new(-1);

    /// Calls `act` for each signal that comes, on a thread of its own. Once for a process.
    ///
    /// # Errors
    ///
    /// The system has no more threads or descriptors; then signals do what they did.
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

    /// Does the signal's default to this process. Returns only if the system refuses.
    pub fn raise(ending: Ending) {
        let Some((signal, _)) = ENDINGS.iter().find(|(_, known)| *known == ending) else { return };
        let _ = handle(*signal, libc::SIG_DFL);
        // SAFETY: takes a number and touches no memory.
        unsafe { libc::raise(*signal) };
    }

    /// Runs between any two instructions of the program: it may call nothing but what POSIX lists as safe there, and
    /// `write` of one byte is.
    extern "C" fn arrived(signal: c_int) {
        let number = signal as u8;
        // SAFETY: reads one byte of this frame. The descriptor was stored before the handler was set and is never
        // closed; the pipe holds 4,096 signals at least that nobody has read.
        unsafe { libc::write(PIPE.load(Ordering::SeqCst), ptr::from_ref(&number).cast(), 1) };
    }

    /// What the process does at a signal now.
    fn action(signal: c_int) -> io::Result<libc::sigaction> {
        let mut found = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action the call only writes the present one, to a place of the right type.
        let refused = unsafe { libc::sigaction(signal, ptr::null(), found.as_mut_ptr()) } != 0;
        if refused {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroed, for which every field has a valid meaning, and then filled by the call that succeeded.
        Ok(unsafe { found.assume_init() })
    }

    /// Sets what the process does at a signal: a handler of one argument, or one of the constants.
    fn handle(signal: c_int, handler: libc::sighandler_t) -> io::Result<()> {
        // SAFETY: a struct of integers and pointers, for which zeros are valid; the call reads it. Both handlers that
        // come here have the type that is called without SA_SIGINFO. SA_RESTART: nobody who reads or writes has to know.
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

    /// Calls `act` for each Ctrl-C, Ctrl-Break and closed window, on a thread of its own. Once for a process.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn watch(mut act: impl FnMut(Ending) + Send + 'static) -> io::Result<()> {
        ctrlc::set_handler(move || act(Ending::Interrupt)).map_err(io::Error::other)
    }
}
