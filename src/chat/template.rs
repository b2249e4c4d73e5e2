//! A chat template: compiled once and rendered for each request, in a worker process.

use super::error::{SOURCE_BYTES_MAX, TemplateError};
use super::{Message, jinja};
use crate::worker::{Handler, Patience, Topic, Workers};
use jiff::Zoned;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Time limit for turning a conversation into a prompt, including all probes of the template.
pub const TIME_MAX: Duration = Duration::from_secs(5);

/// A chat template, with the texts of the model's BOS and EOS tokens.
pub struct ChatTemplate {
    workers: Arc<Workers>,
    source: String,
    bos: String,
    eos: String,
}

/// A template's inputs.
#[derive(Debug, Clone)]
pub struct Inputs<'i> {
    /// The conversation.
    pub messages: &'i [Message],
    /// Functions the model may call, as OpenAI's API describes them; `null` for none.
    pub tools: &'i Json,
    /// Documents to answer from; `null` for none.
    pub documents: &'i Json,
    /// Whether the prompt ends where an answer begins.
    pub add_generation_prompt: bool,
    /// Further template variables.
    pub variables: &'i Map<String, Json>,
    /// The current time, as the template sees it.
    pub now: Zoned,
}

impl<'i> Inputs<'i> {
    /// A conversation and nothing else, now.
    #[must_use]
    pub fn new(messages: &'i [Message]) -> Self {
        static NONE: LazyLock<Map<String, Json>> = LazyLock::new(Map::new);
        Self {
            messages,
            tools: &Json::Null,
            documents: &Json::Null,
            add_generation_prompt: true,
            variables: &NONE,
            now: jinja::now(),
        }
    }
}

impl ChatTemplate {
    /// A template that is compiled and rendered in this process, without limits: for tests.
    ///
    /// # Errors
    /// When it is too long or does not compile.
    pub fn new(source: &str, bos: String, eos: String) -> Result<Self, TemplateError> {
        const HANDLER: Handler = |_, job| jinja::work(job);
        Self::with(&Arc::new(Workers::here(HANDLER)), source, bos, eos)
    }

    /// A template that is compiled and rendered by `workers`.
    ///
    /// # Errors
    /// When it is too long or does not compile.
    pub fn with(
        workers: &Arc<Workers>,
        source: &str,
        bos: String,
        eos: String,
    ) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::Long(source.len()));
        }
        let template = Self { workers: Arc::clone(workers), source: source.to_owned(), bos, eos };
        match template.ask(None, &jinja::now(), &Patience::new(TIME_MAX, &|| true)) {
            // The first request will report it.
            Err(TemplateError::Untried(_)) => Ok(template),
            compiled => compiled.map(|_| template),
        }
    }

    /// The template's text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, fails, or does not terminate.
    pub fn render(&self, inputs: &Inputs<'_>) -> Result<String, TemplateError> {
        self.render_within(inputs, &Patience::new(TIME_MAX, &|| true))
    }

    /// The prompt for a conversation, if it is ready in time.
    ///
    /// # Errors
    /// When the template refuses the messages, fails, or does not terminate.
    pub fn render_within(
        &self,
        inputs: &Inputs<'_>,
        patience: &Patience<'_>,
    ) -> Result<String, TemplateError> {
        self.ask(Some(Values { template: self, inputs }), &inputs.now, patience)
    }

    /// Renders for as long as somebody waits.
    #[must_use]
    pub fn within<'r>(&'r self, patience: &'r Patience<'r>) -> Renderer<'r> {
        Renderer { template: self, patience, interruption: RefCell::default() }
    }

    fn ask(
        &self,
        values: Option<Values<'_>>,
        now: &Zoned,
        patience: &Patience<'_>,
    ) -> Result<String, TemplateError> {
        let job = jinja::Job { source: self.source.as_str(), values, now: now.to_string() };
        let failed = |e: serde_json::Error| TemplateError::Failed(e.to_string());
        let job = serde_json::to_vec(&job).map_err(failed)?;
        let result = self.workers.ask(Topic::Template, &job, patience)?;
        serde_json::from_slice(&result).map_err(failed)?
    }
}

/// Renders a template several times for the same request, until time is up.
pub struct Renderer<'r> {
    template: &'r ChatTemplate,
    patience: &'r Patience<'r>,
    interruption: RefCell<Option<TemplateError>>,
}

impl Renderer<'_> {
    /// The prompt for a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, fails, or does not terminate.
    pub fn render(&self, inputs: &Inputs<'_>) -> Result<String, TemplateError> {
        if let Some(error) = &*self.interruption.borrow() {
            return Err(error.clone());
        }
        let result = self.template.render_within(inputs, self.patience);
        let untried = matches!(result, Err(TemplateError::Untried(_)));
        if let (Err(error), true) = (&result, untried || self.patience.is_over()) {
            self.interruption.replace(Some(error.clone()));
        }
        result
    }

    /// Whether a rendering was given up because time ran out or nobody was waiting.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interruption.borrow().is_some()
    }

    /// Why it was given up.
    #[must_use]
    pub fn interruption(&self) -> Option<TemplateError> {
        self.interruption.borrow().clone()
    }
}

/// The variables that a template sees: those of `transformers`, and llama.cpp's two dates, without which some templates
/// claim that it is July 2024.
struct Values<'v> {
    template: &'v ChatTemplate,
    inputs: &'v Inputs<'v>,
}

/// Reserved variables, which a client can't set.
const OWN: &[&str] =
    &["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { template, inputs } = self;
        let mut map = serializer.serialize_map(None)?;
        for (name, format) in [("date_string", "%d %b %Y"), ("datetime", "%b %d %Y")] {
            if !inputs.variables.contains_key(name) {
                map.serialize_entry(name, &jinja::strftime(&inputs.now, format))?;
            }
        }
        for (name, value) in
            inputs.variables.iter().filter(|(name, _)| !OWN.contains(&name.as_str()))
        {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("messages", inputs.messages)?;
        map.serialize_entry("tools", inputs.tools)?;
        map.serialize_entry("documents", inputs.documents)?;
        map.serialize_entry("add_generation_prompt", &inputs.add_generation_prompt)?;
        map.serialize_entry("bos_token", &template.bos)?;
        map.serialize_entry("eos_token", &template.eos)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
        let template = ChatTemplate::new(source, "<s>".into(), "</s>".into())?;
        template.render(&Inputs::new(messages))
    }

    #[test]
    fn python_methods_blocks_and_json_work_as_in_transformers() {
        let source = "{{ bos_token }}{% for m in messages %}\n{% if m.role.startswith('u') %}\n{{ m['content'].strip() | tojson }}\n{% endif %}\n{% endfor %}";
        let text = render(source, &[Message::new("user", "  say \"<b>\" é ")]).unwrap();
        assert_eq!(text, "<s>\"say \\\"<b>\\\" é\"\n");
        let json = render("{{ {'a': [1, 2], 'b': none} | tojson }}", &[]).unwrap();
        assert_eq!(json, r#"{"a": [1, 2], "b": null}"#);
    }

    #[test]
    fn tests_and_strings_match_python() {
        for (source, expected) in [
            ("{{ none is iterable }}{{ 'a' is iterable }}{{ [] is iterable }}", "FalseTrueTrue"),
            ("{{ 'a' is sequence }}{{ {} is sequence }}{{ 1 is sequence }}", "TrueTrueFalse"),
            (
                "{{ true }}{{ none }}{{ [1.0, 'é', {'k': none}] }}",
                "TrueNone[1.0, 'é', {'k': None}]",
            ),
            ("{{ '{0:>4}|{name}'.format(7, name='x') }}", "   7|x"),
            (
                "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
                "13",
            ),
            ("{{ ' a b '.strip().split(' ')[::-1] | join('+') }}", "b+a"),
            (
                "{% for x in [1] %}{%- generation -%} a {{- x }} {%- endgeneration -%} {% endfor %}",
                "a1",
            ),
            (
                "{{ tools is none }}{{ documents is none }}{{ enable_thinking is defined }}",
                "TrueTrueFalse",
            ),
            (
                "{{ {'b': 1, 'a': [2]} | tojson(indent=1, sort_keys=true) }}",
                "{\n \"a\": [\n  2\n ],\n \"b\": 1\n}",
            ),
        ] {
            assert_eq!(render(source, &[]).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn endless_loops_and_endless_output_are_errors() {
        let endless =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(render(endless, &[]).unwrap_err().to_string().contains("did not end"));
        let flood = "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}";
        assert!(render(flood, &[]).unwrap_err().to_string().contains("longer than"));
        let deep = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
        assert!(render(deep, &[]).is_err());
    }

    #[test]
    fn deep_nesting_does_not_crash_the_process() {
        let list = "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
        let _ = render(list, &[]);
        for piece in ["+1", ".a", "|upper", " and 1"] {
            let source = format!("{{{{ 1{} }}}}", piece.repeat(60_000 / piece.len()));
            let _ = render(&source, &[]);
        }
        let _ = render(&format!("{{{{ {}1 }}}}", "not ".repeat(15_000)), &[]);
    }

    #[test]
    fn filters_that_multiply_are_bounded() {
        for source in [
            "{{ ('x' * 99999)|replace('x', 'y' * 99999) }}",
            "{{ 'x\\nx'|indent(2000000000) }}",
            "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
            "{{ [1, 2]|batch(99999999999, 'x') }}",
            "{{ [1, 2]|slice(99999999999) }}",
            "{{ '%2000000000d'|format(1) }}",
            "{{ '{:2000000000}'.format(1) }}",
            "{{ '{:{}}'.format(1, 2000000000) }}",
            "{{ range(9999)|list|tojson(separators=['x' * 99999, ':']) }}",
        ] {
            assert!(render(source, &[]).is_err(), "{source}");
        }
    }

    #[test]
    fn refusals_and_syntax_errors_are_distinguished() {
        let refusal = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert!(matches!(refusal, TemplateError::Refused(m) if m == "roles must alternate"));
        assert!(matches!(render("{% if %}", &[]), Err(TemplateError::Syntax(_))));
        assert!(matches!(render("{{ nope.a.b }}", &[]), Err(TemplateError::Failed(_))));
    }
}
