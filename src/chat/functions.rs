//! What chat templates call beyond Jinja itself, as `transformers` offers it.

use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, State};
use serde::Serialize as _;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

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
    environment.add_function("strftime_now", |format: String| strftime(&format, now()));
    environment.add_filter("tojson", to_json);
}

/// Longest text that a filter or method makes.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Methods of Python's strings, lists and dictionaries.
fn python_method(
    state: &mut State<'_, '_>,
    value: &minijinja::Value,
    method: &str,
    args: &[minijinja::Value],
) -> Result<minijinja::Value, Error> {
    if method == "replace"
        && let (Some(text), [from, to, ..]) = (value.as_str(), args)
    {
        bounded_replace(text, from.as_str().unwrap_or(""), to.as_str().unwrap_or(""))?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
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

/// Python's `json.dumps(value, ensure_ascii=False)`: a space after `:` and `,`, and no HTML escapes.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn to_json(value: Serde<Value>, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // `ensure_ascii`, `sort_keys` and `separators` occur in the wild and change nothing that models see.
    let _ = (options.get::<Option<bool>>("ensure_ascii"), options.get::<Option<bool>>("sort_keys"));
    let mut out = Vec::new();
    let spaces = " ".repeat(indent.unwrap_or(0).min(16));
    let result = match indent {
        Some(_) => {
            let pretty = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.0.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty))
        }
        None => value.0.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    result.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// JSON on one line with a space after `:` and `,`.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The directives of `strftime` that chat templates use, in UTC; others stay as they are.
fn strftime(format: &str, seconds: u64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let month_name = MONTHS.get(usize::try_from(month - 1).unwrap_or(0)).copied().unwrap_or("");
    let day_name = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('H') => out.push_str(&format!("{:02}", rest / 3600)),
            Some('M') => out.push_str(&format!("{:02}", rest / 60 % 60)),
            Some('S') => out.push_str(&format!("{:02}", rest % 60)),
            Some('%') | None => out.push('%'),
            Some(other) => out.extend(['%', other]),
        }
    }
    out
}

/// Year, month and day of a number of days since 1970-01-01 (Gregorian calendar).
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that the leap day is a year's last.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // 2024-02-29 was a Thursday; 1709211845 is 13:04:05 UTC of that day.
        assert_eq!(
            strftime("%A %d %B %Y %H:%M:%S", 1_709_211_845),
            "Thursday 29 February 2024 13:04:05"
        );
        assert_eq!(strftime("%Y-%m-%d %a %b %% %q", 0), "1970-01-01 Thu Jan % %q");
    }
}
