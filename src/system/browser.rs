//! The browser that shows the page.

/// What would be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Browser {
    /// What the variable BROWSER names.
    Named(String),
    /// The one that the system opens addresses in.
    Usual,
    /// None, for there is no screen to show it on.
    NoScreen,
    /// None was found.
    Missing,
}

impl Browser {
    /// Looks which one there is, and starts nothing.
    #[must_use]
    pub fn find() -> Self {
        if !has_display() {
            return Self::NoScreen;
        }
        if !usual::is_there() {
            return Self::Missing;
        }
        let named = std::env::var("BROWSER").ok().filter(|b| usual::IS_NAMED && !b.is_empty());
        named.map_or(Self::Usual, Self::Named)
    }

    /// Shows an address in it. `false`: there is none, or it did not start.
    #[must_use]
    pub fn open(url: &str) -> bool {
        has_display() && usual::open(url)
    }
}

/// Whether there is anything to show a browser on. Without a display a text browser would take over
/// the terminal.
#[must_use]
pub fn has_display() -> bool {
    let unix = cfg!(all(unix, not(target_os = "macos")));
    !unix
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|v| std::env::var_os(v).is_some_and(|v| !v.is_empty()))
}

/// The browser that the system opens addresses in.
#[cfg(not(target_os = "macos"))]
mod usual {
    use webbrowser::{Browser, BrowserOptions, open_browser_with_options};

    /// Whether the variable BROWSER names it.
    pub const IS_NAMED: bool = cfg!(unix);

    pub fn is_there() -> bool {
        let options = BrowserOptions::new().with_dry_run(true).clone();
        open_browser_with_options(Browser::Default, "http://127.0.0.1/", &options).is_ok()
    }

    pub fn open(url: &str) -> bool {
        webbrowser::open(url).is_ok()
    }
}

/// The browser that the system opens addresses in: a command that comes with it does that.
#[cfg(target_os = "macos")]
mod usual {
    use std::path::Path;
    use std::process::{Command, Stdio};

    const OPEN: &str = "/usr/bin/open";
    /// Whether the variable BROWSER names it.
    pub const IS_NAMED: bool = false;

    pub fn is_there() -> bool {
        Path::new(OPEN).exists()
    }

    pub fn open(url: &str) -> bool {
        let mut command = Command::new(OPEN);
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}
