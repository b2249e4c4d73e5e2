//! Resolves every setting once, from the default, the bundle, the environment and the flags, each overriding the one
//! before.

use super::config::Config;
use super::files::unescape;
use super::setting::{Origin, Set, Setting, Takes, Value, Wrong};
use super::{all, find};
use crate::sampler::Breakers;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

/// One source of settings.
pub struct Layer {
    /// Where they come from.
    pub origin: Origin,
    /// The settings given, in order.
    pub sets: Vec<Set>,
    /// A warning about it.
    pub warning: Option<String>,
}

/// An invalid value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The value is not allowed.
    #[error("--{name} ({origin}): found `{found}`, expected {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Where it was set.
        origin: Origin,
        /// The value.
        found: String,
        /// The allowed values.
        expected: String,
    },
    /// A file that a flag names cannot be read.
    #[error("--{name} {path}: {error}")]
    File {
        /// The setting.
        name: &'static str,
        /// The file.
        path: String,
        /// Why.
        error: String,
    },
}

impl Layer {
    /// A layer of these settings.
    #[must_use]
    pub fn new(origin: Origin, sets: Vec<Set>) -> Self {
        Self { origin, sets, warning: None }
    }

    /// Whether it sets this flag.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.sets.iter().any(|set| set.setting.flag == flag)
    }

    /// The value it gives for the setting with this flag.
    #[must_use]
    pub fn value(&self, flag: &str) -> Option<&OsStr> {
        let set = self.sets.iter().rfind(|set| set.setting.flag == flag)?;
        Some(&set.value)
    }

    /// Adds a value that overrides what the layer already sets.
    pub fn set(&mut self, flag: &str, value: impl Into<OsString>) {
        debug_assert!(find(flag).is_some(), "{flag} is not a setting");
        if let Some(setting) = find(flag) {
            self.sets.push(Set { setting, value: value.into() });
        }
    }
}

/// What one layer gives for a setting: by which of its flags, with which values, and from where.
struct Found<'l> {
    setting: &'static Setting,
    values: Vec<&'l OsStr>,
    origin: &'l Origin,
}

impl Config {
    /// Resolves the layers, highest precedence last.
    ///
    /// # Errors
    /// When a value is invalid or a file it names cannot be read.
    pub fn resolve(layers: &[Layer]) -> Result<Self, ConfigError> {
        for Layer { origin, sets, .. } in layers {
            for Set { setting, value } in sets {
                setting.check(value).map_err(|wrong| error(setting, value, origin, wrong))?;
            }
        }
        let mut config = Self::blank();
        let mut listed = Vec::new();
        for setting in all().filter(|s| !s.flag.is_empty() && s.same_as.is_empty()) {
            if !setting.default.is_empty() {
                let value = OsStr::new(setting.default);
                apply(&mut config, setting, &[value], &Origin::BuiltIn)?;
            }
            // Settings that add up (API keys and their files) all count, each from its highest layer.
            let found = found(layers, setting);
            if let Some(found) = &found {
                apply(&mut config, found.setting, &found.values, found.origin)?;
            }
            listed.push((setting, found));
        }
        if config.escape {
            config.prompt = config.prompt.as_deref().map(unescape);
            let texts = &mut config.sampling.dry_sequence_breakers;
            for text in config.stops.iter_mut().chain(texts) {
                *text = unescape(text);
            }
        }
        let breakers = &config.sampling.dry_sequence_breakers;
        if let Some(long) = breakers.iter().find(|text| text.len() > Breakers::BYTES_MAX) {
            let slot = listed.iter().find(|(s, _)| s.flag == "dry-sequence-breaker");
            let origin = slot.and_then(|(_, found)| Some(found.as_ref()?.origin.clone()));
            return Err(ConfigError::Value {
                name: "dry-sequence-breaker",
                origin: origin.unwrap_or(Origin::BuiltIn),
                found: long.clone(),
                expected: format!("at most {} bytes", Breakers::BYTES_MAX),
            });
        }
        let mut listing = String::new();
        for (setting, found) in &listed {
            if !matches!(setting.value, Value::Ignored { .. } | Value::Action) {
                let _ = writeln!(listing, "{}", line(&config, setting, found.as_ref()));
            }
        }
        config.listing = listing;
        config.warnings = warnings(layers);
        Ok(config)
    }
}

/// The setting as given by the highest layer that has it: the last flag for it, with all values given to that flag.
fn found<'l>(layers: &'l [Layer], slot: &Setting) -> Option<Found<'l>> {
    layers.iter().rev().find_map(|layer| {
        let last = layer.sets.iter().rfind(|set| set.setting.slot() == slot.flag)?.setting;
        let same = layer.sets.iter().filter(|set| set.setting.flag == last.flag);
        let values = same.map(|set| set.value.as_os_str()).collect();
        Some(Found { setting: last, values, origin: &layer.origin })
    })
}

fn apply(
    config: &mut Config,
    setting: &Setting,
    values: &[&OsStr],
    origin: &Origin,
) -> Result<(), ConfigError> {
    let last = values.last().copied().unwrap_or_default();
    setting.apply(config, values, origin).map_err(|wrong| error(setting, last, origin, wrong))
}

fn error(setting: &Setting, value: &OsStr, origin: &Origin, wrong: Wrong) -> ConfigError {
    let name = setting.flag;
    let (found, expected) = match wrong {
        Wrong::File { path, error } => return ConfigError::File { name, path, error },
        Wrong::Part { found, expected } => (found, expected),
        Wrong::Expected(expected) => (value.to_string_lossy().into_owned(), expected),
    };
    let found = if setting.is_secret && !found.is_empty() { "(hidden)".to_owned() } else { found };
    ConfigError::Value { name, origin: origin.clone(), found, expected }
}

/// A line of the listing: name, value and origin. `setting` may have been given by another of its flags.
fn line(config: &Config, setting: &Setting, found: Option<&Found<'_>>) -> String {
    let (name, value, origin) = match found {
        None => (setting.flag, built_in(config, setting), &Origin::BuiltIn),
        Some(found) => {
            let (name, value) = in_force(config, setting, found);
            (name, value, found.origin)
        }
    };
    format!("{name:<18} = {value:<24} ({origin})")
}

/// The name and value of a setting that was given, as shown to the user.
fn in_force(config: &Config, slot: &Setting, found: &Found<'_>) -> (&'static str, String) {
    if let Some(shown) = slot.shown {
        return (slot.flag, shown(config));
    }
    let Found { setting, values, .. } = found;
    let text = values.join(OsStr::new(" ")).to_string_lossy().into_owned();
    let is_word = !text.contains(|c: char| c == '{' || c.is_control() || c.is_whitespace());
    let value = match setting.value {
        Value::Switch(_) => "true".to_owned(),
        Value::Number(number) => (number.get)(&config.sampling).to_string(),
        _ if setting.is_secret => "(hidden)".to_owned(),
        _ if setting.is_long && !is_word => format!("({} bytes)", text.len()),
        _ if text.is_empty() || text.contains(|c: char| c.is_control() || c.is_whitespace()) => {
            format!("{text:?}")
        }
        _ => text,
    };
    (setting.flag, value)
}

/// A setting's default, as shown to the user.
#[must_use]
pub fn built_in(config: &Config, setting: &Setting) -> String {
    match (setting.shown, setting.value) {
        _ if !setting.default.is_empty() => setting.default.to_owned(),
        (Some(shown), _) => shown(config),
        (_, Value::Number(number)) => (number.get)(&config.sampling).to_string(),
        (_, Value::Switch(_)) => "false".to_owned(),
        _ => setting.none.to_owned(),
    }
}

/// A setting's default for `--help` and the page of settings: none if no value follows the flag, if the help text says
/// it already, or if it is not a single value.
#[must_use]
pub fn default_in_help(setting: &Setting) -> Option<String> {
    let default = built_in(Config::built_in(), setting);
    let is_value = !default.is_empty() && !default.starts_with(['(', '[', '{']);
    let is_said = setting.help.contains("default");
    (is_value && !is_said && setting.takes() != Takes::Nothing).then_some(default)
}

/// Warnings of the layers and of settings without effect, each once.
fn warnings(layers: &[Layer]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for layer in layers {
        let ignored = layer.sets.iter().filter_map(|set| match set.setting.value {
            Value::Ignored { told, .. } => told(&set.value.to_string_lossy()),
            _ => None,
        });
        for text in layer.warning.as_deref().into_iter().chain(ignored) {
            if !out.iter().any(|other| other == text) {
                out.push(text.to_owned());
            }
        }
    }
    out
}
