//! One setting as a row of the table.

use super::config::Config;
use crate::sampler::Sampling;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// One setting: its names, its allowed values, and what it changes.
///
/// Rows are built with [`Setting::new`] and the methods after it, so a row states only what differs from the usual.
pub struct Setting {
    /// Its flag, without the dashes. Empty: only requests set it.
    pub flag: &'static str,
    /// Its single-letter flag.
    pub short: Option<char>,
    /// Multi-letter flags after a single dash, as in llama.cpp.
    pub dashed: &'static [&'static str],
    /// Other names of the flag.
    pub aliases: &'static [&'static str],
    /// Environment variables in addition to `LLAMA_ARG_` plus each of the flag's names.
    pub variables: &'static [&'static str],
    /// The placeholder for the value in `--help`.
    pub placeholder: &'static str,
    /// What it does, in one sentence. Empty: `--help` leaves it out.
    pub help: &'static str,
    /// Its section of `--help`.
    pub group: Group,
    /// The default, as a user would type it. Empty: there is none.
    pub default: &'static str,
    /// What `--print-config` shows if there is no value.
    pub none: &'static str,
    /// Renders the value in force, if that says more than the value as given.
    pub shown: Option<fn(&Config) -> String>,
    /// Whether a value may be a text of many lines, of which only the size is shown.
    pub is_long: bool,
    /// The setting that this one sets in another way; the last of both given wins.
    pub same_as: &'static str,
    /// Its field in requests, and its name in `/props` and in the terminal. Empty: it has none.
    pub field: &'static str,
    /// Its control on the page, if it has one.
    pub control: Option<Control>,
    /// Whether `--print-config` hides the value: a secret.
    pub is_secret: bool,
    /// Whether a value may begin with a dash.
    pub takes_dash: bool,
    /// The kind of value it takes, and what that changes.
    pub value: Value,
}

/// The kind of value a setting takes, and what that changes.
#[derive(Clone, Copy)]
pub enum Value {
    /// No value: a switch that turns something on.
    Switch(fn(&mut Config)),
    /// No value: something to do at once, which only the command line can ask for.
    Action,
    /// A whole number.
    Whole {
        /// The minimum.
        min: i64,
        /// The maximum.
        max: i64,
        /// Sets it.
        set: fn(&mut Config, i64, Given<'_>),
    },
    /// A numeric sampling setting, which requests may set as well.
    Number(Number),
    /// A text.
    Text(fn(&mut Config, Given<'_>) -> Result<(), Wrong>),
    /// A text that may be given several times.
    Texts(fn(&mut Config, &[&str], Given<'_>) -> Result<(), Wrong>),
    /// A path.
    Path(fn(&mut Config, PathBuf, Given<'_>) -> Result<(), Wrong>),
    /// A flag of other programs, without effect here.
    Ignored {
        /// Whether a value follows.
        takes: Takes,
        /// The warning for this value; `None`: the program already behaves that way.
        told: fn(&str) -> Option<&'static str>,
    },
}

/// Whether a value follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// One.
    One,
    /// One, a whole number.
    Count,
    /// One or none.
    Perhaps,
}

/// A numeric sampling setting.
#[derive(Clone, Copy)]
pub struct Number {
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// Whether it must be whole.
    pub whole: bool,
    /// Reads it; −1 stands for "all".
    pub get: fn(&Sampling) -> f64,
    /// Sets it.
    pub set: fn(&mut Sampling, f64),
}

/// A setting's control on the page.
#[derive(Debug, Clone, Copy)]
pub struct Control {
    /// The smallest value that the page offers.
    pub min: f64,
    /// The largest value that the page offers.
    pub max: f64,
    /// The step size.
    pub step: f64,
    /// Whether it is always shown, not under "more settings".
    pub main: bool,
}

/// A section of `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The model and the program.
    General,
    /// Where the server listens and who may use it.
    Server,
    /// How tokens are chosen.
    Sampling,
    /// Prompts and templates.
    Text,
}

impl Group {
    /// Its heading; none for the first.
    #[must_use]
    pub fn heading(self) -> Option<&'static str> {
        match self {
            Self::General => None,
            Self::Server => Some("Server"),
            Self::Sampling => Some("Sampling"),
            Self::Text => Some("Text"),
        }
    }
}

/// A value as given, and its origin.
#[derive(Debug, Clone, Copy)]
pub struct Given<'g> {
    /// The value.
    pub text: &'g str,
    /// Where it comes from.
    pub origin: &'g Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The program itself.
    BuiltIn,
    /// The bundle.
    Bundle,
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag,
}

impl Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::Bundle => f.write_str("bundle"),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Why a value is rejected.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It is not as expected.
    #[error("expected {0}")]
    Expected(String),
    /// A part of it is not as expected.
    #[error("found `{found}`, expected {expected}")]
    Part {
        /// The part.
        found: String,
        /// The allowed values.
        expected: String,
    },
    /// A file that it names can't be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: String,
    },
}

/// The value of one setting in one layer.
#[derive(Clone)]
pub struct Set {
    /// The setting.
    pub setting: &'static Setting,
    /// The value; empty for a switch.
    pub value: OsString,
}

impl Setting {
    /// A setting with this flag.
    pub(super) const fn new(
        flag: &'static str,
        value: Value,
        placeholder: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            flag,
            short: None,
            dashed: &[],
            aliases: &[],
            variables: &[],
            placeholder,
            help,
            group: Group::General,
            default: "",
            none: "(none)",
            shown: None,
            is_long: false,
            same_as: "",
            field: "",
            control: None,
            is_secret: false,
            takes_dash: matches!(value, Value::Whole { .. } | Value::Number(_)),
            value,
        }
    }

    /// Puts it in this section of `--help`.
    pub(super) const fn within(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    /// Adds a single-letter flag.
    pub(super) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// Adds multi-letter flags after a single dash.
    pub(super) const fn dashed(mut self, flags: &'static [&'static str]) -> Self {
        self.dashed = flags;
        self
    }

    /// Adds other names of the flag.
    pub(super) const fn aliases(mut self, names: &'static [&'static str]) -> Self {
        self.aliases = names;
        self
    }

    /// Adds further environment variables.
    pub(super) const fn variables(mut self, names: &'static [&'static str]) -> Self {
        self.variables = names;
        self
    }

    /// Sets the default.
    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    /// Sets what is shown if there is no value.
    pub(super) const fn none(mut self, text: &'static str) -> Self {
        self.none = text;
        self
    }

    /// Sets how the value in force is rendered.
    pub(super) const fn shown(mut self, render: fn(&Config) -> String) -> Self {
        self.shown = Some(render);
        self
    }

    /// Marks values as possibly long.
    pub(super) const fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    /// Makes it another way to set that setting.
    pub(super) const fn same_as(mut self, flag: &'static str) -> Self {
        self.same_as = flag;
        self
    }

    /// Makes it a field of requests.
    pub(super) const fn field(mut self, name: &'static str) -> Self {
        self.field = name;
        self
    }

    /// Adds a control on the page.
    pub(super) const fn control(mut self, min: f64, max: f64, step: f64) -> Self {
        self.control = Some(Control { min, max, step, main: false });
        self
    }

    /// Adds a control that the page always shows.
    pub(super) const fn main_control(mut self, min: f64, max: f64, step: f64) -> Self {
        self.control = Some(Control { min, max, step, main: true });
        self
    }

    /// Makes it a secret.
    pub(super) const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// Allows values that begin with a dash.
    pub(super) const fn takes_dash(mut self) -> Self {
        self.takes_dash = true;
        self
    }

    /// Its environment variables, highest precedence last: `LLAMA_ARG_` plus each of its flag's names, then llama.cpp's
    /// own name if it differs.
    #[must_use]
    pub fn all_variables(&self) -> Vec<String> {
        if self.flag.is_empty() {
            return Vec::new();
        }
        let flags = self.aliases.iter().copied().chain([self.flag]);
        let named =
            flags.map(|name| format!("LLAMA_ARG_{}", name.to_ascii_uppercase().replace('-', "_")));
        named.chain(self.variables.iter().map(ToString::to_string)).collect()
    }

    /// The flag of the setting that it sets: its own, or `same_as`.
    #[must_use]
    pub fn slot(&self) -> &'static str {
        if self.same_as.is_empty() { self.flag } else { self.same_as }
    }

    /// Whether a value follows the flag.
    #[must_use]
    pub fn takes(&self) -> Takes {
        match self.value {
            Value::Switch(_) | Value::Action => Takes::Nothing,
            Value::Ignored { takes, .. } => takes,
            _ => Takes::One,
        }
    }

    /// Whether a value is a path, which need not be Unicode.
    #[must_use]
    pub fn is_path(&self) -> bool {
        matches!(self.value, Value::Path(_))
    }

    /// Whether it takes a number, so that white space around the value is ignored.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(self.value, Value::Whole { .. } | Value::Number(_)) || self.takes() == Takes::Count
    }

    /// Checks that a value is a number if the setting takes one. Done for every layer, even an overridden one.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn check(&self, value: &OsStr) -> Result<(), Wrong> {
        let text = value.to_str().unwrap_or_default();
        let fits = match self.value {
            Value::Whole { .. } => text.parse::<i64>().is_ok(),
            Value::Number(number) => number.parse(text).is_some(),
            Value::Ignored { takes: Takes::Count, .. } => text.parse::<u64>().is_ok(),
            _ => true,
        };
        let whole = !matches!(self.value, Value::Number(Number { whole: false, .. }));
        let expected = if whole { "a whole number" } else { "a number" };
        if fits { Ok(()) } else { Err(Wrong::Expected(expected.to_owned())) }
    }

    /// Applies the values from one layer.
    ///
    /// # Errors
    /// When a value is invalid.
    pub(super) fn apply(
        &self,
        config: &mut Config,
        values: &[&OsStr],
        origin: &Origin,
    ) -> Result<(), Wrong> {
        let last = values.last().copied().unwrap_or_default();
        let texts = || {
            let text = |value: &&'_ OsStr| value.to_str().map(str::to_owned);
            let all: Option<Vec<String>> = values.iter().map(text).collect();
            all.ok_or_else(|| Wrong::Expected("valid Unicode".to_owned()))
        };
        let given = |text| Given { text, origin };
        match self.value {
            Value::Switch(set) => set(config),
            Value::Action | Value::Ignored { .. } => {}
            Value::Path(set) => set(config, Path::new(last).to_owned(), given(""))?,
            Value::Texts(set) => {
                let texts = texts()?;
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                set(config, &texts, given(texts.last().copied().unwrap_or_default()))?;
            }
            Value::Text(set) => {
                let texts = texts()?;
                set(config, given(texts.last().map_or("", String::as_str)))?;
            }
            Value::Whole { min, max, set } => {
                let number = last.to_str().and_then(|text| text.parse().ok());
                let number = number.filter(|n| (min..=max).contains(n));
                let any = min == i64::MIN && max == i64::MAX;
                let range =
                    || if any { "a whole number".to_owned() } else { format!("{min} to {max}") };
                let expected = || Wrong::Expected(range());
                set(config, number.ok_or_else(expected)?, given(""));
            }
            Value::Number(number) => {
                let found = last.to_str().and_then(|text| number.parse(text));
                let found = found.filter(|x| number.allows(*x));
                let found = found.ok_or_else(|| Wrong::Expected(number.expected()))?;
                (number.set)(&mut config.sampling, found);
            }
        }
        Ok(())
    }
}

impl Number {
    /// The allowed values, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        let what = if self.whole { "whole number" } else { "number" };
        format!("a {what} from {} to {}", self.min, self.max)
    }

    /// Parses it; a whole one has no point and no exponent.
    fn parse(&self, text: &str) -> Option<f64> {
        if self.whole { text.parse::<i64>().ok().map(|n| n as f64) } else { text.parse().ok() }
    }

    /// Whether `x` is allowed.
    #[must_use]
    pub fn allows(&self, x: f64) -> bool {
        (self.min..=self.max).contains(&x) && (!self.whole || x.fract() == 0.0)
    }
}
