//! Hostile templates in worker processes: each ends no more than its own request.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tealight::chat::{ChatTemplate, Inputs, Message, TemplateError};
use tealight::jobs::HANDLER;
use tealight::worker::{Patience, Workers};

/// Self-reference: printing it would never end, and ends the stack.
const CIRCLE: &str = "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}";
/// A list that holds itself twice, forty times over: 2^40 elements to look at, in a few bytes.
const SHARED: &str = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}\
    {% set ns.b = [ns.b, ns.b] %}{% endfor %}";
/// A text that doubles until memory ends.
const DOUBLES: [&str; 3] = [
    "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
    "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a]|join %}{% endfor %}",
];

fn workers() -> Arc<Workers> {
    Arc::new(Workers::of(Some(env!("CARGO_BIN_EXE_tealight").into()), HANDLER))
}

fn template(workers: &Arc<Workers>, source: &str) -> ChatTemplate {
    ChatTemplate::with(workers, source, "<s>".to_owned(), "</s>".to_owned()).unwrap()
}

fn render(template: &ChatTemplate, time: Duration) -> Result<String, TemplateError> {
    let messages = [Message::new("user", "Hi")];
    template.render_within(&Inputs::new(&messages), &Patience::new(time, &|| true))
}

#[test]
fn a_hostile_template_ends_no_more_than_its_request() {
    let workers = workers();
    let good =
        template(&workers, "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
    let time = Duration::from_secs(60);
    let mut hostile = vec![(CIRCLE.to_owned(), "nested too deeply")];
    hostile.extend(DOUBLES.map(|source| (source.to_owned(), "memory")));
    for (source, expected) in hostile {
        let error = render(&template(&workers, &source), time).unwrap_err().to_string();
        assert!(error.contains(expected), "{source}: {error}");
        assert_eq!(render(&good, time).unwrap(), "<s>Hi");
    }
}

#[test]
fn what_never_ends_has_a_deadline() {
    let workers = workers();
    for (kind, end) in [
        ("compare", "{{ ns.a == ns.b }}"),
        ("sort", "{{ [ns.a, ns.b]|sort|length }}"),
        ("search", "{{ ns.b in [ns.a] }}"),
        ("print", "{{ ns.a }}"),
        ("JSON", "{{ ns.a|tojson }}"),
        ("unique", "{{ [ns.a, ns.b]|unique|list|length }}"),
    ] {
        let template = template(&workers, &format!("{SHARED}{end}"));
        let began = Instant::now();
        let error = render(&template, Duration::from_millis(400)).unwrap_err().to_string();
        // Printing may meet a bound of its own first.
        assert!(
            error.contains("did not end within 0.4 s") || error.contains("at most"),
            "{kind}: {error}"
        );
        assert!(began.elapsed() < Duration::from_secs(10), "{kind}: {:?}", began.elapsed());
    }
}

#[test]
fn what_nobody_waits_for_is_ended() {
    let workers = workers();
    let template = template(&workers, &format!("{SHARED}{{{{ ns.a == ns.b }}}}"));
    let began = Instant::now();
    let wanted = || began.elapsed() < Duration::from_millis(100);
    let messages = [Message::new("user", "Hi")];
    let patience = Patience::new(Duration::from_secs(600), &wanted);
    let error = template.render_within(&Inputs::new(&messages), &patience).unwrap_err();
    assert!(matches!(error, TemplateError::Untried(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_large_conversation_comes_through_whole() {
    let workers = workers();
    let template = template(&workers, "{% for m in messages %}{{ m.content }}{% endfor %}");
    let text = "é\u{1f600}\"\\\n".repeat(1 << 20);
    let messages = [Message::new("user", text.as_str())];
    assert_eq!(template.render(&Inputs::new(&messages)).unwrap(), text);
}

#[test]
fn numbers_keep_their_digits_on_the_way() {
    let workers = workers();
    let template = template(&workers, "{{ tools|tojson }}");
    let numbers = "[0.1, 36.72, -4.0, 1e-07, 5e-324, 1.7976931348623157e+308, 9007199254740993, 18446744073709551615]";
    let tools = serde_json::from_str(numbers).unwrap();
    let rendered = template.render(&Inputs { tools: &tools, ..Inputs::new(&[]) }).unwrap();
    assert_eq!(rendered, numbers);
}
