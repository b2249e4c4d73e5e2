//! Converts JSON to template values and back, without losing digits.

use super::super::json::float_keeps;
use minijinja::value::{Object, ObjectRepr, Serde, Value, ValueKind};
use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value as Json};
use std::fmt;
use std::sync::Arc;

/// A JSON value as a template sees it.
pub(super) fn from_json(json: &Json) -> Value {
    Value::from(Serde(Exact(json)))
}

/// Serializes numbers through [`from_number`].
struct Exact<'j>(&'j Json);

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Json::Number(number) => from_number(number).serialize(serializer),
            Json::Array(all) => serializer.collect_seq(all.iter().map(Exact)),
            Json::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, Exact(value))))
            }
            plain => plain.serialize(serializer),
        }
    }
}

/// A number; kept as [`Digits`] if no template type holds it exactly.
fn from_number(number: &Number) -> Value {
    let text = number.to_string();
    if !text.contains(['.', 'e', 'E']) {
        return match text.parse::<i128>() {
            Ok(n) => Value::from(n),
            Err(_) => Value::from_object(Digits(text)),
        };
    }
    match number.as_f64() {
        Some(x) if x.is_finite() && float_keeps(number) => Value::from(x),
        _ => Value::from_object(Digits(text)),
    }
}

/// A number with more digits than a template can compute with.
#[derive(Debug)]
pub(super) struct Digits(String);

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as JSON; the error says why it has none.
pub(super) fn to_json(value: &Value) -> Result<Json, String> {
    if let Some(Digits(text)) = value.downcast_object_ref::<Digits>() {
        return serde_json::from_str(text).map_err(|e| e.to_string());
    }
    Ok(match value.kind() {
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => {
            let number = if value.is_integer() { value.to_string() } else { float_digits(value) };
            serde_json::from_str(&number).map_err(|e| e.to_string())?
        }
        ValueKind::String => Json::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|e| e.to_string())?;
            Json::Array(items.map(|item| to_json(&item)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut fields = Map::new();
            for key in value.try_iter().map_err(|e| e.to_string())? {
                let item = value.get_item(&key).map_err(|e| e.to_string())?;
                fields.insert(name(&key)?, to_json(&item)?);
            }
            Json::Object(fields)
        }
        other => return Err(format!("{other} is not JSON serializable")),
    })
}

/// The shortest digits that round-trip.
fn float_digits(value: &Value) -> String {
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), |x| format!("{x:?}"))
}

/// A key as Python's `json.dumps` writes it.
fn name(key: &Value) -> Result<String, String> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => key.is_true().to_string(),
        ValueKind::Number => key.to_string(),
        other => return Err(format!("keys must be strings, found {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::{ChatTemplate, Inputs, Message};
    use serde_json::{Map, Value};

    #[test]
    fn numbers_keep_their_digits() {
        let big = "123456789012345678901234567890123456789012345678901234567890";
        let numbers = [
            big,
            "-9223372036854775809",
            "18446744073709551616",
            "9223372036854775807",
            "3.14159265358979323846264338327950288",
            "1e+999",
            "1.5",
            "0",
        ];
        let list: Value = serde_json::from_str(&format!("[{}]", numbers.join(","))).unwrap();
        let variables = Map::from_iter([("numbers".to_owned(), list)]);
        let render = |source: &str| {
            let template = ChatTemplate::new(source, String::new(), String::new()).unwrap();
            let messages = [Message::new("user", "Hi")];
            template.render(&Inputs { variables: &variables, ..Inputs::new(&messages) }).unwrap()
        };
        let expected = numbers.join(", ");
        assert_eq!(render("{{ numbers|tojson }}"), format!("[{expected}]"));
        for each in ["{{ n }}", "{{ n|string }}", "{{ n ~ '' }}", "{{ n|tojson }}"] {
            let source = format!(
                "{{% for n in numbers %}}{{{{ ', ' if loop.index0 }}}}{each}{{% endfor %}}"
            );
            assert_eq!(render(&source), expected, "{each}");
        }
    }
}
