//! The program without a browser: one completion, a chat, and reports about the file.
//!
//! The answer goes to stdout, everything else to stderr; a closed pipe is a success.

mod bench;
mod chat;
mod complete;
mod doctor;
mod info;
mod input;
mod npy;
mod perplexity;
mod tokenize;
mod verify;

pub use bench::{bench, limits};
pub use chat::chat;
pub use complete::complete;
pub use doctor::{Patient, Report, doctor};
pub use info::info;
pub use perplexity::perplexity;
pub use tokenize::tokenize;
pub use verify::verify;

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes to stdout at once. `false`: nobody reads any more, which is no failure.
///
/// # Errors
/// When the text is lost for another reason, such as a full disk.
fn show(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e),
    }
}

/// Set by Ctrl-C; whoever generates looks at it.
#[derive(Default)]
pub struct Interrupt(AtomicBool);

impl Interrupt {
    /// Says that somebody pressed Ctrl-C. Returns whether somebody had before, and nobody looked.
    pub fn raise(&self) -> bool {
        self.0.swap(true, Ordering::SeqCst)
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
