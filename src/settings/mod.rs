//! All settings: one table, and what comes of it.
//!
//! A row ([`Setting`]) says how a setting is named everywhere (flag, environment, field of requests, `/props`, control of
//! the page), what it may be, what is built in, and what it changes. From the rows come the command line and its
//! `--help`, the environment, `--print-config`, the numbers that requests may set, the page's controls, and
//! `docs/settings.md`. Enters: layers of given values ([`Layer`]). Leaves: a [`Config`], in which all is resolved.
//!
//! To add a setting: a field in `config.rs`, a row in the file of its part.

mod config;
mod files;
mod general;
mod ignored;
mod page;
mod resolve;
mod sampling;
mod server;
mod setting;
#[cfg(test)]
mod tests;
mod text;

pub use config::Config;
pub use files::{read_text, unescape, without_last_break};
pub use page::page;
pub use resolve::{ConfigError, Layer, built_in};
pub use sampling::numbers;
pub use server::PORT_DEFAULT;
pub use setting::{Control, Group, Number, Origin, Set, Setting, Takes, Value, Wrong};

/// All rows, in the order of `--help`.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    [general::ROWS, server::ROWS, sampling::ROWS, text::ROWS, ignored::ROWS].into_iter().flatten()
}

/// The setting of this flag.
#[must_use]
pub fn find(flag: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.flag == flag)
}

/// The settings that have a control on the page, in its order: what concerns how tokens are chosen comes first.
pub fn controls() -> impl Iterator<Item = (&'static Setting, Control)> {
    let (sampling, others): (Vec<_>, Vec<_>) =
        all().partition(|setting| setting.group == Group::Sampling);
    let all = sampling.into_iter().chain(others);
    all.filter_map(|setting| Some((setting, setting.control?)))
}
