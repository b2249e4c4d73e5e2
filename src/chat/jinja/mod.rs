//! Jinja as chat templates expect it: minijinja, adapted where Python differs.
//!
//! Input: a [`Job`], as JSON. Output: the prompt or a [`TemplateError`], as JSON. Runs in a worker process: steps and
//! the length of single texts are bounded here, time and memory only by the worker.

mod filters;
mod functions;
mod guards;
mod percent;
mod python;
mod rewrite;
mod text;
mod values;

pub(super) use functions::{now, strftime};

use super::TemplateError;
use jiff::Zoned;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// Step limit for a template; a few hundred thousand steps render the largest conversations.
const FUEL: u64 = 1_000_000;
/// A prompt longer than this fits no context.
const PROMPT_BYTES_MAX: usize = 64 << 20;
/// Refusal messages are cut to this length.
const MESSAGE_CHARS_MAX: usize = 500;
/// Number of compiled templates kept.
const KEPT_MAX: usize = 4;

/// A template to compile and perhaps render.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job<S, V> {
    /// The template's text.
    pub source: S,
    /// The values to render it with; `None`: only compile it.
    pub values: Option<V>,
    /// The current time, in the format of RFC 9557.
    pub now: String,
}

/// Runs a job and returns its result, both as JSON.
pub(crate) fn work(job: &[u8]) -> Vec<u8> {
    let job: Result<Job<String, Map<String, Json>>, _> = serde_json::from_slice(job);
    let result = job.map_err(|e| TemplateError::Failed(e.to_string())).and_then(done);
    serde_json::to_vec(&result).unwrap_or_default()
}

fn done(job: Job<String, Map<String, Json>>) -> Result<String, TemplateError> {
    thread_local! {
        static KEPT: RefCell<Vec<Rc<Template>>> = const { RefCell::new(Vec::new()) };
    }
    let kept = KEPT.with_borrow(|all| all.iter().find(|t| t.source == job.source).cloned());
    let template = if let Some(template) = kept {
        template
    } else {
        let template = Rc::new(Template::new(job.source)?);
        KEPT.with_borrow_mut(|all| {
            all.truncate(KEPT_MAX - 1);
            all.insert(0, Rc::clone(&template));
        });
        template
    };
    match job.values {
        None => Ok(String::new()),
        Some(values) => template.render(values, job.now.parse().unwrap_or_default()),
    }
}

/// A compiled template.
struct Template {
    environment: Environment<'static>,
    source: String,
}

impl Template {
    fn new(source: String) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| TemplateError::Syntax(describe(&e)))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(100);
        functions::install(&mut environment);
        environment
            .add_template_owned("chat", rewrite::rewritten(&source).into_owned())
            .map_err(|e| TemplateError::Syntax(describe(&e)))?;
        Ok(Self { environment, source })
    }

    fn render(&self, values: Map<String, Json>, now: Zoned) -> Result<String, TemplateError> {
        let failed = |e| TemplateError::Failed(describe(&e));
        let template = self.environment.get_template("chat").map_err(failed)?;
        let mut all: BTreeMap<String, Value> =
            values.into_iter().map(|(name, value)| (name, values::from_json(&value))).collect();
        let strftime_now = move |format: String| functions::strftime(&now, &format);
        all.insert("strftime_now".to_owned(), Value::from_function(strftime_now));
        let mut out = Capped(Vec::new());
        match template.render_captured_to(Value::from(all), &mut out) {
            Ok(_) => Ok(String::from_utf8_lossy(&out.0).into_owned()),
            Err(e) if refused(&e) => Err(TemplateError::Refused(
                e.detail().unwrap_or("").chars().take(MESSAGE_CHARS_MAX).collect(),
            )),
            Err(e) => Err(failed(e)),
        }
    }
}

/// Whether the template itself raised the error, with `raise_exception`.
fn refused(e: &minijinja::Error) -> bool {
    std::error::Error::source(e).is_some_and(<dyn std::error::Error>::is::<functions::Raised>)
}

fn describe(e: &minijinja::Error) -> String {
    match e.kind() {
        ErrorKind::OutOfFuel => format!("it did not end within {FUEL} steps"),
        ErrorKind::WriteFailure => format!("its output is longer than {PROMPT_BYTES_MAX} bytes"),
        _ => {
            let line = e.line().map_or_else(String::new, |l| format!("line {l}: "));
            format!("{line}{}: {}", e.kind(), e.detail().unwrap_or("no details"))
        }
    }
}

/// Collects output up to a limit.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > PROMPT_BYTES_MAX {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known differences, as prefixes of the rows that show them: features no template uses, and extensions of Jinja2.
    const DIFFERENT: &[&str] = &[
        // A text times a negative number; more arguments than a macro names; attributes of dictionaries.
        "{{ 'ab' * 3 }}",
        "{% macro m() %}[{{ varargs",
        "{% macro m(a) %}{% endmacro %}",
        "{{ (d)|attr",
        // Pairs that are lists instead of tuples, in their own order; `current` of a cycler.
        "{{ (rows)|groupby('k')|list",
        "{{ (rows)|groupby('z'",
        "{{ (d)|pprint",
        "{% set c = cycler",
        // Layout of HTML and of plain text; bytes; methods of Python's numbers.
        "{{ ('hello there world')|wordwrap",
        "{{ ({'class': 'a', 'id': 'x<y'})|xmlattr",
        "{{ (s).encode",
        "{{ (uni).encode",
        "{{ ('Hello World').translate",
        "{{ ('{a:>5}",
        "{{ (i).bit_length",
        "{{ (i).conjugate",
        "{{ (x).is_integer",
        "{{ (x).hex",
        "{{ (whole).is_integer",
        // What ranges and namespaces are, and how they are printed.
        "{{ range(2) is sequence",
        "{{ range(2) is lower",
        "{{ namespace(a=1) is lower",
    ];

    /// `tests/golden/jinja.py` generates the table: templates and what Jinja2 renders.
    #[test]
    fn templates_render_as_in_jinja2() {
        let golden: Json =
            serde_json::from_str(include_str!("../../../tests/golden/jinja.json")).unwrap();
        let values = golden["values"].as_object().unwrap();
        let (mut checked, mut wrong) = (0, Vec::new());
        for row in golden["rows"].as_array().unwrap() {
            let source = row[0].as_str().unwrap();
            // Where the reference itself fails there is nothing to compare with.
            let Some(expected) = row[1].as_str() else { continue };
            let rendered = Template::new(source.to_owned()).and_then(|t| {
                t.render(values.clone(), "2026-07-05T14:03:09+00:00[UTC]".parse().unwrap())
            });
            let found = match rendered {
                Err(TemplateError::Refused(why)) => Ok(format!("refused: {why}")),
                other => other,
            };
            checked += 1;
            let known = DIFFERENT.iter().any(|start| source.starts_with(start));
            assert!(!known || found.as_deref().ok() != Some(expected), "{source} is right now");
            if !known && found.as_deref().ok() != Some(expected) {
                wrong.push(format!("{source}\n  expected {expected:?}\n  found    {found:?}"));
            }
        }
        assert!(checked > 1000, "{checked} rows");
        assert!(wrong.is_empty(), "{} of {checked} differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}
