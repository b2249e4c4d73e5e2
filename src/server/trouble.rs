//! Shows a fatal error as a web page, for a program started without a terminal.
//!
//! Input: a text. Output: one page in the browser, served from a local port that is open until the page is loaded, a
//! minute at most.

use super::HEADERS;
use super::budget::Budget;
use super::guard::Guard;
use super::http::{self, Handler, Reply, Request, Response};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time for the browser to start and request the page.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for the response to be delivered.
const PARTING: Duration = Duration::from_millis(300);

/// Shows an error in the browser. `open` opens an address and says whether that worked. Returns whether
/// the page was loaded.
pub fn trouble(error: &str, open: impl FnOnce(&str) -> bool) -> bool {
    let Ok(listener) = TcpListener::bind(("127.0.0.1", 0)) else { return false };
    let Ok(address) = listener.local_addr() else { return false };
    let (handler, loaded) = LastWords::new(error);
    let handler: Arc<dyn Handler> = Arc::new(handler);
    // It accepts until the program ends, which is soon.
    let accepting = std::thread::Builder::new().spawn(move || {
        let _ = http::serve(&listener, HEADERS, &handler, &AtomicBool::new(false));
    });
    if accepting.is_err()
        || !open(&format!("http://{address}/"))
        || loaded.recv_timeout(PATIENCE).is_err()
    {
        return false;
    }
    std::thread::sleep(PARTING);
    true
}

struct LastWords {
    page: String,
    guard: Guard,
    loaded: Mutex<Sender<()>>,
    budget: Arc<Budget>,
}

impl LastWords {
    fn new(error: &str) -> (Self, Receiver<()>) {
        let (sender, receiver) = channel();
        let guard = Guard::new("127.0.0.1", &[], true, Vec::new());
        let (loaded, budget) = (Mutex::new(sender), Budget::new(1 << 20));
        (Self { page: page(error), guard, loaded, budget }, receiver)
    }
}

impl Handler for LastWords {
    fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn admit(&self, request: &Request) -> Option<Response> {
        let refused = self.guard.check_source(request).is_err();
        refused.then(|| Response::new(403, "text/plain", ""))
    }

    fn answer(&self, request: &Request, reply: &mut Reply) {
        if request.path != "/" || request.method != "GET" {
            let _ = reply.send(Response::new(404, "text/plain", ""));
            return;
        }
        let mut response = Response::new(200, "text/html; charset=utf-8", self.page.as_str());
        response.headers.push(("Cache-Control", "no-store".to_owned()));
        if reply.send(response).is_ok() {
            let _ = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).send(());
        }
    }
}

/// Plain HTML: [`HEADERS`] allow no inline script or style.
fn page(error: &str) -> String {
    let mut text = String::with_capacity(error.len());
    for c in error.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            c => text.push(c),
        }
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>tealight did not start</title>\
         <link rel=\"icon\" href=\"data:,\"><h1>tealight did not start</h1><pre>{text}</pre>\
         <p>The program has ended; this page can be closed.</p>\
         <p lang=\"es\">El programa ha terminado; puedes cerrar esta página.</p></html>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    fn ask(url: &str, head: &str) -> String {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.replace("HERE", address).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_page_is_served_once_locally_with_its_text_escaped() {
        let shown = trouble("error: <script>x</script> & more\nhint: none", |url| {
            let rebound =
                ask(url, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
            assert!(rebound.starts_with("HTTP/1.1 403"), "{rebound}");
            let other = ask(url, "GET /x HTTP/1.1\r\nHost: HERE\r\nConnection: close\r\n\r\n");
            assert!(other.starts_with("HTTP/1.1 404"), "{other}");
            let page = ask(url, "GET / HTTP/1.1\r\nHost: HERE\r\nConnection: close\r\n\r\n");
            assert!(page.starts_with("HTTP/1.1 200") && page.contains("Content-Security-Policy"));
            assert!(page.contains("&lt;script&gt;x&lt;/script&gt; &amp; more\nhint"), "{page}");
            true
        });
        assert!(shown);
    }

    #[test]
    fn without_a_browser_it_does_not_wait() {
        let start = std::time::Instant::now();
        assert!(!trouble("error", |_| false));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
