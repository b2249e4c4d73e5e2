//! Jinja2's filters, where minijinja lacks them or behaves differently
//! (`jinja.palletsprojects.com/en/stable/templates/#builtin-filters`).

use super::super::json::{self, Style};
use super::guards::{TEXT_BYTES_MAX, bounded, invalid};
use super::{percent, python, text, values};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, State, Value, filters};

/// Adds them to an environment.
pub(super) fn install(environment: &mut Environment<'_>) {
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    for name in ["escape", "e", "forceescape"] {
        environment.add_filter(name, |value: &Value| python::str(value).map(|text| escaped(&text)));
    }
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    environment.add_filter("batch", batch);
    environment.add_filter("capitalize", |v: &Value| python::str(v).map(|t| text::capitalized(&t)));
    environment.add_filter("center", center);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("filesizeformat", file_size);
    environment.add_filter("float", float);
    environment.add_filter("format", format);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("items", items);
    environment.add_filter("lower", |v: &Value| python::str(v).map(|text| text.to_lowercase()));
    environment.add_filter("pprint", |value: &Value| python::repr(value));
    environment.add_filter("replace", replace);
    environment.add_filter("slice", slice);
    environment.add_filter("sort", sort);
    environment.add_filter("string", |value: &Value| python::str(value));
    environment.add_filter("striptags", |text: String| without_tags(&text));
    environment.add_filter("tojson", to_json);
    environment.add_filter("trim", trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("unique", unique);
    environment.add_filter("upper", |v: &Value| python::str(v).map(|text| text.to_uppercase()));
    environment.add_filter("urlencode", url_encode);
    environment.add_filter("wordcount", |text: String| text::word_count(&text));
}

/// Turns positional arguments into keyword arguments.
fn named(args: Rest<Value>, more: &Kwargs, names: &[&str]) -> Result<Kwargs, Error> {
    if args.len() > names.len() {
        return Err(Error::from(minijinja::ErrorKind::TooManyArguments));
    }
    let mut all: Vec<(String, Value)> =
        names.iter().zip(args.0).map(|(name, value)| ((*name).to_owned(), value)).collect();
    for name in more.args() {
        all.push((name.to_owned(), more.get(name)?));
    }
    Ok(all.into_iter().collect())
}

/// An argument, by position or by keyword.
fn argument(args: &Rest<Value>, more: &Kwargs, place: usize, name: &str) -> Option<Value> {
    let by_name = || more.get::<Option<Value>>(name).ok().flatten();
    args.get(place).cloned().or_else(by_name).filter(|v| !v.is_undefined())
}

/// The number of elements or characters; 0 if undefined.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value
        .len()
        .ok_or_else(|| invalid(format!("length: found {}, which has no length", value.kind())))
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn default(value: &Value, args: Rest<Value>, more: Kwargs) -> Value {
    let other = argument(&args, &more, 0, "default_value").unwrap_or_else(|| Value::from(""));
    let falsy = argument(&args, &more, 1, "boolean").is_some_and(|v| v.is_true());
    if value.is_undefined() || (falsy && !value.is_true()) { other } else { value.clone() }
}

fn batch(
    state: &State<'_, '_>,
    value: Value,
    count: usize,
    fill: Option<Value>,
) -> Result<Value, Error> {
    bounded(count)?;
    filters::batch(state, value, count, fill)
}

fn slice(
    state: &State<'_, '_>,
    value: Value,
    count: usize,
    fill: Option<Value>,
) -> Result<Value, Error> {
    bounded(count)?;
    filters::slice(state, value, count, fill)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn center(value: &Value, args: Rest<Value>, more: Kwargs) -> Result<Value, Error> {
    let width = argument(&args, &more, 0, "width").unwrap_or_else(|| Value::from(80));
    text::call(&python::str(value)?, "center", &[width])
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn dictsort(value: &Value, args: Rest<Value>, more: Kwargs) -> Result<Value, Error> {
    filters::dictsort(value, named(args, &more, &["case_sensitive", "by", "reverse"])?)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn sort(
    state: &State<'_, '_>,
    value: Value,
    args: Rest<Value>,
    more: Kwargs,
) -> Result<Value, Error> {
    filters::sort(state, value, named(args, &more, &["reverse", "case_sensitive", "attribute"])?)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn unique(
    state: &State<'_, '_>,
    value: Value,
    args: Rest<Value>,
    more: Kwargs,
) -> Result<Value, Error> {
    filters::unique(state, value, named(args, &more, &["case_sensitive", "attribute"])?)
}

/// The pairs of a dictionary; none if undefined.
fn items(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() { Ok(Value::from(Vec::<Value>::new())) } else { filters::items(value) }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn trim(value: &Value, args: Rest<Value>, more: Kwargs) -> Result<String, Error> {
    let chars = argument(&args, &more, 0, "chars").filter(|v| !v.is_none());
    let chars: Option<Vec<char>> = chars.map(|v| v.as_str().unwrap_or_default().chars().collect());
    Ok(text::strip(&python::str(value)?, chars.as_deref(), true, true).to_owned())
}

/// Python's `int`; anything but a number gives the default.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn int(value: &Value, args: Rest<Value>, more: Kwargs) -> Result<Value, Error> {
    let default = argument(&args, &more, 0, "default").unwrap_or_else(|| Value::from(0));
    let base = argument(&args, &more, 1, "base").map_or(Ok(10), u32::try_from)?;
    let whole = |x: f64| (x.is_finite() && x.abs() < 1e38).then(|| Value::from(x.trunc() as i128));
    let found = match value.kind() {
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(whole),
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::String => {
            let plain = text::strip(value.as_str().unwrap_or_default(), None, true, true);
            let digits = plain.replace('_', "");
            let prefix = match base {
                16 => &["0x", "0X"],
                8 => &["0o", "0O"],
                2 => &["0b", "0B"],
                _ => &["", ""],
            };
            let bare = prefix.iter().find_map(|p| digits.strip_prefix(p)).unwrap_or(&digits);
            let integer =
                (2..=36).contains(&base).then(|| i128::from_str_radix(bare, base).ok()).flatten();
            integer.map(Value::from).or_else(|| digits.parse().ok().and_then(whole))
        }
        _ => None,
    };
    Ok(found.unwrap_or(default))
}

/// Python's `float`; anything but a number gives the default.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn float(value: &Value, args: Rest<Value>, more: Kwargs) -> Value {
    let default = argument(&args, &more, 0, "default").unwrap_or_else(|| Value::from(0.0));
    let found = match value.kind() {
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::String => {
            value.as_str().unwrap_or_default().trim().replace('_', "").parse().ok()
        }
        _ => None,
    };
    found.map_or(default, Value::from)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn format(text: String, args: Rest<Value>, more: Kwargs) -> Result<String, Error> {
    let names: Vec<(String, Value)> = more
        .args()
        .map(|name| Ok((name.to_owned(), more.get(name)?)))
        .collect::<Result<_, Error>>()?;
    let values = if names.is_empty() {
        Value::from(minijinja::value::Tuple::from(args.0))
    } else {
        Value::from(names.into_iter().collect::<std::collections::BTreeMap<_, _>>())
    };
    percent::format(&text, &values)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn replace(value: &Value, args: Rest<Value>, more: Kwargs) -> Result<String, Error> {
    let part = |place: usize, name: &str| match argument(&args, &more, place, name) {
        Some(part) => python::str(&part),
        None => Err(invalid(format!("replace: `{name}` is missing"))),
    };
    let count = argument(&args, &more, 2, "count").filter(|v| !v.is_none());
    let count = count.map_or(Ok(-1), i64::try_from)?;
    text::replaced(&python::str(value)?, &part(0, "old")?, &part(1, "new")?, count)
}

/// Indents every line but the first, by a number of spaces or by a text.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn indent(value: &Value, args: Rest<Value>, more: Kwargs) -> Result<String, Error> {
    let text = python::str(value)?;
    let width = argument(&args, &more, 0, "width").unwrap_or_else(|| Value::from(4));
    let first = argument(&args, &more, 1, "first").is_some_and(|v| v.is_true());
    let blank = argument(&args, &more, 2, "blank").is_some_and(|v| v.is_true());
    let margin = if let Some(margin) = width.as_str() {
        margin.to_owned()
    } else {
        let width = usize::try_from(width)?;
        bounded(width)?;
        " ".repeat(width)
    };
    let lines = text::lines(&text, false);
    bounded(text.len().saturating_add((lines.len() + 1).saturating_mul(margin.len())))?;
    let mut out = String::with_capacity(text.len());
    // A trailing line break begins one more line.
    let ends = text::lines(&format!("{text}."), false).len() > lines.len();
    let more = ends.then_some("");
    for (index, line) in lines.into_iter().chain(more).enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn truncate(text: String, args: Rest<Value>, more: Kwargs) -> Result<String, Error> {
    let number = |place: usize, name: &str, default: usize| {
        let given = argument(&args, &more, place, name).filter(|v| !v.is_none());
        given.map_or(Ok(default), usize::try_from)
    };
    let (length, leeway) = (number(0, "length", 255)?, number(3, "leeway", 5)?);
    let within = argument(&args, &more, 1, "killwords").is_some_and(|v| v.is_true());
    let end = argument(&args, &more, 2, "end").map_or(Ok("...".to_owned()), |v| python::str(&v))?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let room = length.checked_sub(end.chars().count());
    let room = room.ok_or_else(|| invalid("truncate: expected a length no shorter than `end`"))?;
    let kept: String = text.chars().take(room).collect();
    let kept = if within {
        kept.as_str()
    } else {
        kept.rsplit_once(' ').map_or(kept.as_str(), |(k, _)| k)
    };
    Ok(format!("{kept}{end}"))
}

fn file_size(value: f64, binary: Option<bool>) -> String {
    let binary = binary.unwrap_or(false);
    let (base, infix) = if binary { (1024.0, "i") } else { (1000.0, "") };
    if value < base {
        let count = value.trunc() as i64;
        return format!("{count} {}", if count == 1 { "Byte" } else { "Bytes" });
    }
    let mut unit = base;
    for prefix in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
        unit *= base;
        if value < unit || prefix == "Y" {
            let prefix = if binary { prefix.to_uppercase() } else { prefix.to_owned() };
            return format!("{:.1} {prefix}{infix}B", base * value / unit);
        }
    }
    String::new()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

/// Removes tags and comments, collapses whitespace, and decodes the entities of the five characters that [`escaped`]
/// escapes.
fn without_tags(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        let close = if tag.starts_with("<!--") { "-->" } else { ">" };
        let Some(end) = tag.find(close) else { break };
        plain.push_str(before);
        rest = &tag[end + close.len()..];
    }
    plain.push_str(rest);
    let plain: Vec<&str> = plain.split(text::is_space).filter(|word| !word.is_empty()).collect();
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#39;", "'"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&amp;", "&"),
    ];
    pairs.iter().fold(plain.join(" "), |text, (name, c)| text.replace(name, c))
}

/// Percent-encodes UTF-8: a text, keeping its slashes, or pairs as a query.
fn url_encode(value: &Value) -> Result<String, Error> {
    let encode = |text: &str, kept: &[u8], space: &str| {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b' ' => out.push_str(space),
                _ if byte.is_ascii_alphanumeric()
                    || b"_.-~".contains(&byte)
                    || kept.contains(&byte) =>
                {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    if value.kind() != ValueKind::Map {
        return Ok(encode(&python::str(value)?, b"/", "%20"));
    }
    let mut pairs = Vec::new();
    for key in value.try_iter()? {
        let (name, text) = (python::str(&key)?, python::str(&value.get_item(&key)?)?);
        pairs.push(format!("{}={}", encode(&name, b"", "+"), encode(&text, b"", "+")));
    }
    Ok(pairs.join("&"))
}

/// Cap on JSON indentation, in spaces per level.
const INDENT_MAX: usize = 16;

/// Python's `json.dumps` with the arguments and defaults of `transformers`.
#[expect(clippy::needless_pass_by_value, reason = "the form that filters have")]
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => return Err(invalid("tojson: expected `separators` to be two strings")),
    };
    let style = Style {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: options.get::<Option<usize>>("indent")?.map(|n| n.min(INDENT_MAX)),
        separators,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    let value = values::to_json(value).map_err(|problem| invalid(format!("tojson: {problem}")))?;
    json::dumps(&value, &style, TEXT_BYTES_MAX)
        .map_err(|_| invalid(format!("tojson: found more than {TEXT_BYTES_MAX} bytes of output")))
}
