//! The chat page and the API on localhost.
//!
//! Input: a [`Config`], a page and, once the model is loaded, an [`Engine`]. Output: answers. `http` turns connections
//! into requests, `guard` checks access, `routes` dispatches, `openai` and `native` answer. The server starts before
//! the model is loaded; until then it serves the page and reports that the model is loading.

mod aliases;
mod budget;
mod chats;
mod constraint;
mod conversation;
mod dialect;
mod embeddings;
mod error;
mod fields;
mod guard;
mod http;
mod ignored;
mod json;
mod lists;
mod monitor;
mod native;
mod openai;
mod page;
mod prompts;
mod reading;
mod routes;
mod sampling;
mod sink;
mod stream;
#[cfg(test)]
mod tests;
mod trouble;
mod turn;

pub use chats::Chats;
pub use page::Page;
pub use trouble::trouble;

use crate::engine::Engine;
use crate::semaphore::{Permit, Semaphore};
use crate::settings::{Config, PORT_DEFAULT};
use budget::Budget;
use error::ApiError;
use guard::Guard;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Sent with every answer. Scripts, styles, images and connections come only from this server, and no other site may
/// frame, read or embed anything of ours.
const HEADERS: http::Headers = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

/// Requests that do heavy work at the same time, and how long others wait.
const HEAVY_MAX: usize = 4;
const HEAVY_WAIT: Duration = Duration::from_secs(10);
/// Longest time for such work.
const HEAVY_TIME: Duration = Duration::from_secs(30);
/// Ports tried after the default one when no port was given.
const PORTS_TRIED: u16 = 100;

/// The state of the server's model.
pub enum ModelState {
    /// It is being loaded.
    Loading,
    /// It is ready.
    Ready(Arc<Engine>),
    /// There is none; the text says how to get one.
    Missing(String),
    /// Loading failed; the text says why.
    Failed(String),
}

/// Everything the routes need.
pub struct State {
    config: Config,
    page: Page,
    guard: Guard,
    /// The bundle's name.
    name: Option<String>,
    /// Where conversations are kept, if not in the browser.
    chats: Option<Chats>,
    model: RwLock<ModelState>,
    /// Memory that requests share.
    budget: Arc<Budget>,
    /// Permits for heavy work.
    heavy: Semaphore,
    /// The permit to save or restore a slot, whose whole file is in memory meanwhile.
    restoring: Semaphore,
    started: u64,
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It is not an address.
    #[error(
        "--host {host}: {error}\nhint: use 127.0.0.1 for this computer only, 0.0.0.0 for the whole network"
    )]
    Host {
        /// What was given.
        host: String,
        /// Why it is not one.
        error: io::Error,
    },
    /// The port can't be used.
    #[error(
        "port {port} on {host}: {error}\nhint: choose another --port, or leave it out to use the next free one"
    )]
    Port {
        /// The address.
        host: String,
        /// The port.
        port: u16,
        /// Why it can't.
        error: io::Error,
    },
}

/// Listens on the configured port or, if none was given, on the first free one from 8080 on.
///
/// # Errors
/// When the address is invalid, or the port can't be used.
pub fn bind(config: &Config) -> Result<TcpListener, BindError> {
    let host_error = |error| BindError::Host { host: config.host.clone(), error };
    let name = config.host.trim_matches(['[', ']']);
    let address = match name.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => (name, 0)
            .to_socket_addrs()
            .map_err(host_error)?
            .map(|a| a.ip())
            .min_by_key(IpAddr::is_ipv6)
            .ok_or_else(|| host_error(io::ErrorKind::NotFound.into()))?,
    };
    let last = if config.port_named { config.port } else { PORT_DEFAULT + PORTS_TRIED };
    let mut port = config.port;
    loop {
        match TcpListener::bind(SocketAddr::new(address, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if port >= last || !is_taken(&error) => {
                return Err(BindError::Port { host: config.host.clone(), port, error });
            }
            Err(_) => port += 1,
        }
    }
}

/// Whether the port is taken. Windows says "permission denied" for ports that Hyper-V reserves, sometimes 8080.
fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
        || cfg!(windows) && error.kind() == io::ErrorKind::PermissionDenied
}

impl State {
    /// A server whose model is not loaded yet. `name` is the bundle's.
    #[must_use]
    pub fn new(
        config: Config,
        page: Page,
        name: Option<String>,
        chats: Option<Chats>,
        listener: &TcpListener,
    ) -> Self {
        let loopback = listener.local_addr().is_ok_and(|a| a.ip().is_loopback());
        let guard =
            Guard::new(&config.host, &config.allowed_hosts, loopback, config.api_keys.clone());
        let budget = Budget::new(config.request_memory);
        Self {
            config,
            page,
            guard,
            name,
            chats,
            model: RwLock::new(ModelState::Loading),
            budget,
            heavy: Semaphore::new(HEAVY_MAX),
            restoring: Semaphore::new(1),
            started: openai::unix_time(),
        }
    }

    /// The engine, or why there is none.
    fn engine(&self) -> Result<Arc<Engine>, ApiError> {
        match &*self.model.read().unwrap_or_else(PoisonError::into_inner) {
            ModelState::Ready(engine) => Ok(Arc::clone(engine)),
            ModelState::Loading => {
                Err(ApiError::new(503, "unavailable_error", "Loading model").retry_after(1))
            }
            ModelState::Missing(message) => Err(ApiError::new(503, "no_weights", message.clone())),
            ModelState::Failed(message) => {
                let message = format!("The model could not be loaded.\n\n{message}");
                Err(ApiError::new(503, "no_weights", message))
            }
        }
    }

    /// Waits for a permit to do heavy work.
    fn heavy(&self, wanted: &dyn Fn() -> bool) -> Result<Permit<'_>, ApiError> {
        self.heavy.acquire(HEAVY_WAIT, wanted).map_err(|no| ApiError::overloaded(no.to_string()))
    }

    /// Sets the state of the model.
    pub fn set_model(&self, model: ModelState) {
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = model;
    }
}

/// Serves until `stop` is set and one more connection comes in.
///
/// # Errors
/// When the system does not let us wait for connections.
pub fn run(listener: &TcpListener, state: &Arc<State>, stop: &AtomicBool) -> io::Result<()> {
    let state = Arc::clone(state);
    let handler: Arc<dyn http::Handler> = Arc::new(routes::Routes(state));
    http::serve(listener, HEADERS, &handler, stop)
}
