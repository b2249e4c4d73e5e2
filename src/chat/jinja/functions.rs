//! What chat templates use beyond Jinja itself, as `transformers` provides it.

use super::guards::{invalid, is_namespace};
use super::{filters, percent, python, rewrite, text};
use jiff::fmt::StdFmtWrite;
use jiff::fmt::strtime::{BrokenDownTime, Config, DefaultCustom};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::globals;
use std::time::{SystemTime, UNIX_EPOCH};

/// Marks an error that the template raised itself (`raise_exception`), not a fault in it.
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
    environment.add_function(rewrite::PERCENT, percent_sign);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
    });
    environment.add_function("cycler", cycler);
    environment.add_function("joiner", globals::joiner);
    environment.set_formatter(|out, _, value| {
        let text = python::str(value)?;
        std::fmt::Write::write_str(out, &text).map_err(Error::from)
    });
    filters::install(environment);
    // As in Python: strings and dictionaries are sequences, a namespace is neither sequence nor mapping, and `None`
    // can't be iterated.
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && !is_namespace(value) && value.try_iter().is_ok()
    });
    environment.add_test("mapping", |value: &Value| {
        value.kind() == ValueKind::Map && !is_namespace(value)
    });
    environment.add_test("sequence", |value: &Value| {
        use ValueKind::{Map, Seq, String, Undefined};
        matches!(value.kind(), Seq | Map | String | Undefined) && !is_namespace(value)
    });
    for (name, is) in [("lower", "islower"), ("upper", "isupper")] {
        environment.add_test(name, move |value: &Value| -> Result<bool, Error> {
            Ok(text::call(&python::str(value)?, is, &[])?.is_true())
        });
    }
    environment.add_test("callable", |value: &Value| {
        matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined)
    });
}

fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    globals::cycler(items.0)
}

/// Cap on `str.format` widths, in decimal digits.
const WIDTH_DIGITS_MAX: usize = 3;

/// Methods of Python's strings, lists and dictionaries.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if method != "format" {
            return text::call(text, method, args);
        }
        bounded_format(text)?;
    }
    match (value.kind(), method, args) {
        (ValueKind::Seq | ValueKind::Map, "copy", []) => return Ok(value.clone()),
        (ValueKind::Seq, "index", [wanted]) => {
            let at = value.try_iter()?.position(|item| item == *wanted);
            return at
                .map(Value::from)
                .ok_or_else(|| invalid("index: the value is not in the list"));
        }
        _ => {}
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Rejects a `str.format` with a width above 999 or a computed one.
fn bounded_format(text: &str) -> Result<(), Error> {
    let wide = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.trim_start_matches('0').len() > WIDTH_DIGITS_MAX);
    let nested = text.split('}').any(|part| part.replace("{{", "").matches('{').count() > 1);
    if wide || nested {
        return Err(invalid("format: computed widths and widths above 999 are not supported"));
    }
    Ok(())
}

/// `left % right`: a formatted text, or a remainder with the sign of `right`.
fn percent_sign(left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        return percent::format(text, right).map(Value::from);
    }
    let number = |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool);
    if !number(left) || !number(right) {
        return Err(invalid(format!(
            "`%`: found {} and {}, expected numbers",
            left.kind(),
            right.kind()
        )));
    }
    let integer = |v: &Value| {
        (v.is_integer() || v.kind() == ValueKind::Bool)
            .then(|| i128::try_from(v.clone()).ok())
            .flatten()
    };
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        let rest = a.checked_rem(b).ok_or_else(|| invalid("`%`: division by zero"))?;
        return Ok(Value::from(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }));
    }
    let (a, b) = (f64::try_from(left.clone())?, f64::try_from(right.clone())?);
    if b == 0.0 {
        return Err(invalid("`%`: division by zero"));
    }
    let rest = a % b;
    Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }))
}

/// The current time for templates, clamped to the calendar: a clock can be set beyond the year 9999.
pub(in super::super) fn now() -> Zoned {
    moment(SystemTime::now()).to_zoned(TimeZone::system())
}

fn moment(time: SystemTime) -> Timestamp {
    let nearest = if time < UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::try_from(time).unwrap_or(nearest)
}

/// `datetime.strftime` of `now`; unknown directives stay as they are.
pub(in super::super) fn strftime(now: &Zoned, format: &str) -> String {
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
    use jiff::tz::offset;
    use std::time::Duration;

    #[test]
    fn times_beyond_the_calendar_are_clamped() {
        let years = |n| Duration::from_secs(31_556_952) * n;
        for (time, wanted) in [
            (UNIX_EPOCH + years(50) + years(1) / 2, "2020"),
            (UNIX_EPOCH + years(8029) + years(1) / 2, "9999"),
            (UNIX_EPOCH + years(8031), "9999"),
            (UNIX_EPOCH + years(100_000), "9999"),
            (UNIX_EPOCH - years(50_000), "-9999"),
        ] {
            for hours in [-12, 0, 14] {
                let there = moment(time).to_zoned(TimeZone::fixed(offset(hours)));
                assert_eq!(strftime(&there, "%Y"), wanted);
            }
        }
        assert!(strftime(&now(), "%Y").parse::<u32>().unwrap() > 2020);
    }

    #[test]
    fn dates_are_formatted() {
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
