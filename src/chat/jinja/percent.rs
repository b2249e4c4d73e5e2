//! Python's `%` on strings: `printf`-style formatting
//! (`docs.python.org/3/library/stdtypes.html#printf-style-string-formatting`).

use super::guards::{bounded, invalid};
use super::python;
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

/// Cap on field width and precision.
const WIDTH_MAX: usize = 1000;

/// `text % values`.
pub(super) fn format(text: &str, values: &Value) -> Result<String, Error> {
    let mut values = Values::of(values)?;
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut field = Field::default();
        let mut named = None;
        if chars.next_if_eq(&'(').is_some() {
            let name: String = chars.by_ref().take_while(|&c| c != ')').collect();
            named = Some(values.named(&name)?);
        }
        while let Some(flag) = chars.next_if(|c| "#0- +".contains(*c)) {
            field.flags.push(flag);
        }
        field.width = size(&mut chars, &mut values)?.map(|width| {
            if width < 0 {
                field.flags.push('-');
            }
            usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX)
        });
        if chars.next_if_eq(&'.').is_some() {
            let fraction = size(&mut chars, &mut values)?.unwrap_or(0).max(0);
            field.precision = Some(usize::try_from(fraction).unwrap_or(usize::MAX));
        }
        while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
        if field.width.max(field.precision).is_some_and(|n| n > WIDTH_MAX) {
            return Err(invalid(format!("`%`: found a field wider than {WIDTH_MAX}")));
        }
        let kind = chars.next().ok_or_else(|| invalid("`%`: incomplete format"))?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = named.map_or_else(|| values.next(), Ok)?;
        out.push_str(&field.write(kind, &value)?);
        bounded(out.len())?;
    }
    values.done()?;
    Ok(out)
}

/// A number in the format, or `*` for the next value.
fn size(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut Values,
) -> Result<Option<i64>, Error> {
    if chars.next_if_eq(&'*').is_some() {
        return i64::try_from(values.next()?).map(Some);
    }
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        number = Some(number.unwrap_or(0_i64).saturating_mul(10).saturating_add(i64::from(digit)));
    }
    Ok(number)
}

/// The values to format.
struct Values {
    all: Vec<Value>,
    at: usize,
    map: Option<Value>,
}

impl Values {
    /// A tuple is several values; anything else is one.
    fn of(values: &Value) -> Result<Self, Error> {
        let all =
            if values.is_tuple() { values.try_iter()?.collect() } else { vec![values.clone()] };
        let map = (values.kind() == ValueKind::Map).then(|| values.clone());
        Ok(Self { all, at: 0, map })
    }

    fn next(&mut self) -> Result<Value, Error> {
        self.at += 1;
        let next = self.all.get(self.at - 1).cloned();
        next.ok_or_else(|| invalid("`%`: not enough values for the format"))
    }

    fn named(&self, name: &str) -> Result<Value, Error> {
        let map = self.map.as_ref().ok_or_else(|| invalid("`%`: the format requires a mapping"))?;
        map.get_attr(name)
    }

    /// All values must have been used, unless they had names.
    fn done(&self) -> Result<(), Error> {
        if self.map.is_some() || self.at >= self.all.len() {
            return Ok(());
        }
        Err(invalid("`%`: not all values were used by the format"))
    }
}

#[derive(Default)]
struct Field {
    flags: String,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Field {
    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    fn write(&self, kind: char, value: &Value) -> Result<String, Error> {
        let text = |text: String| match self.precision {
            Some(n) => text.chars().take(n).collect(),
            None => text,
        };
        Ok(match kind {
            's' => self.padded("", &text(python::str(value)?), false),
            'r' | 'a' => self.padded("", &text(python::repr(value)?), false),
            'c' => match value.as_str() {
                Some(c) if c.chars().count() == 1 => self.padded("", c, false),
                _ => {
                    let c = u32::try_from(value.clone()).ok().and_then(char::from_u32);
                    let c = c.ok_or_else(|| invalid("`%c`: expected a character"))?;
                    self.padded("", &c.to_string(), false)
                }
            },
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                let n = match value.kind() {
                    ValueKind::Number if !value.is_integer() && "diu".contains(kind) => {
                        f64::try_from(value.clone())?.trunc() as i128
                    }
                    ValueKind::Number | ValueKind::Bool => i128::try_from(value.clone())?,
                    other => {
                        return Err(invalid(format!(
                            "`%{kind}`: found {other}, expected a number"
                        )));
                    }
                };
                let magnitude = n.unsigned_abs();
                let (prefix, digits) = match kind {
                    'x' => ("0x", format!("{magnitude:x}")),
                    'X' => ("0X", format!("{magnitude:X}")),
                    'o' => ("0o", format!("{magnitude:o}")),
                    _ => ("", magnitude.to_string()),
                };
                let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
                let prefix = if self.has('#') { prefix } else { "" };
                let sign = format!("{}{prefix}", self.sign(n < 0));
                self.padded(&sign, &format!("{}{digits}", "0".repeat(zeros)), true)
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let x = f64::try_from(value.clone()).map_err(|_| {
                    invalid(format!("`%{kind}`: found {}, expected a number", value.kind()))
                })?;
                let digits = self.float(x.abs(), kind.to_ascii_lowercase());
                let digits = if kind.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
                self.padded(self.sign(x.is_sign_negative()), &digits, true)
            }
            other => return Err(invalid(format!("`%{other}`: unknown format"))),
        })
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.has('+'), self.has(' ')) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    /// Formats a non-negative float.
    fn float(&self, x: f64, kind: char) -> String {
        let precision = self.precision.unwrap_or(6);
        if !x.is_finite() {
            return if x.is_nan() { "nan".to_owned() } else { "inf".to_owned() };
        }
        let scientific = |digits: usize| {
            let text = format!("{x:.digits$e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            (mantissa.to_owned(), exponent)
        };
        let power = |e: i32| format!("e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs());
        match kind {
            'f' => format!("{x:.precision$}"),
            'e' => {
                let (mantissa, exponent) = scientific(precision);
                mantissa + &power(exponent)
            }
            _ => {
                let significant = precision.max(1);
                let (mantissa, exponent) = scientific(significant - 1);
                let short = |text: &str| {
                    if text.contains('.') && !self.has('#') {
                        text.trim_end_matches('0').trim_end_matches('.').to_owned()
                    } else {
                        text.to_owned()
                    }
                };
                if exponent < -4 || exponent >= significant as i32 {
                    short(&mantissa) + &power(exponent)
                } else {
                    let digits = usize::try_from(significant as i32 - 1 - exponent).unwrap_or(0);
                    short(&format!("{x:.digits$}"))
                }
            }
        }
    }

    fn padded(&self, sign: &str, text: &str, number: bool) -> String {
        let length = sign.len() + text.chars().count();
        let missing = self.width.unwrap_or(0).saturating_sub(length);
        if self.has('-') {
            format!("{sign}{text}{}", " ".repeat(missing))
        } else if number && self.has('0') {
            format!("{sign}{}{text}", "0".repeat(missing))
        } else {
            format!("{}{sign}{text}", " ".repeat(missing))
        }
    }
}
