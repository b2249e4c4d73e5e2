//! "Answer by calling one of these tools", as a constraint.

use super::{Constraint, schema};
use serde_json::{Value, json};

/// How a line of models writes calls: `start`, then each call between `before` and `after`, then `end`. In all
/// of these texts, names of control tokens stand for the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallForm {
    /// Before the first call.
    pub start: String,
    /// Before each call.
    pub before: String,
    /// After each call.
    pub after: String,
    /// Between two calls; `None`: there is one call only.
    pub between: Option<String>,
    /// After the last call.
    pub end: String,
    /// What the call's JSON has its name under.
    pub name: String,
    /// What the call's JSON has its arguments under.
    pub arguments: String,
}

impl Constraint {
    /// At least one call of one of `tools`: names, and the JSON schemas of their arguments.
    #[must_use]
    pub fn calls(tools: &[(&str, &Value)], form: CallForm) -> Self {
        let option = |(index, (name, arguments)): (usize, &(&str, &Value))| {
            let mut arguments = match arguments {
                Value::Object(fields) if fields.is_empty() => json!({ "type": "object" }),
                other => (*other).clone(),
            };
            let escaped = form.arguments.replace('~', "~0").replace('/', "~1");
            schema::relocate(&mut arguments, &format!("/anyOf/{index}/properties/{escaped}"));
            json!({
                "type": "object",
                "properties": { form.name.as_str(): { "const": name }, form.arguments.as_str(): arguments },
                "required": [form.name, form.arguments],
                "additionalProperties": false,
            })
        };
        let options: Vec<Value> = tools.iter().enumerate().map(option).collect();
        Self::Calls(json!({ "anyOf": options }), form)
    }
}

/// The grammar of calls that `schema` describes. `literal` writes a text with its control tokens.
pub(super) fn lark(schema: &Value, form: &CallForm, literal: &dyn Fn(&str) -> String) -> String {
    let more =
        form.between.as_ref().map_or_else(String::new, |b| format!("({} call)*", literal(b)));
    format!(
        "start: {} call {more} {}\ncall: {} json {}\njson: %json {schema}\n",
        literal(&form.start),
        literal(&form.end),
        literal(&form.before),
        literal(&form.after),
    )
}
