//! The bytes of a connection, as hyper reads and writes them, and what is known about them meanwhile.

use super::STALL_TIME;
use super::places::Visitor;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How often a client is looked at that has sent more than a request.
const LOOK: Duration = Duration::from_millis(20);

/// What a connection, its requests and its socket know of each other.
pub(super) struct Link {
    visitor: Rc<Visitor>,
    /// Since when a request is awaited; `None` while there is one.
    waiting: Cell<Option<Instant>>,
    /// Whether a byte came since the last answer.
    begun: Cell<bool>,
    /// Whether all of an answer was handed to hyper.
    answered: Cell<bool>,
    /// Whether anything was answered.
    pub(super) spoke: Cell<bool>,
    /// The flag of the request that is being answered: its client has gone.
    gone: Cell<Option<Arc<AtomicBool>>>,
}

impl Link {
    pub(super) fn new(visitor: Rc<Visitor>) -> Self {
        Self {
            visitor,
            waiting: Cell::new(Some(Instant::now())),
            begun: Cell::new(false),
            answered: Cell::new(false),
            spoke: Cell::new(false),
            gone: Cell::new(None),
        }
    }

    /// Since when a request is awaited; `None` while there is one.
    pub(super) fn waiting(&self) -> Option<Instant> {
        self.waiting.get()
    }

    /// Whether a part of a request has come.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// A request's head is complete.
    pub(super) fn head_came(&self) {
        self.waiting.set(None);
        self.answered.set(false);
        self.progress();
    }

    /// A part of a request has come.
    pub(super) fn progress(&self) {
        self.visitor.incomplete.set(Some(Instant::now()));
    }

    /// An answer is being made; `gone` will be set when the client leaves.
    pub(super) fn answering(&self, gone: Arc<AtomicBool>) {
        self.gone.set(Some(gone));
        self.refusing();
    }

    /// A refusal is on its way, or an answer.
    pub(super) fn refusing(&self) {
        self.spoke.set(true);
        self.visitor.incomplete.set(None);
    }

    /// Whether nothing but a part of a request has come since the last answer.
    pub(super) fn is_incomplete(&self) -> bool {
        self.visitor.incomplete.get().is_some()
    }

    /// All of the answer was handed to hyper.
    pub(super) fn answer_ended(&self) {
        self.answered.set(true);
        self.gone.set(None);
    }

    /// All bytes were sent.
    fn flushed(&self) {
        if self.answered.get() && self.waiting().is_none() {
            self.waiting.set(Some(Instant::now()));
            self.progress();
            self.begun.set(false);
        }
    }
}

/// Sets the flag of a request when its client closes the connection, or its sending half, which looks the same until a
/// write fails.
pub(super) struct Leaving {
    stream: Rc<TcpStream>,
    link: Rc<Link>,
    next_look: Option<Pin<Box<Sleep>>>,
}

impl Leaving {
    pub(super) fn new(stream: Rc<TcpStream>, link: Rc<Link>) -> Self {
        Self { stream, link, next_look: None }
    }

    /// Never ends; polled whenever the connection is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(gone) = self.link.gone.take() else {
            self.next_look = None;
            return;
        };
        loop {
            if let Some(look) = &mut self.next_look {
                if look.as_mut().poll(cx).is_pending() {
                    break;
                }
                self.next_look = None;
            }
            let left = match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
                Poll::Pending => break,
                // More than a request came, which is read only after the answer: look again from time to time.
                Poll::Ready(Ok(1..)) => {
                    let ready = pin!(self.stream.ready(Interest::READABLE)).poll(cx);
                    matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
                }
                Poll::Ready(Ok(0) | Err(_)) => true,
            };
            if left {
                gone.store(true, Ordering::Relaxed);
                return;
            }
            self.next_look = Some(Box::pin(sleep(LOOK)));
        }
        self.link.gone.set(Some(gone));
    }
}

/// The stream that hyper has.
pub(super) struct Socket {
    stream: Rc<TcpStream>,
    link: Rc<Link>,
    /// Ends a client that accepts nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: Rc<TcpStream>, link: Rc<Link>) -> Self {
        Self { stream, link, stalled: None }
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 16 << 10];
        let most = into.remaining().min(bytes.len());
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(&mut bytes[..most]) {
                Err(error) if is_passing(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.link.begun.set(self.link.begun.get() || count > 0);
                    into.put_slice(&bytes[..count]);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.link.waiting().is_some() {
            // Before there is a request, hyper writes only what it says of a malformed head: a status without a word.
            // The connection says more.
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            if self.stream.poll_write_ready(cx)?.is_pending() {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIME)));
                ready!(stalled.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match self.stream.try_write(bytes) {
                Err(error) if is_passing(&error) => {}
                other => {
                    self.stalled = None;
                    return Poll::Ready(other);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.flushed();
        Poll::Ready(Ok(()))
    }

    /// The connection closes the stream itself.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
