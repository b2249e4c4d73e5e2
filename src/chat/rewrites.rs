//! Rewrites of a conversation's messages, each for templates that lack one ability.
//!
//! Knows messages and tools; knows nothing of templates.

use super::abilities::{Arguments, Systems};
use super::tools::arguments;
use super::{Message, Tool, ToolCall};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Adds the description and parameters that functions lack, as empty ones.
pub(super) fn in_full(mut tools: Value) -> Value {
    for tool in tools.as_array_mut().into_iter().flatten() {
        if let Some(function) = tool["function"].as_object_mut() {
            function.entry("description").or_insert(json!(""));
            let parameters = function.entry("parameters").or_insert(Value::Null);
            if parameters.is_null() {
                *parameters = json!({ "type": "object" });
            }
            if let Some(parameters) = parameters.as_object_mut() {
                parameters.entry("properties").or_insert(json!({}));
            }
        }
    }
    tools
}

/// Moves an assistant's text beside calls into a message before them: in all messages, or only in those with reasoning.
pub(super) fn set_apart(messages: &mut Vec<Message>, all: bool) {
    for mut message in std::mem::take(messages) {
        let is_beside = !message.tool_calls.is_empty() && !message.content.trim().is_empty();
        if is_beside && (all || message.reasoning_content.is_some()) {
            messages.push(Message::new("assistant", std::mem::take(&mut *message.content)));
        }
        messages.push(message);
    }
}

/// Gives each call an id, and each result the id and the function of its call.
pub(super) fn pair_up(messages: &mut [Message]) {
    let mut known: HashSet<String> =
        messages.iter().flat_map(|m| &m.tool_calls).filter_map(|call| call.id.clone()).collect();
    let mut count = 0;
    // Calls without a result so far.
    let mut open: Vec<(String, String)> = Vec::new();
    for message in messages {
        for call in &mut message.tool_calls {
            let id = call.id.get_or_insert_with(|| {
                loop {
                    count += 1;
                    let id = format!("call{count:05}");
                    if known.insert(id.clone()) {
                        break id;
                    }
                }
            });
            open.push((id.clone(), call.function.name.clone()));
        }
        if message.role == "tool" {
            let fits = |(id, name): &(String, String)| match (&message.tool_call_id, &message.name)
            {
                (Some(wanted), _) => id == wanted,
                (None, Some(wanted)) => name == wanted,
                (None, None) => true,
            };
            if let Some(at) = open.iter().position(fits) {
                let (id, name) = open.remove(at);
                message.tool_call_id.get_or_insert(id);
                message.name.get_or_insert(name);
            }
        }
    }
}

/// Converts arguments to the form that the template takes. Broken JSON is read as far as possible.
pub(super) fn fit_arguments(messages: &mut [Message], form: Arguments, tools: &[Tool]) {
    for call in messages.iter_mut().flat_map(|message| &mut message.tool_calls) {
        let ToolCall { function, .. } = call;
        match (form, &function.arguments) {
            (Arguments::Object, Value::String(text)) => {
                let object = serde_json::from_str(text).ok().filter(Value::is_object);
                function.arguments = object.unwrap_or_else(|| {
                    let mended = arguments::object(text, &function.name, tools);
                    serde_json::from_str(&mended).unwrap_or_else(|_| json!({ "arguments": text }))
                });
            }
            (Arguments::Text, Value::String(text)) if text.trim().is_empty() => {
                function.arguments = Value::from("{}");
            }
            (Arguments::Text, Value::Object(_)) => {
                function.arguments = Value::String(function.arguments.to_string());
            }
            _ => {}
        }
    }
}

/// Replaces ids by nine letters and digits, equal ids by equal ones: Mistral's templates accept no others.
pub(super) fn shorten_ids(messages: &mut [Message]) {
    for message in messages {
        let calls = message.tool_calls.iter_mut().filter_map(|call| call.id.as_mut());
        for id in calls.chain(message.tool_call_id.as_mut()) {
            if id.len() != 9 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
                *id = short_id(id);
            }
        }
    }
}

fn short_id(id: &str) -> String {
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // FNV-1a; see http://www.isthe.com/chongo/tech/comp/fnv/.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut rest = id.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    let letter = || {
        let letter = LETTERS[(rest % 36) as usize];
        rest /= 36;
        char::from(letter)
    };
    std::iter::repeat_with(letter).take(9).collect()
}

/// Splits a message with several calls into one message per call, each followed by its result.
pub(super) fn one_at_a_time(messages: &mut Vec<Message>) {
    let mut rest = std::mem::take(messages).into_iter().peekable();
    while let Some(mut message) = rest.next() {
        if message.tool_calls.len() < 2 {
            messages.push(message);
            continue;
        }
        let mut results = Vec::new();
        while let Some(result) = rest.next_if(|next| next.role == "tool") {
            results.push(result);
        }
        for call in std::mem::take(&mut message.tool_calls) {
            let (own, others): (Vec<_>, Vec<_>) =
                results.into_iter().partition(|result| result.tool_call_id == call.id);
            results = others;
            let next = Message::new("assistant", "");
            let first = std::mem::replace(&mut message, next);
            messages.push(Message { tool_calls: vec![call], ..first });
            messages.extend(own);
        }
        messages.extend(results);
    }
}

/// Rewrites calls and results as text.
pub(super) fn in_words(messages: &mut Vec<Message>) {
    for message in messages.iter_mut() {
        if !message.tool_calls.is_empty() {
            let calls = std::mem::take(&mut message.tool_calls);
            let calls: Vec<String> = calls.iter().map(call_text).collect();
            let between = if message.content.is_empty() { "" } else { "\n" };
            *message.content = format!("{}{between}{}", *message.content, calls.join("\n"));
        }
        if message.role == "tool" {
            let name = message.name.take().map_or_else(String::new, |name| format!(" of {name}"));
            *message.content = format!("Result{name}:\n{}", *message.content);
            "user".clone_into(&mut message.role);
        }
    }
    merge(messages);
}

fn call_text(call: &ToolCall) -> String {
    let arguments = match &call.function.arguments {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        other => other.clone(),
    };
    json!({ "name": call.function.name, "arguments": arguments }).to_string()
}

/// Merges adjacent user messages, and adjacent assistant messages without calls.
pub(super) fn merge(messages: &mut Vec<Message>) {
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages.drain(..) {
        let is_text =
            |m: &Message| m.tool_calls.is_empty() && (m.role == "user" || m.role == "assistant");
        match merged.last_mut() {
            Some(last) if last.role == message.role && is_text(last) && is_text(&message) => {
                *last.content = joined(&last.content, &message.content);
                last.tool_call_id = last.tool_call_id.take().and(message.tool_call_id);
                let thoughts = [last.reasoning_content.take(), message.reasoning_content];
                last.reasoning_content =
                    thoughts.into_iter().flatten().reduce(|first, second| joined(&first, &second));
            }
            _ => merged.push(message),
        }
    }
    *messages = merged;
}

/// Appends to the leading system message, or inserts one.
pub(super) fn add_to_system(messages: &mut Vec<Message>, text: &str) {
    match messages.first_mut() {
        Some(first) if first.role == "system" => *first.content = joined(&first.content, text),
        _ => messages.insert(0, Message::new("system", text)),
    }
}

/// Keeps system messages where the template accepts them, and moves the others into the user message at that place.
pub(super) fn fit_systems(messages: &mut Vec<Message>, able: Systems) {
    if able == Systems::Anywhere {
        return;
    }
    let all = std::mem::take(messages);
    let leading = all.iter().take_while(|message| message.role == "system").count();
    let mut all = all.into_iter();
    let first = all.by_ref().take(leading);
    let mut said = String::new();
    match able {
        Systems::Several => messages.extend(first),
        _ => said = first.fold(String::new(), |said, next| joined(&said, &next.content)),
    }
    if able == Systems::First && leading > 0 {
        messages.push(Message::new("system", std::mem::take(&mut said)));
    }
    for mut message in all {
        match message.role.as_str() {
            "system" => {
                said = joined(&said, &message.content);
                continue;
            }
            "user" => *message.content = joined(&std::mem::take(&mut said), &message.content),
            // A result must follow its call.
            "tool" => {}
            _ => say(messages, &mut said),
        }
        messages.push(message);
    }
    say(messages, &mut said);
}

/// Adds system text to the last user message, or as a new one.
fn say(messages: &mut Vec<Message>, said: &mut String) {
    let said = std::mem::take(said);
    match messages.last_mut() {
        _ if said.is_empty() => {}
        Some(last) if last.role == "user" => *last.content = joined(&last.content, &said),
        _ => messages.push(Message::new("user", said)),
    }
}

/// Joins two texts with a blank line between them.
pub(super) fn joined(first: &str, second: &str) -> String {
    let between = if first.is_empty() || second.is_empty() { "" } else { "\n\n" };
    format!("{first}{between}{second}")
}
