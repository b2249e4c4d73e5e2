//! Sets of numbers as regexes over their digits: bounds of any size, and multiples.
//!
//! Input: bounds and steps as decimal numbers. Output: a regex for the numbers as written. No number passes through a
//! float.

use super::regex::{and, cat, either, expression, literal, repeat};
use llguidance::derivre::RegexAst;
use std::cmp::Ordering;

/// Most digits before or after the point: more than the largest and the smallest double have.
const DIGITS_MAX: i64 = 1_100;
/// Most remainders of one `multipleOf`: each costs a regex state.
pub const REMAINDERS_MAX: u64 = 10_000;
/// Most digits after the point if remainders are counted: llguidance computes in 32 bits.
const SCALE_MAX: usize = 8;

/// A decimal number: a sign, digits before the point (empty for 0) and after it (without trailing zeros).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Decimal {
    /// Parses a JSON number; `None` if it has more than `DIGITS_MAX` digits on a side of the point.
    pub fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let negative = whole.starts_with('-');
        let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
        let leading = digits.len() - digits.trim_start_matches('0').len();
        let digits = digits.trim_matches('0');
        if digits.is_empty() {
            return Some(Self { negative: false, whole: String::new(), fraction: String::new() });
        }
        // The number is 0.digits × 10^point.
        let before = i64::try_from(whole.trim_start_matches('-').len()).ok()?;
        let point = before.checked_sub(i64::try_from(leading).ok()?)?;
        let point = point.checked_add(exponent.parse::<i64>().ok()?)?;
        let count = i64::try_from(digits.len()).ok()?;
        if point > DIGITS_MAX || count.checked_sub(point).is_none_or(|n| n > DIGITS_MAX) {
            return None;
        }
        let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or(0));
        let (whole, fraction) = if point <= 0 {
            (String::new(), zeros(-point) + digits)
        } else if point >= count {
            (digits.to_owned() + &zeros(point - count), String::new())
        } else {
            let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
            (whole.to_owned(), fraction.to_owned())
        };
        Some(Self { negative, whole, fraction })
    }

    /// Whether it has no digits after the point.
    pub fn is_whole(&self) -> bool {
        self.fraction.is_empty()
    }

    /// Whether it is above 0.
    pub fn is_positive(&self) -> bool {
        !self.negative && !self.is_zero()
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    fn absolute(&self) -> Self {
        Self { negative: false, ..self.clone() }
    }

    /// As a count, saturating at `usize::MAX`; `None` if it is negative or not whole.
    pub fn count(&self) -> Option<usize> {
        if self.negative || !self.is_whole() {
            return None;
        }
        let digits = if self.whole.is_empty() { "0" } else { &self.whole };
        Some(digits.parse().unwrap_or(usize::MAX))
    }

    /// Digits without trailing zeros, and the power of ten to multiply them by.
    fn scaled(&self) -> (String, i64) {
        let digits = format!("{}{}", self.whole, self.fraction);
        let short = digits.trim_end_matches('0');
        let exponent = digits.len() as i64 - short.len() as i64 - self.fraction.len() as i64;
        (short.trim_start_matches('0').to_owned(), exponent)
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        let (sign, point) = (if self.negative { "-" } else { "" }, !self.fraction.is_empty());
        write!(f, "{sign}{whole}{}{}", if point { "." } else { "" }, self.fraction)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |a: &Self, b: &Self| {
            (a.whole.len().cmp(&b.whole.len()))
                .then_with(|| a.whole.cmp(&b.whole))
                .then_with(|| a.fraction.cmp(&b.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The kind of numbers in a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NumberKind {
    /// All.
    #[default]
    Any,
    /// Those without a fraction.
    Whole,
    /// Those with a fraction.
    Broken,
}

/// One end of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The number at the end.
    pub at: Decimal,
    /// Whether that number is in the range.
    pub inclusive: bool,
}

/// A step of `multipleOf`: an integer, which is the number of remainders, times a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    remainders: u64,
    exponent: i64,
}

impl Step {
    /// A step; `None` if it is negative or has too many remainders or digits after the point.
    pub fn new(step: &Decimal) -> Option<Self> {
        let (digits, exponent) = step.scaled();
        let remainders = digits.parse().ok().filter(|n| (1..=REMAINDERS_MAX).contains(n))?;
        let counted = remainders == 1 || exponent >= -(SCALE_MAX as i64);
        (!step.negative && counted).then_some(Self { remainders, exponent })
    }

    /// How many regex states it takes.
    pub fn remainders(self) -> u64 {
        self.remainders
    }
}

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The kind of numbers.
    pub kind: NumberKind,
    /// The lower bound.
    pub low: Option<Bound>,
    /// The upper bound.
    pub high: Option<Bound>,
    /// Steps that the numbers must be multiples of, all of them.
    pub steps: Vec<Step>,
}

impl Numbers {
    /// The set of one number.
    pub fn only(value: Decimal) -> Self {
        let bound = Some(Bound { at: value, inclusive: true });
        Self { low: bound.clone(), high: bound, ..Self::default() }
    }

    /// The intersection; `None` if it is certainly empty.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let kind = match (self.kind, other.kind) {
            (kind, NumberKind::Any) | (NumberKind::Any, kind) => kind,
            (a, b) if a == b => a,
            _ => return None,
        };
        let pick = |a: &Option<Bound>, b: &Option<Bound>, wins: Ordering| match (a, b) {
            (Some(a), Some(b)) => {
                let order = a.at.cmp(&b.at).then(b.inclusive.cmp(&a.inclusive));
                let order =
                    if a.at == b.at && wins == Ordering::Less { order.reverse() } else { order };
                Some(if order == wins { a.clone() } else { b.clone() })
            }
            (one, None) | (None, one) => one.clone(),
        };
        let mut steps = self.steps.clone();
        steps.extend(other.steps.iter().filter(|step| !self.steps.contains(step)));
        Some(Self {
            kind,
            low: pick(&self.low, &other.low, Ordering::Greater),
            high: pick(&self.high, &other.high, Ordering::Less),
            steps,
        })
    }

    /// Why no number lies between the bounds, if none does.
    pub fn gap(&self) -> Option<String> {
        let (low, high) = (self.low.as_ref()?, self.high.as_ref()?);
        let name = |bound: &Bound, plain: &str, exclusive: &str| {
            format!("`{}` is {}", if bound.inclusive { plain } else { exclusive }, bound.at)
        };
        let order = low.at.cmp(&high.at);
        let empty = order.is_gt() || (order.is_eq() && !(low.inclusive && high.inclusive));
        empty.then(|| {
            let low = name(low, "minimum", "exclusiveMinimum");
            format!("{low}, but {}", name(high, "maximum", "exclusiveMaximum"))
        })
    }

    /// A regex for the numbers as written. Exponents are allowed only if the set is all numbers.
    pub fn expression(&self) -> RegexAst {
        if *self == Self::default() {
            return expression(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?");
        }
        let mut all = Vec::new();
        match (&self.low, &self.high) {
            (None, None) => {}
            (Some(low), Some(high)) if low.at == high.at => all.push(literal(&low.at.to_string())),
            (low, high) => all.push(range(low.as_ref(), high.as_ref())),
        }
        match self.kind {
            NumberKind::Any if all.is_empty() => {
                all.push(expression(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?"));
            }
            NumberKind::Any => {}
            NumberKind::Whole => all.push(expression("-?(0|[1-9][0-9]*)")),
            NumberKind::Broken => all.push(expression(r"-?(0|[1-9][0-9]*)\.[0-9]*[1-9]")),
        }
        all.extend(self.steps.iter().map(|step| multiples(*step)));
        and(all)
    }
}

/// Numbers between two different bounds; `None` is unbounded.
fn range(low: Option<&Bound>, high: Option<&Bound>) -> RegexAst {
    let zero = Decimal { negative: false, whole: String::new(), fraction: String::new() };
    let mut options = Vec::new();
    // 0 and above.
    if high.is_none_or(|high| !high.at.negative) {
        let mut both = vec![expression(r"(0|[1-9][0-9]*)(\.[0-9]+)?")];
        both.extend(low.filter(|low| !low.at.negative).map(|low| at_least(&low.at, low.inclusive)));
        both.extend(high.map(|high| at_most(&high.at, high.inclusive)));
        options.push(and(both));
    }
    // Below 0, as absolute values.
    if low.is_none_or(|low| low.at.negative) {
        let most = high.filter(|high| high.at.negative);
        let mut both = vec![match most {
            Some(high) => at_least(&high.at.absolute(), high.inclusive),
            None => at_least(&zero, false),
        }];
        both.extend(low.map(|low| at_most(&low.at.absolute(), low.inclusive)));
        options.push(cat(vec![literal("-"), and(both)]));
    }
    either(options)
}

/// Unsigned numbers from `n` up; `n` itself only if `inclusive`.
fn at_least(n: &Decimal, inclusive: bool) -> RegexAst {
    let some = || expression(r"(\.[0-9]+)?");
    let long = u32::try_from(n.whole.len()).unwrap_or(u32::MAX);
    let longer =
        cat(vec![expression("[1-9]"), repeat(expression("[0-9]"), long, u32::MAX), some()]);
    // From the last digit backwards: what may follow if all digits so far equal those of `n`.
    let mut equal = if !n.fraction.is_empty() {
        let mut rest =
            if inclusive { expression("[0-9]*") } else { expression("[0-9]*[1-9][0-9]*") };
        for digit in n.fraction.bytes().rev() {
            rest = either(vec![
                cat(vec![literal(&char::from(digit).to_string()), rest]),
                cat(vec![digits(digit + 1, b'9'), expression("[0-9]*")]),
            ]);
        }
        cat(vec![literal("."), rest])
    } else if inclusive {
        some()
    } else {
        expression(r"\.[0-9]*[1-9][0-9]*")
    };
    let whole = if n.whole.is_empty() { "0" } else { &n.whole };
    for (after, digit) in whole.bytes().rev().enumerate() {
        equal = cat(vec![literal(&char::from(digit).to_string()), equal]);
        if !n.whole.is_empty() {
            let after = u32::try_from(after).unwrap_or(u32::MAX);
            let larger = digits(digit + 1, b'9');
            let larger = cat(vec![larger, repeat(expression("[0-9]"), after, after), some()]);
            equal = either(vec![equal, larger]);
        }
    }
    either(vec![equal, longer])
}

/// Unsigned numbers down from `n`; `n` itself only if `inclusive`.
fn at_most(n: &Decimal, inclusive: bool) -> RegexAst {
    let some = || expression(r"(\.[0-9]+)?");
    let none = || RegexAst::NoMatch;
    let mut equal = if !n.fraction.is_empty() {
        let mut rest = if inclusive { RegexAst::EmptyString } else { none() };
        for (after, digit) in n.fraction.bytes().rev().enumerate() {
            // Stopping early makes a smaller number, because the last digit is not 0.
            let here = if after == 0 { rest } else { either(vec![RegexAst::EmptyString, rest]) };
            rest = cat(vec![literal(&char::from(digit).to_string()), here]);
            if digit > b'0' {
                let smaller = cat(vec![digits(b'0', digit - 1), expression("[0-9]*")]);
                rest = either(vec![rest, smaller]);
            }
        }
        either(vec![RegexAst::EmptyString, cat(vec![literal("."), rest])])
    } else if inclusive {
        expression(r"(\.0)?")
    } else {
        none()
    };
    let whole = if n.whole.is_empty() { "0" } else { &n.whole };
    let long = whole.len();
    for (after, digit) in whole.bytes().rev().enumerate() {
        equal = cat(vec![literal(&char::from(digit).to_string()), equal]);
        // The leading digit of a nonzero number is not 0 either.
        let least = if after + 1 == long { b'1' } else { b'0' };
        if digit > least {
            let after = u32::try_from(after).unwrap_or(u32::MAX);
            let smaller = digits(least, digit - 1);
            let smaller = cat(vec![smaller, repeat(expression("[0-9]"), after, after), some()]);
            equal = either(vec![equal, smaller]);
        }
    }
    let mut options = vec![equal];
    if let Some(long) = u32::try_from(n.whole.len()).ok().filter(|long| *long > 0) {
        options.push(cat(vec![literal("0"), some()]));
        if long > 1 {
            let rest = repeat(expression("[0-9]"), 0, long - 2);
            options.push(cat(vec![expression("[1-9]"), rest, some()]));
        }
    }
    either(options)
}

/// A digit from `from` to `to`; matches nothing if `from` is larger.
fn digits(from: u8, to: u8) -> RegexAst {
    match from.cmp(&to) {
        Ordering::Greater => RegexAst::NoMatch,
        Ordering::Equal => literal(&char::from(from).to_string()),
        Ordering::Less => expression(&format!("[{}-{}]", char::from(from), char::from(to))),
    }
}

/// Multiples of a step, with an optional minus sign.
fn multiples(step: Step) -> RegexAst {
    let (n, exponent) = (step.remainders, step.exponent);
    let coefficient = u32::try_from(n).unwrap_or(u32::MAX);
    let unsigned = if exponent >= 0 {
        let mut whole = vec![expression("[1-9][0-9]*")];
        whole.extend((n > 1).then_some(RegexAst::MultipleOf(coefficient, 0)));
        let zeros = u32::try_from(exponent).unwrap_or(u32::MAX);
        let whole = cat(vec![and(whole), repeat(literal("0"), zeros, zeros)]);
        either(vec![literal("0"), whole])
    } else if n == 1 {
        let most = u32::try_from(-exponent).unwrap_or(u32::MAX);
        let fraction = cat(vec![literal("."), repeat(expression("[0-9]"), 1, most)]);
        cat(vec![expression("[0-9]+"), repeat(fraction, 0, 1)])
    } else {
        // llguidance matches numbers with exactly this many digits after the point, or without a point.
        let most = u32::try_from(-exponent).unwrap_or(u32::MAX);
        let remainders = |digits: u32| (digits..most).fold(coefficient, |n, _| n / common(n));
        either((1..=most).map(|digits| RegexAst::MultipleOf(remainders(digits), digits)).collect())
    };
    cat(vec![expression("-?"), unsigned])
}

/// The greatest common divisor of `n` and 10.
fn common(n: u32) -> u32 {
    if n.is_multiple_of(10) {
        10
    } else if n.is_multiple_of(2) {
        2
    } else if n.is_multiple_of(5) {
        5
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llguidance::derivre::{Regex, RegexBuilder};

    fn regex(numbers: &Numbers) -> Regex {
        let mut builder = RegexBuilder::new();
        let ast = builder.mk(&numbers.expression()).unwrap();
        builder.to_regex_limited(ast, 1_000_000).unwrap()
    }

    fn decimal(text: &str) -> Decimal {
        Decimal::read(text).unwrap()
    }

    fn bound(text: &str, inclusive: bool) -> Bound {
        Bound { at: decimal(text), inclusive }
    }

    #[test]
    fn numbers_are_read_with_all_their_digits() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.0e5", "0"),
            ("9007199254740993", "9007199254740993"),
            ("-123456789012345678901234567890", "-123456789012345678901234567890"),
            ("1.50", "1.5"),
            ("1.5e3", "1500"),
            ("15e-1", "1.5"),
            ("0.00120E1", "0.012"),
            ("1e-3", "0.001"),
            ("9223372036854776000", "9223372036854776000"),
            ("100.0", "100"),
        ] {
            assert_eq!(decimal(text).to_string(), expected, "{text}");
        }
        assert_eq!(decimal("1.7976931348623157e308").to_string().len(), 309);
        assert_eq!(decimal("5e-324").to_string().len(), 326);
        for text in [
            "1e999999999",
            "1e-5000",
            "1e99999999999999999999",
            "1e9223372036854775807",
            "1e-9223372036854775808",
        ] {
            assert!(Decimal::read(text).is_none(), "{text}");
        }
        assert!(decimal("-2") < decimal("-1.5") && decimal("-1.5") < decimal("0"));
        assert!(decimal("9.5") < decimal("10") && decimal("0.09") < decimal("0.1"));
    }

    /// Every pair of bounds against every number of a grid, written as JSON writes it.
    #[test]
    fn a_range_matches_the_numbers_between_its_bounds() {
        let ends = [
            "-20.5", "-10", "-9.05", "-1", "-0.25", "0", "0.05", "0.5", "1", "9.9", "10", "19.95",
            "105",
        ];
        let grid: Vec<String> = (-2200..2200)
            .map(|n| decimal(&format!("{n}e-2")).to_string())
            .chain(["100", "105", "105.01", "1000", "-1000", "0.001", "-0.001"].map(str::to_owned))
            .collect();
        for (index, low) in ends.iter().enumerate() {
            for high in &ends[index..] {
                for flags in 0..4 {
                    let (from, to) = (flags & 1 == 0, flags & 2 == 0);
                    let numbers = Numbers {
                        low: Some(bound(low, from)),
                        high: Some(bound(high, to)),
                        ..Numbers::default()
                    };
                    if numbers.gap().is_some() {
                        assert!(low == high && !(from && to));
                        continue;
                    }
                    let mut regex = regex(&numbers);
                    let (a, b) = (decimal(low), decimal(high));
                    for n in &grid {
                        let v = decimal(n);
                        let inside = (v > a || from && v == a) && (v < b || to && v == b);
                        assert_eq!(regex.is_match(n), inside, "{n} in {low} {from} … {high} {to}");
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_may_be_half_open_with_bounds_of_any_size() {
        let mut small = regex(&Numbers {
            low: Some(bound("-9223372036854775808", true)),
            high: Some(bound("9223372036854776000", false)),
            kind: NumberKind::Whole,
            ..Numbers::default()
        });
        for (n, inside) in [
            ("-9223372036854775808", true),
            ("-9223372036854775809", false),
            ("9223372036854775999", true),
            ("9223372036854776000", false),
            ("0", true),
            ("1.5", false),
            ("01", false),
        ] {
            assert_eq!(small.is_match(n), inside, "{n}");
        }
        let mut large = regex(&Numbers {
            low: Some(bound("-1.7976931348623157e308", true)),
            high: Some(bound("1.7976931348623157e308", true)),
            ..Numbers::default()
        });
        let most = decimal("1.7976931348623157e308").to_string();
        assert!(large.is_match(&most) && large.is_match("-3.25") && !large.is_match(&(most + "0")));
        let mut tiny = regex(&Numbers { low: Some(bound("5e-324", false)), ..Numbers::default() });
        assert!(
            tiny.is_match("0.1")
                && tiny.is_match("12345678901234567890.5")
                && !tiny.is_match("0.0")
        );
        let mut below = regex(&Numbers { high: Some(bound("-10", true)), ..Numbers::default() });
        assert!(
            below.is_match("-10")
                && below.is_match("-10.5")
                && !below.is_match("-9.9")
                && !below.is_match("10")
        );
    }

    #[test]
    fn multiples_of_integers_and_decimals_match() {
        for (step, yes, no) in [
            ("3", &["0", "3", "-6", "300"][..], &["1", "3.5", "-7"][..]),
            (
                "0.25",
                &["0.25", "1.5", "-2", "7.75", "2.50", "-0.5", "10"],
                &["0.3", "1.125", "0.1", "7.7"],
            ),
            ("0.5", &["0.5", "1", "12.5"], &["0.25", "12.3"]),
            ("0.75", &["0.75", "1.5", "3", "2.25"], &["0.5", "1", "1.75"]),
            ("0.0125", &["0.0125", "0.025", "0.05", "0.1", "1"], &["0.01", "0.02", "0.0126"]),
            ("0.01", &["0.01", "4.5", "19.99"], &["0.001", "19.999"]),
            ("1000000", &["0", "1000000", "25000000"], &["1", "100000", "1500000"]),
            ("1e-9", &["0.000000001", "5"], &["0.0000000001"]),
            ("1500", &["1500", "4500", "0"], &["500", "1000"]),
            ("0.0001", &["0.0075"], &["0.00751"]),
        ] {
            let steps = vec![Step::new(&decimal(step)).unwrap()];
            let mut regex = regex(&Numbers { steps, ..Numbers::default() });
            for n in yes {
                assert!(regex.is_match(n), "{n} of {step}");
            }
            for n in no {
                assert!(!regex.is_match(n), "{n} of {step}");
            }
        }
        for step in ["999983", "0.123456789", "3e-9"] {
            assert!(Step::new(&decimal(step)).is_none(), "{step}");
        }
    }
}
