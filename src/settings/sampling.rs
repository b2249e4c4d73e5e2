//! Settings of sampling and of constraints on answers: command-line flag and request field in one row. Names and ranges
//! are llama.cpp's; the defaults are in [`crate::sampler::Sampling`].

use super::files::read_text;
use super::setting::{Group, Number, Setting, Value, Wrong};
use crate::constraint::Constraint;
use crate::sampler::{Breakers, Stage};
use serde::de::IgnoredAny;

/// A real-valued sampling setting, stored as it is given.
macro_rules! real {
    ($flag:literal, $field:ident, $min:literal..=$max:literal, $placeholder:literal, $help:literal) => {
        number(
            $flag,
            stringify!($field),
            Number {
                min: $min,
                max: $max,
                whole: false,
                get: |s| decimal(s.$field),
                set: |s, x| s.$field = x as f32,
            },
            $placeholder,
            $help,
        )
    };
}

/// A whole-number sampling setting, with its getter and setter.
macro_rules! whole {
    ($flag:literal, $field:ident, $min:literal..=$max:expr, $get:expr, $set:expr, $placeholder:literal, $help:literal) => {
        number(
            $flag,
            stringify!($field),
            Number { min: $min, max: $max, whole: true, get: $get, set: $set },
            $placeholder,
            $help,
        )
    };
}

/// The largest token count accepted.
const COUNT_MAX: f64 = 2_147_483_648.0;

/// The rows.
pub static ROWS: &[Setting] = &[
    real!(
        "temp",
        temperature,
        0.0..=100.0,
        "X",
        "Temperature: 0 always picks the likeliest token, more is more varied"
    )
    .aliases(&["temperature"])
    .main_control(0.0, 5.0, 0.1),
    whole!(
        "top-k",
        top_k,
        -1.0..=COUNT_MAX,
        |s| s.top_k as f64,
        |s, n| s.top_k = n as usize,
        "K",
        "Keep only the K likeliest tokens (0: all)"
    )
    .control(0.0, 1e5, 1.0),
    real!(
        "top-p",
        top_p,
        0.0..=1.0,
        "X",
        "Keep the likeliest tokens whose probabilities add up to this (1: all)"
    )
    .control(0.0, 1.0, 0.01),
    real!(
        "min-p",
        min_p,
        0.0..=1.0,
        "X",
        "Keep tokens at least this fraction as likely as the likeliest (0: all)"
    )
    .control(0.0, 1.0, 0.01),
    real!(
        "typical",
        typical_p,
        0.0..=1.0,
        "X",
        "Keep the most typical tokens whose probabilities add up to this (1: all)"
    )
    .aliases(&["typical-p"]),
    real!(
        "top-nsigma",
        top_n_sigma,
        -1.0..=100.0,
        "X",
        "Keep logits within this many standard deviations of the largest (-1: all)"
    )
    .aliases(&["top-n-sigma"]),
    real!(
        "xtc-probability",
        xtc_probability,
        0.0..=1.0,
        "X",
        "Probability of removing the likeliest tokens (XTC)"
    ),
    real!(
        "xtc-threshold",
        xtc_threshold,
        0.0..=1.0,
        "X",
        "XTC removes tokens at least this likely (above 0.5: none)"
    ),
    whole!(
        "",
        min_keep,
        0.0..=COUNT_MAX,
        |s| s.min_keep as f64,
        |s, n| s.min_keep = n as usize,
        "N",
        "Minimum number of tokens that each sampler keeps"
    ),
    real!(
        "repeat-penalty",
        repeat_penalty,
        0.01..=100.0,
        "X",
        "Penalty on recent tokens (1: none)"
    )
    .control(0.1, 5.0, 0.05),
    whole!(
        "repeat-last-n",
        repeat_last_n,
        -1.0..=COUNT_MAX,
        |s| or_all(s.repeat_last_n),
        |s, n| s.repeat_last_n = unless_all(n),
        "N",
        "Number of recent tokens that the penalties look at (-1: all)"
    ),
    real!(
        "presence-penalty",
        presence_penalty,
        -100.0..=100.0,
        "X",
        "Penalty on tokens that have occurred"
    )
    .control(-2.0, 2.0, 0.1),
    real!(
        "frequency-penalty",
        frequency_penalty,
        -100.0..=100.0,
        "X",
        "Penalty on tokens for each time they have occurred"
    )
    .control(-2.0, 2.0, 0.1),
    real!(
        "dry-multiplier",
        dry_multiplier,
        0.0..=100.0,
        "X",
        "DRY: penalty on tokens that would continue a repetition (0: none)"
    ),
    real!(
        "dry-base",
        dry_base,
        1.0..=100.0,
        "X",
        "DRY: growth of the penalty with each repeated token"
    ),
    whole!(
        "dry-allowed-length",
        dry_allowed_length,
        0.0..=COUNT_MAX,
        |s| s.dry_allowed_length as f64,
        |s, n| s.dry_allowed_length = n as usize,
        "N",
        "DRY: repetitions shorter than this are free"
    ),
    whole!(
        "dry-penalty-last-n",
        dry_penalty_last_n,
        -1.0..=COUNT_MAX,
        |s| or_all(s.dry_penalty_last_n),
        |s, n| s.dry_penalty_last_n = unless_all(n),
        "N",
        "DRY: number of recent tokens searched for repetitions (-1: all)"
    ),
    sampling(
        "dry-sequence-breaker",
        Value::Texts(|c, texts, _| {
            // After "none", only what follows counts.
            let none = texts.iter().rposition(|t| *t == "none").map_or(0, |at| at + 1);
            let texts = &texts[none..];
            if texts.len() > Breakers::COUNT_MAX {
                let (found, expected) =
                    (texts.len().to_string(), format!("at most {}", Breakers::COUNT_MAX));
                return Err(Wrong::Part { found, expected });
            }
            c.sampling.dry_sequence_breakers = texts.iter().map(ToString::to_string).collect();
            Ok(())
        }),
        "TEXT",
        r"DRY: text that ends a repetition, \n for a line break (repeatable; none: no breakers)",
    )
    .field("dry_sequence_breakers")
    .shown(|c| format!("{:?}", c.sampling.dry_sequence_breakers))
    .takes_dash(),
    real!(
        "dynatemp-range",
        dynatemp_range,
        0.0..=100.0,
        "X",
        "Dynamic temperature: range around the temperature (0: off)"
    ),
    real!("dynatemp-exp", dynatemp_exponent, 0.0..=100.0, "X", "Dynamic temperature: exponent"),
    whole!(
        "mirostat",
        mirostat,
        0.0..=2.0,
        |s| s.mirostat.into(),
        |s, n| s.mirostat = n as u8,
        "N",
        "Mirostat version, which replaces the samplers (0: off)"
    ),
    real!("mirostat-lr", mirostat_eta, 0.0..=1.0, "X", "Mirostat: learning rate"),
    real!("mirostat-ent", mirostat_tau, 0.0..=100.0, "X", "Mirostat: target entropy in bits"),
    real!(
        "adaptive-target",
        adaptive_target,
        -1.0..=1.0,
        "X",
        "Prefer tokens of about this probability; needs adaptive_p among the samplers (-1: off)"
    ),
    real!("adaptive-decay", adaptive_decay, 0.0..=0.99, "X", "adaptive_p: decay of its memory"),
    sampling(
        "samplers",
        Value::Text(|c, given| {
            let mut samplers = Vec::new();
            for name in given.text.split(';').map(str::trim).filter(|name| !name.is_empty()) {
                let wrong = || Wrong::Part { found: name.to_owned(), expected: Stage::names() };
                samplers.push(Stage::named(name).ok_or_else(wrong)?);
            }
            c.sampling.samplers = few(samplers)?;
            Ok(())
        }),
        "NAMES",
        "Samplers in order, separated by semicolons",
    )
    .field("samplers")
    .shown(|c| {
        let names: Vec<&str> = c.sampling.samplers.iter().map(|stage| stage.name()).collect();
        names.join(";")
    }),
    sampling(
        "sampler-seq",
        Value::Text(|c, given| {
            let samplers = Stage::sequence(given.text).map_err(|letter| Wrong::Part {
                found: letter.to_string(),
                expected: format!("one of the letters {}", Stage::letters()),
            })?;
            c.sampling.samplers = few(samplers)?;
            Ok(())
        }),
        "LETTERS",
        "Samplers in order, as letters such as edskypmxt",
    )
    .aliases(&["sampling-seq"])
    .same_as("samplers"),
    sampling(
        "logit-bias",
        Value::Texts(|c, texts, _| {
            let expected = "a token id, + or -, and a number or inf, such as 42-5";
            let wrong =
                |text: &str| Wrong::Part { found: text.to_owned(), expected: expected.to_owned() };
            let all: Result<Vec<_>, _> =
                texts.iter().map(|text| bias(text).ok_or_else(|| wrong(text))).collect();
            c.sampling.logit_bias = all?;
            Ok(())
        }),
        "ID±X",
        "Bias a token: its id, + or -, and a number, such as 42-5 (repeatable)",
    )
    .short('l')
    .field("logit_bias"),
    sampling(
        "ignore-eos",
        Value::Switch(|c| c.ignore_end = true),
        "",
        "Ignore the end token and keep generating",
    )
    .field("ignore_eos"),
    sampling(
        "seed",
        Value::Whole {
            min: i64::MIN,
            max: i64::MAX,
            set: |c, n, _| c.sampling.seed = u64::try_from(n).ok(),
        },
        "N",
        "Random seed: the same seed gives the same text (-1: a new one each time)",
    )
    .short('s')
    .default("-1")
    .field("seed")
    .control(-1.0, 4_294_967_295.0, 1.0),
    sampling(
        "grammar",
        Value::Text(|c, given| {
            c.constraint = Some(Constraint::grammar(given.text));
            Ok(())
        }),
        "GRAMMAR",
        "Constrain answers to this grammar (GBNF, or Lark after %llguidance)",
    )
    .long()
    .takes_dash(),
    sampling(
        "grammar-file",
        Value::Path(|c, path, _| {
            c.constraint = Some(Constraint::grammar(&read_text(&path)?));
            Ok(())
        }),
        "FILE",
        "Read the grammar from a file",
    )
    .same_as("grammar"),
    sampling(
        "json-schema",
        Value::Text(|c, given| {
            c.constraint = Some(schema(given.text.to_owned())?);
            Ok(())
        }),
        "SCHEMA",
        "Constrain answers to JSON that matches this schema",
    )
    .long()
    .short('j')
    .same_as("grammar"),
    sampling(
        "json-schema-file",
        Value::Path(|c, path, _| {
            c.constraint = Some(schema(read_text(&path)?)?);
            Ok(())
        }),
        "FILE",
        "Read the JSON schema from a file",
    )
    .dashed(&["-jf"])
    .same_as("grammar"),
];

const fn sampling(
    flag: &'static str,
    value: Value,
    placeholder: &'static str,
    help: &'static str,
) -> Setting {
    Setting::new(flag, value, placeholder, help).within(Group::Sampling)
}

const fn number(
    flag: &'static str,
    field: &'static str,
    number: Number,
    placeholder: &'static str,
    help: &'static str,
) -> Setting {
    sampling(flag, Value::Number(number), placeholder, help).field(field)
}

fn few(samplers: Vec<Stage>) -> Result<Vec<Stage>, Wrong> {
    if samplers.len() <= Stage::MAX {
        return Ok(samplers);
    }
    let (found, expected) =
        (format!("{} samplers", samplers.len()), format!("at most {} samplers", Stage::MAX));
    Err(Wrong::Part { found, expected })
}

fn schema(text: String) -> Result<Constraint, Wrong> {
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) => Ok(Constraint::JsonSchema(text)),
        Err(error) => Err(Wrong::Part {
            found: text.chars().take(40).collect(),
            expected: format!("a JSON schema: {error}"),
        }),
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

/// −1 for "all".
fn or_all(n: Option<usize>) -> f64 {
    n.map_or(-1.0, |n| n as f64)
}

fn unless_all(n: f64) -> Option<usize> {
    (n >= 0.0).then_some(n as usize)
}

/// An f32 as the shortest decimal number that stands for it.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

/// The numeric sampling settings, with their names in requests.
pub fn numbers() -> impl Iterator<Item = (&'static str, Number)> {
    ROWS.iter().filter_map(|row| match row.value {
        Value::Number(number) => Some((row.field, number)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampling;

    #[test]
    fn numbers_are_set_and_read_within_their_ranges() {
        for (name, number) in numbers() {
            let mut s = Sampling::default();
            assert!(number.allows((number.get)(&s)), "{name}: the default");
            (number.set)(&mut s, number.max);
            let read = (number.get)(&s);
            assert!((read - number.max).abs() < 1e-9, "{name}: {read}");
            assert!(!number.allows(f64::NAN));
        }
    }
}
