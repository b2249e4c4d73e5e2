//! The browser that shows the page.

use webbrowser::{Browser as Known, BrowserOptions, open_browser_with_options};

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
        let options = BrowserOptions::new().with_dry_run(true).clone();
        if open_browser_with_options(Known::Default, "http://127.0.0.1/", &options).is_err() {
            return Self::Missing;
        }
        let named = std::env::var("BROWSER").ok().filter(|b| cfg!(unix) && !b.is_empty());
        named.map_or(Self::Usual, Self::Named)
    }

    /// Shows an address in it. `false`: there is none, or it did not start.
    #[must_use]
    pub fn open(url: &str) -> bool {
        has_display() && webbrowser::open(url).is_ok()
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
