//! Each call format, whole and split at every position.

use super::super::answer::{Answer, AnswerPart, AnswerSyntax, CallSyntax};
use super::super::reader::Reader;
use super::super::reasoning::Tags;
use super::{Format, Tool};
use serde_json::{Value, json};

fn collect(parts: impl IntoIterator<Item = AnswerPart>) -> Answer {
    let mut answer = Answer::default();
    parts.into_iter().for_each(|part| answer.add(part));
    answer
}

/// The answer, and whether it ended inside a call.
fn in_pieces<'t>(
    plan: &AnswerSyntax,
    cut: bool,
    pieces: impl IntoIterator<Item = &'t str>,
) -> (Answer, bool) {
    let (answer, reader) = read_pieces(plan, cut, pieces);
    (answer, reader.is_unfinished())
}

fn read_pieces<'t>(
    plan: &AnswerSyntax,
    cut: bool,
    pieces: impl IntoIterator<Item = &'t str>,
) -> (Answer, Reader) {
    let mut reader = Reader::new(plan.clone());
    let mut parts = Vec::new();
    for piece in pieces {
        parts.extend(reader.push(piece));
    }
    parts.extend(reader.finish(cut));
    (collect(parts), reader)
}

fn in_characters(plan: &AnswerSyntax, cut: bool, text: &str) -> (Answer, bool) {
    in_pieces(plan, cut, text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]))
}

/// Reads a text whole, split at every position, and character by character, and expects the same each time.
fn read(plan: &AnswerSyntax, text: &str) -> Answer {
    let whole = in_pieces(plan, false, [text]);
    for (at, _) in text.char_indices() {
        let (a, b) = text.split_at(at);
        assert_eq!(in_pieces(plan, false, [a, b]), whole, "cut: {a:?} | {b:?}");
    }
    assert_eq!(in_characters(plan, false, text), whole, "in characters: {text:?}");
    for (at, (_, _, arguments)) in whole.0.calls.iter().enumerate() {
        let open = whole.1 && at + 1 == whole.0.calls.len();
        assert!(open || is_object(arguments), "{text:?}: {arguments}");
    }
    whole.0
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

fn tools() -> Vec<Tool> {
    let weather = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"},
    }});
    [
        ("get_weather", weather),
        ("get_time", json!({"type": "object", "properties": {}})),
        ("python", Value::Null),
    ]
    .into_iter()
    .map(|(name, parameters)| {
        let raw = json!({"type": "function", "function": {"name": name, "parameters": parameters}});
        Tool::read(&raw).unwrap()
    })
    .collect()
}

/// The syntax for models whose template contains this text.
fn plan(template: &str) -> AnswerSyntax {
    let format = Format::of(template);
    let calls = CallSyntax { format, tools: tools().into(), parallel: true, bare: format.bare() };
    AnswerSyntax { tags: Tags::of(template), apart: true, thinking: false, calls: Some(calls) }
}

const ARGS: &str = r#"{"city": "Mála\"ga}", "days": 2, "tags": ["a", {"b": null}]}"#;

/// Template text, answer, content, calls with id and arguments.
type Case =
    (&'static str, String, &'static str, Vec<(&'static str, Option<&'static str>, &'static str)>);

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let weather = ("get_weather", None, ARGS);
    let time = ("get_time", None, "{}");
    let hermes = "<tool_call>";
    let json_call = format!(r#"{{"name": "get_weather", "arguments": {ARGS}}}"#);
    vec![
        // Hermes, Qwen 2.5, Qwen 3, SmolLM3, Granite 4
        (hermes, format!("I look.\n<tool_call>\n{json_call}\n</tool_call>"), "I look.", vec![weather]),
        (
            hermes,
            format!("<tool_call>\n{json_call}\n</tool_call>\n<tool_call>\n{{\"name\": \"get_time\", \"arguments\": {{}}}}\n</tool_call>\n"),
            "",
            vec![weather, time],
        ),
        (hermes, format!("<tool_call>{json_call}"), "", vec![weather]),
        (hermes, format!(r#"<tool_call>{{"arguments": {ARGS}, "name": "get_weather"}}</tool_call> Done."#), "Done.", vec![weather]),
        (hermes, r#"<tool_call>{"name": "get_time"}</tool_call>"#.into(), "", vec![time]),
        (
            hermes,
            r#"<tool_call>{"id": "x1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}</tool_call>"#.into(),
            "",
            vec![("get_time", Some("x1"), "{}")],
        ),
        (hermes, format!("```json\n{json_call}\n```"), "", vec![weather]),
        (hermes, json_call.clone(), "", vec![weather]),
        // Llama 3
        ("<|python_tag|>", r#"{"name": "get_time", "parameters": {}}"#.into(), "", vec![time]),
        (
            "<|python_tag|>",
            format!(r#" {{"type": "function", "name": "get_weather", "parameters": {ARGS}}}; {{"name": "get_time", "parameters": {{}}}}"#),
            "",
            vec![weather, time],
        ),
        ("<|python_tag|>", format!("<|python_tag|>{json_call}"), "", vec![weather]),
        (
            "<|python_tag|>",
            r#"<|python_tag|>brave_search.call(query="who?")"#.into(),
            "",
            vec![("brave_search", None, r#"{"query":"who?"}"#)],
        ),
        ("<|python_tag|>", "<|python_tag|>print(1)".into(), "", vec![("python", None, r#"{"code":"print(1)"}"#)]),
        // Mistral, both forms
        (
            "[TOOL_CALLS]",
            format!(r#"[TOOL_CALLS][{{"name": "get_weather", "arguments": {ARGS}, "id": "abcdef123"}}, {{"name": "get_time", "arguments": {{}}}}]"#),
            "",
            vec![weather, time],
        ),
        ("[TOOL_CALLS]", format!("[TOOL_CALLS]get_weather[ARGS]{ARGS}"), "", vec![weather]),
        (
            "[TOOL_CALLS]",
            format!("Well, [TOOL_CALLS]get_weather[CALL_ID]abcdef123[ARGS]{ARGS}[TOOL_CALLS]get_time[CALL_ID]x[ARGS]{{}}"),
            "Well,",
            vec![("get_weather", Some("abcdef123"), ARGS), ("get_time", Some("x"), "{}")],
        ),
        // Command R7B, Command R
        (
            "<|START_ACTION|>",
            format!("<|START_ACTION|>[\n    {{\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": {ARGS}}}\n]<|END_ACTION|>"),
            "",
            vec![("get_weather", Some("0"), ARGS)],
        ),
        (
            "Action: ```json tool_name",
            format!("AnswerSyntax: I look.\nAction: ```json\n[\n    {{\n        \"tool_name\": \"get_weather\",\n        \"parameters\": {ARGS}\n    }}\n]```"),
            "AnswerSyntax: I look.",
            vec![weather],
        ),
        // DeepSeek R1, V3.1, V3.2
        (
            "<｜tool▁call▁begin｜>",
            format!("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{ARGS}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{{}}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
            "",
            vec![weather, time],
        ),
        (
            "<｜tool▁call▁begin｜>",
            format!("Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{ARGS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"),
            "Hm.",
            vec![weather],
        ),
        (
            "DSML",
            "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Mála\"ga}</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2</｜DSML｜parameter>\n<｜DSML｜parameter name=\"tags\" string=\"false\">[\"a\", {\"b\": null}]</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>".into(),
            "",
            vec![("get_weather", None, ARGS)],
        ),
        // Granite 3, Phi-4, functools, Nemotron, Apertus, Apriel
        ("<|tool_call|>", format!("<|tool_call|>[{json_call}]"), "", vec![weather]),
        ("<|tool|>", format!("<|tool_call|>[{json_call}]<|/tool_call|>"), "", vec![weather]),
        ("functools[", format!(" functools[{json_call}]"), "", vec![weather]),
        ("<TOOLCALL>", format!("<TOOLCALL>[{json_call}]</TOOLCALL>"), "", vec![weather]),
        ("<|tools_prefix|>", format!("<|tools_prefix|>[{{\"get_weather\": {ARGS}}}, {{\"get_time\": {{}}}}]<|tools_suffix|>"), "", vec![weather, time]),
        ("<tool_calls>[", format!("<tool_calls>[{json_call}]</tool_calls>"), "", vec![weather]),
        // functionary
        ("<function=", format!("<function=get_weather>{ARGS}</function><function=get_time></function>"), "", vec![weather, time]),
        (">>>all", format!("all\nI look.\n>>>get_weather\n{ARGS}"), "I look.", vec![weather]),
        (">>>all", format!("get_weather\n{ARGS}\n>>>get_time\n{{}}"), "", vec![weather, time]),
        (">>>all", "all\n{\"a\": 1} >> all".into(), "{\"a\": 1} >> all", vec![]),
        // gpt-oss
        (
            "<|channel|><|message|>",
            format!("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGS}"),
            "I look.",
            vec![weather],
        ),
        (
            "<|channel|><|message|>",
            format!("<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{ARGS}"),
            "",
            vec![weather],
        ),
        ("<|channel|><|message|>", "<|channel|>final<|message|>Hello < there".into(), "Hello < there", vec![]),
        // Qwen3-Coder, Seed, GLM, MiniMax, MiniCPM
        (
            "<function=<parameter=",
            "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nMála\"ga}\n</parameter>\n<parameter=days>\n2\n</parameter>\n<parameter=tags>\n[\"a\", {\"b\": null}]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>".into(),
            "I look.",
            vec![("get_weather", None, ARGS), time],
        ),
        (
            "<function=<parameter=",
            "<seed:tool_call>\n<function=get_weather>\n<parameter=city>two\nlines <b></parameter>\n</function>\n</seed:tool_call>".into(),
            "",
            vec![("get_weather", None, r#"{"city": "two\nlines <b>"}"#)],
        ),
        (
            "<arg_key><arg_value>",
            "I look.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Mála\"ga}</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n<arg_key>tags</arg_key>\n<arg_value>[\"a\", {\"b\": null}]</arg_value>\n</tool_call>\n<tool_call>get_time</tool_call>".into(),
            "I look.",
            vec![("get_weather", None, ARGS), time],
        ),
        (
            "<minimax:tool_call>",
            "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">x</parameter>\n<parameter name=\"days\">2</parameter>\n</invoke>\n<invoke name=\"get_time\">\n</invoke>\n</minimax:tool_call>".into(),
            "",
            vec![("get_weather", None, r#"{"city": "x", "days": 2}"#), time],
        ),
        (
            "<function name=\"<param name=\"",
            "<function name=\"get_weather\"><param name=\"city\">x</param></function>".into(),
            "",
            vec![("get_weather", None, r#"{"city": "x"}"#)],
        ),
        // Kimi K2
        (
            "<|tool_call_begin|><|tool_call_argument_begin|>",
            format!("I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{ARGS}<|tool_call_end|><|tool_call_begin|>functions.get_time:1<|tool_call_argument_begin|>{{}}<|tool_call_end|><|tool_calls_section_end|>"),
            "I look.",
            vec![("get_weather", Some("functions.get_weather:0"), ARGS), ("get_time", Some("functions.get_time:1"), "{}")],
        ),
        // LFM2, OLMo 3
        (
            "<|tool_call_start|>",
            "<|tool_call_start|>[get_weather(city='x', days=2), get_time()]<|tool_call_end|>Done.".into(),
            "Done.",
            vec![("get_weather", None, r#"{"city":"x","days":2}"#), time],
        ),
        // Gemma 4
        (
            "<|tool_call><tool_call|>",
            "I look.<|tool_call>call:get_weather{city:<|\"|>x<|\"|>,days:2}<tool_call|><|tool_call>call:get_time{}<tool_call|>".into(),
            "I look.",
            vec![("get_weather", None, r#"{"city":"x","days":2}"#), time],
        ),
        ("<function_calls>", "<function_calls>\nget_time()\n</function_calls>".into(), "", vec![time]),
        // Templates that know no functions
        ("", json_call.clone(), "", vec![weather]),
        ("", format!("[{json_call}, {{\"name\": \"get_time\", \"arguments\": {{}}}}]"), "", vec![weather, time]),
        ("", format!("```json\n{{\"tool_calls\": [{json_call}]}}\n```\n"), "", vec![weather]),
    ]
}

#[test]
fn each_format_parses_whole_and_in_pieces() {
    for (template, text, content, calls) in cases() {
        let found = read(&plan(template), &text);
        let calls: Vec<_> = calls
            .into_iter()
            .map(|(name, id, arguments)| {
                (id.map(ToOwned::to_owned), name.to_owned(), arguments.to_owned())
            })
            .collect();
        let form = Format::of(template).name;
        assert_eq!(found.calls, calls, "{form}: {text}");
        assert_eq!(found.content, content, "{form}: {text}");
        assert_eq!(found.reasoning, "");
    }
}

#[test]
fn text_that_only_looks_like_a_call_stays_text() {
    for (template, text) in [
        ("<tool_call>", "Use the tag <tool_call> for calls, like <tool_call>{x}</tool_call>. \n"),
        ("<tool_call>", r#"{"name": "Ada", "age": 36}"#),
        ("<tool_call>", "```json\n{\"a\": [1, 2]}\n```\nThat is JSON.\n\n"),
        ("<tool_call>", "  \n<tool_cal"),
        ("<tool_call>", "<tool_call>"),
        ("<tool_call>", "[link](x) and {braces}"),
        ("<tool_call>", "```python\nprint(1)\n```"),
        ("<|python_tag|>", r#"{"answer": 42, "name": "get_time"}"#),
        ("[TOOL_CALLS]", "The marker [TOOL_CALLS] begins a call."),
        ("<｜tool▁call▁begin｜>", "<｜tool▁call▁begin｜> what?"),
        ("<function=<parameter=", "Write <function=a b> or <tool_call>!"),
        ("<arg_key><arg_value>", "<tool_call>what is this?\n</tool_call>"),
        ("<|tool_call_start|>", "<|tool_call_start|>no call<|tool_call_end|>"),
        (">>>all", "Hello there, nobody is named."),
        ("", "Plain {\"name\": \"get_time\", \"arguments\": {}}"),
        ("", "{\"name\": \"unknown\", \"arguments\": {}}"),
        ("", "``"),
    ] {
        let found = read(&plan(template), text);
        assert_eq!(found, Answer { content: text.to_owned(), ..Answer::default() }, "{template}");
    }
    // Without functions, every answer is text.
    for (_, text, ..) in cases() {
        let plan = AnswerSyntax { apart: true, ..AnswerSyntax::default() };
        assert_eq!(read(&plan, &text), Answer { content: text, ..Answer::default() });
    }
}

#[test]
fn a_truncated_answer_has_no_finished_call() {
    let broken = |template: &str, text: &str, cut: bool| {
        let plan = plan(template);
        let whole = in_pieces(&plan, cut, [text]);
        assert_eq!(in_characters(&plan, cut, text), whole, "{text}");
        let (found, unfinished) = whole;
        let calls: Vec<_> = found.calls.into_iter().map(|(_, name, json)| (name, json)).collect();
        (calls, found.content, unfinished)
    };
    let call = |json: &str| vec![("get_weather".to_owned(), json.to_owned())];
    let hermes = "<tool_call>";
    let text = r#"<tool_call>{"name": "get_weather", "arguments": {"city": "Má"#;
    for cut in [true, false] {
        assert_eq!(broken(hermes, text, cut), (call(r#"{"city": "Má"#), String::new(), true));
    }
    // Brackets that the model forgot are added; brackets lost to the limit are not.
    let text = r#"<tool_call>{"name": "get_weather", "arguments": {"city": "Rome""#;
    assert_eq!(broken(hermes, text, true), (call(r#"{"city": "Rome""#), String::new(), true));
    assert_eq!(broken(hermes, text, false), (call(r#"{"city": "Rome"}"#), String::new(), false));
    let coder = "<function=<parameter=";
    for text in [
        "<tool_call>\n<function=get_weather>\n<parameter=days>\n2\n</parameter>\n",
        "<tool_call>\n<function=get_weather>\n<parameter=days>\n2\n</parameter>\n</func",
    ] {
        assert_eq!(
            broken(coder, text, true),
            (call("{\"days\": 2"), String::new(), true),
            "{text}"
        );
        assert_eq!(
            broken(coder, text, false),
            (call("{\"days\": 2}"), String::new(), false),
            "{text}"
        );
    }
    let open = "<tool_call>\n<function=get_weather>\n";
    assert_eq!(broken(coder, open, true), (call(""), String::new(), true));
    assert_eq!(broken(coder, open, false), (call("{}"), String::new(), false));
    let python = "<|tool_call_start|>[get_weather(city='x', days=2";
    assert_eq!(broken("<|tool_call_start|>", python, true), (vec![], String::new(), true));
    assert_eq!(broken("<|tool_call_start|>", python, false).0, call(r#"{"city":"x","days":2}"#));
    for (template, text) in [
        (hermes, r#"<tool_call>{"name": "get_wea"#),
        (hermes, "<tool_call>"),
        ("[TOOL_CALLS]", "[TOOL_CALLS]get_wea"),
        (coder, "<tool_call>\n<function=get_wea"),
        ("<|tool_call><tool_call|>", "<|tool_call>call:get_weather{city:"),
    ] {
        assert_eq!(broken(template, text, true), (vec![], String::new(), true), "{text}");
        assert_eq!(broken(template, text, false).1, text);
    }
    // Bare JSON that may be anything is text.
    let json = r#"{"name": "get_wea"#;
    assert_eq!(broken(hermes, json, true), (vec![], json.to_owned(), false));
}

/// Template text, answer, function and arguments of each call.
type Written = (&'static str, String, Vec<(&'static str, String)>);

#[test]
fn calls_parse_as_models_really_write_them() {
    let hermes = "<tool_call>";
    let coder = "<function=<parameter=";
    let glm = "<arg_key><arg_value>";
    let kimi = "<|tool_call_begin|><|tool_call_argument_begin|>";
    let channels = "<|channel|><|message|>";
    let lfm = "<|tool_call_start|>";
    let big = "123456789012345678901234567890";
    let weather = |json: &str| vec![("get_weather", json.to_owned())];
    let time = || vec![("get_time", "{}".to_owned())];
    let two = |json: &str| vec![("get_weather", json.to_owned()), ("get_time", "{}".to_owned())];
    let parameter =
        |text: &str| format!("<tool_call>\n<function=get_weather>\n<parameter=city>\n{text}");
    #[rustfmt::skip]
    let cases: Vec<Written> = vec![
        // No arguments.
        (hermes, "<tool_call>{\"name\": \"get_time\", \"arguments\": null}</tool_call>".into(), time()),
        (hermes, "<tool_call>{\"name\": \"get_time\", \"arguments\": \"\"}</tool_call>".into(), time()),
        (hermes, "<tool_call>{\"name\": \"get_time\", \"arguments\": []}</tool_call>".into(), time()),
        (hermes, "<tool_call>{\"name\": \"get_time\", \"arguments\": }</tool_call>".into(), time()),
        (channels, "<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>".into(), time()),
        (channels, "<|channel|>commentary to=functions.get_time<|message|>null<|call|>".into(), time()),
        (kimi, "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_time:0<|tool_call_argument_begin|><|tool_call_end|><|tool_calls_section_end|>".into(), time()),
        ("[TOOL_CALLS]", "[TOOL_CALLS]get_time[ARGS]".into(), time()),
        ("[TOOL_CALLS]", "[TOOL_CALLS]get_time".into(), time()),
        ("<｜tool▁call▁begin｜>", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>".into(), time()),
        (glm, "<tool_call>get_time\n</tool_call>".into(), time()),
        ("<|tool_call><tool_call|>", "<|tool_call>call:get_time<tool_call|>".into(), time()),
        // Raw characters, Python's words, digits.
        (hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"a\nb\tc\"}}</tool_call>".into(), weather(r#"{"city": "a\nb\tc"}"#)),
        (hermes, "<tool_call>{'name': 'get_weather', 'arguments': {'city': 'x', 'tags': [True, None,]}}</tool_call>".into(), weather(r#"{"city": "x", "tags": [true, null]}"#)),
        (hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": \"{'city': 'x'}\"}</tool_call>".into(), weather(r#"{"city": "x"}"#)),
        (hermes, format!("<tool_call>{{\"name\": \"get_weather\", \"arguments\": {{\"days\": {big}, \"city\": 1.10}}}}</tool_call>"), weather(&format!(r#"{{"days": {big}, "city": 1.10}}"#))),
        (coder, format!("<function=get_weather>\n<parameter=days>\n{big}\n</parameter>\n</function>"), weather(&format!(r#"{{"days": {big}}}"#))),
        (lfm, format!("<|tool_call_start|>[get_weather(days={big})]<|tool_call_end|>"), weather(&format!(r#"{{"days":{big}}}"#))),
        // Sections left open, or closed too often.
        (hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}\n</tool_call>\n<tool_call>\n{\"name\": \"get_time\"}".into(), two(r#"{"days": 2}"#)),
        (hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"x}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_time\"}\n</tool_call>".into(), two("{\"city\": \"x}}\\n\"}")),
        (hermes, "<tool_call><tool_call>{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}}}</tool_call></tool_call>\n<tool_call>{\"name\": \"get_time\", \"arguments\": {}}</tool_call>\n</tool_call>\n".into(), two(r#"{"days": 2}"#)),
        (hermes, "{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}\n</tool_call>".into(), weather(r#"{"days": 2}"#)),
        (hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}, \"arguments\": {\"days\": 3}}</tool_call>".into(), weather(r#"{"days": 2}"#)),
        (coder, parameter("A\n</parameter>\n</tool_call>"), weather(r#"{"city": "A"}"#)),
        (coder, parameter("A\n</function>\n</tool_call>"), weather(r#"{"city": "A"}"#)),
        (coder, parameter("A\n</tool_call>"), weather(r#"{"city": "A"}"#)),
        (coder, parameter("A\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>"), weather(r#"{"city": "A", "days": 2}"#)),
        (coder, parameter("A\n</parameter>\n</parameter>\n</function>\n</function>\n</tool_call>\n</tool_call>"), weather(r#"{"city": "A"}"#)),
        (coder, parameter("A\n</parameter>\n</tool_call>\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>"), two(r#"{"city": "A"}"#)),
        (coder, parameter("A\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>\n"), vec![("get_weather", r#"{"city": "A\n<tool_call>\n<function=get_time>"}"#.to_owned())]),
        (coder, parameter("say </function> and\n</tool_call> and\n<parameter=x>\n</parameter>\n</function>\n</tool_call>"), weather(r#"{"city": "say </function> and\n</tool_call> and\n<parameter=x>"}"#)),
        (coder, "<tool_call>\n<function=get_weather>\n<parameter=tags>\n{\"k\": 1}\n</function>\n</tool_call>".into(), weather(r#"{"tags": {"k": 1}}"#)),
        (glm, "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>x\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>".into(), weather(r#"{"city": "x\n", "days": 2}"#)),
        (glm, "get_weather\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>".into(), weather(r#"{"days": 2}"#)),
        ("<minimax:tool_call>", "<invoke name=\"get_weather\">\n<parameter name=\"days\">2</parameter>\n</minimax:tool_call>".into(), weather(r#"{"days": 2}"#)),
        ("<tool_calls>[", "[{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}]</tool_calls>".into(), weather(r#"{"days": 2}"#)),
        ("<|tool_call|>", "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}]<|/tool_call|>".into(), weather(r#"{"days": 2}"#)),
        // Another model's format.
        (lfm, "<|tool_call_start|>[{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}]<|tool_call_end|>".into(), weather(r#"{"days": 2}"#)),
        (lfm, "<|tool_call_start|>{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}<|tool_call_end|>".into(), weather(r#"{"days": 2}"#)),
        (lfm, "[get_weather(days=2)]".into(), weather(r#"{"days":2}"#)),
        (hermes, "<tool_call>get_weather(days=2)</tool_call>".into(), weather(r#"{"days":2}"#)),
        (hermes, "<tool_call>\n<function=get_weather>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>".into(), weather(r#"{"days": 2}"#)),
        (coder, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}\n</tool_call>".into(), weather(r#"{"days": 2}"#)),
        (coder, "<tool_call>\n<function=get_weather>\n{\"days\": 2}\n</function>\n</tool_call>".into(), weather(r#"{"days": 2}"#)),
        ("<|tools_prefix|>", "<|tools_prefix|>[{\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}]<|tools_suffix|>".into(), weather(r#"{"days": 2}"#)),
        (">>>all", ">>>python\nprint(1)".into(), vec![("python", r#"{"code": "print(1)"}"#.to_owned())]),
    ];
    for (template, text, expected) in cases {
        let plan = plan(template);
        let found = read(&plan, &text);
        assert!(!in_pieces(&plan, false, [text.as_str()]).1, "{text}: unfinished");
        let calls: Vec<_> =
            found.calls.iter().map(|(_, name, json)| (name.as_str(), json.clone())).collect();
        assert_eq!(calls, expected, "{text}");
        assert_eq!(found.content, "", "{text}");
    }
}

#[test]
fn a_finished_call_survives_a_truncated_next_one() {
    let plan = plan("<tool_call>");
    let call = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>";
    let text = format!("{call}\n{call}");
    for end in call.len()..text.len() {
        let (mut answer, reader) = read_pieces(&plan, true, [&text[..end]]);
        if reader.has_open_call() {
            answer.calls.pop();
        }
        assert!(!answer.calls.is_empty(), "{:?}", &text[..end]);
    }
}

#[test]
fn golden_answers_with_lost_or_doubled_pieces_still_parse() {
    let mut state = 15_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for (template, text, ..) in cases() {
        let plan = plan(template);
        let pieces = pieces(&text, &plan.markers());
        for at in 0..pieces.len() {
            let (before, after) = (pieces[..at].concat(), pieces[at + 1..].concat());
            let piece = pieces[at];
            for (text, cut) in [
                (format!("{before}{after}"), false),
                (format!("{before}{piece}{piece}{after}"), false),
                (before.clone(), false),
                (before.clone(), true),
            ] {
                let whole = in_pieces(&plan, cut, [text.as_str()]);
                assert_eq!(in_characters(&plan, cut, &text), whole, "{text:?}");
                let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
                for _ in 0..3.min(places.len()) {
                    let (a, b) = text.split_at(places[next(places.len())]);
                    assert_eq!(in_pieces(&plan, cut, [a, b]), whole, "{a:?} | {b:?}");
                }
                let (mut answer, unfinished) = whole;
                if unfinished {
                    answer.calls.pop();
                }
                for (_, _, arguments) in &answer.calls {
                    assert!(is_object(arguments), "{text:?}: {arguments}");
                }
                // If calls are still read after a marker was lost or doubled, no marker token leaks into the content.
                let marks = plan.markers();
                let whole = marks.contains(&piece);
                let is_mark =
                    |mark: &&&str| mark.contains(['|', '｜']) && answer.content.contains(**mark);
                let leaked = marks.iter().find(is_mark).copied();
                if whole && !answer.calls.is_empty() {
                    assert_eq!(leaked, None, "{text:?}: {:?}", answer.content);
                }
            }
        }
    }
}

/// Splits a text into markers, words and other single characters.
fn pieces<'t>(text: &'t str, marks: &[&str]) -> Vec<&'t str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        let mark =
            marks.iter().filter(|mark| rest.starts_with(**mark)).map(|mark| mark.len()).max();
        let word = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(mark.unwrap_or(word.max(c.len_utf8())));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[test]
fn reading_stops_after_one_call_unless_parallel() {
    let two = r#"<tool_call>{"name": "get_time"}</tool_call><tool_call>{"name": "get_time"}</tool_call>x"#;
    let mut plan = plan("<tool_call>");
    plan.calls.as_mut().unwrap().parallel = false;
    let found = read(&plan, two);
    assert_eq!((found.calls.len(), found.content.as_str()), (1, ""));
    let mut reader = Reader::new(plan);
    reader.push(&two[..two.find("</").unwrap()]);
    assert!(reader.is_over());
}

#[test]
fn reasoning_is_separated_from_content() {
    let think = |template: &str, thinking: bool, text: &str| {
        let plan = AnswerSyntax { thinking, calls: None, ..plan(template) };
        let found = read(&plan, text);
        (found.reasoning, found.content)
    };
    let both = |reasoning: &str, content: &str| (reasoning.to_owned(), content.to_owned());
    let tags = "<think>";
    assert_eq!(
        think(tags, false, "<think>\nHm < x.\n</think>\n\nYes.\n"),
        both("Hm < x.", "Yes.\n")
    );
    assert_eq!(think(tags, true, "Hm.\n\n</think>\n\nYes."), both("Hm.", "Yes."));
    assert_eq!(think(tags, true, "\n<think>\nHm.</think>Yes."), both("Hm.", "Yes."));
    assert_eq!(think(tags, false, "Yes: <think>no</think>"), both("", "Yes: <think>no</think>"));
    assert_eq!(think(tags, false, "<think>\n\n</think>\n\nYes."), both("", "Yes."));
    assert_eq!(think(tags, false, "<thin"), both("", "<thin"));
    assert_eq!(think(tags, true, "Hm."), both("Hm.", ""));
    assert_eq!(think("[THINK]", false, "[THINK]a[/THINK]b"), both("a", "b"));
    assert_eq!(think("<seed:think>", false, "<seed:think>a</seed:think>b"), both("a", "b"));
    assert_eq!(think("", false, "<think>a</think>b"), both("", "<think>a</think>b"));
    assert_eq!(
        think(
            "<channel|>",
            false,
            "<|channel>thought\nHm.\n<channel|>Yes.<|channel>thought\n<channel|>"
        ),
        both("Hm.", "Yes.")
    );
    assert_eq!(think("<channel|>", false, "Yes, <channel|>no."), both("", "Yes,no."));
    let channels = "<|channel|><|message|>";
    assert_eq!(
        think(
            channels,
            false,
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
        ),
        both("Hm.", "Yes.")
    );
    assert_eq!(think(channels, false, "<|channel|>final<|message|>Yes."), both("", "Yes."));
}

#[test]
fn reasoning_stays_in_the_content_if_not_separated() {
    let text =
        "<think>\nHm. <tool_call>\n</think>\n\n<tool_call>{\"name\": \"get_time\"}</tool_call>";
    let whole = AnswerSyntax { apart: false, ..plan("<think><tool_call>") };
    let found = read(&whole, text);
    assert_eq!(found.content, "<think>\nHm. <tool_call>\n</think>");
    assert_eq!((found.calls.len(), found.reasoning.as_str()), (1, ""));
}

#[test]
fn calls_follow_reasoning_but_are_not_parsed_inside_it() {
    let found = read(
        &plan("<think><tool_call>"),
        "<think>I could <tool_call>{\"name\": \"get_time\"}</tool_call></think>\n<tool_call>{\"name\": \"get_weather\", \"arguments\": {}}</tool_call>",
    );
    assert_eq!(found.reasoning, "I could <tool_call>{\"name\": \"get_time\"}</tool_call>");
    assert_eq!(found.calls, [(None, "get_weather".into(), "{}".into())]);
    assert_eq!(found.content, "");
}

#[test]
fn broken_answers_parse_the_same_however_they_are_split() {
    // A linear congruential generator (Knuth's constants), so that each run tries the same texts.
    let mut state = 20_261_121_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let common = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        " ",
        "é",
        "<",
        "|",
        "name",
        "\"name\": \"get_time\"",
        "\"arguments\": {\"city\": \"x\"}",
        "{\"name\": \"get_weather\", \"arguments\": {}}",
        "get_time",
        "(a=1)",
        "```json",
        "```",
        "text",
        "all\n",
        " to=functions.get_time",
        "final",
        "string=\"true\"",
        "city",
        "\"x\"",
        ">",
    ];
    let templates: Vec<&str> =
        cases().iter().map(|(template, ..)| *template).chain(["<think><tool_call>"]).collect();
    for _ in 0..3000 {
        let mut plan = plan(templates[next(templates.len())]);
        plan.thinking = next(4) == 0;
        plan.apart = next(4) > 0;
        plan.calls.as_mut().unwrap().parallel = next(4) > 0;
        let markers = plan.markers();
        let mut text = String::new();
        for _ in 0..=next(14) {
            let marker = !markers.is_empty() && next(2) == 0;
            text += if marker { markers[next(markers.len())] } else { common[next(common.len())] };
        }
        read(&plan, &text);
    }
}
