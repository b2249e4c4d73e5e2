//! Maps other servers' request fields to ours.
//!
//! Input: the fields of a request. Output: the same settings under our names. One table, [`ROWS`]. If a request also
//! sets our own name, ours wins.

use super::fields::Fields;
use serde_json::{Map, Value, json};

/// The requests that a row applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Chat completions.
    Chat,
    /// Text completions.
    Text,
    /// Both.
    Completion,
    /// Embeddings.
    Embedding,
    /// Tokenizing and detokenizing.
    Tokens,
}

impl On {
    fn includes(self, other: Self) -> bool {
        self == other || self == Self::Completion && matches!(other, Self::Chat | Self::Text)
    }
}

/// Converts a value to ours; null if it asks for nothing. The error says what was expected.
type Convert = fn(&Value) -> Result<Value, &'static str>;

/// One field of another server.
pub struct Row {
    /// Its name; `a.b` is the field `b` of the object `a`.
    pub name: &'static str,
    /// Our name, in the same notation.
    pub ours: &'static str,
    /// The requests that accept it.
    pub on: On,
    /// Converts its value to ours.
    pub convert: Convert,
}

/// Objects whose fields count as fields of the request: Ollama's, TGI's, and an argument of OpenAI's Python client that
/// some people send as a field.
const OBJECTS: &[&str] = &["options", "parameters", "extra_body"];

/// Our own synonyms: if a request sets any of them, it overrides other servers' names for the setting.
const SAME: &[&[&str]] = &[&["max_tokens", "max_completion_tokens", "n_predict"]];

const fn row(name: &'static str, ours: &'static str, on: On, convert: Convert) -> Row {
    Row { name, ours, on, convert }
}

/// All fields of other servers that are understood; earlier rows win.
pub const ROWS: &[Row] = &[
    // Length. Hugging Face and TGI, Ollama, KoboldCpp, Anthropic, OpenAI's newer API.
    row("max_new_tokens", "n_predict", On::Completion, same),
    row("num_predict", "n_predict", On::Completion, ollama_length),
    row("max_length", "n_predict", On::Completion, same),
    row("max_output_tokens", "n_predict", On::Completion, same),
    row("max_tokens_to_sample", "n_predict", On::Completion, same),
    row("min_new_tokens", "min_tokens", On::Completion, same),
    row("min_length", "min_tokens", On::Completion, same),
    row("num_ctx", "n_ctx", On::Completion, same),
    row("max_context_length", "n_ctx", On::Completion, same),
    row("truncation_length", "n_ctx", On::Completion, same),
    row("n_cmpl", "n", On::Completion, same),
    // Stop conditions. Anthropic, KoboldCpp, text-generation-webui, Hugging Face.
    row("stop_sequences", "stop", On::Completion, same),
    row("stop_sequence", "stop", On::Completion, same),
    row("stopping_strings", "stop", On::Completion, same),
    row("stop_strings", "stop", On::Completion, same),
    row("ban_eos_token", "ignore_eos", On::Completion, same),
    // Sampling. vLLM, TGI and SGLang; KoboldCpp, TabbyAPI and text-generation-webui; Mistral.
    row("repetition_penalty", "repeat_penalty", On::Completion, same),
    row("rep_pen", "repeat_penalty", On::Completion, same),
    row("repetition_penalty_range", "repeat_last_n", On::Completion, zero_is_all),
    row("rep_pen_range", "repeat_last_n", On::Completion, zero_is_all),
    row("penalty_range", "repeat_last_n", On::Completion, zero_is_all),
    row("temp", "temperature", On::Completion, same),
    row("do_sample", "temperature", On::Completion, cold_if_false),
    row("typical", "typical_p", On::Completion, same),
    row("typ_p", "typical_p", On::Completion, same),
    row("nsigma", "top_n_sigma", On::Completion, same),
    row("dynatemp_exp", "dynatemp_exponent", On::Completion, same),
    row("mirostat_mode", "mirostat", On::Completion, same),
    row("mirostat_ent", "mirostat_tau", On::Completion, same),
    row("mirostat_lr", "mirostat_eta", On::Completion, same),
    row("dry_range", "dry_penalty_last_n", On::Completion, zero_is_all),
    row("random_seed", "seed", On::Completion, same),
    row("sampler_seed", "seed", On::Completion, same),
    // Structured output. vLLM, SGLang, TabbyAPI, Ollama.
    row("guided_json", "json_schema", On::Completion, schema),
    row("guided_regex", "regex", On::Completion, same),
    row("guided_choice", "grammar", On::Completion, one_of),
    row("guided_grammar", "grammar", On::Completion, same),
    row("guided_json_object", "response_format", On::Completion, any_object),
    row("structured_outputs.json", "json_schema", On::Completion, schema),
    row("structured_outputs.regex", "regex", On::Completion, same),
    row("structured_outputs.choice", "grammar", On::Completion, one_of),
    row("structured_outputs.grammar", "grammar", On::Completion, same),
    row("structured_outputs.json_object", "response_format", On::Completion, any_object),
    row("ebnf", "grammar", On::Completion, same),
    row("grammar_string", "grammar", On::Completion, same),
    row("regex_pattern", "regex", On::Completion, same),
    row("format", "response_format", On::Completion, ollama_format),
    // Log probabilities. llama.cpp and TGI.
    row("n_probs", "logprobs", On::Chat, if_any),
    row("n_probs", "top_logprobs", On::Chat, number_if_any),
    row("n_probs", "logprobs", On::Text, number_if_any),
    row("top_n_tokens", "logprobs", On::Chat, if_any),
    row("top_n_tokens", "top_logprobs", On::Chat, number_if_any),
    row("top_n_tokens", "logprobs", On::Text, number_if_any),
    row("return_full_text", "echo", On::Text, same),
    // Reasoning. Qwen, Ollama, Anthropic and Z.AI, OpenAI's newer API and OpenRouter, SGLang.
    row("enable_thinking", "chat_template_kwargs.enable_thinking", On::Chat, same),
    row("think", "chat_template_kwargs.enable_thinking", On::Chat, truth),
    row("think", "reasoning_effort", On::Chat, text),
    row("thinking", "chat_template_kwargs.enable_thinking", On::Chat, boolean),
    row("thinking.type", "chat_template_kwargs.enable_thinking", On::Chat, enabled),
    row("reasoning.enabled", "chat_template_kwargs.enable_thinking", On::Chat, boolean),
    row("reasoning.effort", "reasoning_effort", On::Chat, same),
    row("thinking.budget_tokens", "reasoning_budget_tokens", On::Chat, same),
    row("thinking_budget", "reasoning_budget_tokens", On::Chat, same),
    row("thinking_budget_tokens", "reasoning_budget_tokens", On::Chat, same),
    row("reasoning_budget", "reasoning_budget_tokens", On::Chat, same),
    row("reasoning.max_tokens", "reasoning_budget_tokens", On::Chat, same),
    row("separate_reasoning", "reasoning_format", On::Chat, apart),
    // OpenAI's legacy function calling.
    row("functions", "tools", On::Chat, tools),
    row("function_call", "tool_choice", On::Chat, tool_choice),
    // Embeddings and tokens. TEI, Ollama, vLLM.
    row("inputs", "input", On::Embedding, same),
    row("prompt", "input", On::Embedding, same),
    row("normalize", "embd_normalize", On::Embedding, euclidean),
    row("output_dimensionality", "dimensions", On::Embedding, same),
    row("prompt", "content", On::Tokens, same),
    row("text", "content", On::Tokens, same),
    row("inputs", "content", On::Tokens, same),
    row("add_special_tokens", "add_special", On::Tokens, same),
    row("token_ids", "tokens", On::Tokens, same),
    row("ids", "tokens", On::Tokens, same),
];

/// Renames the fields to ours.
///
/// # Errors
/// When a value can't be converted: names the field, the value, and what was expected.
pub fn apply(f: &mut Fields, on: On) -> Result<(), super::error::ApiError> {
    if matches!(on, On::Chat | On::Text) {
        OBJECTS.iter().for_each(|name| f.lift(name));
    }
    let rows = || ROWS.iter().filter(|row| row.on.includes(on));
    for (object, _) in rows().filter_map(|row| row.name.split_once('.')) {
        f.spread(object);
    }
    let mut names: Vec<&str> = rows().map(|row| row.name).collect();
    names.dedup();
    for name in names {
        let Some(value) = f.take(name) else { continue };
        let (mut taken, mut instead) = (false, None);
        for row in rows().filter(|row| row.name == name) {
            let converted =
                (row.convert)(&value).map_err(|expected| f.wrong(name, &value, expected))?;
            // Asks for nothing, or another row with this name handles it.
            if converted.is_null() {
                continue;
            }
            let same = SAME.iter().find(|all| all.contains(&row.ours)).copied();
            if let Some(ours) = same.unwrap_or(&[row.ours]).iter().find(|ours| f.has(ours)) {
                instead = Some(*ours);
            } else {
                f.put(row.ours, name, converted);
                taken = true;
            }
        }
        if let (false, Some(ours)) = (taken, instead) {
            f.passed_over(name, ours);
        }
    }
    Ok(())
}

/// Other servers' names that a request may use, for spelling suggestions.
pub fn known(on: On) -> impl Iterator<Item = &'static str> {
    ROWS.iter().filter(move |row| row.on.includes(on)).map(|row| row.name)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of all conversions")]
fn same(v: &Value) -> Result<Value, &'static str> {
    Ok(v.clone())
}

/// Ollama's −2 means "fill the context": no limit, our −1.
#[expect(clippy::unnecessary_wraps, reason = "the form of all conversions")]
fn ollama_length(v: &Value) -> Result<Value, &'static str> {
    Ok(if *v == json!(-2) { json!(-1) } else { v.clone() })
}

#[expect(clippy::unnecessary_wraps, reason = "the form of all conversions")]
fn zero_is_all(v: &Value) -> Result<Value, &'static str> {
    Ok(if *v == json!(0) { json!(-1) } else { v.clone() })
}

fn cold_if_false(v: &Value) -> Result<Value, &'static str> {
    match v {
        Value::Bool(false) => Ok(json!(0)),
        Value::Bool(true) => Ok(Value::Null),
        _ => Err("true or false"),
    }
}

/// A schema: an object, or its JSON text.
fn schema(v: &Value) -> Result<Value, &'static str> {
    const EXPECTED: &str = "a JSON schema: an object, or its JSON text";
    match v {
        Value::Object(_) => Ok(v.clone()),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(schema @ Value::Object(_)) => Ok(schema),
            _ => Err(EXPECTED),
        },
        _ => Err(EXPECTED),
    }
}

/// A grammar that accepts exactly these strings.
fn one_of(v: &Value) -> Result<Value, &'static str> {
    const EXPECTED: &str = "a non-empty array of strings";
    let all = v.as_array().filter(|all| !all.is_empty()).ok_or(EXPECTED)?;
    let quoted = |v: &Value| {
        let mut out = String::from("\"");
        for c in v.as_str()?.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c => out.push(c),
            }
        }
        out.push('"');
        Some(out)
    };
    let all: Option<Vec<String>> = all.iter().map(quoted).collect();
    Ok(json!(format!("root ::= {}", all.ok_or(EXPECTED)?.join(" | "))))
}

fn any_object(v: &Value) -> Result<Value, &'static str> {
    match v {
        Value::Bool(true) => Ok(json!({ "type": "json_object" })),
        Value::Bool(false) => Ok(Value::Null),
        _ => Err("true or false"),
    }
}

/// `"json"`, or a schema.
fn ollama_format(v: &Value) -> Result<Value, &'static str> {
    match v {
        Value::String(s) if s.is_empty() => Ok(Value::Null),
        Value::String(s) if s == "json" => Ok(json!({ "type": "json_object" })),
        Value::Object(_) => Ok(json!({ "type": "json_schema", "json_schema": { "schema": v } })),
        _ => Err("\"json\" or a JSON schema"),
    }
}

fn if_any(v: &Value) -> Result<Value, &'static str> {
    number_if_any(v).map(|n| if n.is_null() { n } else { json!(true) })
}

fn number_if_any(v: &Value) -> Result<Value, &'static str> {
    match v.as_u64() {
        Some(0) => Ok(Value::Null),
        Some(_) => Ok(v.clone()),
        None => Err("a whole number, 0 for none"),
    }
}

fn boolean(v: &Value) -> Result<Value, &'static str> {
    if v.is_boolean() { Ok(v.clone()) } else { Err("true or false") }
}

/// Passes booleans; strings belong to another row.
fn truth(v: &Value) -> Result<Value, &'static str> {
    match v {
        Value::Bool(_) => Ok(v.clone()),
        Value::String(_) => Ok(Value::Null),
        _ => Err("true, false or a string"),
    }
}

/// Passes strings; booleans belong to another row.
fn text(v: &Value) -> Result<Value, &'static str> {
    match v {
        Value::String(_) => Ok(v.clone()),
        Value::Bool(_) => Ok(Value::Null),
        _ => Err("true, false or a string"),
    }
}

fn enabled(v: &Value) -> Result<Value, &'static str> {
    match v.as_str() {
        Some("enabled") => Ok(json!(true)),
        Some("disabled") => Ok(json!(false)),
        Some(_) => Ok(Value::Null),
        None => Err("\"enabled\" or \"disabled\""),
    }
}

fn apart(v: &Value) -> Result<Value, &'static str> {
    let apart = v.as_bool().ok_or("true or false")?;
    Ok(json!(if apart { "auto" } else { "none" }))
}

fn tools(v: &Value) -> Result<Value, &'static str> {
    let all = v.as_array().ok_or("an array of functions")?;
    if all.is_empty() {
        return Ok(Value::Null);
    }
    Ok(all.iter().map(|f| json!({ "type": "function", "function": f })).collect())
}

fn tool_choice(v: &Value) -> Result<Value, &'static str> {
    match v {
        Value::String(_) => Ok(v.clone()),
        Value::Object(named) => {
            let mut named: Map<String, Value> = named.clone();
            named.retain(|key, _| key == "name");
            Ok(json!({ "type": "function", "function": named }))
        }
        _ => Err("\"auto\", \"none\" or an object with a function's name"),
    }
}

/// The Euclidean norm, or none.
fn euclidean(v: &Value) -> Result<Value, &'static str> {
    let wanted = v.as_bool().ok_or("true or false")?;
    Ok(json!(if wanted { 2 } else { -1 }))
}

#[cfg(test)]
mod tests {
    use super::super::budget::Share;
    use super::*;
    use std::collections::BTreeSet;

    /// The converted request, and the fields reported as ignored.
    fn applied(on: On, body: &Value) -> Result<(Value, Vec<String>), String> {
        let mut fields = Fields::parse(body.to_string().as_bytes(), &Share::default()).unwrap();
        apply(&mut fields, on).map_err(|e| e.json().to_string())?;
        Ok(fields.into_parts())
    }

    /// Requests and their meaning, where only the name changes.
    fn names() -> Vec<(On, Value, Value)> {
        let both = |theirs: &[&str], ours: &str, value: Value| {
            theirs
                .iter()
                .flat_map(|name| {
                    [On::Chat, On::Text]
                        .map(|on| (on, json!({ *name: value }), json!({ ours: value })))
                })
                .collect::<Vec<_>>()
        };
        let length = ["max_new_tokens", "max_length", "max_output_tokens", "max_tokens_to_sample"];
        let stop = ["stop_sequences", "stop_sequence", "stopping_strings", "stop_strings"];
        let schema = json!({ "type": "object" });
        [
            both(&length, "n_predict", json!(7)),
            both(&["num_predict"], "n_predict", json!(-1)),
            both(&["min_new_tokens", "min_length"], "min_tokens", json!(3)),
            both(&["num_ctx", "max_context_length", "truncation_length"], "n_ctx", json!(512)),
            both(&["n_cmpl"], "n", json!(2)),
            both(&stop, "stop", json!(["x"])),
            both(&["ban_eos_token"], "ignore_eos", json!(true)),
            both(&["repetition_penalty", "rep_pen"], "repeat_penalty", json!(1.1)),
            both(&["repetition_penalty_range"], "repeat_last_n", json!(9)),
            both(&["rep_pen_range", "penalty_range"], "repeat_last_n", json!(9)),
            both(&["temp"], "temperature", json!(0.3)),
            both(&["typical", "typ_p"], "typical_p", json!(0.3)),
            both(&["nsigma"], "top_n_sigma", json!(1.5)),
            both(&["dynatemp_exp"], "dynatemp_exponent", json!(2)),
            both(&["mirostat_mode"], "mirostat", json!(2)),
            both(&["mirostat_ent"], "mirostat_tau", json!(4)),
            both(&["mirostat_lr"], "mirostat_eta", json!(0.2)),
            both(&["dry_range"], "dry_penalty_last_n", json!(64)),
            both(&["random_seed", "sampler_seed"], "seed", json!(5)),
            both(&["guided_json", "structured_outputs.json"], "json_schema", schema.clone()),
            both(&["guided_regex", "regex_pattern"], "regex", json!("a+")),
            both(&["structured_outputs.regex"], "regex", json!("a+")),
            both(&["guided_grammar", "ebnf"], "grammar", json!("root ::= \"a\"")),
            both(&["grammar_string"], "grammar", json!("root ::= \"a\"")),
            both(&["structured_outputs.grammar"], "grammar", json!("root ::= \"a\"")),
        ]
        .concat()
    }

    /// The same, where the value changes too.
    fn conversions() -> Vec<(On, Value, Value)> {
        let budget = || json!({ "reasoning_budget_tokens": 9 });
        let thinks =
            |wanted: bool| json!({ "chat_template_kwargs": { "enable_thinking": wanted } });
        let object = json!({ "response_format": { "type": "json_object" } });
        let schema = json!({ "type": "object" });
        let choices = json!(["a\"b", "c\\\n", "é\t\r"]);
        let grammar = json!({ "grammar": "root ::= \"a\\\"b\" | \"c\\\\\\n\" | \"é\\t\\r\"" });
        let function = json!({ "name": "f", "parameters": {} });
        vec![
            (On::Text, json!({ "num_predict": -2 }), json!({ "n_predict": -1 })),
            (On::Text, json!({ "rep_pen_range": 0 }), json!({ "repeat_last_n": -1 })),
            (On::Text, json!({ "do_sample": false }), json!({ "temperature": 0 })),
            (On::Text, json!({ "do_sample": true }), json!({})),
            (
                On::Text,
                json!({ "guided_json": schema.to_string() }),
                json!({ "json_schema": schema }),
            ),
            (On::Text, json!({ "guided_choice": choices }), grammar.clone()),
            (On::Chat, json!({ "structured_outputs": { "choice": choices } }), grammar),
            (On::Text, json!({ "guided_json_object": true }), object.clone()),
            (On::Text, json!({ "guided_json_object": false }), json!({})),
            (On::Text, json!({ "structured_outputs": { "json_object": true } }), object.clone()),
            (On::Chat, json!({ "format": "json" }), object),
            (On::Chat, json!({ "format": "" }), json!({})),
            (
                On::Chat,
                json!({ "format": schema }),
                json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": schema } } }),
            ),
            (On::Chat, json!({ "n_probs": 3 }), json!({ "logprobs": true, "top_logprobs": 3 })),
            (On::Text, json!({ "n_probs": 3 }), json!({ "logprobs": 3 })),
            (On::Text, json!({ "n_probs": 0 }), json!({})),
            (
                On::Chat,
                json!({ "top_n_tokens": 3 }),
                json!({ "logprobs": true, "top_logprobs": 3 }),
            ),
            (On::Text, json!({ "top_n_tokens": 3 }), json!({ "logprobs": 3 })),
            (On::Text, json!({ "return_full_text": true }), json!({ "echo": true })),
            (On::Chat, json!({ "enable_thinking": false }), thinks(false)),
            (On::Chat, json!({ "think": true }), thinks(true)),
            (On::Chat, json!({ "think": "high" }), json!({ "reasoning_effort": "high" })),
            (On::Chat, json!({ "thinking": false }), thinks(false)),
            (On::Chat, json!({ "thinking": { "type": "enabled" } }), thinks(true)),
            (On::Chat, json!({ "thinking": { "type": "disabled" } }), thinks(false)),
            (On::Chat, json!({ "thinking": { "type": "auto" } }), json!({})),
            (On::Chat, json!({ "thinking": { "budget_tokens": 9 } }), budget()),
            (On::Chat, json!({ "thinking_budget": 9 }), budget()),
            (On::Chat, json!({ "thinking_budget_tokens": 9 }), budget()),
            (On::Chat, json!({ "reasoning_budget": 9 }), budget()),
            (On::Chat, json!({ "reasoning": { "max_tokens": 9 } }), budget()),
            (
                On::Chat,
                json!({ "reasoning": { "effort": "low" } }),
                json!({ "reasoning_effort": "low" }),
            ),
            (On::Chat, json!({ "reasoning": { "enabled": true } }), thinks(true)),
            (
                On::Chat,
                json!({ "separate_reasoning": false }),
                json!({ "reasoning_format": "none" }),
            ),
            (
                On::Chat,
                json!({ "functions": [function] }),
                json!({ "tools": [{ "type": "function", "function": function }] }),
            ),
            (On::Chat, json!({ "functions": [] }), json!({})),
            (On::Chat, json!({ "function_call": "auto" }), json!({ "tool_choice": "auto" })),
            (
                On::Chat,
                json!({ "function_call": { "name": "f" } }),
                json!({ "tool_choice": { "type": "function", "function": { "name": "f" } } }),
            ),
            (On::Embedding, json!({ "inputs": ["x"] }), json!({ "input": ["x"] })),
            (On::Embedding, json!({ "prompt": "x" }), json!({ "input": "x" })),
            (On::Embedding, json!({ "normalize": false }), json!({ "embd_normalize": -1 })),
            (On::Embedding, json!({ "output_dimensionality": 4 }), json!({ "dimensions": 4 })),
            (On::Tokens, json!({ "prompt": "x" }), json!({ "content": "x" })),
            (On::Tokens, json!({ "text": "x" }), json!({ "content": "x" })),
            (On::Tokens, json!({ "inputs": "x" }), json!({ "content": "x" })),
            (On::Tokens, json!({ "add_special_tokens": true }), json!({ "add_special": true })),
            (On::Tokens, json!({ "token_ids": [1] }), json!({ "tokens": [1] })),
            (On::Tokens, json!({ "ids": [1] }), json!({ "tokens": [1] })),
        ]
    }

    #[test]
    fn each_row_maps_as_listed() {
        let mut seen = BTreeSet::new();
        for (on, theirs, ours) in names().into_iter().chain(conversions()) {
            let found = applied(on, &theirs).unwrap();
            // Dotted names are sent as literal field names here, and mean the same as objects.
            assert_eq!(found, (ours, Vec::new()), "{on:?} {theirs}");
            let (name, value) = theirs.as_object().unwrap().iter().next().unwrap();
            let inner = value.as_object().and_then(|v| v.keys().next());
            seen.insert(name.clone());
            seen.extend(inner.map(|inner| format!("{name}.{inner}")));
        }
        for row in ROWS {
            assert!(seen.contains(row.name), "no example for `{}`", row.name);
        }
    }

    #[test]
    fn our_name_wins_and_the_other_is_reported() {
        let check = |on, body: Value, expected: Value, ignored: &[&str]| {
            let (fields, names) = applied(on, &body).unwrap();
            assert_eq!(
                (fields, names),
                (expected, ignored.iter().map(ToString::to_string).collect())
            );
        };
        check(
            On::Text,
            json!({ "repetition_penalty": 2, "repeat_penalty": 1 }),
            json!({ "repeat_penalty": 1 }),
            &["repetition_penalty"],
        );
        // Null counts as absent, on either side.
        check(
            On::Text,
            json!({ "repetition_penalty": 2, "repeat_penalty": null, "temp": null, "temperature": 1 }),
            json!({ "repeat_penalty": 2, "temperature": 1 }),
            &[],
        );
        check(
            On::Chat,
            json!({ "num_predict": 2, "max_tokens": 5 }),
            json!({ "max_tokens": 5 }),
            &["num_predict"],
        );
        // Of two foreign names, the one first in the table wins.
        check(
            On::Chat,
            json!({ "num_predict": 2, "max_new_tokens": 5 }),
            json!({ "n_predict": 5 }),
            &["num_predict"],
        );
        check(
            On::Chat,
            json!({ "enable_thinking": true, "chat_template_kwargs": { "enable_thinking": false, "x": 1 } }),
            json!({ "chat_template_kwargs": { "enable_thinking": false, "x": 1 } }),
            &["enable_thinking"],
        );
        check(
            On::Chat,
            json!({ "enable_thinking": true, "chat_template_kwargs": { "x": 1 } }),
            json!({ "chat_template_kwargs": { "x": 1, "enable_thinking": true } }),
            &[],
        );
    }

    #[test]
    fn nested_objects_are_flattened() {
        let body = json!({ "options": { "num_ctx": 512, "temperature": 0.5, "top_k": 3, "num_gpu": 1 }, "top_k": 4 });
        let (fields, ignored) = applied(On::Chat, &body).unwrap();
        assert_eq!(fields, json!({ "n_ctx": 512, "temperature": 0.5, "top_k": 4, "num_gpu": 1 }));
        assert_eq!(ignored, ["options.top_k"]);
        // On other requests these names mean nothing, and non-objects are left as they are.
        assert_eq!(applied(On::Tokens, &body).unwrap().0, body);
        let odd = json!({ "options": 5, "structured_outputs": "x", "thinking": null });
        assert_eq!(
            applied(On::Chat, &odd).unwrap().0,
            json!({ "options": 5, "structured_outputs": "x" })
        );
    }

    #[test]
    fn errors_name_the_field_that_was_sent() {
        for (body, name) in [
            (json!({ "do_sample": 1 }), "`do_sample`"),
            (json!({ "guided_choice": [] }), "`guided_choice`"),
            (json!({ "guided_choice": ["a", 1] }), "`guided_choice`"),
            (json!({ "guided_json": "{" }), "`guided_json`"),
            (json!({ "n_probs": -1 }), "`n_probs`"),
            (json!({ "think": 1 }), "`think`"),
            (json!({ "thinking": { "type": 1 } }), "`thinking.type`"),
        ] {
            let error = applied(On::Chat, &body).unwrap_err();
            assert!(error.contains(name), "{body}: {error}");
        }
        // Errors that are found later name it too.
        let mut fields =
            Fields::parse(br#"{"repetition_penalty": "x"}"#, &Share::default()).unwrap();
        apply(&mut fields, On::Text).unwrap();
        let error = fields.typed("repeat_penalty", "a number", Value::as_f64).unwrap_err();
        assert!(error.json().to_string().contains("`repetition_penalty`"));
    }
}
