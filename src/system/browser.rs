//! The browser that shows the page.

/// The browser that would be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Browser {
    /// The one that the variable BROWSER names.
    Named(String),
    /// The system's default browser.
    Usual,
    /// None: there is no display.
    NoScreen,
    /// None was found.
    Missing,
}

impl Browser {
    /// Finds out which one there is; starts nothing.
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

    /// Opens a URL in it. `false`: there is none, or it did not start.
    #[must_use]
    pub fn open(url: &str) -> bool {
        has_display() && usual::open(url)
    }
}

/// Whether there is a display. Without one, a text browser would take over the terminal.
#[must_use]
pub fn has_display() -> bool {
    let unix = cfg!(all(unix, not(target_os = "macos")));
    !unix
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|v| std::env::var_os(v).is_some_and(|v| !v.is_empty()))
}

/// The system's default browser.
#[cfg(not(target_os = "macos"))]
mod usual {
    use webbrowser::{Browser, BrowserOptions, open_browser_with_options};

    /// Whether the variable BROWSER can name another.
    pub const IS_NAMED: bool = cfg!(unix);

    pub fn is_there() -> bool {
        let options = BrowserOptions::new().with_dry_run(true).clone();
        open_browser_with_options(Browser::Default, "http://127.0.0.1/", &options).is_ok()
    }

    pub fn open(url: &str) -> bool {
        webbrowser::open(url).is_ok()
    }
}

/// The system's default browser, opened by a command that comes with the system.
#[cfg(target_os = "macos")]
mod usual {
    use std::path::Path;
    use std::process::{Command, Stdio};

    const OPEN: &str = "/usr/bin/open";
    /// Whether the variable BROWSER can name another.
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
