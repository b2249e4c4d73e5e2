//! What comes over a socket, byte by byte.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Instant;

/// A server that says what it was asked.
struct Echo {
    budget: Arc<Budget>,
    connections: usize,
    /// Requests whose client was seen to leave.
    left: AtomicUsize,
}

impl Handler for Echo {
    fn connections_max(&self) -> usize {
        self.connections
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn admit(&self, request: &Request) -> Option<Response> {
        let own = request.header("host") == Some("own");
        (!own).then(|| Response::new(403, "text/plain", "not yours"))
    }

    fn body_bytes_max(&self, _: &Request) -> usize {
        1 << 20
    }

    fn answer(&self, request: &Request, reply: &mut Reply) {
        let _ = match request.path.as_str() {
            "/nothing" => reply.send(Response::new(204, "text/plain", "")),
            "/broken" => reply.stream("text/plain").and_then(|()| reply.part(b"half".to_vec())),
            "/large" => reply.send(Response::new(200, "text/plain", vec![b'x'; 6 << 20])),
            "/panic" => std::panic::resume_unwind(Box::new("as asked")),
            "/wait" => {
                while !reply.is_closed() {
                    thread::sleep(Duration::from_millis(1));
                }
                self.left.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            "/endless" => {
                let mut sent = reply.stream("text/plain");
                while sent.is_ok() {
                    sent = reply.part(vec![b'x'; 4096]);
                }
                self.left.fetch_add(1, Ordering::SeqCst);
                sent
            }
            path => {
                let text = format!("{} {path} {}", request.method, request.body.len());
                reply.send(Response::new(200, "text/plain", text))
            }
        };
    }
}

/// Asks a server.
fn served(echo: Echo, ask: impl FnOnce(&dyn Fn() -> TcpStream, &Echo)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = AtomicBool::new(false);
    let echo = Arc::new(echo);
    let handler = Arc::clone(&echo) as Arc<dyn Handler>;
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream
    };
    thread::scope(|scope| {
        scope.spawn(|| serve(&listener, &[("X-Always", "yes")], &handler, &stop).unwrap());
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(&connect, &echo)));
        stop.store(true, Ordering::SeqCst);
        drop(connect());
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let budget = &echo.budget;
    until("memory is given back", || budget.share().take(ALL).is_ok());
}

const ALL: usize = 4 << 20;

fn echo() -> Echo {
    Echo { budget: Budget::new(ALL), connections: 8, left: AtomicUsize::new(0) }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// How a client leaves.
type Leave = fn(TcpStream);

/// Everything until the connection ends; what was sent in vain does not matter.
fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// What is said to `text`, until the connection ends, which it is asked to.
fn asked(connect: &dyn Fn() -> TcpStream, text: &str) -> String {
    let mut stream = connect();
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    rest(stream)
}

fn ends(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.lines().next().unwrap(), body)
}

#[test]
fn answers_have_a_body_only_where_there_may_be_one() {
    served(echo(), |connect, _| {
        let head = asked(connect, "HEAD /x HTTP/1.1\r\nHost: own\r\n\r\n");
        assert!(head.contains("Content-Length: 9\r\n"), "{head}");
        assert_eq!(ends(&head), ("HTTP/1.1 200 OK", ""));
        let refused = asked(connect, "HEAD /x HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!(ends(&refused), ("HTTP/1.1 403 Forbidden", ""));
        let nothing = asked(connect, "GET /nothing HTTP/1.1\r\nHost: own\r\n\r\n");
        assert_eq!(ends(&nothing), ("HTTP/1.1 204 No Content", ""));
        assert!(!nothing.to_lowercase().contains("content-length"), "{nothing}");
        for answer in [&head, &refused, &nothing] {
            assert!(answer.contains("\r\nX-Always: yes\r\n"), "{answer}");
        }
    });
}

#[test]
fn a_connection_goes_on_after_an_answer_and_not_after_a_doubtful_one() {
    served(echo(), |connect, _| {
        let two = "POST /a HTTP/1.1\r\nHost: own\r\nContent-Length: 3\r\n\r\nxyzHEAD /b HTTP/1.1\r\nHost: own\r\n\r\nGET /nothing HTTP/1.1\r\nHost: own\r\n\r\nGET /c HTTP/1.1\r\nHost: own\r\n\r\n";
        let answer = asked(connect, two);
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
        assert!(answer.contains("\r\n\r\nPOST /a 3HTTP/1.1 200") && answer.ends_with("GET /c 0"));
        // A length beside chunks: what follows is not taken for a request.
        for lengths in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
        ] {
            let smuggled = format!(
                "POST /a HTTP/1.1\r\nHost: own\r\n{lengths}\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: own\r\n\r\n"
            );
            let answer = asked(connect, &smuggled);
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        }
    });
}

#[test]
fn targets_and_versions_are_taken_at_their_word() {
    served(echo(), |connect, _| {
        let status = |text: &str| ends(&asked(connect, text)).0[9..12].to_owned();
        // The host of the target counts.
        assert_eq!(status("GET http://own/x HTTP/1.1\r\nHost: own\r\n\r\n"), "200");
        assert_eq!(status("GET http://own HTTP/1.1\r\nHost: own\r\n\r\n"), "200");
        assert_eq!(status("GET http://evil.example/x HTTP/1.1\r\nHost: own\r\n\r\n"), "403");
        assert_eq!(status("GET https://evil.example/x HTTP/1.1\r\nHost: own\r\n\r\n"), "403");
        assert_eq!(status("CONNECT evil.example:443 HTTP/1.1\r\nHost: own\r\n\r\n"), "403");
        assert_eq!(status("GET /x HTTP/1.1\r\n\r\n"), "403");
        assert_eq!(status("GET /x HTTP/1.1\r\nHost: own\r\nHost: own\r\n\r\n"), "400");
        assert_eq!(status("GET /x HTTP/1.0\r\nHost: own\r\n\r\n"), "200");
        let chunked =
            "POST /x HTTP/1.0\r\nHost: own\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(status(chunked), "400");
        assert_eq!(status("GET /x HTTP/2.0\r\nHost: own\r\n\r\n"), "400");
        assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "400");
        let malformed = asked(connect, "GET / HTTP/1.1\r\nno colon\r\n\r\n");
        assert!(malformed.contains("malformed request: ") && malformed.contains("X-Always: yes"));
        let many = format!("GET / HTTP/1.1\r\nHost: own\r\n{}\r\n", "A: b\r\n".repeat(200));
        assert_eq!(status(&many), "431");
    });
}

#[test]
fn bodies_have_limits_even_where_they_state_no_length() {
    served(echo(), |connect, echo| {
        let chunked = "POST /x HTTP/1.1\r\nHost: own\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole =
            asked(connect, &format!("{chunked}3\r\nabc\r\n2;a=b\r\nde\r\n0\r\nT: x\r\n\r\n"));
        assert_eq!(ends(&whole), ("HTTP/1.1 200 OK", "POST /x 5"));
        let trailers = format!("{chunked}0\r\n{}", "T: x\r\n".repeat(1 << 18));
        assert!(!asked(connect, &trailers).contains(" 200 "), "endless trailers");
        let extension = format!("{chunked}3;{}", "x".repeat(1 << 20));
        assert!(!asked(connect, &extension).contains(" 200 "), "an endless extension");
        let large =
            format!("{chunked}{}", format!("10000\r\n{}\r\n", "x".repeat(1 << 16)).repeat(64));
        assert!(asked(connect, &large).starts_with("HTTP/1.1 413 "));
        // Others have the memory.
        let held = echo.budget.share();
        held.take(ALL - 1000).unwrap();
        let head = "POST /x HTTP/1.1\r\nHost: own\r\nContent-Length: 100000\r\n\r\n";
        let full = asked(connect, &format!("{head}{}", "x".repeat(100_000)));
        assert!(full.starts_with("HTTP/1.1 503 ") && full.contains("Retry-After: "), "{full}");
        let small = asked(connect, "POST /x HTTP/1.1\r\nHost: own\r\nContent-Length: 3\r\n\r\nabc");
        assert!(small.starts_with("HTTP/1.1 200 "), "{small}");
    });
}

#[test]
fn an_answer_that_breaks_off_looks_like_that() {
    served(echo(), |connect, _| {
        let broken = asked(connect, "GET /broken HTTP/1.1\r\nHost: own\r\n\r\n");
        assert!(broken.contains("half") && !broken.ends_with("0\r\n\r\n"), "{broken}");
        let mut stream = connect();
        let text = "GET /panic HTTP/1.1\r\nHost: own\r\nConnection: close\r\n\r\n";
        stream.write_all(text.as_bytes()).unwrap();
        let panic = rest(stream);
        assert!(panic.starts_with("HTTP/1.1 500 "), "{panic}");
    });
}

#[test]
fn what_a_client_sends_too_much_takes_no_answer_away() {
    served(echo(), |connect, _| {
        for _ in 0..5 {
            let mut stream = connect();
            let head = "GET /large HTTP/1.1\r\nHost: own\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(20));
            stream.write_all(b"\r\n").unwrap();
            let (mut all, length) = (Vec::new(), 6 << 20);
            stream.read_to_end(&mut all).unwrap();
            assert!(all.len() > length && all.ends_with(b"xxx"), "{} bytes", all.len());
        }
    });
}

#[test]
fn clients_that_leave_are_seen_soon_whatever_they_sent_before() {
    served(echo(), |connect, echo| {
        let ways: [(&str, Leave); 3] = [
            ("", drop),
            ("\r\nGET / HTTP/1.1\r\n", drop),
            ("", |stream| {
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(rest(stream), "");
            }),
        ];
        for (more, leave) in ways {
            let before = echo.left.load(Ordering::SeqCst);
            let mut stream = connect();
            let text = format!("GET /wait HTTP/1.1\r\nHost: own\r\n\r\n{more}");
            stream.write_all(text.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(30));
            assert_eq!(echo.left.load(Ordering::SeqCst), before);
            let start = Instant::now();
            leave(stream);
            until("it is seen", || echo.left.load(Ordering::SeqCst) > before);
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
        let mut stream = connect();
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: own\r\n\r\n").unwrap();
        let mut some = [0; 1000];
        stream.read_exact(&mut some).unwrap();
        drop(stream);
        until("the stream is ended", || echo.left.load(Ordering::SeqCst) == 4);
    });
}

#[test]
fn half_a_request_yields_its_place_to_a_newcomer() {
    served(echo(), |connect, _| {
        let half = "POST / HTTP/1.1\r\nHost: own\r\nContent-Length: 9\r\n\r\nx";
        let held: Vec<TcpStream> = (0..8)
            .map(|number| {
                let mut stream = connect();
                let sent = if number == 0 { half } else { &half[..30] };
                stream.write_all(sent.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(10));
                stream
            })
            .collect();
        let start = Instant::now();
        let answer = loop {
            let answer = asked(connect, "GET /x HTTP/1.1\r\nHost: own\r\n\r\n");
            if !answer.starts_with("HTTP/1.1 503 ") {
                break answer;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "locked out: {answer}");
            thread::sleep(Duration::from_millis(20));
        };
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut first = held.into_iter().next().unwrap();
        let _ = first.set_read_timeout(Some(Duration::from_secs(2)));
        let mut text = String::new();
        let _ = first.read_to_string(&mut text);
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    });
}
