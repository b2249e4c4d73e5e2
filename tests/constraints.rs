//! Constraints on a real vocabulary: what they allow, compared with llama.cpp's grammars, and what a model writes under
//! them. `tests/golden/grammar.py` makes the vectors and says how.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tealight::constraint::{CallForm, Compiler, Constraint, Step};
use tealight::engine::{Engine, Event, Finish, Generation, LoadOptions};
use tealight::jobs::HANDLER;
use tealight::kernels::{Compute, Isa};
use tealight::model::ModelFile;
use tealight::sampler::Sampling;
use tealight::source;
use tealight::tokenizer::Tokenizer;
use tealight::worker::Workers;

const SMOLLM2: &str = "smollm2-135m-instruct-q4_1";

#[test]
fn grammars_allow_what_the_reference_allows() {
    let compiler = compiler(SMOLLM2);
    let golden = std::fs::read_to_string(folder("tests/golden").join("grammar.json")).unwrap();
    let cases: Value = serde_json::from_str(&golden).unwrap();
    let (mut among, mut forced) = (0, 0);
    for case in cases.as_array().unwrap() {
        let grammar = case["grammar"].as_str().unwrap();
        let mut guide = compiler.compile(&Constraint::grammar(grammar)).unwrap();
        let steps = case["steps"].as_array().unwrap();
        let mut tokens = case["tokens"].as_array().unwrap().iter().map(id);
        for (at, step) in steps.iter().enumerate() {
            let place = format!("{:?} by {grammar}, step {at}", case["text"]);
            let token = tokens.next();
            match guide.step().unwrap() {
                Step::End => assert!(step["ends"].as_bool().unwrap() && token.is_none(), "{place}"),
                Step::Forced(id) => {
                    let allowed = step["ids"].as_array().unwrap_or_else(|| panic!("{place}"));
                    assert!(allowed.contains(&json!(id)), "{place}: {id} is forced");
                    assert_eq!(Some(id), token, "{place}");
                    forced += 1;
                }
                Step::Among(mask) => {
                    let mut ids: Vec<u32> = (0..mask.len() as u32 * 32).collect();
                    ids.retain(|id| mask[*id as usize / 32] >> (id % 32) & 1 == 1);
                    let before = ids.len();
                    ids.retain(|&id| !compiler.tokenizer().is_end(id));
                    assert_eq!(before > ids.len(), step["ends"].as_bool().unwrap(), "{place}: end");
                    if let Some(all) = step["ids"].as_array() {
                        assert_eq!(json!(ids), json!(all), "{place}");
                    } else {
                        assert_eq!(json!(ids.len()), step["count"], "{place}");
                        assert_eq!(json!(fnv(&ids)), step["hash"], "{place}");
                    }
                    among += 1;
                    if let Some(id) = token {
                        guide.accept(id).unwrap();
                    }
                }
            }
        }
    }
    assert!(among > 80 && forced > 5, "{among} steps compared, {forced} forced");
}

#[test]
fn what_a_model_writes_is_what_was_asked_for_whatever_the_temperature() {
    let (engine, _alone) = engine();
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 18, "maximum": 120 },
            "size": { "enum": ["small", "large"] },
            "tags": { "type": "array", "items": { "type": "string", "pattern": "^[a-z]{2,8}$" }, "minItems": 1, "maxItems": 3 },
        },
        "required": ["name", "age", "size", "tags"],
    });
    let is_person = |text: &str| {
        let v: Value = serde_json::from_str(text).unwrap();
        let keys: Vec<&String> = v.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "age", "size", "tags"]);
        assert!(v["name"].as_str().unwrap().chars().count() <= 12);
        assert!((18..=120).contains(&v["age"].as_i64().unwrap()));
        assert!(["small", "large"].contains(&v["size"].as_str().unwrap()));
        let tags = v["tags"].as_array().unwrap();
        assert!((1..=3).contains(&tags.len()));
        let lower = |t: &Value| t.as_str().unwrap().bytes().all(|b| b.is_ascii_lowercase());
        assert!(tags.iter().all(lower));
    };
    let is_date = |text: &str| {
        assert_eq!(text.len(), 10, "{text}");
        assert!(text.bytes().enumerate().all(|(i, b)| b.is_ascii_digit() != (i == 4 || i == 7)));
    };
    let is_list = |text: &str| {
        assert!(text.lines().count() == 3 && text.lines().all(|l| l.starts_with("* ")), "{text:?}");
    };
    let cases: [(Constraint, Check); 4] = [
        (Constraint::JsonSchema(schema.to_string()), &is_person),
        (Constraint::Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}".to_owned()), &is_date),
        (Constraint::Gbnf("root ::= (\"* \" [^\\n]{1,30} \"\\n\"){3}".to_owned()), &is_list),
        (
            Constraint::Lark("start: LINE{3}\nLINE: \"* \" /[^\\n]{1,30}/ \"\\n\"\n".to_owned()),
            &is_list,
        ),
    ];
    for (constraint, check) in &cases {
        for temperature in [0.0, 2.0] {
            for seed in 0..if temperature > 0.0 { 3 } else { 1 } {
                let sampling = Sampling {
                    temperature,
                    top_k: 0,
                    min_p: 0.0,
                    top_p: 1.0,
                    seed: Some(seed),
                    ..Sampling::default()
                };
                let request = Generation {
                    prompt: engine.tokenizer.encode("Anna is", true, true),
                    sampling,
                    max_tokens: Some(300),
                    guide: Some(engine.guide(constraint).unwrap()),
                    ..Generation::default()
                };
                let (text, finish) = answer(&engine, &request);
                assert_eq!(finish, Finish::Stop, "{text}");
                check(&text);
            }
        }
    }
}

#[test]
fn a_constraint_is_kept_by_whatever_else_is_asked() {
    let (engine, _alone) = engine();
    let schema = json!({ "type": "object", "properties": { "a": { "type": "boolean" } }, "required": ["a"] });
    let base = Generation {
        prompt: engine.tokenizer.encode("Yes or no?", true, true),
        guide: Some(engine.guide(&Constraint::JsonSchema(schema.to_string())).unwrap()),
        ..Generation::default()
    };
    let whole = [r#"{"a": true}"#, r#"{"a": false}"#];
    let banned: Vec<(u32, f32)> = (0..40_000).map(|id| (id, f32::NEG_INFINITY)).collect();
    for sampling in [
        Sampling { logit_bias: banned, ..Sampling::default() },
        Sampling { repeat_penalty: 100.0, frequency_penalty: 100.0, ..Sampling::default() },
        Sampling { dry_multiplier: 100.0, dry_allowed_length: 0, ..Sampling::default() },
        Sampling { mirostat: 2, mirostat_tau: 0.1, ..Sampling::default() },
    ] {
        let (text, finish) = answer(&engine, &Generation { sampling, ..base.clone() });
        assert!(whole.contains(&text.as_str()) && finish == Finish::Stop, "{text}");
    }
    let (text, finish) = answer(&engine, &Generation { ignore_end: true, ..base.clone() });
    assert!(whole.contains(&text.as_str()) && finish == Finish::Stop, "{text}");
    let (text, finish) = answer(&engine, &Generation { max_tokens: Some(2), ..base.clone() });
    assert!(whole[0].starts_with(&text) && finish == Finish::Length, "{text}");
    let (text, finish) =
        answer(&engine, &Generation { stops: vec!["a\"".to_owned()], ..base.clone() });
    assert_eq!((text.as_str(), finish), ("{\"", Finish::Stop));
    // With exactly as many tokens as the answer has, it is complete, not cut off.
    let count = |request: &Generation| {
        let mut tokens = 0;
        let outcome = run(&engine, request, &mut |_, n| tokens += n);
        (tokens, outcome)
    };
    let cold =
        Generation { sampling: Sampling { temperature: 0.0, ..Sampling::default() }, ..base };
    let (tokens, _) = count(&cold);
    assert_eq!(
        count(&Generation { max_tokens: Some(tokens), ..cold.clone() }),
        (tokens, Finish::Stop)
    );
    // Forced tokens need no step of the model, but with log probabilities they do.
    let (_, forced) = count(&Generation { logprobs: Some(1), ..cold });
    assert_eq!(forced, Finish::Stop);
}

#[test]
fn calls_of_tools_are_written_as_the_model_line_writes_them() {
    let compiler = compiler(SMOLLM2);
    let place = json!({
        "type": "object",
        "properties": { "at": { "$ref": "#/$defs/place" } },
        "required": ["at"],
        "$defs": { "place": { "enum": ["Rome", "Oslo"] } },
    });
    let place = place.to_string();
    let tools = [("weather", place.as_str()), ("time", r#"{"type": "object"}"#)];
    let form = CallForm {
        before: "<tool_call>\n".to_owned(),
        after: "\n</tool_call>".to_owned(),
        between: Some("\n".to_owned()),
        name: "name".to_owned(),
        arguments: "arguments".to_owned(),
        ..CallForm::default()
    };
    let weather =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"at\": \"Oslo\"}}\n</tool_call>";
    let time = "<tool_call>\n{\"name\": \"time\", \"arguments\": {\"zone\": 1}}\n</tool_call>";
    let tagged = Constraint::calls(&tools, form.clone());
    for text in [weather, time, &format!("{weather}\n{time}")] {
        assert_eq!(follow(&compiler, &tagged, text), "", "{text}");
    }
    for (text, wrong) in [
        ("Hello".to_owned(), "Hello"),
        (weather.replace("\"weather", "\"rain"), "rain"),
        (weather.replace("Oslo", "Paris"), "Paris"),
        (weather.replace("}}", "}, \"more\": 1}"), "\"more"),
        (format!("{weather}{time}"), "<tool_call>"),
    ] {
        let left = follow(&compiler, &tagged, &text);
        assert!(left.contains(wrong), "{text}: {left}");
    }
    // Control tokens in the form are tokens, not the text of their names.
    let form = CallForm {
        before: "<|im_start|>call ".to_owned(),
        after: String::new(),
        between: None,
        ..form
    };
    let mut guide = compiler.compile(&Constraint::calls(&tools, form)).unwrap();
    assert_eq!(guide.step().unwrap(), Step::Forced(1));
}

/// What constraints cost, for `docs/decisions.md`:
/// `cargo test --release --test constraints -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement: other work on the machine changes it"]
fn cost_of_a_typical_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "tags": { "type": "array", "items": { "type": "string" }, "maxItems": 4 },
            "address": {
                "type": "object",
                "properties": { "street": { "type": "string" }, "zip": { "type": "string", "pattern": "^[0-9]{5}$" } },
                "required": ["street", "zip"],
            },
        },
        "required": ["name", "age", "tags", "address"],
    });
    let schema = Constraint::JsonSchema(schema.to_string());
    let text = r#"{"name": "Anna Karenina", "age": 31, "tags": ["candle maker", "reader"], "address": {"street": "Main Street 5", "zip": "12345"}}"#;
    for name in [SMOLLM2, "gemma-3-270m-q4_k_m"] {
        let compiler = compiler(name);
        let start = Instant::now();
        compiler.compile(&Constraint::Regex("a".to_owned())).unwrap();
        let once = start.elapsed();
        let (mut compiling, mut chosen, mut totals, mut forced) = (vec![], vec![], vec![], 0);
        for _ in 0..200 {
            let start = Instant::now();
            let mut guide = compiler.compile(&schema).unwrap();
            compiling.push(start.elapsed());
            let mut ids = compiler.tokenizer().encode_inside(text).into_iter();
            let (mut total, mut count) = (Duration::ZERO, 0_u32);
            forced = 0;
            loop {
                let start = Instant::now();
                match guide.step().unwrap() {
                    Step::End => break,
                    Step::Forced(id) => {
                        assert_eq!(ids.next(), Some(id));
                        forced += 1;
                        total += start.elapsed();
                    }
                    Step::Among(_) => {
                        guide.accept(ids.next().unwrap()).unwrap();
                        chosen.push(start.elapsed());
                        total += start.elapsed();
                    }
                }
                count += 1;
            }
            totals.push(total / count);
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        println!(
            "{name}: once {once:?}; compile {:?}; a chosen token {:?}; over the answer {:?} a token, {forced} of them forced",
            median(&mut compiling),
            median(&mut chosen),
            median(&mut totals),
        );
    }
}

/// Follows a text token by token; returns the rest from where it is no longer allowed.
fn follow(compiler: &Compiler, constraint: &Constraint, text: &str) -> String {
    let tokenizer = compiler.tokenizer();
    let mut guide = compiler.compile(constraint).unwrap();
    let mut left = text.as_bytes();
    while !left.is_empty() {
        // The longest token that may come next: whichever tokens a model chooses, the text is the same.
        let (allowed, forced) = match guide.step().unwrap() {
            Step::End => break,
            Step::Forced(id) => (vec![id], true),
            Step::Among(mask) => {
                let is = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
                ((0..mask.len() as u32 * 32).filter(is).collect(), false)
            }
        };
        let pieces = allowed.into_iter().map(|id| (tokenizer.decode(&[id], true), id));
        let fitting = pieces.filter(|(piece, _)| !piece.is_empty() && left.starts_with(piece));
        let Some((piece, id)) = fitting.max_by_key(|(piece, _)| piece.len()) else { break };
        left = &left[piece.len()..];
        if !forced {
            guide.accept(id).unwrap();
        }
    }
    String::from_utf8(left.to_vec()).unwrap()
}

/// Panics if a text is not what was asked for.
type Check<'c> = &'c dyn Fn(&str);

fn answer(engine: &Engine, request: &Generation) -> (String, Finish) {
    let mut text = String::new();
    let finish = run(engine, request, &mut |piece, _| text.push_str(piece));
    (text, finish)
}

fn run(engine: &Engine, request: &Generation, see: &mut dyn FnMut(&str, usize)) -> Finish {
    let mut emit = |event| {
        if let Event::Text { text, tokens } = event {
            see(&text, tokens.len());
        }
    };
    engine.generate(request, &|| true, &mut emit).unwrap().finish
}

static ALONE: Mutex<()> = Mutex::new(());

/// A model; one test computes at a time.
fn engine() -> (Engine, MutexGuard<'static, ()>) {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let options = LoadOptions { context: 512, ..LoadOptions::default() };
    (
        Engine::load(
            source::open(&model(SMOLLM2)).unwrap(),
            &options,
            &Arc::new(Compute::new(Isa::detect(), 2)),
            &Arc::new(Workers::here(HANDLER)),
        )
        .unwrap(),
        alone,
    )
}

fn compiler(name: &str) -> Compiler {
    let file = ModelFile::open(source::open(&model(name)).unwrap()).unwrap();
    Compiler::new(Arc::new(Tokenizer::new(&file).unwrap()))
}

fn model(name: &str) -> PathBuf {
    let path = folder("models").join(format!("{name}.gguf"));
    assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
    path
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn id(v: &Value) -> u32 {
    u32::try_from(v.as_u64().unwrap()).unwrap()
}

fn fnv(ids: &[u32]) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = ids.iter().flat_map(|id| id.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    format!("{hash:016x}")
}
