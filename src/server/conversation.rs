//! Reads a request's conversation: messages, tools, and template settings.

use super::State;
use super::error::ApiError;
use super::fields::{Fields, show};
use crate::chat::{
    Conversation, Ending, FunctionCall, Message, ReasoningFormat, Tool, ToolCall, ToolChoice,
};
use serde_json::{Map, Value};

/// Fields that are read here.
pub const KNOWN: &[&str] = &[
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "documents",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "reasoning_format",
    "reasoning_effort",
    "reasoning_budget_tokens",
    "reasoning_budget_message",
];
/// Most tools in a request.
const TOOLS_MAX: usize = 512;
/// Template variables that `chat_template_kwargs` can't set.
const RESERVED: &[&str] = &[
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "raise_exception",
    "strftime_now",
];

/// Reads the fields in [`KNOWN`].
pub fn read(state: &State, f: &mut Fields) -> Result<(Conversation, Budget), ApiError> {
    let messages = messages(f)?;
    let mut tools = tools(f)?;
    let choice = tool_choice(f, &mut tools)?;
    if choice == ToolChoice::None {
        tools.clear();
    }
    let parallel = f.bool("parallel_tool_calls")?.unwrap_or(true);
    let documents = f.typed("documents", "an array of objects", |v| {
        let all = v.as_array()?;
        all.iter().all(Value::is_object).then(|| v.clone())
    })?;
    let mut variables = state.config.template_variables.clone();
    variables.extend(own_variables(f)?);
    let budget = Budget::read(state, f)?;
    let mut no_thoughts = budget.tokens == Some(0);
    if let Some(effort) = f.string("reasoning_effort")? {
        no_thoughts |= effort == "none";
        variables.entry("reasoning_effort").or_insert(Value::String(effort));
    }
    match variables.get("enable_thinking") {
        Some(Value::Bool(wanted)) => no_thoughts = !wanted,
        None | Some(Value::Null) => {}
        Some(other) => {
            return Err(ApiError::parameter("enable_thinking", &show(other), "true or false"));
        }
    }
    let conversation = Conversation {
        messages,
        tools,
        choice,
        parallel,
        documents: documents.unwrap_or_default(),
        variables,
        ending: ending(f)?,
        reasoning: reasoning_format(f)?.unwrap_or(state.config.reasoning_format),
        no_thoughts,
    };
    Ok((conversation, budget))
}

/// How much a model may think.
pub struct Budget {
    /// Tokens before its answer; `None`: without a limit.
    pub tokens: Option<usize>,
    /// What a thought ends with that reached it.
    pub message: String,
}

impl Budget {
    fn read(state: &State, f: &mut Fields) -> Result<Self, ApiError> {
        let asked = f.integer("reasoning_budget_tokens", -1..=i64::from(i32::MAX))?;
        let message = f.string("reasoning_budget_message")?;
        Ok(Self {
            // -1 lifts the limit that is set for all.
            tokens: asked.map_or(state.config.reasoning_budget, |n| usize::try_from(n).ok()),
            message: message.unwrap_or_else(|| state.config.reasoning_budget_message.clone()),
        })
    }
}

fn ending(f: &mut Fields) -> Result<Ending, ApiError> {
    let begins = f.bool("add_generation_prompt")?;
    let continues = f.bool("continue_final_message")?.unwrap_or(false);
    match (begins, continues) {
        (Some(true), true) => Err(ApiError::parameter(
            "continue_final_message",
            "true",
            "false, or `add_generation_prompt`: false",
        )),
        (_, true) => Ok(Ending::Continue),
        (Some(false), false) => Ok(Ending::Nothing),
        (_, false) => Ok(Ending::Answer),
    }
}

fn reasoning_format(f: &mut Fields) -> Result<Option<ReasoningFormat>, ApiError> {
    f.typed("reasoning_format", ReasoningFormat::NAMES, |v| {
        v.as_str().and_then(ReasoningFormat::from_name)
    })
}

fn own_variables(f: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let name = "chat_template_kwargs";
    let found = f.typed(name, "an object", |v| v.as_object().cloned())?.unwrap_or_default();
    match found.keys().find(|key| RESERVED.contains(&key.as_str())) {
        Some(key) => {
            let found = format!("`{key}`");
            Err(ApiError::parameter(name, &found, "variables other than request fields"))
        }
        None => Ok(found),
    }
}

fn tools(f: &mut Fields) -> Result<Vec<Tool>, ApiError> {
    let Some(found) = f.take("tools") else { return Ok(Vec::new()) };
    let expected = format!("an array of at most {TOOLS_MAX} functions");
    let all = found.as_array().filter(|all| all.len() <= TOOLS_MAX);
    let all = all.ok_or_else(|| f.wrong("tools", &found, &expected))?;
    let list = f.called("tools").to_owned();
    let read = |(index, tool): (usize, &Value)| {
        let named = |field: &str, found: &Value, expected: &str| {
            ApiError::parameter(&format!("{list}[{index}]{field}"), &show(found), expected)
        };
        if tool["type"] != "function" {
            return Err(named(".type", &tool["type"], "\"function\""));
        }
        let parameters = &tool["function"]["parameters"];
        if !(parameters.is_null() || parameters.is_object()) {
            return Err(named(".function.parameters", parameters, "a JSON schema"));
        }
        let found = Tool::read(tool);
        found.ok_or_else(|| named(".function.name", &tool["function"]["name"], "a name"))
    };
    all.iter().enumerate().map(read).collect()
}

/// OpenAI's `allowed_tools`: removes all other tools, returns the mode.
fn allowed<'c>(choice: &'c Value, tools: &mut Vec<Tool>) -> Option<&'c Value> {
    let allowed = &choice["allowed_tools"];
    let mode = &allowed["mode"];
    let names = allowed["tools"].as_array().filter(|_| *mode == "auto" || *mode == "required")?;
    let known = |v: &Value| {
        let name = v["function"]["name"].as_str()?;
        tools.iter().position(|tool| tool.name == name)
    };
    let kept: Vec<usize> = names.iter().map(known).collect::<Option<_>>()?;
    let mut index = 0..;
    tools.retain(|_| index.next().is_some_and(|index| kept.contains(&index)));
    Some(mode)
}

fn tool_choice(f: &mut Fields, tools: &mut Vec<Tool>) -> Result<ToolChoice, ApiError> {
    let Some(given) = f.take("tool_choice") else { return Ok(ToolChoice::Auto) };
    let choice = if given["type"] == "allowed_tools" {
        let expected = "`allowed_tools` with mode auto or required, and functions from `tools`";
        allowed(&given, tools).ok_or_else(|| f.wrong("tool_choice", &given, expected))?
    } else {
        &given
    };
    let found = match choice.as_str() {
        Some("auto") => Some(ToolChoice::Auto),
        Some("none") => Some(ToolChoice::None),
        Some("required") if !tools.is_empty() => Some(ToolChoice::Required),
        _ => {
            let name = choice["function"]["name"].as_str();
            let known = name.filter(|name| tools.iter().any(|tool| tool.name == *name));
            known.map(|name| ToolChoice::Named(name.to_owned()))
        }
    };
    found.ok_or_else(|| {
        let expected = "\"auto\", \"none\", \"required\" or one of the functions in `tools`";
        f.wrong("tool_choice", &given, expected)
    })
}

fn messages(f: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let all = match f.take("messages") {
        Some(Value::Array(all)) if !all.is_empty() => all,
        Some(other) => {
            return Err(ApiError::parameter(
                "messages",
                &show(&other),
                "a non-empty array of messages",
            ));
        }
        None => {
            return Err(ApiError::parameter(
                "messages",
                "nothing",
                "a non-empty array of messages",
            ));
        }
    };
    all.iter().enumerate().map(|(i, v)| message(v, i)).collect()
}

fn message(v: &Value, index: usize) -> Result<Message, ApiError> {
    let wrong = |field: &str, found: &Value, expected: &str| {
        ApiError::parameter(&format!("messages[{index}].{field}"), &show(found), expected)
    };
    // `developer` is OpenAI's newer word for `system`, `function` its older one for `tool`; templates know neither.
    let role = match v["role"].as_str() {
        Some("developer") => "system",
        Some("function") => "tool",
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        _ => return Err(wrong("role", &v["role"], "system, user, assistant or tool")),
    };
    let is_assistant = role == "assistant";
    let text = |field: &str| match &v[field] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(wrong(field, other, "a string")),
    };
    let mut thoughts = None;
    for field in ["reasoning_content", "reasoning"].into_iter().filter(|_| is_assistant) {
        thoughts = thoughts.or(text(field)?.filter(|text| !text.is_empty()));
    }
    let content = match &v["content"] {
        Value::String(text) => text.clone(),
        Value::Null if is_assistant => text("refusal")?.unwrap_or_default(),
        Value::Null if role == "tool" => String::new(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part["type"].as_str(), &part["text"], &part["refusal"]) {
                (None, ..) if part.is_string() => Ok(part.as_str().unwrap_or_default()),
                (Some("text" | "input_text" | "output_text"), Value::String(text), _)
                | (Some("refusal"), _, Value::String(text)) => Ok(text.as_str()),
                _ => Err(wrong("content", part, "parts of type text")),
            })
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
        other => return Err(wrong("content", other, "a string or an array of parts")),
    };
    let mut calls = match &v["tool_calls"] {
        Value::Null => Vec::new(),
        Value::Array(calls) if is_assistant || calls.is_empty() => calls
            .iter()
            .enumerate()
            .map(|(i, call)| {
                tool_call(call, &|field, found, expected| {
                    wrong(&format!("tool_calls[{i}]{field}"), found, expected)
                })
            })
            .collect::<Result<_, _>>()?,
        other => {
            return Err(wrong(
                "tool_calls",
                other,
                "an array of calls, in assistant messages only",
            ));
        }
    };
    // OpenAI's legacy form.
    match &v["function_call"] {
        Value::Null => {}
        call if is_assistant => {
            if calls.is_empty() {
                calls.push(ToolCall {
                    function: function_call(call, &|field, found, expected| {
                        wrong(&format!("function_call{field}"), found, expected)
                    })?,
                    ..ToolCall::new(None, "", Value::Null)
                });
            }
        }
        other => return Err(wrong("function_call", other, "a call, in assistant messages only")),
    }
    Ok(Message {
        reasoning_content: thoughts,
        tool_calls: calls,
        tool_call_id: id(&v["tool_call_id"])
            .ok_or_else(|| wrong("tool_call_id", &v["tool_call_id"], "a string"))?,
        name: text("name")?.filter(|name| !name.is_empty()),
        ..Message::new(role, content)
    })
}

/// An id, which some clients send as a number; `Some(None)` if there is none.
#[expect(clippy::option_option, reason = "wrong, missing, there")]
fn id(v: &Value) -> Option<Option<String>> {
    match v {
        Value::Null => Some(None),
        Value::String(id) => Some(Some(id.clone()).filter(|id| !id.is_empty())),
        Value::Number(id) => Some(Some(id.to_string())),
        _ => None,
    }
}

fn tool_call(
    v: &Value,
    wrong: &dyn Fn(&str, &Value, &str) -> ApiError,
) -> Result<ToolCall, ApiError> {
    let kind = &v["type"];
    if !(kind.is_null() || kind == "function") {
        return Err(wrong(".type", kind, "\"function\""));
    }
    let within = |field: &str, found: &Value, expected: &str| {
        wrong(&format!(".function{field}"), found, expected)
    };
    let function = function_call(&v["function"], &within)?;
    let id = id(&v["id"]).ok_or_else(|| wrong(".id", &v["id"], "a string"))?;
    Ok(ToolCall { function, ..ToolCall::new(id, "", Value::Null) })
}

fn function_call(
    v: &Value,
    wrong: &dyn Fn(&str, &Value, &str) -> ApiError,
) -> Result<FunctionCall, ApiError> {
    let Some(name) = v["name"].as_str() else {
        return Err(wrong(".name", &v["name"], "a string"));
    };
    let arguments = match &v["arguments"] {
        Value::Null => Value::from("{}"),
        // PHP encodes an empty object as `[]`.
        Value::Array(all) if all.is_empty() => Value::from("{}"),
        known @ (Value::String(_) | Value::Object(_)) => known.clone(),
        other => return Err(wrong(".arguments", other, "the text of a JSON object")),
    };
    Ok(FunctionCall { name: name.to_owned(), arguments })
}
