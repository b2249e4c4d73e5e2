//! The child's side: reads jobs from stdin, one at a time, and writes their results to stdout.
//!
//! A job is its topic (a byte), its time limit in milliseconds (u32) and its length in bytes (u32), little-endian, then
//! its bytes; a result is its length (u32) and its bytes. The child starts by sending an empty result, which says that
//! it is ready. It exits at the end of stdin, or by itself once a job has taken twice its time limit: the parent may no
//! longer be there to end it.

use super::{Handler, MEMORY_BYTES_MAX, STACK_BYTES, Topic, memory};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

/// The argument that runs the executable as a child.
pub const CHILD_FLAG: &str = "--as-worker";

/// Works on jobs until stdin ends.
#[must_use]
pub fn run(handler: Handler) -> ExitCode {
    memory::limit(MEMORY_BYTES_MAX);
    // A panic message may contain the user's text.
    std::panic::set_hook(Box::new(|_| {}));
    let (began, watched) = channel::<Option<Duration>>();
    let watch = move || {
        let mut time = None;
        loop {
            let next = match time {
                Some(time) => watched.recv_timeout(time),
                None => watched.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(next) => time = next,
                // Out of time, or the worker thread is done.
                Err(_) => std::process::exit(1),
            }
        }
    };
    let work = move || work(handler, &began);
    let started = Builder::new()
        .name("watch".to_owned())
        .spawn(watch)
        .and_then(|_| Builder::new().name("worker".to_owned()).stack_size(STACK_BYTES).spawn(work));
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn work(handler: Handler, began: &Sender<Option<Duration>>) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    send(&mut output, &[])?;
    loop {
        let mut head = [0; 9];
        match input.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let number =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let Some(topic) = Topic::ALL.get(usize::from(head[0])) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let (time, length) = (number(1), u64::from(number(5)));
        let mut job = Vec::new();
        input.by_ref().take(length).read_to_end(&mut job)?;
        // If the parent is still there, it ends the child sooner.
        let _ = began.send(Some(Duration::from_millis(u64::from(time)) * 2));
        let result = handler(*topic, &job);
        drop(job);
        let _ = began.send(None);
        send(&mut output, &result)?;
    }
}

fn send(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(bytes)?;
    output.flush()
}
