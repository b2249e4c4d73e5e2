//! Constraints on answers where calls are required, or allowed beside a constrained answer.

use super::format::{Format, Written};
use super::tool::{Tool, ToolChoice};
use crate::constraint::{CallForm, CallSpec, Constraint};

/// The constraint for an answer that must be calls: in the model's own format, if that is JSON between markers, else in
/// bare JSON. `None`: the model's answers have headers, and no call can be enforced.
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

/// How calls are written that may be made instead of a constrained answer: in the model's own format, if that is JSON
/// between markers; else anything after its opening markers. `None`: they can't be told from an answer.
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

fn call_form(written: &Written, parallel: bool) -> CallForm {
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
