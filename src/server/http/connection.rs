//! One connection, from its first byte to its last.

use super::exchange::{Server, exchange, reason};
use super::message::{Response, failure};
use super::places::Place;
use super::socket::{Leaving, Link, Socket};
use super::{HEAD_BYTES_MAX, HEAD_TIME, HEADERS_MAX};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use socket2::SockRef;
use std::fmt::Write as _;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Time to say why a connection ends.
const PARTING: Duration = Duration::from_millis(100);
/// Time for a client to stop sending what nobody reads, and the longest pause in it.
const DRAIN: Duration = Duration::from_secs(2);
const DRAIN_PAUSE: Duration = Duration::from_millis(500);
const DRAIN_TURNED_AWAY: Duration = Duration::from_millis(200);
/// The system's buffer for what a client has not taken yet. A larger one hides for long whether it takes anything.
const SEND_BYTES: usize = 128 << 10;

/// How a connection ended.
enum End {
    /// All is said.
    Over,
    /// This is still to be said.
    Refused(Response),
    /// The same, at once: others want the place.
    Yielded(Response),
}

/// Answers the requests of a connection until it ends.
pub(super) async fn connection(stream: TcpStream, place: Place, server: Rc<Server>) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BYTES);
    let stream = Rc::new(stream);
    let link = Rc::new(Link::new(Rc::clone(&place.visitor)));
    let end = requests(&stream, &place, &link, &server).await;
    let Ok(mut stream) = Rc::try_unwrap(stream) else { return };
    let drains = link.spoke.get() && !matches!(end, End::Yielded(_));
    let said = matches!(end, End::Refused(_));
    if let End::Refused(response) | End::Yielded(response) = end {
        say(&mut stream, &response, &server).await;
    }
    let _ = stream.shutdown().await;
    if drains || said {
        drain(&mut stream, DRAIN).await;
    }
}

/// Serves requests with hyper, until one of the two ends it.
async fn requests(
    stream: &Rc<TcpStream>,
    place: &Place,
    link: &Rc<Link>,
    server: &Rc<Server>,
) -> End {
    let answer = |request| Box::pin(exchange(request, Rc::clone(server), Rc::clone(link)));
    let socket = Socket::new(Rc::clone(stream), Rc::clone(link));
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).title_case_headers(true);
    // We look for clients that leave: an answer that is soon made is worth sending to one that only stopped sending.
    http.half_close(true);
    let mut served = pin!(http.serve_connection(socket, service_fn(answer)));
    let mut leaving = Leaving::new(Rc::clone(stream), Rc::clone(link));
    let mut late = pin!(sleep_until(Instant::now() + HEAD_TIME));
    let mut yields = pin!(place.visitor.yields.notified());
    poll_fn(|cx| {
        if let Poll::Ready(ended) = served.poll_without_shutdown(cx) {
            let refusal = ended.err().and_then(|error| refusal(&error));
            return Poll::Ready(refusal.map_or(End::Over, End::Refused));
        }
        leaving.poll(cx);
        let yields = yields.as_mut().poll(cx).is_ready() && link.is_incomplete();
        let is_late = link.waiting().is_some_and(|since| {
            let due = Instant::from_std(since) + HEAD_TIME;
            if late.deadline() != due {
                late.as_mut().reset(due);
            }
            late.as_mut().poll(cx).is_ready()
        });
        if !yields && !is_late {
            return Poll::Pending;
        }
        let late = || failure(408, "the request did not arrive in time");
        Poll::Ready(match (link.has_begun(), yields) {
            // An idle connection is closed without a word.
            (false, _) => End::Over,
            (true, false) => End::Refused(late()),
            (true, true) => End::Yielded(late()),
        })
    })
    .await
}

/// What to say of a head that hyper did not understand.
fn refusal(error: &hyper::Error) -> Option<Response> {
    if error.is_parse_too_large() {
        let message = format!(
            "found more than {HEAD_BYTES_MAX} bytes of headers, or more than {HEADERS_MAX} of them"
        );
        return Some(failure(431, &message));
    }
    error.is_parse().then(|| failure(400, &format!("malformed request: {}", reason(error))))
}

/// Tells a client that there is no place for it.
pub(super) async fn turn_away(mut stream: TcpStream, server: Rc<Server>) {
    let Some(_turn) = server.turning.take() else { return };
    let mut response = failure(503, "too many connections; try again later");
    response.headers.push(("Retry-After", "1".to_owned()));
    say(&mut stream, &response, &server).await;
    let _ = stream.shutdown().await;
    drain(&mut stream, DRAIN_TURNED_AWAY).await;
}

/// Sends a last answer, outside of hyper.
async fn say(stream: &mut TcpStream, response: &Response, server: &Server) {
    let status = hyper::StatusCode::from_u16(response.status).unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", response.status);
    let own = response.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let all = [("Content-Type", response.content_type), ("Connection", "close")].into_iter();
    for (name, value) in all.chain(server.headers.iter().copied()).chain(own) {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n", response.body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&response.body);
    let _ = timeout(PARTING, stream.write_all(&bytes)).await;
}

/// Reads for a moment what a refused client still sends: closing with unread bytes resets the connection, and the client
/// may lose the answer.
async fn drain(stream: &mut TcpStream, time: Duration) {
    let end = Instant::now() + time;
    let mut sink = [0; 4 << 10];
    loop {
        let until = end.min(Instant::now() + DRAIN_PAUSE);
        if !matches!(timeout_at(until, stream.read(&mut sink)).await, Ok(Ok(1..))) {
            return;
        }
    }
}
