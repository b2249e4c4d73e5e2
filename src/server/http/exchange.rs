//! One request and its answer.

use super::message::{Request, Response, failure};
use super::places::Turning;
use super::reply::{Answer, Part, reply};
use super::socket::Link;
use super::{BODY_TIME, Handler, Headers, STALL_TIME};
use crate::server::budget::{Share, Short};
use crate::server::error::ApiError;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::{Instant, timeout_at};

/// Bytes of a body that count as progress: who sends drops does not keep a place that others want.
const PROGRESS: usize = 16 << 10;
/// Stack of a request's thread.
const STACK_BYTES: usize = 1 << 20;

/// What all connections share.
pub(super) struct Server {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) headers: Headers,
    pub(super) turning: Turning,
}

/// The client has gone; there is nobody to answer.
#[derive(Debug, thiserror::Error)]
#[error("the client has gone")]
pub(super) struct Gone;

/// Why a request is refused.
enum Problem {
    /// Tell the client.
    Refused(Response),
    /// There is no one to tell.
    Gone,
}

impl Problem {
    fn status(status: u16, message: &str) -> Self {
        Self::Refused(failure(status, message))
    }
}

impl From<Gone> for Problem {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Answers a request, whose head has come.
pub(super) async fn exchange(
    request: hyper::Request<Incoming>,
    server: Rc<Server>,
    link: Rc<Link>,
) -> Result<hyper::Response<Answer>, Gone> {
    link.head_came();
    match answer(request, &server, &link).await {
        Ok(response) => Ok(response),
        Err(Problem::Refused(response)) => {
            link.refusing();
            Ok(whole(response, true, &server, link, None))
        }
        Err(Problem::Gone) => Err(Gone),
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    server: &Rc<Server>,
    link: &Rc<Link>,
) -> Result<hyper::Response<Answer>, Problem> {
    let (head, body) = request.into_parts();
    if head.headers.get_all(HOST).iter().count() > 1 {
        return Err(Problem::status(400, "more than one Host header"));
    }
    let mut headers = head.headers;
    // A length beside chunks is how requests are smuggled past proxies. hyper drops the length without a word, so no
    // request after chunks is believed.
    let closes = headers.contains_key(TRANSFER_ENCODING);
    // In a target with a host, as proxies get it, that host counts.
    if let Some(authority) = head.uri.authority() {
        let value = HeaderValue::from_str(authority.as_str());
        let value = value.map_err(|_| Problem::status(400, "malformed target"))?;
        headers.insert(HOST, value);
    }
    let mut request = Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or("").to_owned(),
        headers,
        body: Vec::new(),
        share: Arc::new(server.handler.budget().share()),
    };
    if let Some(refusal) = server.handler.admit(&request) {
        return Err(Problem::Refused(refusal));
    }
    let bytes_max = server.handler.body_bytes_max(&request);
    request.body = read(body, bytes_max, &request.share, link).await?;
    let gone = Arc::new(AtomicBool::new(false));
    link.answering(Arc::clone(&gone));
    let (mut reply, mut parts) = reply(Arc::clone(&gone));
    let share = Arc::clone(&request.share);
    let handler = Arc::clone(&server.handler);
    let thread = std::thread::Builder::new().name("request".to_owned()).stack_size(STACK_BYTES);
    let thread = thread.spawn(move || handler.answer(&request, &mut reply));
    if let Err(error) = thread {
        let message = format!("no thread could be started for the request: {error}");
        return Err(Problem::Refused(ApiError::overloaded(message).response()));
    }
    match parts.recv().await {
        Some(Part::Whole(response)) => {
            Ok(whole(response, closes, server, Rc::clone(link), Some(share)))
        }
        Some(Part::Head(content_type, headers)) => {
            let body = Answer::stream(parts, Rc::clone(link), Some(share));
            let head = Response { headers, ..Response::new(200, content_type, "") };
            Ok(build(&head, body, closes, server))
        }
        _ if gone.load(Ordering::Relaxed) => Err(Problem::Gone),
        _ => Err(Problem::status(500, "the request was not answered")),
    }
}

/// Reads a body, within its limit, the memory for all and the time for it.
async fn read(
    mut body: Incoming,
    bytes_max: usize,
    share: &Share,
    link: &Link,
) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::status(413, &format!("the body is larger than {bytes_max} bytes"));
    let known = body.size_hint().exact().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if known.is_some_and(|n| n > bytes_max) {
        return Err(too_large());
    }
    let deadline = Instant::now() + BODY_TIME;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let Ok(frame) = timeout_at(deadline.min(Instant::now() + STALL_TIME), next).await else {
            return Err(Problem::status(408, "the request did not arrive in time"));
        };
        let data = match frame {
            None => return Ok(bytes),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) if error.is_incomplete_message() || error.is_closed() => {
                return Err(Problem::Gone);
            }
            Some(Err(error)) => {
                return Err(Problem::status(400, &format!("malformed body: {}", reason(&error))));
            }
        };
        let length = bytes.len() + data.len();
        if length / PROGRESS > bytes.len() / PROGRESS {
            link.progress();
        }
        if length > bytes_max {
            return Err(too_large());
        }
        if length > bytes.capacity() {
            let room = known.map_or(2 * length, |known| known.min(2 * length)).max(length);
            share.take(room - bytes.capacity()).map_err(short)?;
            bytes.try_reserve_exact(room - bytes.len()).map_err(|_| short(Short::Now))?;
        }
        bytes.extend_from_slice(&data);
    }
}

fn short(short: Short) -> Problem {
    Problem::Refused(ApiError::from(short).response())
}

/// What is at the bottom of an error.
pub(super) fn reason(error: &hyper::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

/// A whole answer.
fn whole(
    mut response: Response,
    closes: bool,
    server: &Server,
    link: Rc<Link>,
    share: Option<Arc<Share>>,
) -> hyper::Response<Answer> {
    let body = Answer::whole(std::mem::take(&mut response.body), link, share);
    build(&response, body, closes, server)
}

fn build(head: &Response, body: Answer, closes: bool, server: &Server) -> hyper::Response<Answer> {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(head.status).unwrap_or_default();
    let headers = response.headers_mut();
    let own = head.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let all = [("Content-Type", head.content_type)].into_iter();
    for (name, value) in all.chain(server.headers.iter().copied()).chain(own) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    if closes {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
