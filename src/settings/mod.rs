//! All settings: one table, and everything derived from it.
//!
//! A row ([`Setting`]) gives a setting's names (flag, environment variable, request field, `/props`, control on the
//! page), its allowed values, its default, and what it changes. From the rows come the command line and its `--help`,
//! the environment, `--print-config`, the numbers that requests may set, the page's controls, and `docs/settings.md`.
//! Input: layers of given values ([`Layer`]). Output: a fully resolved [`Config`].
//!
//! To add a setting, add a field in `config.rs` and a row in the file of its group.

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
pub use resolve::{ConfigError, Layer, built_in, default_in_help};
pub use sampling::numbers;
pub use server::PORT_DEFAULT;
pub use setting::{Control, Group, Number, Origin, Set, Setting, Takes, Value, Wrong};

/// All rows, in the order of `--help`.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    [general::ROWS, server::ROWS, sampling::ROWS, text::ROWS, ignored::ROWS].into_iter().flatten()
}

/// The setting with this flag.
#[must_use]
pub fn find(flag: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.flag == flag && !flag.is_empty())
}

/// The settings with a control on the page, in its order: sampling comes first.
pub fn controls() -> impl Iterator<Item = (&'static Setting, Control)> {
    let (sampling, others): (Vec<_>, Vec<_>) =
        all().partition(|setting| setting.group == Group::Sampling);
    let all = sampling.into_iter().chain(others);
    all.filter_map(|setting| Some((setting, setting.control?)))
}
