//! Functions that a model may call: how they are described to it, and how it says that it calls one.
//!
//! `format` names the forms that models write calls in; each of the other modules reads one kind of them.

pub(super) mod arguments;
mod channels;
mod complete;
mod format;
mod gemma;
pub(super) mod loose;
mod named;
mod objects;
mod python;
mod tagged;
#[cfg(test)]
mod tests;
mod types;

pub use format::Format;
pub(super) use format::Section;

use super::json;
use crate::constraint::{CallForm, CallSpec, Constraint};
use serde_json::Value;

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it takes, as a JSON schema.
    pub parameters: Value,
    /// As the client described it.
    pub raw: Value,
}

impl Tool {
    /// A tool as OpenAI's API describes one. What is `null` is not there: templates would say "None".
    #[must_use]
    pub fn read(raw: &Value) -> Option<Self> {
        let mut raw = raw.clone();
        let function = raw.get_mut("function")?.as_object_mut()?;
        function.retain(|_, value| !value.is_null());
        let name = function.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
        let parameters = function.get("parameters").cloned().unwrap_or(Value::Null);
        Some(Self { name, parameters, raw })
    }

    /// What it takes, as the text of a JSON schema.
    fn schema(&self) -> String {
        arguments::schema(&self.parameters).to_string()
    }
}

/// Longest text that may become the name of a function.
const NAME_BYTES_MAX: usize = 512;

/// The function of that name.
fn tool<'t>(tools: &'t [Tool], name: &str) -> Option<&'t Tool> {
    tools.iter().find(|tool| tool.name == name)
}

/// Whether a text can be a function's name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./:".contains(c))
}

/// Which function has to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Any or none: the model decides.
    #[default]
    Auto,
    /// None.
    None,
    /// Some function.
    Required,
    /// This one.
    Named(String),
}

/// What an answer has to be where a call is required: calls in the model's own form, if that is JSON between
/// marks, else in bare JSON. `None`: the model's answers have a form of their own, and no call can be enforced.
#[must_use]
pub fn tool_grammar(
    format: &Format,
    tools: &[Tool],
    choice: &ToolChoice,
    parallel: bool,
) -> Option<Constraint> {
    let form = Some(call_form(&format.written()?, parallel));
    let wanted = |tool: &&Tool| match choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let functions = functions(tools.iter().filter(wanted));
    Some(Constraint::Calls(Box::new(CallSpec { functions, form, ..CallSpec::default() })))
}

/// What calls look like where they may come, beside an answer that has a form: in the model's own form, if that
/// is JSON between marks; else whatever follows what begins them. `None`: they can't be told from an answer.
#[must_use]
pub fn tool_calls(format: &Format, tools: &[Tool], parallel: bool) -> Option<CallSpec> {
    let (written, markers) = format.optional()?;
    Some(CallSpec {
        functions: functions(tools.iter()),
        form: written.map(|written| call_form(&written, parallel)),
        markers: markers.iter().map(|marker| (*marker).to_owned()).collect(),
        answer: None,
    })
}

fn call_form(written: &format::Written, parallel: bool) -> CallForm {
    let owned = ToOwned::to_owned;
    CallForm {
        start: owned(written.start),
        before: owned(written.before),
        after: owned(written.after),
        between: written.between.filter(|_| parallel).map(owned),
        end: owned(written.end),
        name: owned(written.name),
        arguments: owned(written.arguments),
    }
}

fn functions<'t>(tools: impl Iterator<Item = &'t Tool>) -> Vec<(String, String)> {
    tools.map(|tool| (tool.name.clone(), tool.schema())).collect()
}

/// What a model is told whose template knows nothing of functions.
pub(super) fn describe(tools: &[Tool]) -> String {
    const DESCRIPTION_BYTES_MAX: usize = 16 << 20;
    let style = json::Style::default();
    let mut text = "You can call these functions, described in JSON:\n".to_owned();
    for tool in tools {
        let function = tool.raw.get("function").unwrap_or(&tool.raw);
        text.push_str(&json::dumps(function, &style, DESCRIPTION_BYTES_MAX).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(
        "To call one, answer with nothing but a JSON object that names it and its arguments: \
         {\"name\": \"function_name\", \"arguments\": {\"argument\": \"value\"}}\n\
         When no function is needed, or its result is known, answer in plain text.",
    );
    text
}
