//! A progress bar on a terminal, for work that takes longer than a second.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const QUIET: Duration = Duration::from_secs(1);

/// Counts bytes; the bar appears after a second.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(what: &'static str, total: u64) -> Progress {
        Progress { what, total, done: 0, started: Instant::now(), bar: None }
    }

    pub fn add(&mut self, bytes: u64) {
        self.set(self.done + bytes);
    }

    pub fn set(&mut self, done: u64) {
        self.done = done;
        if self.bar.is_none() && self.started.elapsed() > QUIET && stderr().is_terminal() {
            let bar = ProgressBar::new(self.total)
                .with_message(self.what)
                .with_elapsed(self.started.elapsed());
            let style = "{msg} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
            bar.set_style(ProgressStyle::with_template(style).expect("a constant"));
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
