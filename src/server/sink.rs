//! The client of an answer: sends it events, and knows whether it is still there.

use super::error::ApiError;
use super::http::{Reply, Response};
use serde_json::Value;
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often to check whether the client has gone.
const LOOK: Duration = Duration::from_millis(20);
/// Keep-alive: an SSE comment, which clients skip.
const COMMENT: &[u8] = b": still here\n\n";
/// Stack of the thread that sends it.
const STACK_BYTES: usize = 128 << 10;

/// Answers a request with `work`. A stream is never silent for longer than `quiet_max`, whatever `work` does. Its error
/// is returned, unless a keep-alive has already begun the stream: then it is sent as an event.
///
/// # Errors
/// The error to answer with.
pub fn answered(
    reply: &mut Reply,
    quiet_max: Option<Duration>,
    work: impl FnOnce(&Sink<'_>) -> Result<Option<Response>, ApiError>,
) -> Result<Option<Response>, ApiError> {
    let sink = Sink::new(reply);
    let Some(quiet_max) = quiet_max else { return work(&sink) };
    match sink.kept_alive(quiet_max, || work(&sink)) {
        Err(error) if sink.has_begun() => {
            sink.event(&error.json());
            sink.end();
            Ok(None)
        }
        other => other,
    }
}

/// Sends events to the client.
pub struct Sink<'r> {
    line: Mutex<Line<'r>>,
    gone: AtomicBool,
    looked: Cell<Instant>,
}

/// The connection that two threads share; each writes a whole event or comment at a time.
struct Line<'r> {
    reply: &'r mut Reply,
    begun: bool,
    ended: bool,
    quiet_since: Instant,
}

impl<'r> Sink<'r> {
    /// A sink for a client that is connected.
    pub fn new(reply: &'r mut Reply) -> Self {
        let now = Instant::now();
        let line = Line { reply, begun: false, ended: false, quiet_since: now };
        Self { line: Mutex::new(line), gone: AtomicBool::new(false), looked: Cell::new(now) }
    }

    /// Whether the client is still connected.
    pub fn is_wanted(&self) -> bool {
        if self.looked.get().elapsed() >= LOOK {
            self.looked.set(Instant::now());
            if lock(&self.line).reply.is_closed() {
                self.gone.store(true, Ordering::Relaxed);
            }
        }
        !self.gone.load(Ordering::Relaxed)
    }

    /// Runs `work` while a thread sends a comment whenever nothing was sent for `quiet_max`, so that slow code need not
    /// know about keep-alives. The first comment begins the stream, if it has not begun.
    fn kept_alive<T>(&self, quiet_max: Duration, work: impl FnOnce() -> T) -> T {
        let over = Over::default();
        let (line, gone) = (&self.line, &self.gone);
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("pulse".to_owned()).stack_size(STACK_BYTES);
            // If no thread can be spawned, the stream goes without keep-alives.
            let _ = thread
                .spawn_scoped(scope, || over.until(quiet_max, || pulse(line, gone, quiet_max)));
            let _end = End(&over);
            work()
        })
    }

    /// Whether anything was sent.
    fn has_begun(&self) -> bool {
        lock(&self.line).begun
    }

    /// Sends an event.
    pub fn event(&self, value: &Value) {
        self.write(|line| line.send(format!("data: {value}\n\n").into_bytes()));
    }

    /// Ends the stream.
    pub fn end(&self) {
        self.write(|line| {
            line.send(b"data: [DONE]\n\n".to_vec())?;
            line.ended = true;
            line.reply.end()
        });
    }

    fn write(&self, write: impl FnOnce(&mut Line<'r>) -> io::Result<()>) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        // A slow reader holds up only its own answer; one that takes nothing for half a minute makes the write fail.
        if write(&mut lock(&self.line)).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

impl Line<'_> {
    fn begin(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            self.reply.stream("text/event-stream")?;
        }
        Ok(())
    }

    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.begin()?;
        self.reply.part(bytes)?;
        self.quiet_since = Instant::now();
        Ok(())
    }
}

/// Sends a comment if one is due. Returns the time until the next check, `None` to stop.
fn pulse(line: &Mutex<Line<'_>>, gone: &AtomicBool, quiet_max: Duration) -> Option<Duration> {
    if gone.load(Ordering::Relaxed) {
        return None;
    }
    let mut line = lock(line);
    let left = quiet_max.saturating_sub(line.quiet_since.elapsed());
    if line.ended {
        None
    } else if !left.is_zero() {
        Some(left)
    } else if line.send(COMMENT.to_vec()).is_ok() {
        Some(quiet_max)
    } else {
        gone.store(true, Ordering::Relaxed);
        None
    }
}

/// Tells a waiting thread that the work is done.
#[derive(Default)]
struct Over {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Over {
    /// Calls `again` after `first`, then after each pause that it returns, until the work is done or it returns `None`.
    fn until(&self, first: Duration, again: impl Fn() -> Option<Duration>) {
        let mut pause = first;
        loop {
            let over = lock(&self.over);
            let waited = self.changed.wait_timeout_while(over, pause, |over| !*over);
            let (over, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if *over {
                return;
            }
            // Release the lock: the end of the work must not wait for this send.
            drop(over);
            match again() {
                Some(next) => pause = next,
                None => return,
            }
        }
    }
}

/// Marks the work as done when dropped, even on a panic.
struct End<'o>(&'o Over);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *lock(&self.0.over) = true;
        self.0.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::super::http::{Handler, Request, serve};
    use super::*;
    use serde_json::json;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    const QUIET_MAX: Duration = Duration::from_millis(40);

    type Work = fn(&Sink<'_>) -> Result<Option<Response>, ApiError>;

    /// Answers every request with the same work.
    struct Worker(Option<Duration>, Work, Arc<Budget>);

    impl Handler for Worker {
        fn budget(&self) -> &Arc<Budget> {
            &self.2
        }

        fn admit(&self, _: &Request) -> Option<Response> {
            None
        }

        fn answer(&self, _: &Request, reply: &mut Reply) {
            let work = || answered(reply, self.0, self.1);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            if let Ok(Ok(Some(response))) = done {
                let _ = reply.send(response);
            } else if let Ok(Err(error)) = done {
                let _ = reply.send(error.response());
            }
        }
    }

    /// The head of the answer, and its chunks.
    fn asked(quiet_max: Option<Duration>, work: Work) -> (String, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = AtomicBool::new(false);
        let handler: Arc<dyn Handler> = Arc::new(Worker(quiet_max, work, Budget::new(1 << 20)));
        let mut text = String::new();
        thread::scope(|scope| {
            scope.spawn(|| serve(&listener, &[], &handler, &stop));
            let mut client = TcpStream::connect(address).unwrap();
            client
                .write_all(b"POST / HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.read_to_string(&mut text).unwrap();
            stop.store(true, Ordering::SeqCst);
            drop(TcpStream::connect(address));
        });
        let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
        let mut chunks = Vec::new();
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap_or(0);
            if size == 0 {
                break;
            }
            chunks.push(after[..size].to_owned());
            rest = &after[size + 2..];
        }
        (head.to_owned(), chunks)
    }

    /// Simulates slow work: waits until `count` comments were sent.
    fn comments(sink: &Sink<'_>, count: usize) {
        let last = || lock(&sink.line).quiet_since;
        let deadline = Instant::now() + Duration::from_secs(20);
        for _ in 0..count {
            let before = last();
            while last() == before && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    const STILL_HERE: &str = ": still here\n\n";

    #[test]
    fn a_stream_sends_comments_during_long_work() {
        let (head, chunks) = asked(Some(QUIET_MAX), |sink| {
            comments(sink, 2);
            sink.event(&json!({ "a": 1 }));
            comments(sink, 3);
            sink.event(&json!({ "a": 2 }));
            sink.end();
            thread::sleep(QUIET_MAX * 3);
            Ok(None)
        });
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        let at = |what: &str| chunks.iter().position(|chunk| chunk.starts_with(what)).unwrap();
        let (one, two) = (at("data: {\"a\":1}"), at("data: {\"a\":2}"));
        assert!(one >= 2 && two - one > 3, "{chunks:?}");
        assert!(chunks[..one].iter().chain(&chunks[one + 1..two]).all(|c| c == STILL_HERE));
        assert_eq!(chunks[two + 1..], ["data: [DONE]\n\n"], "nothing comes after the end");
    }

    #[test]
    fn a_comment_never_splits_an_event() {
        let (_, chunks) = asked(Some(Duration::from_micros(1)), |sink| {
            for number in 0..300 {
                sink.event(&json!({ "number": number, "text": "x".repeat(number * 7 % 5000) }));
                let _ = sink.is_wanted();
            }
            sink.end();
            Ok(None)
        });
        let events: Vec<&String> = chunks.iter().filter(|c| *c != STILL_HERE).collect();
        assert_eq!(events.len(), 301);
        for (number, event) in events[..300].iter().enumerate() {
            let text = event.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
            let event: Value = serde_json::from_str(text).unwrap();
            assert_eq!(event["number"], number);
        }
    }

    #[test]
    fn a_busy_stream_has_no_comments() {
        let (_, chunks) = asked(Some(Duration::from_secs(10)), |sink| {
            (0..20).for_each(|number| sink.event(&json!(number)));
            sink.end();
            Ok(None)
        });
        assert!(chunks.len() == 21 && chunks.iter().all(|c| c.starts_with("data: ")), "{chunks:?}");
    }

    #[test]
    fn an_early_error_has_its_status_and_a_late_one_is_an_event() {
        let (head, chunks) = asked(Some(Duration::from_secs(10)), |_| Err(ApiError::bad("no")));
        assert!(head.starts_with("HTTP/1.1 400") && chunks.is_empty(), "{head}");
        let (head, chunks) = asked(Some(QUIET_MAX), |sink| {
            comments(sink, 1);
            Err(ApiError::bad("no"))
        });
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let [.., comment, error, end] = &chunks[..] else { panic!("{chunks:?}") };
        assert_eq!((comment.as_str(), end.as_str()), (STILL_HERE, "data: [DONE]\n\n"));
        assert!(error.starts_with("data: {\"error\":"), "{error}");
    }

    #[test]
    fn only_streams_send_comments_and_a_panic_ends_them() {
        let (head, _) = asked(None, |_| {
            thread::sleep(QUIET_MAX * 3);
            Ok(Some(Response::new(200, "text/plain", "whole")))
        });
        assert!(head.contains("Content-Length: 5"), "{head}");
        let (head, chunks) = asked(Some(QUIET_MAX), |sink| {
            sink.event(&json!(1));
            std::panic::resume_unwind(Box::new("a panic that says nothing"))
        });
        assert!(head.starts_with("HTTP/1.1 200") && chunks.len() == 1, "{head} {chunks:?}");
    }
}
