//! A chat template, compiled once and rendered for each request.

use super::{Message, functions};
use jiff::Zoned;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind};
use regex::Regex;
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

/// What a template may cost: a few hundred thousand steps render the largest conversations; an endless
/// loop ends in an error.
const FUEL: u64 = 1_000_000;
/// A prompt longer than this fits no context.
const PROMPT_BYTES_MAX: usize = 64 << 20;
/// Longest template source; the longest in use have some twenty kilobytes.
const SOURCE_BYTES_MAX: usize = 64 << 10;
/// Stack for compiling and rendering: an expression nested as deeply as that source allows, or a list as
/// deeply as that fuel allows, is taken apart recursively.
const STACK_BYTES: usize = 128 << 20;
/// Longest message of a refusal that is passed on.
const MESSAGE_CHARS_MAX: usize = 500;

/// A compiled template with the texts of the model's begin and end tokens.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// What a template is given.
#[derive(Debug, Clone)]
pub struct Inputs<'i> {
    /// The conversation.
    pub messages: &'i [Message],
    /// Functions the model may call, as OpenAI's API describes them; `null` for none.
    pub tools: &'i Json,
    /// Texts to answer from; `null` for none.
    pub documents: &'i Json,
    /// Whether the prompt ends where an answer begins.
    pub add_generation_prompt: bool,
    /// Whatever else the template knows.
    pub variables: &'i Map<String, Json>,
    /// What the template takes for the present.
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
            now: Zoned::now(),
        }
    }
}

/// A template that cannot be used, or refuses the conversation.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is not Jinja.
    #[error("chat template: {0}\nhint: choose another with --chat-template NAME or FILE")]
    Syntax(String),
    /// It is longer than any template.
    #[error("chat template: found {0} bytes, expected at most {SOURCE_BYTES_MAX}")]
    Long(usize),
    /// It says itself that it does not take this conversation.
    #[error("the model's chat template does not accept these messages: {0}")]
    Refused(String),
    /// A function has to be called, but answers of this model are written in channels.
    #[error(
        "no call can be enforced: this model's answers are messages with headers\nhint: `tool_choice`: \"auto\" leaves it to the model"
    )]
    Unforced,
    /// It failed while rendering.
    #[error("chat template failed: {0}\nhint: choose another with --chat-template NAME or FILE")]
    Failed(String),
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// When it is not a template.
    pub fn new(source: &str, bos: String, eos: String) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::Long(source.len()));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| TemplateError::Syntax(describe(&e)))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(100);
        functions::install(&mut environment);
        with_stack(|| {
            environment
                .add_template_owned("chat", without_marks(source).into_owned())
                .map_err(|e| TemplateError::Syntax(describe(&e)))
        })?;
        Ok(Self { environment, source: source.to_owned(), bos, eos })
    }

    /// The template's text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, fails, or does not come to an end.
    pub fn render(&self, inputs: &Inputs<'_>) -> Result<String, TemplateError> {
        with_stack(|| self.render_here(inputs))
    }

    fn render_here(&self, inputs: &Inputs<'_>) -> Result<String, TemplateError> {
        let template = self
            .environment
            .get_template("chat")
            .map_err(|e| TemplateError::Failed(describe(&e)))?;
        let mut out = Capped(Vec::new());
        match template.render_captured_to(self.values(inputs), &mut out) {
            Ok(_) => Ok(String::from_utf8_lossy(&out.0).into_owned()),
            Err(e) if refused(&e) => Err(TemplateError::Refused(
                e.detail().unwrap_or("").chars().take(MESSAGE_CHARS_MAX).collect(),
            )),
            Err(e) => Err(TemplateError::Failed(describe(&e))),
        }
    }

    /// The variables that a template sees: those of `transformers`, and the two dates of llama.cpp, without
    /// which some templates say that it is July 2024.
    fn values(&self, inputs: &Inputs<'_>) -> Value {
        let now = inputs.now.clone();
        let date = |format: &str| Value::from(functions::strftime(&now, format));
        let mut values = BTreeMap::from([
            ("date_string".to_owned(), date("%d %b %Y")),
            ("datetime".to_owned(), date("%b %d %Y")),
        ]);
        let more = inputs.variables.iter();
        values.extend(more.map(|(name, value)| (name.clone(), Value::from(Serde(value)))));
        // What follows is no setting.
        let strftime_now = move |format: String| functions::strftime(&now, &format);
        values.extend([
            ("messages".to_owned(), Value::from(Serde(inputs.messages))),
            ("tools".to_owned(), Value::from(Serde(inputs.tools))),
            ("documents".to_owned(), Value::from(Serde(inputs.documents))),
            ("add_generation_prompt".to_owned(), Value::from(inputs.add_generation_prompt)),
            ("bos_token".to_owned(), Value::from(self.bos.as_str())),
            ("eos_token".to_owned(), Value::from(self.eos.as_str())),
            ("strftime_now".to_owned(), Value::from_function(strftime_now)),
        ]);
        Value::from(values)
    }
}

/// The source without the `generation` tags of `transformers`, which mark answers for training and write
/// nothing; the tag in their place opens a scope as they do.
fn without_marks(source: &str) -> Cow<'_, str> {
    static MARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a constant")
    });
    if source.contains("generation") {
        MARK.replace_all(source, "{%$1 ${2}with $3%}")
    } else {
        Cow::Borrowed(source)
    }
}

/// Runs `work` on a thread with room for deep recursion.
fn with_stack<T: Send>(
    work: impl FnOnce() -> Result<T, TemplateError> + Send,
) -> Result<T, TemplateError> {
    let failed = |what: &str| Err(TemplateError::Failed(what.to_owned()));
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("template".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(|_| failed("an internal error")),
            Err(_) => failed("no thread could be started"),
        }
    })
}

/// `raise_exception` is the template's own word.
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
    fn tests_and_texts_are_pythons() {
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
    fn a_template_that_never_ends_or_floods_is_an_error() {
        let endless =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(render(endless, &[]).unwrap_err().to_string().contains("did not end"));
        let flood = "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}";
        assert!(render(flood, &[]).unwrap_err().to_string().contains("longer than"));
        let deep = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
        assert!(render(deep, &[]).is_err());
    }

    #[test]
    fn deep_nesting_in_source_and_in_values_does_not_end_the_process() {
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
    fn a_refusal_and_a_syntax_error_are_told_apart() {
        let refusal = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert!(matches!(refusal, TemplateError::Refused(m) if m == "roles must alternate"));
        assert!(matches!(render("{% if %}", &[]), Err(TemplateError::Syntax(_))));
        assert!(matches!(render("{{ nope.a.b }}", &[]), Err(TemplateError::Failed(_))));
    }
}
