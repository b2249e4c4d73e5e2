//! The way of an answer from the thread that makes it to the connection that sends it.

use super::message::Response;
use super::socket::Link;
use crate::server::budget::Share;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Parts of a stream that wait for a slow reader; then the thread that makes them does.
const PARTS_MAX: usize = 16;

/// Bytes of a whole answer that are handed to the connection at a time.
const SLICE: usize = 64 << 10;

/// What an answer's thread hands over.
pub(super) enum Part {
    /// A whole answer, and nothing after it.
    Whole(Response),
    /// The head of a stream: its content type and further headers.
    Head(&'static str, Vec<(&'static str, String)>),
    /// Bytes of the stream.
    Bytes(Vec<u8>),
    /// Its end; without it, the stream broke off.
    End,
}

/// Where the answer to one request goes.
pub struct Reply {
    parts: Sender<Part>,
    /// Headers of this answer alone.
    headers: Vec<(&'static str, String)>,
    gone: Arc<AtomicBool>,
    sent: bool,
}

/// A reply, and the connection's end of it. `gone` says that the client has left.
pub(super) fn reply(gone: Arc<AtomicBool>) -> (Reply, Receiver<Part>) {
    let (sender, receiver) = channel(PARTS_MAX);
    (Reply { parts: sender, headers: Vec::new(), gone, sent: false }, receiver)
}

impl Reply {
    /// Sends a complete answer.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn send(&mut self, mut response: Response) -> io::Result<()> {
        self.sent = true;
        response.headers.append(&mut self.headers);
        self.hand(Part::Whole(response))
    }

    /// Adds a header to whatever answer follows; drops characters that a header can't hold.
    pub fn header(&mut self, name: &'static str, value: &str) {
        let value = value.chars().filter(|c| matches!(c, ' '..='~')).collect();
        self.headers.push((name, value));
    }

    /// Begins a streamed answer, whose length is not known.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn stream(&mut self, content_type: &'static str) -> io::Result<()> {
        self.sent = true;
        let mut headers = std::mem::take(&mut self.headers);
        headers.push(("Cache-Control", "no-store".to_owned()));
        self.hand(Part::Head(content_type, headers))
    }

    /// Sends a part of a streamed answer immediately; waits while the client takes nothing.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn part(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.hand(Part::Bytes(bytes)) }
    }

    /// Ends a streamed answer.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn end(&mut self) -> io::Result<()> {
        self.hand(Part::End)
    }

    /// Whether the client has closed the connection, or its sending half, which looks the same until a write fails.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.parts.is_closed()
    }

    /// Whether an answer has begun.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    fn hand(&mut self, part: Part) -> io::Result<()> {
        self.parts.blocking_send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// An answer, as a test sees it.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Collected {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// The parts of a stream, or the whole body.
    pub parts: Vec<String>,
    /// Whether it came to its end.
    pub ended: bool,
}

/// Collects what `work` answers. `stay` gets each part, and says whether the client stays.
#[cfg(test)]
pub fn collect(
    work: impl FnOnce(&mut Reply) + Send,
    stay: &mut dyn FnMut(&str) -> bool,
) -> Collected {
    let gone = Arc::new(AtomicBool::new(false));
    let (mut reply, mut parts) = reply(Arc::clone(&gone));
    let mut found = Collected::default();
    std::thread::scope(|scope| {
        scope.spawn(move || work(&mut reply));
        while let Some(part) = parts.blocking_recv() {
            match part {
                Part::Whole(response) => {
                    (found.status, found.headers) = (response.status, response.headers);
                    found.parts.push(String::from_utf8(response.body).unwrap());
                    found.ended = true;
                }
                Part::Head(_, headers) => (found.status, found.headers) = (200, headers),
                Part::Bytes(bytes) => found.parts.push(String::from_utf8(bytes).unwrap()),
                Part::End => found.ended = true,
            }
            if found.parts.last().is_some_and(|part| !stay(part)) {
                gone.store(true, Ordering::Relaxed);
                parts.close();
            }
        }
    });
    found
}

/// The body of an answer, for hyper.
pub(super) struct Answer {
    body: Kind,
    /// Told when all was handed over.
    link: Rc<Link>,
    /// What the request takes of the memory for all.
    #[expect(dead_code, reason = "is given back with it")]
    share: Option<Arc<Share>>,
}

enum Kind {
    Whole(Bytes),
    Stream(Receiver<Part>),
    /// It broke off, which is said once what came before is on its way.
    Broken,
    Over,
}

/// A stream that its thread did not end.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct BrokenOff;

impl Answer {
    /// A body of known length.
    pub(super) fn whole(bytes: Vec<u8>, link: Rc<Link>, share: Option<Arc<Share>>) -> Self {
        Self { body: Kind::Whole(bytes.into()), link, share }
    }

    /// The parts that come.
    pub(super) fn stream(parts: Receiver<Part>, link: Rc<Link>, share: Option<Arc<Share>>) -> Self {
        Self { body: Kind::Stream(parts), link, share }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.link.answer_ended();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let next = match &mut self.body {
            Kind::Over => None,
            Kind::Broken => Some(Err(BrokenOff)),
            // In slices, so that what is not sent yet stays here, and its share with it.
            Kind::Whole(bytes) if bytes.is_empty() => None,
            Kind::Whole(bytes) => Some(Ok(bytes.split_to(bytes.len().min(SLICE)))),
            Kind::Stream(parts) => match std::task::ready!(parts.poll_recv(cx)) {
                Some(Part::Bytes(bytes)) => Some(Ok(bytes.into())),
                Some(Part::End) => None,
                Some(Part::Whole(_) | Part::Head(..)) | None => {
                    self.body = Kind::Broken;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            },
        };
        if !matches!(next, Some(Ok(_))) {
            self.body = Kind::Over;
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kind::Over => true,
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Stream(_) | Kind::Broken => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Over => SizeHint::with_exact(0),
            Kind::Stream(_) | Kind::Broken => SizeHint::default(),
        }
    }
}
