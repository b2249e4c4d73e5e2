//! An HTTP/1.1 server with a thread per connection.
//!
//! Input: connections, which may be hostile. Output: complete [`Request`]s within the limits, passed to a handler with
//! a [`Reply`]. Knows nothing of routes.
//!
//! Our own loop around `httparse`, because an LLM server needs the socket itself: for a deadline on bodies that never
//! end, and to check whether the client of a non-streamed answer is still there. `tiny_http` 0.12 offers neither.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest request line and headers.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Most headers in a request.
const HEADERS_MAX: usize = 100;
/// Longest body: a conversation of several million words.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Time for a complete head, and for an idle connection to send anything.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest time without receiving a byte of a body, and without the client accepting a byte of an answer.
const STALL_TIME: Duration = Duration::from_secs(30);
/// Time for a complete body.
const BODY_TIME: Duration = Duration::from_secs(120);
/// Most open connections where nothing else is said; more are turned away.
const CONNECTIONS_MAX: usize = 512;
/// Stack of a connection's thread.
const STACK_BYTES: usize = 1 << 20;

/// A complete request.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST`, ….
    pub method: String,
    /// The path without the query; percent escapes are not decoded.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header; `name` is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[cfg(test)]
impl Request {
    /// A request with nothing but a body.
    pub fn of_body(body: Vec<u8>) -> Self {
        let (method, path) = ("POST".to_owned(), "/".to_owned());
        Self { method, path, query: String::new(), headers: Vec::new(), body }
    }
}

/// Where the answer to one request goes.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Reply<'c> {
    stream: &'c TcpStream,
    headers: &'c [(&'static str, &'static str)],
    /// Headers of this answer alone.
    own_headers: Vec<(&'static str, String)>,
    head_only: bool,
    keep_alive: bool,
    /// Whether the client understands chunked encoding (HTTP/1.1).
    chunked: bool,
    sent: bool,
    /// Bytes received while the answer was made: the next request, or a stray line break.
    pending: Vec<u8>,
    gone: bool,
}

/// An HTTP response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without further headers.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }
}

/// Answers requests.
pub trait Handler: Send + Sync {
    /// Most open connections; more are turned away.
    fn connections_max(&self) -> usize {
        CONNECTIONS_MAX
    }

    /// Checks a request before its body is read. A response is a refusal; the body is then never read.
    fn admit(&self, request: &Request) -> Option<Response>;

    /// Largest body of the request, in bytes.
    fn body_bytes_max(&self, _request: &Request) -> usize {
        BODY_BYTES_MAX
    }

    /// Answers a complete request.
    fn answer(&self, request: &Request, reply: &mut Reply<'_>);
}

/// Accepts connections until `stop` is set and one more comes in. `headers` are sent with every answer.
pub fn serve(
    listener: &TcpListener,
    headers: &'static [(&'static str, &'static str)],
    handler: &Arc<dyn Handler>,
    stop: &AtomicBool,
) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // A failed accept is the client's fault, or passes (out of descriptors); the pause avoids a busy loop.
        let Ok(stream) = stream else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= handler.connections_max() {
            open.fetch_sub(1, Ordering::SeqCst);
            turn_away(&stream, headers);
            continue;
        }
        let place = Place(Arc::clone(&open));
        let handler = Arc::clone(handler);
        let thread =
            std::thread::Builder::new().name("connection".to_owned()).stack_size(STACK_BYTES);
        // If no thread can be spawned, dropping the closure closes the connection and frees its place.
        let _ = thread.spawn(move || {
            let _place = place;
            let _ = connection(&stream, headers, &*handler);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

/// One of the places for connections, released when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn turn_away(stream: &TcpStream, headers: &'static [(&'static str, &'static str)]) {
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let mut response = failure(503, "too many connections; try again later");
    response.headers.push(("Retry-After", "1".to_owned()));
    let mut reply = Reply::refusing(stream, headers);
    let _ = reply.send(response);
}

/// Answers the requests of one connection until it ends.
fn connection(
    stream: &TcpStream,
    headers: &'static [(&'static str, &'static str)],
    handler: &dyn Handler,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STALL_TIME))?;
    let mut input = Input { stream, buffer: Vec::new() };
    loop {
        let (mut request, framing) = match input.head() {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(problem) => return refuse(stream, headers, problem.response()),
        };
        if let Some(refusal) = handler.admit(&request) {
            return refuse(stream, headers, Some(refusal));
        }
        request.body = match input.body(&framing, handler.body_bytes_max(&request)) {
            Ok(body) => body,
            Err(problem) => return refuse(stream, headers, problem.response()),
        };
        let mut reply = Reply {
            stream,
            headers,
            own_headers: Vec::new(),
            head_only: request.method == "HEAD",
            keep_alive: framing.keep_alive,
            chunked: framing.chunked,
            sent: false,
            pending: Vec::new(),
            gone: false,
        };
        handler.answer(&request, &mut reply);
        // The client has gone.
        if reply.gone {
            return Ok(());
        }
        input.buffer.append(&mut reply.pending);
        if !reply.sent {
            reply.send(failure(500, "the request was not answered"))?;
        }
        if !reply.keep_alive {
            return Ok(());
        }
    }
}

/// Why a request was rejected.
enum Problem {
    /// Tell the client, with this status.
    Status(u16, String),
    /// The client has gone.
    Gone,
}

impl Problem {
    /// What to tell the client, if it is still there.
    fn response(self) -> Option<Response> {
        match self {
            Self::Status(status, message) => Some(failure(status, &message)),
            Self::Gone => None,
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Status(408, "the request did not arrive in time".to_owned())
            }
            _ => Self::Gone,
        }
    }
}

fn refuse(
    stream: &TcpStream,
    headers: &'static [(&'static str, &'static str)],
    response: Option<Response>,
) -> io::Result<()> {
    let Some(response) = response else { return Ok(()) };
    let mut reply = Reply::refusing(stream, headers);
    reply.send(response)?;
    // Closing with unread bytes resets the connection, and the client may lose the answer. So shut down the sending
    // half, then drain input for a moment.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let end = Instant::now() + Duration::from_secs(2);
    let mut sink = [0; 16 << 10];
    let mut input = stream;
    while Instant::now() < end && input.read(&mut sink)? > 0 {}
    Ok(())
}

fn failure(status: u16, message: &str) -> Response {
    let body = serde_json::json!({
        "error": { "message": message, "type": "invalid_request_error", "code": status }
    });
    Response::new(status, "application/json", body.to_string())
}

/// How a request's body is framed, and whether the connection goes on after it.
struct Framing {
    keep_alive: bool,
    chunked: bool,
    length: Length,
    expects_continue: bool,
}

enum Length {
    Known(usize),
    Chunked,
}

/// Buffered input of a connection.
struct Input<'c> {
    stream: &'c TcpStream,
    buffer: Vec<u8>,
}

impl Input<'_> {
    /// The next head; `None` if the connection ended cleanly.
    fn head(&mut self) -> Result<Option<(Request, Framing)>, Problem> {
        let deadline = Instant::now() + HEAD_TIME;
        loop {
            if let Some(head) = self.parse_head()? {
                return Ok(Some(head));
            }
            if self.buffer.len() >= HEAD_BYTES_MAX {
                return Err(Problem::Status(
                    431,
                    format!("headers longer than {HEAD_BYTES_MAX} bytes"),
                ));
            }
            let idle = self.buffer.is_empty();
            match self.fill(deadline) {
                // Close an idle connection without an answer.
                Ok(0) | Err(_) if idle => return Ok(None),
                Ok(0) => return Err(Problem::Gone),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn parse_head(&mut self) -> Result<Option<(Request, Framing)>, Problem> {
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        let size = match parsed.parse(&self.buffer) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Problem::Status(400, format!("malformed request: {error}"))),
        };
        let headers: Vec<(String, String)> = parsed
            .headers
            .iter()
            .map(|h| {
                (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).trim().to_owned())
            })
            .collect();
        let all = |name: &str| {
            headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        let has = |name: &str, token: &str| {
            all(name).iter().any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
        };
        // Two lengths, or a length and chunks, are how request smuggling works.
        let lengths = all("content-length");
        let length = match (all("transfer-encoding").as_slice(), lengths.as_slice()) {
            ([], []) => Length::Known(0),
            ([], [one]) if one.bytes().all(|b| b.is_ascii_digit()) && !one.is_empty() => {
                Length::Known(one.parse().unwrap_or(usize::MAX))
            }
            ([one], []) if one.eq_ignore_ascii_case("chunked") => Length::Chunked,
            _ => {
                return Err(Problem::Status(
                    400,
                    "malformed or contradictory length headers".to_owned(),
                ));
            }
        };
        if all("host").len() > 1 {
            return Err(Problem::Status(400, "more than one Host header".to_owned()));
        }
        let target = parsed.path.unwrap_or("/");
        // Absolute form, as for proxies; drop the scheme and host, `Host` has them.
        let target = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        let framing = Framing {
            chunked: parsed.version == Some(1),
            keep_alive: parsed.version == Some(1) && !has("connection", "close"),
            expects_continue: has("expect", "100-continue"),
            length,
        };
        let request = Request {
            method: parsed.method.unwrap_or("GET").to_owned(),
            path: target.split('?').next().unwrap_or("/").to_owned(),
            query: target.split_once('?').map_or("", |(_, query)| query).to_owned(),
            headers,
            body: Vec::new(),
        };
        self.buffer.drain(..size);
        Ok(Some((request, framing)))
    }

    fn body(&mut self, head: &Framing, bytes_max: usize) -> Result<Vec<u8>, Problem> {
        if let Length::Known(length) = head.length
            && length > bytes_max
        {
            return Err(too_large(bytes_max));
        }
        let empty = matches!(head.length, Length::Known(0));
        if head.expects_continue && !empty {
            self.stream.write_all_to(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let deadline = Instant::now() + BODY_TIME;
        match head.length {
            Length::Known(length) => self.take(length, deadline),
            Length::Chunked => self.chunks(deadline, bytes_max),
        }
    }

    fn chunks(&mut self, deadline: Instant, bytes_max: usize) -> Result<Vec<u8>, Problem> {
        let mut body = Vec::new();
        loop {
            let line = self.line(deadline)?;
            let size = line.split(';').next().unwrap_or("").trim();
            let digits = Some(size).filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
            let size = digits
                .and_then(|s| usize::from_str_radix(s, 16).ok())
                .ok_or_else(|| Problem::Status(400, format!("malformed chunk size {size:?}")))?;
            if size > bytes_max - body.len() {
                return Err(too_large(bytes_max));
            }
            if size == 0 {
                // Skip trailers up to the empty line.
                while !self.line(deadline)?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size, deadline)?);
            if !self.line(deadline)?.is_empty() {
                return Err(Problem::Status(
                    400,
                    "a chunk is longer than its stated size".to_owned(),
                ));
            }
        }
    }

    /// A line of at most 1 KiB, without its line break.
    fn line(&mut self, deadline: Instant) -> Result<String, Problem> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                return Ok(line);
            }
            if self.buffer.len() > 1024 {
                return Err(Problem::Status(400, "chunk size line is too long".to_owned()));
            }
            self.more(deadline)?;
        }
    }

    fn take(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, Problem> {
        while self.buffer.len() < length {
            self.more(deadline)?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn more(&mut self, deadline: Instant) -> Result<(), Problem> {
        let stalled = Instant::now() + STALL_TIME;
        if self.fill(deadline.min(stalled))? == 0 {
            return Err(Problem::Gone);
        }
        Ok(())
    }

    /// Reads once, waiting until `deadline` at most. Returns the number of bytes, 0 at the end of the stream.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 16 << 10];
        let mut stream = self.stream;
        let count = loop {
            match stream.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::Status(413, format!("the body is larger than {bytes_max} bytes"))
}

impl<'c> Reply<'c> {
    /// Sends a complete answer.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn send(&mut self, response: Response) -> io::Result<()> {
        let mut head = self.head(response.status, response.content_type, &response.headers);
        head.push_str(&format!("Content-Length: {}\r\n\r\n", response.body.len()));
        let mut bytes = head.into_bytes();
        if !self.head_only {
            bytes.extend(response.body);
        }
        let result = self.stream.write_all_to(&bytes);
        self.keep_alive &= result.is_ok();
        result
    }

    /// Adds a header to whatever answer follows; drops characters that a header can't hold.
    pub fn header(&mut self, name: &'static str, value: &str) {
        let value = value.chars().filter(|c| matches!(c, ' '..='~')).collect();
        self.own_headers.push((name, value));
    }

    /// Begins a streamed answer, whose length is not known.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn stream(&mut self, content_type: &'static str) -> io::Result<()> {
        // A stream may break off, after which the connection can't be reused.
        self.keep_alive = false;
        let fresh = [("Cache-Control", "no-store".to_owned())];
        let head = self.head(200, content_type, &fresh)
            + if self.chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "\r\n" };
        self.stream.write_all_to(head.as_bytes())
    }

    /// Sends a part of a streamed answer immediately.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn part(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.chunked {
            return self.stream.write_all_to(bytes);
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.stream.write_all_to(&chunk)
    }

    /// Ends a streamed answer.
    ///
    /// # Errors
    /// When the client has gone.
    pub fn end(&mut self) -> io::Result<()> {
        if self.chunked { self.stream.write_all_to(b"0\r\n\r\n") } else { Ok(()) }
    }

    /// Whether the client has closed the connection. Closing only its sending half counts too: the two can't be told
    /// apart until a write fails.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        /// More input than this during an answer is not pipelining.
        const PENDING_MAX: usize = 64 << 10;
        if self.gone || self.stream.set_nonblocking(true).is_err() {
            self.gone = true;
            return true;
        }
        let mut chunk = [0; 4096];
        let mut stream = self.stream;
        self.gone = loop {
            match stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(n) => self.pending.extend_from_slice(&chunk[..n]),
                Err(e) => break e.kind() != io::ErrorKind::WouldBlock,
            }
            if self.pending.len() > PENDING_MAX {
                break true;
            }
        };
        self.gone |= self.stream.set_nonblocking(false).is_err();
        self.gone
    }

    /// Whether an answer has begun.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    /// A reply after which the connection ends.
    fn refusing(stream: &'c TcpStream, headers: &'c [(&'static str, &'static str)]) -> Self {
        Self {
            stream,
            headers,
            own_headers: Vec::new(),
            head_only: false,
            keep_alive: false,
            chunked: true,
            sent: false,
            pending: Vec::new(),
            gone: false,
        }
    }

    fn head(
        &mut self,
        status: u16,
        content_type: &str,
        headers: &[(&'static str, String)],
    ) -> String {
        self.sent = true;
        let mut head =
            format!("HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n", reason(status));
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in self.own_headers.iter().chain(headers) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head
    }
}

/// `Write` for a shared stream.
trait WriteAllTo {
    fn write_all_to(&self, bytes: &[u8]) -> io::Result<()>;
}

impl WriteAllTo for TcpStream {
    fn write_all_to(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self;
        stream.write_all(bytes)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
