//! What is known of one setting, in one row.

use super::config::Config;
use crate::sampler::Sampling;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// One setting: how it is named everywhere, what it may be, and where it goes.
///
/// Rows are made by [`Setting::new`] and the functions after it, so that a row says only what is special about it.
pub struct Setting {
    /// Its flag, without the dashes. Empty: it is set by requests only.
    pub flag: &'static str,
    /// Its flag of one letter.
    pub short: Option<char>,
    /// Flags of several letters after one dash, as llama.cpp has them.
    pub dashed: &'static [&'static str],
    /// Other names of the flag.
    pub aliases: &'static [&'static str],
    /// Environment variables beside `LLAMA_ARG_` with each of the flag's names.
    pub variables: &'static [&'static str],
    /// What stands for the value in `--help`.
    pub placeholder: &'static str,
    /// What it does, in one sentence. Empty: `--help` leaves it out.
    pub help: &'static str,
    /// Where `--help` has it.
    pub group: Group,
    /// The built-in value, as it would be given. Empty: there is none.
    pub default: &'static str,
    /// What `--print-config` shows where there is none.
    pub none: fn(&Config) -> String,
    /// The setting that this one is another way to give: the last of both counts.
    pub same_as: &'static str,
    /// Its field in requests, and its name in `/props` and in the terminal. Empty: it has none.
    pub field: &'static str,
    /// Its control on the page, if it has one.
    pub control: Option<Control>,
    /// What the page may not see of the listing: a secret.
    pub is_secret: bool,
    /// Whether a value may begin with a dash.
    pub takes_dash: bool,
    /// What it takes, and what that changes.
    pub value: Value,
}

/// What a setting takes, and what that changes.
#[derive(Clone, Copy)]
pub enum Value {
    /// Nothing: it is on.
    Switch(fn(&mut Config)),
    /// A whole number.
    Whole {
        /// The least it may be.
        min: i64,
        /// The most it may be.
        max: i64,
        /// Sets it.
        set: fn(&mut Config, i64, Given<'_>),
    },
    /// A number of sampling, which requests may set as well.
    Number(Number),
    /// A text.
    Text(fn(&mut Config, Given<'_>) -> Result<(), Wrong>),
    /// A text that may be given several times.
    Texts(fn(&mut Config, &[&str], Given<'_>) -> Result<(), Wrong>),
    /// A path.
    Path(fn(&mut Config, PathBuf, Given<'_>) -> Result<(), Wrong>),
    /// What other programs take, and is without effect here.
    Ignored {
        /// Whether a value follows.
        takes: Takes,
        /// What the user is told of this value; `None`: it is as they want it anyway.
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

/// A number of sampling.
#[derive(Clone, Copy)]
pub struct Number {
    /// The least it may be.
    pub min: f64,
    /// The most it may be.
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
    /// The least that the page offers.
    pub min: f64,
    /// The most that it offers.
    pub max: f64,
    /// By how much it goes up and down.
    pub step: f64,
    /// Whether it is shown at once, not among more settings.
    pub main: bool,
}

/// A part of `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The model and the program.
    General,
    /// Where and to whom the server speaks.
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

/// A value as it was given, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Given<'g> {
    /// The flag's name.
    pub flag: &'static str,
    /// The value.
    pub text: &'g str,
    /// Who gave it.
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

/// Why a value can't be.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It is something else than this.
    #[error("expected {0}")]
    Expected(String),
    /// This part of it is something else.
    #[error("found `{found}`, expected {expected}")]
    Part {
        /// The part.
        found: String,
        /// What it may be.
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
    /// A setting of this flag.
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
            none: |_| "(none)".to_owned(),
            same_as: "",
            field: "",
            control: None,
            is_secret: false,
            takes_dash: matches!(value, Value::Whole { .. } | Value::Number(_)),
            value,
        }
    }

    /// The same in this part of `--help`.
    pub(super) const fn within(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    /// The same with a flag of one letter.
    pub(super) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// The same with flags of several letters after one dash.
    pub(super) const fn dashed(mut self, flags: &'static [&'static str]) -> Self {
        self.dashed = flags;
        self
    }

    /// The same with other names of the flag.
    pub(super) const fn aliases(mut self, names: &'static [&'static str]) -> Self {
        self.aliases = names;
        self
    }

    /// The same with further environment variables.
    pub(super) const fn variables(mut self, names: &'static [&'static str]) -> Self {
        self.variables = names;
        self
    }

    /// The same with a built-in value.
    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.default = value;
        self
    }

    /// The same, with what is shown where nothing is set.
    pub(super) const fn none(mut self, shown: fn(&Config) -> String) -> Self {
        self.none = shown;
        self
    }

    /// The same as another way to give that setting.
    pub(super) const fn same_as(mut self, flag: &'static str) -> Self {
        self.same_as = flag;
        self
    }

    /// The same as a field of requests.
    pub(super) const fn field(mut self, name: &'static str) -> Self {
        self.field = name;
        self
    }

    /// The same with a control on the page.
    pub(super) const fn control(mut self, min: f64, max: f64, step: f64) -> Self {
        self.control = Some(Control { min, max, step, main: false });
        self
    }

    /// The same with a control that is shown at once.
    pub(super) const fn main_control(mut self, min: f64, max: f64, step: f64) -> Self {
        self.control = Some(Control { min, max, step, main: true });
        self
    }

    /// The same as a secret.
    pub(super) const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// The same with values that may begin with a dash.
    pub(super) const fn takes_dash(mut self) -> Self {
        self.takes_dash = true;
        self
    }

    /// Its environment variables, the strongest last: `LLAMA_ARG_` with each of its flag's names, then llama.cpp's own
    /// where that is another.
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

    /// The flag of the setting that it gives: its own, or the one that it is another way to give.
    #[must_use]
    pub fn slot(&self) -> &'static str {
        if self.same_as.is_empty() { self.flag } else { self.same_as }
    }

    /// Whether a value follows the flag.
    #[must_use]
    pub fn takes(&self) -> Takes {
        match self.value {
            Value::Switch(_) => Takes::Nothing,
            Value::Ignored { takes, .. } => takes,
            _ => Takes::One,
        }
    }

    /// Whether a value is a path, which need not be Unicode.
    #[must_use]
    pub fn is_path(&self) -> bool {
        matches!(self.value, Value::Path(_))
    }

    /// Whether white space around a value is no part of it: numbers.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(self.value, Value::Whole { .. } | Value::Number(_))
    }

    /// Changes the settings as one layer says.
    ///
    /// # Errors
    /// When a value can't be.
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
            all.ok_or_else(|| Wrong::Expected("a text in Unicode".to_owned()))
        };
        let given = |text| Given { flag: self.flag, text, origin };
        match self.value {
            Value::Switch(set) => set(config),
            Value::Ignored { takes, .. } => {
                let is_count = || last.to_str().is_some_and(|text| text.parse::<u32>().is_ok());
                if takes == Takes::Count && !is_count() {
                    return Err(Wrong::Expected("a whole number".to_owned()));
                }
            }
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
                let expected = || Wrong::Expected(format!("{min} to {max}"));
                set(config, number.ok_or_else(expected)?, given(""));
            }
            Value::Number(number) => {
                let found = last.to_str().and_then(|text| text.parse().ok());
                let found = found.filter(|x| number.allows(*x));
                let found = found.ok_or_else(|| Wrong::Expected(number.expected()))?;
                (number.set)(&mut config.sampling, found);
            }
        }
        Ok(())
    }
}

impl Number {
    /// What it may be, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        let what = if self.whole { "whole number" } else { "number" };
        format!("a {what} from {} to {}", self.min, self.max)
    }

    /// Whether it may be `x`.
    #[must_use]
    pub fn allows(&self, x: f64) -> bool {
        self.range().contains(&x) && (!self.whole || x.fract() == 0.0)
    }

    fn range(&self) -> RangeInclusive<f64> {
        self.min..=self.max
    }
}
