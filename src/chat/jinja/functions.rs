//! What chat templates call beyond Jinja itself, as `transformers` offers it.

use super::json::{self, Style};
use jiff::Zoned;
use jiff::fmt::StdFmtWrite;
use jiff::fmt::strtime::{BrokenDownTime, Config, DefaultCustom};
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use serde_json::Value as Json;

/// Marks an error as the template's own word (`raise_exception`), not a fault of it.
#[derive(Debug)]
pub(super) struct Raised;

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("raised by the template")
    }
}

impl std::error::Error for Raised {}

/// Adds them to an environment.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(python_method);
    // No chat template lays text out in columns, and a small number makes these fill the memory.
    for filter in ["batch", "slice", "format", "center", "urlencode"] {
        environment.remove_filter(filter);
    }
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
    });
    environment.add_filter("tojson", to_json);
    // As in Python, where a text and a dictionary are sequences and `None` can't be iterated.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        use ValueKind::{Map, Seq, String, Undefined};
        matches!(value.kind(), Seq | Map | String | Undefined)
    });
}

/// Longest text that a filter or method makes.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Widest column that `str.format` fills, in decimal digits of the width.
const WIDTH_DIGITS_MAX: usize = 3;
/// Deepest indentation of JSON, in spaces a level.
const INDENT_MAX: usize = 16;

/// Methods of Python's strings, lists and dictionaries.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if method == "replace"
        && let (Some(text), [from, to, ..]) = (value.as_str(), args)
    {
        bounded_replace(text, from.as_str().unwrap_or(""), to.as_str().unwrap_or(""))?;
    }
    if method == "format"
        && let Some(text) = value.as_str()
    {
        bounded_format(text)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Refuses a `str.format` that pads to a width of thousands, or to one that it computes.
fn bounded_format(text: &str) -> Result<(), Error> {
    let wide = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.trim_start_matches('0').len() > WIDTH_DIGITS_MAX);
    let nested = text.split('}').any(|part| part.replace("{{", "").matches('{').count() > 1);
    if wide || nested { too_long(usize::MAX) } else { Ok(()) }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn replace(text: String, from: String, to: String) -> Result<String, Error> {
    bounded_replace(&text, &from, &to)?;
    Ok(text.replace(&from, &to))
}

/// Refuses a replacement whose result would be too long.
fn bounded_replace(text: &str, from: &str, to: &str) -> Result<(), Error> {
    let count = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
    too_long(text.len().saturating_add(count.saturating_mul(to.len())))
}

/// Every line but the first, or every one, moved right.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn indent(text: String, width: usize, first: Option<bool>) -> Result<String, Error> {
    too_long(text.len().saturating_add(text.lines().count().saturating_mul(width)))?;
    let spaces = " ".repeat(width);
    let mut out = if first == Some(true) { spaces.clone() } else { String::new() };
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
            if !line.is_empty() {
                out.push_str(&spaces);
            }
        }
        out.push_str(line);
    }
    Ok(out)
}

fn too_long(bytes: usize) -> Result<(), Error> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a text of {bytes} bytes, expected at most {TEXT_BYTES_MAX}");
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Python's `json.dumps` with the arguments and the defaults that `transformers` gives it.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn to_json(value: Serde<Json>, options: Kwargs) -> Result<String, Error> {
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => {
            let message = "tojson: `separators` are two texts";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    let style = Style {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: options.get::<Option<usize>>("indent")?.map(|n| n.min(INDENT_MAX)),
        separators,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    json::dumps(&value.0, &style, TEXT_BYTES_MAX).or_else(|_| {
        too_long(TEXT_BYTES_MAX + 1)?;
        Ok(String::new())
    })
}

/// `datetime.strftime` of the moment a prompt is made; a directive that nobody knows stays as it is.
pub(super) fn strftime(now: &Zoned, format: &str) -> String {
    let lenient = Config::<DefaultCustom>::new().lenient(true);
    let mut out = String::new();
    let time = BrokenDownTime::from(now);
    match time.format_with_config(&lenient, format, &mut StdFmtWrite(&mut out)) {
        Ok(()) => out,
        Err(_) => format.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |date: jiff::civil::DateTime| date.to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        let leap = at(jiff::civil::date(2024, 2, 29).at(13, 4, 5, 0));
        assert_eq!(
            strftime(&leap, "%A %d %B %Y %H:%M:%S %-d %j %y %I %p"),
            "Thursday 29 February 2024 13:04:05 29 060 24 01 PM"
        );
        let first = at(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
        assert_eq!(strftime(&first, "%Y-%m-%d %a %b %% %é"), "1970-01-01 Thu Jan % %é");
    }
}
