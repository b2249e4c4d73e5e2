//! Serves the page and the API.

use super::{no_thread, prompt_cache, stand_in, workers};
use anyhow::Context as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tealight::constraint::Constraint;
use tealight::engine::{Engine, LoadOptions};
use tealight::kernels::Compute;
use tealight::model::Shard;
use tealight::server::{self, Chats, ModelState, Page, State};
use tealight::settings::Config;
use tealight::source::{NO_WEIGHTS, Program};
use tealight::system::{self, Browser};
use tealight::worker::Workers;
use tealight_bundle::shown::say;
use tealight_bundle::signals;

/// Serves the page at once, and the model as soon as it is loaded.
pub fn serve(
    config: Config,
    program: Option<&Program>,
    shards: Option<Vec<Shard>>,
) -> anyhow::Result<()> {
    // What needs a right of its own comes first: files, the port, the browser. After the first thread, nothing is opened
    // any more.
    let page = Page::new(config.page.as_deref(), program).context("--path")?;
    let name = program.and_then(|p| p.tail.as_ref()).and_then(|t| t.manifest().name.clone());
    let chats = if config.portable { chats(&config, program) } else { None };
    if let Some(program) = program {
        // The bundle has been read: release its lock, so that it can be changed while we serve.
        program.file.release();
    }
    let listener = server::bind(&config)?;
    let url = url(&listener, &config)?;
    if listener.local_addr()?.port() != config.port && config.port != 0 && !config.quiet {
        let port = config.port;
        say(format_args!("port {port} is in use by another program; using the next free one"));
    }
    // Serve even if stdout is closed.
    let _ = writeln!(std::io::stdout(), "{url}");
    let _ = std::io::stdout().flush();
    // Connections wait until they are accepted.
    if config.browser && system::has_display() && !Browser::open(&url) && !config.quiet {
        say(format_args!("could not open a browser; open the address above yourself"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    end_on_interrupt(&listener, &stop)?;
    // The first worker starts up in parallel with the rest.
    let workers = workers();
    let own = config.clone();
    let (quiet, constraint) = (own.quiet, own.constraint.as_ref());
    let state = Arc::new(State::new(config, page, name, chats, &listener));
    let accepting = {
        let (state, stop, listener) =
            (Arc::clone(&state), Arc::clone(&stop), listener.try_clone()?);
        let thread = std::thread::Builder::new().name("accepting".to_owned());
        let accepting = thread.spawn(move || server::run(&listener, &state, &stop));
        accepting.map_err(|error| no_thread(&error))?
    };
    // A server that can't start a thread for a request would look alive and answer nothing.
    let _ = std::thread::Builder::new().spawn(|| ()).map_err(|error| no_thread(&error))?.join();
    let compute = own.compute();
    match shards {
        None => {
            say(format_args!("{NO_WEIGHTS}"));
            state.set_model(ModelState::Missing(NO_WEIGHTS.to_owned()));
        }
        Some(shards) => match load(shards, &own.load_options(), &compute, constraint, &workers) {
            Ok(engine) => {
                if !quiet {
                    say(format_args!("{}", greeting(&engine, &compute)));
                    engine.info.notes.iter().for_each(|note| say(format_args!("{note}")));
                    stand_in(&engine);
                }
                let engine = Arc::new(engine);
                let taken = prompt_cache::take_over(program, &engine, quiet);
                state.set_model(ModelState::Ready(Arc::clone(&engine)));
                prompt_cache::compare(taken, &engine, &own);
            }
            Err(error) => {
                say(format_args!("error: {error}"));
                state.set_model(ModelState::Failed(error));
            }
        },
    }
    match accepting.join() {
        Ok(served) => served.context("waiting for connections"),
        Err(_) => Ok(()),
    }
}

/// The file for conversations beside the program; `None`, with a warning, unless it can be written and the server is
/// local or has an API key.
fn chats(config: &Config, program: Option<&Program>) -> Option<Chats> {
    let in_browser = "conversations stay in the browser";
    let Some(chats) = program.map(Chats::beside) else {
        say(format_args!("warning: --portable: cannot find the program's own file; {in_browser}"));
        return None;
    };
    let own = ["127.0.0.1", "localhost", "::1", "[::1]"].contains(&config.host.as_str());
    if !own && config.api_keys.is_empty() {
        say(format_args!(
            "warning: --portable: --host {} lets other computers connect, and no --api-key is set; {in_browser}",
            config.host
        ));
        return None;
    }
    if !chats.path().parent().is_some_and(system::is_writable) {
        say(format_args!(
            "warning: --portable: {} cannot be written; {in_browser}",
            chats.path().display()
        ));
        return None;
    }
    Some(chats)
}

/// Loads an engine and checks that it can follow the configured constraint.
fn load(
    shards: Vec<Shard>,
    options: &LoadOptions,
    compute: &Arc<Compute>,
    constraint: Option<&Constraint>,
    workers: &Arc<Workers>,
) -> Result<Engine, String> {
    let engine = Engine::load(shards, options, compute, workers).map_err(|e| e.to_string())?;
    match constraint.map(|constraint| engine.guide(constraint)) {
        Some(Err(error)) => Err(error.to_string()),
        _ => Ok(engine),
    }
}

fn greeting(engine: &Engine, compute: &Compute) -> String {
    let info = &engine.info;
    format!(
        "{}: {:.0} million parameters, context {}, {} threads, {}. Press Ctrl-C to end.",
        info.name.escape_debug(),
        info.parameters as f64 / 1e6,
        info.context,
        compute.pool.threads(),
        compute.isa
    )
}

/// The URL for the browser; an unspecified address becomes loopback.
fn url(listener: &TcpListener, config: &Config) -> anyhow::Result<String> {
    let address = listener.local_addr()?;
    let ip = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv6() => "[::1]".to_owned(),
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    };
    Ok(format!("http://{ip}:{}{}/", address.port(), config.prefix))
}

/// Ctrl-C, SIGTERM and a closed terminal end the program cleanly.
fn end_on_interrupt(listener: &TcpListener, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let stop = Arc::clone(stop);
    let address = listener.local_addr()?;
    signals::watch(move |ending| {
        if stop.swap(true, Ordering::SeqCst) {
            std::process::exit(ending.code().into());
        }
        // Wake the accepting thread: it checks the flag at its next connection, which is this one.
        let loopback = match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv6() => std::net::Ipv6Addr::LOCALHOST.into(),
            ip if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        let _ = std::net::TcpStream::connect((loopback, address.port()));
    })
    .map_err(|error| no_thread(&error))
}
