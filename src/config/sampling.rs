//! The settings of sampling, from flags.

use super::{ConfigError, Origin, Resolver, unescape};
use crate::cli::SamplingFlags;
use crate::sampler::{Breakers, NUMBERS, Sampling, Stage};

/// Reads one number of a layer.
type Get = fn(&SamplingFlags) -> Option<f64>;

/// A setting that is a number, the flag that sets it, and where that stands.
const FLAGS: &[(&str, &str, Get)] = &[
    ("temperature", "temp", |f| f.temperature),
    ("dynatemp_range", "dynatemp-range", |f| f.dynatemp_range),
    ("dynatemp_exponent", "dynatemp-exp", |f| f.dynatemp_exponent),
    ("top_k", "top-k", |f| whole(f.top_k)),
    ("top_p", "top-p", |f| f.top_p),
    ("min_p", "min-p", |f| f.min_p),
    ("top_n_sigma", "top-nsigma", |f| f.top_n_sigma),
    ("typical_p", "typical", |f| f.typical),
    ("xtc_probability", "xtc-probability", |f| f.xtc_probability),
    ("xtc_threshold", "xtc-threshold", |f| f.xtc_threshold),
    ("repeat_penalty", "repeat-penalty", |f| f.repeat_penalty),
    ("repeat_last_n", "repeat-last-n", |f| whole(f.repeat_last_n)),
    ("presence_penalty", "presence-penalty", |f| f.presence_penalty),
    ("frequency_penalty", "frequency-penalty", |f| f.frequency_penalty),
    ("dry_multiplier", "dry-multiplier", |f| f.dry_multiplier),
    ("dry_base", "dry-base", |f| f.dry_base),
    ("dry_allowed_length", "dry-allowed-length", |f| whole(f.dry_allowed_length)),
    ("dry_penalty_last_n", "dry-penalty-last-n", |f| whole(f.dry_penalty_last_n)),
    ("mirostat", "mirostat", |f| whole(f.mirostat)),
    ("mirostat_tau", "mirostat-ent", |f| f.mirostat_ent),
    ("mirostat_eta", "mirostat-lr", |f| f.mirostat_lr),
    ("adaptive_target", "adaptive-target", |f| f.adaptive_target),
    ("adaptive_decay", "adaptive-decay", |f| f.adaptive_decay),
];

impl Resolver<'_> {
    /// How tokens are chosen.
    pub(super) fn sampling(&mut self) -> Result<Sampling, ConfigError> {
        let mut sampling = Sampling::default();
        for &(setting, name, get) in FLAGS {
            let Some(number) = NUMBERS.iter().find(|n| n.name == setting) else { continue };
            let found = self.find(|f| get(&f.sampling));
            let (value, origin) =
                found.unwrap_or_else(|| ((number.get)(&sampling), Origin::BuiltIn));
            self.row(name, &value.to_string(), &origin);
            if !number.allows(value) {
                let (found, expected) = (value.to_string(), number.expected());
                return Err(ConfigError::Value { name, origin, found, expected });
            }
            (number.set)(&mut sampling, value);
        }
        sampling.samplers = self.samplers(sampling.samplers)?;
        sampling.dry_sequence_breakers = self.breakers(sampling.dry_sequence_breakers)?;
        sampling.logit_bias = self.logit_bias()?;
        sampling.seed = u64::try_from(self.value("seed", |f| f.sampling.seed, -1)?).ok();
        Ok(sampling)
    }

    fn samplers(&mut self, default: Vec<Stage>) -> Result<Vec<Stage>, ConfigError> {
        enum Named {
            Names(String),
            Letters(String),
        }
        let found = self.find(|f| {
            let letters = f.sampling.sampler_seq.clone().map(Named::Letters);
            f.sampling.samplers.clone().map(Named::Names).or(letters)
        });
        let wrong = |name, found, expected: String, origin: &Origin| {
            Err(ConfigError::Value { name, origin: origin.clone(), found, expected })
        };
        let (samplers, origin) = match found {
            None => (default, Origin::BuiltIn),
            Some((Named::Names(names), origin)) => {
                let mut samplers = Vec::new();
                for name in names.split(';').map(str::trim).filter(|n| !n.is_empty()) {
                    match Stage::named(name) {
                        Some(stage) => samplers.push(stage),
                        None => return wrong("samplers", name.to_owned(), Stage::names(), &origin),
                    }
                }
                (samplers, origin)
            }
            Some((Named::Letters(letters), origin)) => match Stage::sequence(&letters) {
                Ok(samplers) => (samplers, origin),
                Err(letter) => {
                    let expected = format!("letters of {}", Stage::letters());
                    return wrong("sampler-seq", letter.to_string(), expected, &origin);
                }
            },
        };
        let names: Vec<&str> = samplers.iter().map(|stage| stage.name()).collect();
        if samplers.len() > Stage::MAX {
            let expected = format!("at most {} samplers", Stage::MAX);
            return wrong("samplers", format!("{} samplers", samplers.len()), expected, &origin);
        }
        self.row("samplers", &names.join(";"), &origin);
        Ok(samplers)
    }

    fn breakers(&mut self, default: Vec<String>) -> Result<Vec<String>, ConfigError> {
        let named = |f: &crate::cli::Flags| {
            Some(f.sampling.dry_sequence_breaker.clone()).filter(|texts| !texts.is_empty())
        };
        let (texts, origin) = match self.find(named) {
            None => (default, Origin::BuiltIn),
            // After "none", only what follows counts.
            Some((texts, origin)) => {
                let none = texts.iter().rposition(|t| t == "none").map_or(0, |at| at + 1);
                let escape = self.find(|f| f.text.escapes()).is_none_or(|(escape, _)| escape);
                let read = |text: &String| if escape { unescape(text) } else { text.clone() };
                (texts[none..].iter().map(read).collect(), origin)
            }
        };
        self.row("dry-sequence-breaker", &format!("{texts:?}"), &origin);
        let long = texts.iter().find(|t| t.len() > Breakers::BYTES_MAX);
        if let Some(found) = long.cloned() {
            let expected = format!("at most {} bytes", Breakers::BYTES_MAX);
            return Err(ConfigError::Value {
                name: "dry-sequence-breaker",
                origin,
                found,
                expected,
            });
        }
        if texts.len() > Breakers::COUNT_MAX {
            let (found, expected) =
                (texts.len().to_string(), format!("at most {}", Breakers::COUNT_MAX));
            return Err(ConfigError::Value {
                name: "dry-sequence-breaker",
                origin,
                found,
                expected,
            });
        }
        Ok(texts)
    }

    fn logit_bias(&mut self) -> Result<Vec<(u32, f32)>, ConfigError> {
        let named = |f: &crate::cli::Flags| {
            Some(f.sampling.logit_bias.clone()).filter(|all| !all.is_empty())
        };
        let Some((all, origin)) = self.find(named) else { return Ok(Vec::new()) };
        self.row("logit-bias", &all.join(" "), &origin);
        all.iter()
            .map(|text| {
                bias(text).ok_or_else(|| ConfigError::Value {
                    name: "logit-bias",
                    origin: origin.clone(),
                    found: text.clone(),
                    expected: "a token id, + or -, and a number or inf, such as 42-5".to_owned(),
                })
            })
            .collect()
    }
}

/// `42-5`, `42+1.5`, `42-inf`.
fn bias(text: &str) -> Option<(u32, f32)> {
    let at = text.find(['+', '-'])?;
    let (id, bias) = text.split_at(at);
    let bias: f32 = bias.parse().ok()?;
    let usable = bias.is_finite() || bias == f32::NEG_INFINITY;
    Some((id.trim().parse().ok()?, bias)).filter(|_| usable)
}

fn whole(n: Option<i64>) -> Option<f64> {
    n.map(|n| n as f64)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Layer};
    use super::*;
    use std::ffi::OsString;

    fn resolve(arguments: &[&str]) -> Result<Sampling, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let flags = crate::cli::parse(&arguments).map_err(|e| e.to_string())?;
        let layers = [Layer { origin: Origin::Flag, flags, warning: None }];
        Config::resolve(&layers).map(|c| c.sampling).map_err(|e| e.to_string())
    }

    #[test]
    fn every_number_but_min_keep_has_a_flag() {
        for number in NUMBERS {
            let has = FLAGS.iter().any(|(setting, ..)| *setting == number.name);
            assert_eq!(has, number.name != "min_keep", "{}", number.name);
        }
        assert_eq!(FLAGS.len() + 1, NUMBERS.len());
    }

    #[test]
    fn samplers_are_named_or_spelled() {
        use Stage::{MinP, TopK};
        let samplers = |arguments: &[&str]| resolve(arguments).map(|s| s.samplers);
        assert_eq!(samplers(&["--samplers", "top-k;min_p"]), Ok(vec![TopK, MinP]));
        assert_eq!(samplers(&["--sampler-seq", "mk"]), Ok(vec![MinP, TopK]));
        assert_eq!(samplers(&["--samplers", "top_k", "--sampling-seq", "m"]), Ok(vec![MinP]));
        assert!(samplers(&["--samplers", "top_k;nope"]).unwrap_err().contains("nope"));
        assert!(samplers(&["--sampler-seq", "kq"]).unwrap_err().contains('q'));
        assert!(samplers(&["--sampler-seq", &"k".repeat(99)]).unwrap_err().contains("99"));
    }

    #[test]
    fn breakers_and_biases_are_read() {
        let breakers = |arguments: &[&str]| resolve(arguments).unwrap().dry_sequence_breakers;
        assert_eq!(
            breakers(&["--dry-sequence-breaker", r"\n", "--dry-sequence-breaker", "-"]),
            ["\n", "-"]
        );
        assert!(breakers(&["--dry-sequence-breaker", "none"]).is_empty());
        let biases = resolve(&["-l", "5-inf", "--logit-bias", "7+1.5"]).unwrap().logit_bias;
        assert_eq!(biases, [(5, f32::NEG_INFINITY), (7, 1.5)]);
        for wrong in ["5", "x+1", "5+inf", "5+nan", "-1-1", "5+"] {
            assert!(resolve(&[&format!("--logit-bias={wrong}")]).is_err(), "{wrong}");
        }
    }
}
