//! An HTTP/1.1 server: hyper on one thread that waits for all connections, and a thread for each request.
//!
//! Input: connections, which may be hostile. Output: complete [`Request`]s within the limits, passed to a [`Handler`]
//! with a [`Reply`]. Knows nothing of routes.
//!
//! `places.rs` counts connections, `connection.rs` serves one, `socket.rs` is its bytes and deadlines, `exchange.rs` is
//! one request and its answer, which comes by way of `reply.rs`.

mod connection;
mod exchange;
mod message;
mod places;
mod reply;
mod socket;

pub use message::{Request, Response};
pub use reply::Reply;
#[cfg(test)]
pub use reply::{Collected, collect};

use super::budget::Budget;
use connection::{connection, turn_away};
use exchange::Server;
use places::{Places, Turning};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::LocalSet;

/// Longest request line and headers, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Most headers in a request.
const HEADERS_MAX: usize = 100;
/// Longest body, in bytes: a conversation of several million words.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Time for a complete head, and for an idle connection to send anything.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest time without receiving a byte of a body, and without the client making room for more of an answer.
const STALL_TIME: Duration = Duration::from_secs(30);
/// Time for a complete body.
const BODY_TIME: Duration = Duration::from_secs(120);
/// Most open connections where nothing else is said; more are turned away.
const CONNECTIONS_MAX: usize = 512;

/// Answers requests.
pub trait Handler: Send + Sync {
    /// Most open connections; more are turned away.
    fn connections_max(&self) -> usize {
        CONNECTIONS_MAX
    }

    /// The memory that requests share.
    fn budget(&self) -> &Arc<Budget>;

    /// Checks a request before its body is read. A response is a refusal; the body is then never read. Must not take
    /// long: every connection waits for it.
    fn admit(&self, request: &Request) -> Option<Response>;

    /// Largest body of the request, in bytes.
    fn body_bytes_max(&self, _request: &Request) -> usize {
        BODY_BYTES_MAX
    }

    /// Answers a complete request, on a thread of its own.
    fn answer(&self, request: &Request, reply: &mut Reply);
}

/// Headers of every answer.
pub type Headers = &'static [(&'static str, &'static str)];

/// Accepts connections until `stop` is set and one more comes in.
///
/// # Errors
/// When the system does not let us wait for connections.
pub fn serve(
    listener: &std::net::TcpListener,
    headers: Headers,
    handler: &Arc<dyn Handler>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().enable_time().build()?;
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let server =
        Rc::new(Server { handler: Arc::clone(handler), headers, turning: Turning::default() });
    LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let places = Rc::new(Places::new(server.handler.connections_max()));
        loop {
            let accepted = listener.accept().await;
            if stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            // A failed accept is the client's fault, or passes (out of descriptors); the pause avoids a busy loop.
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let server = Rc::clone(&server);
            match places.take(peer.ip()) {
                Some(place) => tokio::task::spawn_local(connection(stream, place, server)),
                None => tokio::task::spawn_local(turn_away(stream, server)),
            };
        }
    })
}

#[cfg(test)]
mod tests;
