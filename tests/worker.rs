//! Hostile templates and constraints in worker processes: each ends only its own request.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tealight::chat::{ChatTemplate, Inputs, Message, TemplateError};
use tealight::constraint::{Compiler, Constraint, ConstraintError};
use tealight::jobs::HANDLER;
use tealight::model::ModelFile;
use tealight::source;
use tealight::tokenizer::Tokenizer;
use tealight::worker::{Patience, WorkerError, Workers};

/// Self-reference: printing it would recurse forever and overflow the stack.
const CIRCLE: &str = "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}";
/// A list that holds itself twice, forty times over: 2^40 elements to visit, in a few bytes.
const SHARED: &str = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}\
    {% set ns.b = [ns.b, ns.b] %}{% endfor %}";
/// A text that doubles until memory runs out.
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
        // Printing may hit its own limit first.
        assert!(
            error.contains("did not finish within 0.4 s") || error.contains("at most"),
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

fn compiler() -> Compiler {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/smollm2-135m-instruct-q4_1.gguf");
    let shards = source::open(std::path::Path::new(path)).expect("`make test` fetches it");
    let tokenizer = Tokenizer::new(&ModelFile::open(shards).unwrap()).unwrap();
    Compiler::with(Arc::new(tokenizer), workers())
}

#[test]
fn a_hostile_constraint_ends_no_more_than_its_request() {
    let compiler = compiler();
    let repeated: Vec<String> = (1..25).map(|i| format!(r#"{{"pattern":"a{{{i}}}"}}"#)).collect();
    let deep =
        |open: &str, close: &str, count: usize| open.repeat(count) + "\"a\"" + &close.repeat(count);
    let hostile = [
        Constraint::JsonSchema(format!(r#"{{"type":"string","allOf":[{}]}}"#, repeated.join(","))),
        Constraint::JsonSchema(format!(r#"{{"const":{}}}"#, i64::MIN)),
        Constraint::JsonSchema(deep(r#"{"items":"#, "}", 120).replace("\"a\"", "{}")),
        Constraint::Regex("(((a{1,99}){1,99}){1,99}){1,99}".to_owned()),
        Constraint::Regex(format!("{}a", "(a|b)*a".repeat(2000))),
        Constraint::Gbnf(format!("root ::= {}", deep("(", ")", 30_000))),
        Constraint::Lark(format!("start: {}", deep("(", ")", 30_000))),
        Constraint::Lark(format!("start: /{}/", "(x&~(y|z){3,50})".repeat(200))),
    ];
    for constraint in &hostile {
        let began = Instant::now();
        // Compiled or refused, but in time, and the process survives.
        let result = compiler.compile(constraint);
        if let Err(ConstraintError::Untried(why)) = &result {
            panic!("{why}");
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{constraint:?}: {:?}", began.elapsed());
        assert!(compiler.compile(&Constraint::JsonSchema("{}".to_owned())).is_ok());
    }
}

#[test]
fn a_constraint_that_nobody_waits_for_is_not_compiled() {
    let compiler = compiler();
    // One that compiles.
    let schema = Constraint::JsonSchema(r#"{"type": "object"}"#.to_owned());
    let compile = |time, wanted| compiler.compile_within(&schema, &Patience::new(time, wanted));
    let minute = Duration::from_secs(60);
    let result = compile(minute, &|| false);
    assert!(matches!(result, Err(ConstraintError::Untried(_))), "{result:?}");
    let result = compile(Duration::ZERO, &|| true);
    let late = |e: &WorkerError| matches!(e, WorkerError::Deadline(_));
    assert!(
        matches!(&result, Err(ConstraintError::Bound { error, .. }) if late(error)),
        "{result:?}"
    );
    assert!(compile(minute, &|| true).is_ok());
}
