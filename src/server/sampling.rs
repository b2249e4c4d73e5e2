//! The sampling fields of a request: llama.cpp's names and OpenAI's.

use super::error::ApiError;
use super::fields::Fields;
use crate::sampler::{Breakers, Sampling, Stage};
use crate::settings::{Number, numbers};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;

/// The fields that are not in the table of numbers.
const OTHERS: &[&str] = &["samplers", "dry_sequence_breakers", "logit_bias", "seed"];

/// The names of all sampling fields.
pub fn known() -> impl Iterator<Item = &'static str> {
    numbers().map(|(name, _)| name).chain(OTHERS.iter().copied())
}

/// Reads the fields; those not set are as in `defaults`. Token ids are below `vocab`; `encode` tokenizes a text.
pub fn read(
    f: &mut Fields,
    defaults: &Sampling,
    vocab: usize,
    encode: &dyn Fn(&str) -> Vec<u32>,
) -> Result<Sampling, ApiError> {
    let mut sampling = defaults.clone();
    for (name, number) in numbers() {
        let read = |v: &Value| v.as_f64().filter(|&x| number.allows(x));
        if let Some(value) = f.typed(name, &number.expected(), read)? {
            (number.set)(&mut sampling, value);
        }
    }
    if let Some(samplers) = samplers(f)? {
        sampling.samplers = samplers;
    }
    if let Some(breakers) = breakers(f)? {
        sampling.dry_sequence_breakers = breakers;
    }
    if let Some(bias) = logit_bias(f, vocab, encode)? {
        sampling.logit_bias = bias;
    }
    match f.integer("seed", i64::MIN..=i64::MAX)? {
        None => {}
        // −1 asks for a new seed each time; other negative numbers are seeds like any other.
        Some(-1) => sampling.seed = None,
        Some(seed) => sampling.seed = Some(seed as u64),
    }
    Ok(sampling)
}

/// The settings as JSON, under the names of the fields.
pub fn json(s: &Sampling) -> Map<String, Value> {
    let number = |(name, n): (&str, Number)| {
        let value = (n.get)(s);
        (name.to_owned(), if n.whole { json!(value as i64) } else { json!(value) })
    };
    let mut all: Map<String, Value> = numbers().map(number).collect();
    let samplers: Vec<&str> = s.samplers.iter().map(|stage| stage.name()).collect();
    all.insert("samplers".to_owned(), json!(samplers));
    all.insert("dry_sequence_breakers".to_owned(), json!(s.dry_sequence_breakers));
    all.insert("seed".to_owned(), s.seed.map_or(json!(-1), |n| json!(n)));
    all
}

/// An array of names, or letters like `kpmt`.
fn samplers(f: &mut Fields) -> Result<Option<Vec<Stage>>, ApiError> {
    let max = Stage::MAX;
    let expected = format!(
        "an array of at most {max} of {}, or a string of the letters {}",
        Stage::names(),
        Stage::letters()
    );
    let read = |v: &Value| match v {
        Value::String(letters) => Stage::sequence(letters).ok(),
        Value::Array(names) => names.iter().map(|n| Stage::named(n.as_str()?)).collect(),
        _ => None,
    };
    f.typed("samplers", &expected, |v| read(v).filter(|all| all.len() <= max))
}

fn breakers(f: &mut Fields) -> Result<Option<Vec<String>>, ApiError> {
    let (count, bytes) = (Breakers::COUNT_MAX, Breakers::BYTES_MAX);
    let expected = format!("an array of at most {count} strings of at most {bytes} bytes");
    f.typed("dry_sequence_breakers", &expected, |v| {
        let texts = v.as_array().filter(|all| all.len() <= count)?;
        let text = |v: &Value| v.as_str().filter(|t| t.len() <= bytes).map(ToOwned::to_owned);
        texts.iter().map(text).collect()
    })
}

/// Most bytes of text in a `logit_bias`.
const BIAS_BYTES_MAX: usize = 64 << 10;

/// `{"42": -100, " the": 5}`, or llama.cpp's `[[42, -100], [" the", false]]`. A text biases each of its tokens; several
/// biases of one token add up.
fn logit_bias(
    f: &mut Fields,
    vocab: usize,
    encode: &dyn Fn(&str) -> Vec<u32>,
) -> Result<Option<Vec<(u32, f32)>>, ApiError> {
    let bias = |v: &Value| match v {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        v => v.as_f64().filter(|b| b.abs() <= 100.0).map(|b| b as f32),
    };
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| (id as usize) < vocab);
    let bytes = Cell::new(0);
    let text = |text: &str| {
        bytes.set(bytes.get() + text.len());
        (bytes.get() <= BIAS_BYTES_MAX).then(|| encode(text))
    };
    // As in the reference: a key that is a number is an id.
    let key = |key: &str| {
        let digits = key.trim_start();
        let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return text(key);
        }
        key.trim_start().parse().ok().and_then(id).map(|id| vec![id])
    };
    let expected = format!(
        "token ids below {vocab} or strings of at most {BIAS_BYTES_MAX} bytes in total, each with a number from -100 to 100 or false"
    );
    let found: Option<Vec<(Vec<u32>, f32)>> = f.typed("logit_bias", &expected, |v| match v {
        Value::Object(map) => map.iter().map(|(k, v)| Some((key(k)?, bias(v)?))).collect(),
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| match pair.as_array()?.as_slice() {
                [Value::String(token), v] => Some((text(token)?, bias(v)?)),
                [token, v] => Some((vec![id(token.as_u64()?)?], bias(v)?)),
                _ => None,
            })
            .collect(),
        _ => None,
    })?;
    Ok(found.map(|all| {
        let mut sums = BTreeMap::new();
        for (ids, bias) in all {
            ids.into_iter().for_each(|id| *sums.entry(id).or_insert(0.0) += bias);
        }
        sums.into_iter().collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(body: &str) -> Result<Sampling, String> {
        let mut fields =
            Fields::parse(body.as_bytes(), &super::super::budget::Share::default()).unwrap();
        // One token per byte.
        let encode = |text: &str| text.bytes().map(u32::from).map(|b| b % 100).collect();
        read(&mut fields, &Sampling::default(), 100, &encode).map_err(|e| e.json().to_string())
    }

    #[test]
    fn settings_round_trip() {
        let body = json!(json(&Sampling { top_k: 7, seed: Some(5), ..Sampling::default() }));
        let read = sampling(&body.to_string()).unwrap();
        assert_eq!(read, Sampling { top_k: 7, seed: Some(5), ..Sampling::default() });
    }

    #[test]
    fn both_forms_of_samplers_and_bias_are_parsed() {
        let read = |body| sampling(body).unwrap();
        assert_eq!(read(r#"{"samplers": "kp"}"#).samplers, [Stage::TopK, Stage::TopP]);
        assert_eq!(read(r#"{"samplers": ["min-p"]}"#).samplers, [Stage::MinP]);
        assert!(read(r#"{"samplers": []}"#).samplers.is_empty());
        let biases = [(5, -2.0), (6, f32::NEG_INFINITY)];
        assert_eq!(read(r#"{"logit_bias": {"5": -2, "6": false}}"#).logit_bias, biases);
        assert_eq!(read(r#"{"logit_bias": [[5, -2], [6, false]]}"#).logit_bias, biases);
    }

    #[test]
    fn a_text_bias_applies_to_each_of_its_tokens() {
        let bias =
            |body: Value| sampling(&json!({ "logit_bias": body }).to_string()).unwrap().logit_bias;
        let (a, b) = (u32::from(b'a'), u32::from(b'b'));
        assert_eq!(bias(json!([["ab", 5], [b, -1]])), [(a, 5.0), (b, 4.0)]);
        assert_eq!(bias(json!({ "ab": 5, "98": -1 })), [(a, 5.0), (b, 4.0)]);
        assert_eq!(bias(json!({ "a": false, "97": 3 })), [(a, f32::NEG_INFINITY)]);
        // In a pair, a string is always text; as a key, a number is an id.
        assert_eq!(bias(json!([["5", 1]])), [(53, 1.0)]);
        assert_eq!(bias(json!({ "5": 1, "5x": 2 }))[..2], [(5, 1.0), (20, 2.0)]);
        assert_eq!(bias(json!({ "": 1 })), []);
    }

    #[test]
    fn errors_name_the_invalid_field() {
        for (body, name) in [
            (r#"{"samplers": ["nope"]}"#, "nope"),
            (r#"{"samplers": "q"}"#, "samplers"),
            (r#"{"samplers": 5}"#, "samplers"),
            (r#"{"mirostat": 3}"#, "mirostat"),
            (r#"{"mirostat": 1.5}"#, "mirostat"),
            (r#"{"top_k": "5"}"#, "top_k"),
            (r#"{"dry_sequence_breakers": "x"}"#, "dry_sequence_breakers"),
            (r#"{"logit_bias": {"100": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": {"5": true}}"#, "logit_bias"),
            (r#"{"logit_bias": {"5": 101}}"#, "logit_bias"),
            (r#"{"logit_bias": {"-1": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": {"99999999999999999999999": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": [[-1, 1]]}"#, "logit_bias"),
            (r#"{"logit_bias": [["a"]]}"#, "logit_bias"),
            (r#"{"logit_bias": "a"}"#, "logit_bias"),
            (&format!(r#"{{"logit_bias": {{"{}": 1}}}}"#, "x".repeat(70_000)), "logit_bias"),
        ] {
            let error = sampling(body).unwrap_err();
            assert!(error.contains(name), "{body}: {error}");
        }
    }
}
