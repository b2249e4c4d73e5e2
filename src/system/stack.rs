//! Deep recursion on a thread of its own.

use super::quiet::quietly;
use std::io;
use std::thread::{self, Builder};

/// Runs `work` on a thread with this many bytes of stack. `None`: it panicked, which prints nothing.
///
/// # Errors
/// When no thread can be started.
pub fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> io::Result<Option<T>> {
    thread::scope(|scope| {
        let thread = Builder::new().name("deep".to_owned()).stack_size(bytes);
        let thread = thread.spawn_scoped(scope, || quietly(work))?;
        Ok(thread.join().ok().flatten())
    })
}
