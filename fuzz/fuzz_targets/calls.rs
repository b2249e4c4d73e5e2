//! Parses a model's answer for tool calls, whole and in two pieces: the results must be the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::Arc;
use tealight::chat::{Answer, CallSyntax, Format, AnswerSyntax, Reader, Tags, Tool};

/// Markers in chat templates, each of which selects another tool call format.
const TEMPLATES: &[&str] = &[
    "<tool_call>",
    "<|channel|><|message|>",
    "<|tool_call><tool_call|>",
    ">>>all",
    "<|tool_call_begin|><|tool_call_argument_begin|>",
    "DSML",
    "<｜tool▁call▁begin｜>",
    "<minimax:tool_call>",
    "<function name=\"<param name=\"",
    "<arg_key><arg_value>",
    "<function=<parameter=",
    "<function=",
    "<|START_ACTION|>",
    "Action:```jsontool_name",
    "[TOOL_CALLS]",
    "<|tool_call|>",
    "<TOOLCALL>",
    "<|tools_prefix|>",
    "<tool_calls>[",
    "<|tool_call_start|>",
    "<function_calls>",
    "<|python_tag|>",
    "",
];

fuzz_target!(|input: (u8, u8, usize, &str)| {
    let (form, how, at, text) = input;
    let template = TEMPLATES[usize::from(form) % TEMPLATES.len()];
    let calls = CallSyntax {
        format: Format::of(template),
        tools: tools(),
        parallel: how & 1 == 0,
        bare: how & 2 == 0,
    };
    let tags = if template.contains("<|channel|>") {
        Tags::of("<|channel|>analysis<|message|><|end|>")
    } else if how & 4 == 0 {
        Tags::of("<think></think>")
    } else {
        None
    };
    let plan = AnswerSyntax { tags, thinking: how & 8 == 0, apart: how & 16 == 0, calls: Some(calls) };
    let cut = how & 32 == 0;
    let whole = read(&plan, cut, &[text]);
    let at = (0..=text.len()).rev().find(|n| *n <= at % (text.len() + 1) && text.is_char_boundary(*n));
    let (first, second) = text.split_at(at.unwrap_or(0));
    assert_eq!(read(&plan, cut, &[first, second]), whole);
    let (answer, open) = whole;
    let finished = answer.calls.len() - usize::from(open);
    for (_, name, arguments) in &answer.calls[..finished] {
        let value: Value = serde_json::from_str(arguments).expect("arguments are JSON");
        assert!(value.is_object(), "{name}: {arguments}");
    }
});

fn read(plan: &AnswerSyntax, cut: bool, pieces: &[&str]) -> (Answer, bool) {
    let mut reader = Reader::new(plan.clone());
    let mut answer = Answer::default();
    for piece in pieces {
        reader.push(piece).into_iter().for_each(|part| answer.add(part));
    }
    reader.finish(cut).into_iter().for_each(|part| answer.add(part));
    (answer, reader.has_open_call())
}

fn tools() -> Arc<[Tool]> {
    let weather = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"},
    }});
    let all = [("get_weather", weather), ("f", json!({"type": "object"})), ("python", Value::Null)];
    let tool = |(name, parameters)| {
        let raw = json!({"type": "function", "function": {"name": name, "parameters": parameters}});
        Tool::read(&raw).expect("it has a name")
    };
    all.into_iter().map(tool).collect()
}
