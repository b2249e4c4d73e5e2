//! What a request, a flag or a bundle may set about sampling: names, ranges and defaults are llama.cpp's.

use std::ops::RangeInclusive;

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The steps from all tokens to those that may be drawn, in order. Mirostat replaces them.
    pub samplers: Vec<Stage>,
    /// 0 chooses the likeliest token always.
    pub temperature: f32,
    /// How far the temperature follows the entropy, up and down; 0: not at all.
    pub dynatemp_range: f32,
    /// The power of the entropy (as a part of the largest possible) that the temperature follows.
    pub dynatemp_exponent: f32,
    /// Only the k likeliest; 0: all.
    pub top_k: usize,
    /// Only the likeliest that together reach this probability; 1: all.
    pub top_p: f32,
    /// Only those at least this fraction as likely as the likeliest; 0: all.
    pub min_p: f32,
    /// Only logits within so many standard deviations of the largest; 0 or less: all.
    pub top_n_sigma: f32,
    /// Only the most typical that together exceed this probability; 1: all.
    pub typical_p: f32,
    /// How often XTC removes the likeliest tokens.
    pub xtc_probability: f32,
    /// XTC removes those at least this likely, but the least likely one of them; above 0.5: none.
    pub xtc_threshold: f32,
    /// No step by probability leaves fewer than this.
    pub min_keep: usize,
    /// Divides the logits of recent tokens (multiplies negative ones); 1: off.
    pub repeat_penalty: f32,
    /// How many recent tokens the penalties see; `None`: all.
    pub repeat_last_n: Option<usize>,
    /// Subtracted once from the logit of every recent token.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token for each time it occurred.
    pub frequency_penalty: f32,
    /// Strength of DRY, the penalty on what would continue a repetition; 0: off.
    pub dry_multiplier: f32,
    /// DRY grows by this factor with each token of the repetition.
    pub dry_base: f32,
    /// Repetitions up to this length cost nothing.
    pub dry_allowed_length: usize,
    /// How many recent tokens DRY looks through; `None`: all.
    pub dry_penalty_last_n: Option<usize>,
    /// Texts over which no repetition reaches.
    pub dry_sequence_breakers: Vec<String>,
    /// Version of Mirostat, which steers the surprise of the text; 0: off.
    pub mirostat: u8,
    /// The surprise Mirostat aims at, in bits.
    pub mirostat_tau: f32,
    /// How fast Mirostat follows.
    pub mirostat_eta: f32,
    /// The probability that `adaptive_p` aims at; negative: off.
    pub adaptive_target: f32,
    /// How long `adaptive_p` remembers: 1 / (1 − decay) tokens.
    pub adaptive_decay: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text; `None`: a new one each time.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            samplers: Stage::DEFAULT.to_vec(),
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            top_n_sigma: -1.0,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            min_keep: 0,
            repeat_penalty: 1.0,
            repeat_last_n: Some(64),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: Some(64),
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(ToOwned::to_owned).to_vec(),
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            adaptive_target: -1.0,
            adaptive_decay: 0.9,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// One step from all tokens to those that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the settings above")]
pub enum Stage {
    Penalties,
    Dry,
    TopNSigma,
    TopK,
    TypicalP,
    TopP,
    MinP,
    Xtc,
    Temperature,
    AdaptiveP,
}

impl Stage {
    /// Stages at most, repetitions included.
    pub const MAX: usize = 32;
    /// The order if nobody names one. `adaptive_p` is there only when it is named.
    const DEFAULT: [Self; 9] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::TopK,
        Self::TypicalP,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
        Self::Temperature,
    ];
    /// Name, letter in a sequence like `edskypmxt`, and the other names.
    const NAMES: [(Self, &str, char, &[&str]); 10] = [
        (Self::Penalties, "penalties", 'e', &[]),
        (Self::Dry, "dry", 'd', &[]),
        (Self::TopNSigma, "top_n_sigma", 's', &["topnsigma"]),
        (Self::TopK, "top_k", 'k', &["topk"]),
        (Self::TypicalP, "typ_p", 'y', &["typp", "typ", "typical", "typical_p"]),
        (Self::TopP, "top_p", 'p', &["topp", "nucleus"]),
        (Self::MinP, "min_p", 'm', &["minp"]),
        (Self::Xtc, "xtc", 'x', &[]),
        (Self::Temperature, "temperature", 't', &["temp"]),
        (Self::AdaptiveP, "adaptive_p", 'a', &["adaptivep"]),
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(stage, ..)| *stage == self).map_or("", |(_, name, ..)| name)
    }

    /// The stage of a name in any of its forms: `top_k`, `top-k`, `topk`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        let is = |(_, own, _, others): &&(Self, &str, char, &[&str])| {
            *own == name || others.contains(&name.as_str())
        };
        Self::NAMES.iter().find(is).map(|(stage, ..)| *stage)
    }

    /// The stages of a sequence of letters like `kpmt`.
    ///
    /// # Errors
    /// The letter that stands for none.
    pub fn sequence(letters: &str) -> Result<Vec<Self>, char> {
        let stage = |c| Self::NAMES.iter().find(|(_, _, letter, _)| *letter == c).map(|n| n.0);
        letters.chars().map(|c| stage(c).ok_or(c)).collect()
    }

    /// All names, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::NAMES.map(|(_, name, ..)| name).join(", ")
    }

    /// All letters, for messages.
    #[must_use]
    pub fn letters() -> String {
        Self::NAMES.iter().map(|(_, _, letter, _)| letter).collect()
    }
}

/// A setting that is a number.
pub struct Number {
    /// Its name in a request.
    pub name: &'static str,
    /// What it may be.
    pub range: RangeInclusive<f64>,
    /// Whether it must be whole.
    pub whole: bool,
    /// Reads it; −1 stands for "all".
    pub get: fn(&Sampling) -> f64,
    /// Sets it.
    pub set: fn(&mut Sampling, f64),
}

macro_rules! real {
    ($field:ident, $range:expr) => {
        Number {
            name: stringify!($field),
            range: $range,
            whole: false,
            get: |s| decimal(s.$field),
            set: |s, x| s.$field = x as f32,
        }
    };
}

macro_rules! whole {
    ($field:ident, $range:expr, $get:expr, $set:expr) => {
        Number { name: stringify!($field), range: $range, whole: true, get: $get, set: $set }
    };
}

/// The largest number of tokens that makes sense.
const COUNT_MAX: f64 = 2_147_483_648.0;

/// All settings that are numbers, but the seed, which has more digits than an f64.
pub const NUMBERS: &[Number] = &[
    real!(temperature, 0.0..=100.0),
    real!(dynatemp_range, 0.0..=100.0),
    real!(dynatemp_exponent, 0.0..=100.0),
    whole!(top_k, -1.0..=COUNT_MAX, |s| s.top_k as f64, |s, n| s.top_k = n as usize),
    real!(top_p, 0.0..=1.0),
    real!(min_p, 0.0..=1.0),
    real!(top_n_sigma, -1.0..=100.0),
    real!(typical_p, 0.0..=1.0),
    real!(xtc_probability, 0.0..=1.0),
    real!(xtc_threshold, 0.0..=1.0),
    whole!(min_keep, 0.0..=COUNT_MAX, |s| s.min_keep as f64, |s, n| s.min_keep = n as usize),
    real!(repeat_penalty, 0.01..=100.0),
    whole!(repeat_last_n, -1.0..=COUNT_MAX, |s| number(s.repeat_last_n), |s, n| {
        s.repeat_last_n = count(n);
    }),
    real!(presence_penalty, -100.0..=100.0),
    real!(frequency_penalty, -100.0..=100.0),
    real!(dry_multiplier, 0.0..=100.0),
    real!(dry_base, 1.0..=100.0),
    whole!(dry_allowed_length, 0.0..=COUNT_MAX, |s| s.dry_allowed_length as f64, |s, n| s
        .dry_allowed_length =
        n as usize),
    whole!(dry_penalty_last_n, -1.0..=COUNT_MAX, |s| number(s.dry_penalty_last_n), |s, n| {
        s.dry_penalty_last_n = count(n);
    }),
    whole!(mirostat, 0.0..=2.0, |s| s.mirostat.into(), |s, n| s.mirostat = n as u8),
    real!(mirostat_tau, 0.0..=100.0),
    real!(mirostat_eta, 0.0..=1.0),
    real!(adaptive_target, -1.0..=1.0),
    real!(adaptive_decay, 0.0..=0.99),
];

impl Number {
    /// What it may be, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        let what = if self.whole { "whole number" } else { "number" };
        format!("a {what} from {} to {}", self.range.start(), self.range.end())
    }

    /// Whether it may be `x`.
    #[must_use]
    pub fn allows(&self, x: f64) -> bool {
        self.range.contains(&x) && (!self.whole || x.fract() == 0.0)
    }
}

/// −1 for "all".
fn number(n: Option<usize>) -> f64 {
    n.map_or(-1.0, |n| n as f64)
}

fn count(n: f64) -> Option<usize> {
    (n >= 0.0).then_some(n as usize)
}

/// An f32 as the short decimal number it was written as.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_many_names() {
        for name in ["top_k", "top-k", "topk", "TOP_K"] {
            assert_eq!(Stage::named(name), Some(Stage::TopK));
        }
        assert_eq!(Stage::named("nucleus"), Some(Stage::TopP));
        assert_eq!(Stage::named("typ-p"), Some(Stage::TypicalP));
        assert_eq!(Stage::named("infill"), None);
        assert_eq!(Stage::sequence("edskypmxt"), Ok(Stage::DEFAULT.to_vec()));
        assert_eq!(Stage::sequence("kq"), Err('q'));
    }

    #[test]
    fn numbers_are_set_and_read_within_their_ranges() {
        for number in NUMBERS {
            let mut s = Sampling::default();
            assert!(number.allows((number.get)(&s)), "{}: the default", number.name);
            (number.set)(&mut s, *number.range.end());
            let read = (number.get)(&s);
            assert!((read - number.range.end()).abs() < 1e-9, "{}: {read}", number.name);
            assert!(!number.allows(f64::NAN));
        }
    }
}
