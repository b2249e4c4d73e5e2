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
use std::sync::atomic::{AtomicU8, Ordering};
use tealight_bundle::shown::answers;
use tealight_bundle::signals::Ending;

/// Writes a piece of an answer to stdout and flushes it: its exact bytes, but on a terminal with control characters
/// escaped. `false`: the reader is gone, which is not a failure.
///
/// # Errors
/// When the text is lost for another reason, such as a full disk.
fn show(text: &str) -> io::Result<bool> {
    let mut out = answers();
    closed_is_success(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The same for the program's own escape sequences, such as colours.
fn paint(marks: &'static str) -> io::Result<bool> {
    let mut out = answers();
    closed_is_success(out.own(marks).and_then(|()| out.flush()))
}

fn closed_is_success(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e),
    }
}

/// Ended by a signal; there is nothing to report.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted(pub Ending);

/// What a signal does at the moment: Ctrl-C stops an answer, or ends the program if there is none; other signals end
/// it. Work that would leave a partial file is stopped by any signal, so that the file can be removed.
#[derive(Default)]
pub struct Interrupt(AtomicU8);

const WAITING: u8 = 0;
const ANSWERING: u8 = 1;
const WRITING: u8 = 2;
/// Being stopped, with one state for each signal of `ENDINGS`.
const STOPPING: [u8; 3] = [3, 4, 5];
const ENDINGS: [Ending; 3] = [Ending::Interrupt, Ending::Terminate, Ending::HangUp];

impl Interrupt {
    /// Records a signal. Returns whether it ends the program.
    pub fn ends(&self, ending: Ending) -> bool {
        let stopping = ENDINGS.into_iter().zip(STOPPING).find(|(known, _)| *known == ending);
        let stopping = stopping.map_or(STOPPING[0], |(_, state)| state);
        let stop = |from| {
            self.0.compare_exchange(from, stopping, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let stops = stop(WRITING) || ending == Ending::Interrupt && stop(ANSWERING);
        !stops
    }

    fn begin(&self) {
        self.0.store(ANSWERING, Ordering::SeqCst);
    }

    fn begin_to_write(&self) {
        self.0.store(WRITING, Ordering::SeqCst);
    }

    fn end(&self) {
        self.0.store(WAITING, Ordering::SeqCst);
    }

    fn is_raised(&self) -> bool {
        self.raised().is_some()
    }

    /// The signal that stops the current work, if one does.
    fn raised(&self) -> Option<Ending> {
        let state = self.0.load(Ordering::SeqCst);
        ENDINGS.into_iter().zip(STOPPING).find(|(_, stopping)| *stopping == state).map(|(by, _)| by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_stops_an_answer_or_ends_the_program() {
        let interrupt = Interrupt::default();
        assert!(interrupt.ends(Ending::Interrupt), "nothing is answered");
        interrupt.begin();
        assert!(interrupt.ends(Ending::Terminate) && interrupt.ends(Ending::HangUp));
        assert!(!interrupt.is_raised());
        assert!(!interrupt.ends(Ending::Interrupt));
        assert!(interrupt.is_raised());
        assert!(interrupt.ends(Ending::Interrupt), "the answer does not stop");
        interrupt.end();
        assert!(!interrupt.is_raised() && interrupt.ends(Ending::Interrupt));
        interrupt.begin_to_write();
        assert!(!interrupt.ends(Ending::HangUp));
        assert!(interrupt.is_raised());
    }
}
