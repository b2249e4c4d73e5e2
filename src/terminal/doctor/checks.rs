//! Checks apart from the model: the system, the medium, the port, the browser.

use super::{Check, State};
use crate::kernels::Isa;
use crate::server;
use crate::settings::Config;
use crate::source::{Program, SourceError};
use crate::system::{self, Browser, Cores, Medium};
use serde_json::json;
use std::path::{Path, PathBuf};

type Found<'p> = &'p Result<Program, SourceError>;

pub fn system() -> Check {
    let version = system::version();
    Check::ok("system", format!("{version}; tealight {}", env!("CARGO_PKG_VERSION")))
        .facts(json!({ "os": std::env::consts::OS, "arch": std::env::consts::ARCH }))
}

pub fn processor(config: &Config) -> Check {
    let available: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
    let used = config.isa.name();
    let text = format!("uses {used}; available: {}", available.join(", "));
    let check = if config.isa == Isa::SCALAR && cfg!(target_arch = "x86_64") {
        let slow = format!("{text}: portable code, several times slower");
        Check::new("processor", State::Note, slow)
            .hint("processors from 2013 on have avx2; a virtual machine may hide it")
    } else {
        Check::ok("processor", text)
    };
    check.facts(json!({ "isa": used, "available": available }))
}

pub fn threads(config: &Config) -> Check {
    let cores = Cores::of_this_computer();
    let Cores { physical, logical, allowed, performance } = cores;
    let fast = performance.map_or_else(String::new, |n| format!(" ({n} fast)"));
    let mut text = format!(
        "{} compute threads; {physical} cores{fast}, {logical} hardware threads",
        config.threads
    );
    if allowed < logical {
        text.push_str(&format!(", {allowed} of them available to this process"));
    }
    let facts = json!({
        "used": config.threads,
        "physical": physical,
        "logical": logical,
        "allowed": allowed,
        "performance": performance,
    });
    let check = if config.threads > allowed {
        Check::new(
            "threads",
            State::Note,
            format!("{text}: more compute threads than can run at once, which is slow"),
        )
        .hint(format!("--threads {}", physical.min(allowed)))
    } else {
        Check::ok("threads", text)
    };
    check.facts(facts)
}

pub fn graphics() -> Check {
    let why = "this build runs on the CPU";
    let (text, names) = match system::graphics() {
        None => (format!("not checked: {why}"), Vec::new()),
        Some(names) if names.is_empty() => (format!("none found; {why} anyway"), names),
        Some(names) => (format!("{} found but not used: {why}", names.join(", ")), names),
    };
    Check::ok("gpu", text).facts(json!({ "found": names, "used": false }))
}

pub fn bundle(program: Found<'_>) -> Check {
    match program {
        Err(error) => Check::of_error("bundle", &error.to_string()),
        Ok(Program { tail: None, path, .. }) => {
            Check::ok("bundle", format!("none in {}", path.display()))
                .facts(json!({ "path": path.display().to_string() }))
        }
        Ok(Program { tail: Some(tail), path, .. }) => {
            let name = tail.manifest().name.as_deref().unwrap_or("unnamed");
            let entries = tail.entries().len();
            let text = format!("{name}, {entries} entries, readable; `verify` compares every byte");
            Check::ok("bundle", text)
                .facts(json!({ "path": path.display().to_string(), "entries": entries }))
        }
    }
}

/// The storage medium of the program and the weights.
pub fn medium(program: Found<'_>, weights: &[PathBuf]) -> Check {
    let own = program.as_ref().ok().map(|program| program.path.as_path());
    let Some((path, medium)) = own.and_then(|path| Some((path, Medium::of(path)?))) else {
        return Check::new(
            "medium",
            State::Note,
            "this system does not report what drive the program is on",
        );
    };
    let mut text = format!("the program is on {}", described(&medium));
    let elsewhere = weights.iter().filter_map(|w| Medium::of(w)).find(|other| *other != medium);
    if let Some(other) = elsewhere {
        text.push_str(&format!("; the weights on {}", described(&other)));
    }
    let executable = may_be_executed(path);
    let facts = json!({
        "kind": medium.kind,
        "read_only": medium.read_only,
        "noexec": medium.no_exec,
        "execute_bit": executable,
    });
    let check = if medium.no_exec {
        Check::new("medium", State::Note, text).hint("programs cannot run from there: copy it to a folder of your own, or mount the drive with `exec`")
    } else if executable == Some(false) {
        Check::new("medium", State::Note, format!("{text}; the file has no execute bit"))
            .hint(format!("chmod +x '{}'", path.display()))
    } else if medium.is_fat32() {
        Check::new("medium", State::Note, text).hint(
            "FAT cannot hold files of 4 GB or more and has no execute bit: split the weights, or use exFAT",
        )
    } else {
        Check::ok("medium", text)
    };
    check.facts(facts)
}

fn described(medium: &Medium) -> String {
    let mut text = medium.kind.clone();
    if medium.lacks_execute_bit() {
        text.push_str(", which has no execute bit");
    }
    if medium.read_only {
        text.push_str(", read-only (which is enough)");
    }
    if medium.no_exec {
        text.push_str(", mounted noexec");
    }
    text
}

#[cfg(unix)]
fn may_be_executed(path: &Path) -> Option<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn may_be_executed(_: &Path) -> Option<bool> {
    None
}

/// The download mark that Gatekeeper and SmartScreen look at.
pub fn mark(program: Found<'_>) -> Check {
    let path = program.as_ref().ok().map(|program| program.path.as_path());
    match path.and_then(|path| Some((path, system::quarantine(path)?))) {
        None => Check::ok("quarantine", "the file is not marked as downloaded"),
        Some((path, mark)) => {
            let hint = if cfg!(windows) {
                format!("Properties, Unblock; or in PowerShell: Unblock-File '{}'", path.display())
            } else {
                format!("xattr -d com.apple.quarantine '{}'", path.display())
            };
            Check::new(
                "quarantine",
                State::Note,
                format!("the file is marked as downloaded ({mark})"),
            )
            .hint(hint)
        }
    }
}

/// Where files could be written. Only `--portable` needs it.
pub fn writing(program: Found<'_>) -> Check {
    let folder = program.as_ref().ok().and_then(|p| p.path.parent()).map(Path::to_owned);
    let home =
        std::env::var_os(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(PathBuf::from);
    let places = [
        ("program's folder", folder),
        ("home", home.filter(|home| !home.as_os_str().is_empty())),
        ("temporary files", Some(std::env::temp_dir())),
    ];
    let found = places.map(|(name, path)| {
        let writable = path.as_deref().is_some_and(system::is_writable);
        let state = match (&path, writable) {
            (None, _) => "none",
            (_, true) => "writable",
            (_, false) => "not writable",
        };
        (format!("{name} {state}"), writable)
    });
    let [program_folder, home, temporary] = [found[0].1, found[1].1, found[2].1];
    let list: Vec<String> = found.into_iter().map(|(text, _)| text).collect();
    Check::ok("writing", format!("not needed ({})", list.join(", ")))
        .facts(json!({ "program_folder": program_folder, "home": home, "temporary": temporary }))
}

pub fn port(config: &Config) -> Check {
    let (host, wanted) = (&config.host, config.port);
    let listener = match server::bind(config) {
        Err(error) => return Check::of_error("port", &error.to_string()),
        Ok(listener) => listener,
    };
    let port = listener.local_addr().map_or(wanted, |address| address.port());
    let facts = json!({ "host": host, "port": port, "wanted": wanted });
    let check = if port == wanted {
        Check::ok("port", format!("{wanted} on {host} is free"))
    } else if wanted == 0 {
        Check::ok("port", format!("a free one on {host}, such as {port}"))
    } else {
        Check::new("port", State::Note, format!("{wanted} on {host} is in use by another program; {port} would be used"))
            .hint("browsers store conversations per address and port: those of the usual port are kept, but not shown")
    };
    check.facts(facts)
}

pub fn browser(config: &Config) -> Check {
    const BY_HAND: &str = "open the printed address in a browser";
    if !config.browser {
        return Check::ok("browser", "none will be opened (--nobrowser, NOBROWSER)");
    }
    let found = Browser::find();
    let check = match &found {
        Browser::Named(name) => Check::ok("browser", format!("{name} would be opened (BROWSER)")),
        Browser::Usual => Check::ok("browser", "the system's default would be opened"),
        Browser::NoScreen => Check::new(
            "browser",
            State::Note,
            "none: there is no screen (DISPLAY, WAYLAND_DISPLAY)",
        )
        .hint(BY_HAND),
        Browser::Missing => Check::new("browser", State::Note, "none was found").hint(BY_HAND),
    };
    check.facts(json!({ "found": matches!(found, Browser::Named(_) | Browser::Usual) }))
}
