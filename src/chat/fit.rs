//! A conversation made to fit a template: what the template cannot take is said in a way that it can.

use super::abilities::{Abilities, Arguments};
use super::answer::{Calls, Plan};
use super::tools::{describe, tool_calls, tool_grammar};
use super::{
    Conversation, Ending, Format, Inputs, Known, Message, Prompt, ReasoningFormat, TemplateError,
    ToolCall, ToolChoice,
};
use jiff::Zoned;
use serde_json::{Value, json};

/// The prompt for a conversation, and the plan of its answer.
pub(super) fn prompt(known: &Known, asked: &Conversation) -> Result<Prompt, TemplateError> {
    let mut messages = asked.messages.clone();
    let wants = Wants::of(&messages, !asked.tools.is_empty());
    let abilities = if wants.anything() { Some(known.abilities()) } else { None };
    let mut described = false;
    if let Some(abilities) = abilities {
        described = !asked.tools.is_empty() && !abilities.tools;
        if described {
            add_to_system(&mut messages, &describe(&asked.tools));
        }
        fit_calls(&mut messages, abilities);
        if !abilities.system {
            merge_system(&mut messages);
        }
    }
    if known.template.source().contains("message.thinking") {
        name_thinking(&mut messages);
    }
    let mut variables = asked.variables.clone();
    if asked.no_thoughts {
        // The two names that templates have for it.
        for name in ["enable_thinking", "thinking"] {
            variables.entry(name).or_insert(Value::Bool(false));
        }
    }
    let tools = match asked.tools.as_slice() {
        [] => Value::Null,
        _ if described => Value::Null,
        tools => tools.iter().map(|tool| tool.raw.clone()).collect(),
    };
    let inputs = Inputs {
        messages: &messages,
        tools: &tools,
        documents: &asked.documents,
        add_generation_prompt: asked.ending == Ending::Answer,
        variables: &variables,
        now: Zoned::now(),
    };
    let mut text = match known.template.render(&inputs) {
        // Some templates take for granted what a client may leave out.
        Err(TemplateError::Failed(_)) if tools.is_array() => {
            let tools = in_full(tools.clone());
            known.template.render(&Inputs { tools: &tools, ..inputs })?
        }
        rendered => rendered?,
    };
    if let (Ending::Continue, Some(last)) = (asked.ending, messages.last()) {
        cut_after(&mut text, &last.content)?;
    }
    let thinking = known.tags.is_some_and(|tags| tags.is_open(&text));
    let closed = thinking && asked.no_thoughts;
    if let (true, Some(tags)) = (closed, known.tags) {
        text.truncate(text.trim_end().len());
        text.push_str(&format!("\n\n{}\n\n", tags.close));
    }
    let format = if described { Format::generic() } else { known.format };
    let may = match asked.choice {
        ToolChoice::Auto if !asked.tools.is_empty() => {
            tool_calls(format, &asked.tools, asked.parallel)
        }
        _ => None,
    };
    let must = match asked.choice {
        ToolChoice::Auto | ToolChoice::None => None,
        ToolChoice::Required | ToolChoice::Named(_) => {
            let grammar = tool_grammar(format, &asked.tools, &asked.choice, asked.parallel);
            Some(grammar.ok_or(TemplateError::Unforced)?)
        }
    };
    // Some models name a recipient in every answer.
    let calls = !asked.tools.is_empty() || known.format.whole;
    let bare = known.format.bare() || described || must.is_some();
    let plan = Plan {
        tags: known.tags,
        thinking: thinking && !closed,
        apart: asked.reasoning != ReasoningFormat::None,
        calls: calls.then(|| Calls {
            format: known.format,
            tools: asked.tools.clone().into(),
            parallel: asked.parallel,
            bare: bare && !asked.tools.is_empty(),
        }),
    };
    Ok(Prompt { text, plan, must, may })
}

/// Functions with a description and parameters, be they empty.
fn in_full(mut tools: Value) -> Value {
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

/// What a conversation asks of a template beyond questions and answers.
struct Wants {
    system: bool,
    tools: bool,
    calls: bool,
}

impl Wants {
    fn of(messages: &[Message], tools: bool) -> Self {
        Self {
            system: messages.iter().any(|m| m.role == "system"),
            tools,
            calls: messages.iter().any(|m| m.role == "tool" || !m.tool_calls.is_empty()),
        }
    }

    fn anything(&self) -> bool {
        self.system || self.tools || self.calls
    }
}

/// Thoughts under the other name. Beside a call, such templates take thoughts or text, not both.
fn name_thinking(messages: &mut [Message]) {
    for message in messages {
        message.thinking.clone_from(&message.reasoning_content);
        if message.thinking.is_some() && !message.tool_calls.is_empty() {
            message.content.clear();
        }
    }
}

/// Calls with their arguments in the form that the template takes; as text, where it takes none.
fn fit_calls(messages: &mut Vec<Message>, abilities: Abilities) {
    for message in messages.iter_mut() {
        for call in &mut message.tool_calls {
            let arguments = &mut call.function.arguments;
            match (abilities.arguments, &*arguments) {
                (Some(Arguments::Object), Value::String(text)) => {
                    let text = if text.trim().is_empty() { "{}" } else { text };
                    // A model's broken JSON stays the text that it is.
                    if let Ok(object @ Value::Object(_)) = serde_json::from_str(text) {
                        *arguments = object;
                    }
                }
                (Some(Arguments::Text), Value::Object(_)) => {
                    *arguments = Value::String(arguments.to_string());
                }
                _ => {}
            }
        }
    }
    if abilities.arguments.is_some() {
        return;
    }
    for message in messages.iter_mut() {
        if !message.tool_calls.is_empty() {
            let calls = std::mem::take(&mut message.tool_calls);
            let calls: Vec<String> = calls.iter().map(call_text).collect();
            let between = if message.content.is_empty() { "" } else { "\n" };
            message.content = format!("{}{between}{}", message.content, calls.join("\n"));
        }
        if message.role == "tool" {
            let name = message.name.take().map_or_else(String::new, |name| format!(" of {name}"));
            message.content = format!("Result{name}:\n{}", message.content);
            "user".clone_into(&mut message.role);
        }
    }
    // Templates that know no functions often want users and assistants in turn.
    merge(messages, |last, next| last.role == "user" && next.role == "user");
}

fn call_text(call: &ToolCall) -> String {
    let arguments = match &call.function.arguments {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        other => other.clone(),
    };
    json!({ "name": call.function.name, "arguments": arguments }).to_string()
}

/// Joins neighbours that belong together.
fn merge(messages: &mut Vec<Message>, belong: impl Fn(&Message, &Message) -> bool) {
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages.drain(..) {
        match merged.last_mut() {
            Some(last) if belong(last, &message) => {
                last.content = format!("{}\n\n{}", last.content, message.content);
            }
            _ => merged.push(message),
        }
    }
    *messages = merged;
}

/// Adds to what the system says first.
fn add_to_system(messages: &mut Vec<Message>, text: &str) {
    match messages.first_mut() {
        Some(first) if first.role == "system" => {
            first.content = format!("{}\n\n{text}", first.content);
        }
        _ => messages.insert(0, Message::new("system", text)),
    }
}

/// What the system says becomes the beginning of what comes next.
fn merge_system(messages: &mut Vec<Message>) {
    let mut kept = String::new();
    messages.retain_mut(|message| {
        if message.role == "system" {
            kept.push_str(&message.content);
            kept.push_str("\n\n");
            return false;
        }
        if message.role == "user" && !kept.is_empty() {
            message.content = std::mem::take(&mut kept) + &message.content;
        }
        true
    });
    if !kept.is_empty() {
        messages.push(Message::new("user", kept.trim_end()));
    }
}

/// Ends a prompt within its last message, as `continue_final_message` of `transformers` does.
fn cut_after(prompt: &mut String, content: &str) -> Result<(), TemplateError> {
    let found = (!content.trim().is_empty()).then(|| prompt.rfind(content.trim())).flatten();
    let Some(at) = found else {
        let message = "the last message's text is not in the prompt, and can't be continued";
        return Err(TemplateError::Refused(message.to_owned()));
    };
    let whole = content.trim_start();
    let kept = if prompt[at..].starts_with(whole) { whole } else { content.trim() };
    prompt.truncate(at + kept.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Chat, FunctionCall, Tool};
    use super::*;
    use crate::constraint::Constraint;

    macro_rules! real {
        ($name:literal) => {
            chat(include_str!(concat!("../../tests/golden/templates/", $name, ".jinja")))
        };
    }

    fn chat(source: &str) -> Chat {
        Chat::new(source, None, None, "<s>", "</s>").unwrap()
    }

    fn tool() -> Tool {
        let raw = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}});
        Tool::read(&raw).unwrap()
    }

    fn round(arguments: Value) -> Conversation {
        let function = FunctionCall { name: "look".to_owned(), arguments };
        let id = Some("abcdef123".to_owned());
        let call = ToolCall { id: id.clone(), kind: "function".to_owned(), function };
        let messages = vec![
            Message::new("system", "Be brief."),
            Message::new("user", "Where?"),
            Message { tool_calls: vec![call], ..Message::new("assistant", "") },
            Message {
                tool_call_id: id,
                name: Some("look".to_owned()),
                ..Message::new("tool", "there")
            },
        ];
        Conversation { messages, tools: vec![tool()], ..Conversation::default() }
    }

    #[test]
    fn arguments_come_in_the_form_that_the_template_takes() {
        for arguments in [json!({"at": 1}), json!("{\"at\": 1}")] {
            let text = |chat: &Chat| chat.prompt(&round(arguments.clone())).unwrap().text;
            let qwen = text(&real!("Qwen-Qwen2.5-7B-Instruct"));
            assert!(qwen.contains("{\"name\": \"look\", \"arguments\": {\"at\": 1}}"), "{qwen}");
            let coder = text(&real!("Qwen3-Coder"));
            assert!(coder.contains("<parameter=at>\n1\n</parameter>"), "{coder}");
            let functionary = text(&real!("meetkai-functionary-medium-v3.2"));
            assert!(functionary.contains(">>>look\n{\"at\":"), "{functionary}");
            let nemo = text(&real!("mistralai-Mistral-Nemo-Instruct-2407"));
            assert!(nemo.contains("\"arguments\": {\"at\": 1}, \"id\": \"abcdef123\""), "{nemo}");
        }
        let broken = round(json!("{\"at\": "));
        assert!(real!("Qwen-Qwen2.5-7B-Instruct").prompt(&broken).is_ok());
    }

    #[test]
    fn a_template_that_knows_no_functions_is_told_of_them_in_words() {
        let strict = "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('no ' + m.role) }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}";
        let prompt = chat(strict).prompt(&round(json!({"at": 1}))).unwrap();
        let text = prompt.text;
        assert!(text.starts_with("[user]Be brief.\n\nYou can call these functions"), "{text}");
        assert!(text.contains("{\"name\": \"look\", \"parameters\": {\"type\": \"object\"}}"));
        assert!(text.contains("Where?[assistant]{\"name\":\"look\",\"arguments\":{\"at\":1}}"));
        assert!(text.ends_with("[user]Result of look:\nthere"), "{text}");
        let calls = prompt.plan.calls.unwrap();
        assert!(calls.bare && calls.format.is_generic());
        // DeepSeek V3.1 has a form of calls, but its template does not describe functions.
        let prompt = real!("deepseek-ai-DeepSeek-V3.1").prompt(&round(json!({}))).unwrap();
        assert!(prompt.text.contains("Be brief.\n\nYou can call these functions"));
        assert!(prompt.plan.calls.unwrap().bare);
    }

    #[test]
    fn a_call_can_be_a_must_where_calls_are_json() {
        let must = |chat: &Chat| {
            chat.prompt(&Conversation { choice: ToolChoice::Required, ..round(json!({})) })
        };
        let form = |chat: &Chat| match must(chat).unwrap().must {
            Some(Constraint::Calls(calls)) => {
                let form = calls.form.unwrap();
                (form.start + &form.before, form.arguments)
            }
            other => panic!("{other:?}"),
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(form(&real!("Qwen-Qwen3-0.6B")), pair("<tool_call>\n", "arguments"));
        assert_eq!(
            form(&real!("mistralai-Mistral-Nemo-Instruct-2407")),
            pair("[TOOL_CALLS][", "arguments")
        );
        assert_eq!(form(&real!("Qwen3-Coder")), pair("", "arguments"));
        assert!(must(&real!("Qwen3-Coder")).unwrap().plan.calls.unwrap().bare);
        assert!(matches!(must(&real!("openai-gpt-oss-120b")), Err(TemplateError::Unforced)));
        assert!(real!("Qwen3-Coder").prompt(&round(json!({}))).unwrap().must.is_none());
    }

    #[test]
    fn a_call_that_may_be_made_is_told_from_an_answer() {
        let may = |chat: &Chat| chat.prompt(&round(json!({}))).unwrap().may;
        let qwen = may(&real!("Qwen-Qwen2.5-7B-Instruct")).unwrap();
        assert_eq!(qwen.form.unwrap().before, "<tool_call>\n");
        assert!(qwen.markers.is_empty());
        let coder = may(&real!("Qwen3-Coder")).unwrap();
        assert!(coder.form.is_none() && coder.markers.contains(&"<tool_call>".to_owned()));
        let phi = may(&real!("microsoft-Phi-3.5-mini-instruct")).unwrap();
        assert_eq!(phi.form.unwrap().before, "");
        assert!(may(&real!("openai-gpt-oss-120b")).is_none());
        assert!(may(&real!("meetkai-functionary-medium-v3.2")).is_none());
        // No parameters: called with none, whatever else an empty schema may mean.
        let function = |more: Value| {
            let mut raw = json!({"type": "function", "function": {"name": "now"}});
            if !more.is_null() {
                raw["function"]["parameters"] = more;
            }
            let tools = vec![Tool::read(&raw).unwrap()];
            let asked = Conversation { tools, ..round(json!({})) };
            let chat = real!("Qwen-Qwen2.5-7B-Instruct");
            chat.prompt(&asked).unwrap().may.unwrap().functions[0].1.clone()
        };
        let nothing = "{\"type\":\"object\",\"additionalProperties\":false}";
        assert_eq!(function(Value::Null), nothing);
        assert_eq!(function(json!({})), "{\"type\":\"object\"}");
    }

    #[test]
    fn a_plan_says_whether_the_prompt_ends_in_thoughts() {
        let ask = |chat: &Chat, more: Conversation| {
            let messages = vec![Message::new("user", "Hi")];
            let prompt = chat.prompt(&Conversation { messages, ..more }).unwrap();
            (prompt.plan.thinking, prompt.text)
        };
        let minimax = real!("MiniMax-M2");
        assert!(ask(&minimax, Conversation::default()).0);
        let (thinking, text) =
            ask(&minimax, Conversation { no_thoughts: true, ..Conversation::default() });
        assert!(!thinking && text.ends_with("<think>\n\n</think>\n\n"), "{text:?}");
        let qwen3 = real!("Qwen-Qwen3-0.6B");
        assert!(!ask(&qwen3, Conversation::default()).0);
        let (_, text) = ask(&qwen3, Conversation { no_thoughts: true, ..Conversation::default() });
        assert!(text.ends_with("assistant\n<think>\n\n</think>\n\n"), "{text:?}");
    }

    #[test]
    fn thoughts_of_the_history_reach_the_template() {
        let mut conversation = round(json!({"at": 1}));
        conversation.messages[2].reasoning_content = Some("I had better look.".to_owned());
        for chat in [real!("Qwen-Qwen3-0.6B"), real!("openai-gpt-oss-120b")] {
            let text = chat.prompt(&conversation).unwrap().text;
            assert!(text.contains("I had better look."), "{text}");
        }
    }

    #[test]
    fn a_last_message_is_continued_where_it_ends() {
        let chat = chat(super::super::builtin::source("chatml").unwrap());
        let with = |content: &str| {
            let messages = vec![Message::new("user", "Hi"), Message::new("assistant", content)];
            chat.prompt(&Conversation {
                messages,
                ending: Ending::Continue,
                ..Conversation::default()
            })
        };
        assert!(with("Well, ").unwrap().text.ends_with("<|im_start|>assistant\nWell, "));
        assert!(with(" ").is_err());
        let nothing = Conversation {
            messages: vec![Message::new("user", "Hi")],
            ending: Ending::Nothing,
            ..Conversation::default()
        };
        assert_eq!(chat.prompt(&nothing).unwrap().text, "<|im_start|>user\nHi<|im_end|>\n");
    }

    #[test]
    fn functions_and_documents_have_templates_of_their_own_where_a_model_brings_them() {
        let main = "plain{% for m in messages %}{% endfor %}";
        let chat = Chat::new(main, Some("tools {{ tools[0].function.name }}"), Some("rag"), "", "")
            .unwrap();
        let text = |more: Conversation| chat.prompt(&more).unwrap().text;
        assert_eq!(text(Conversation::default()), "plain");
        assert_eq!(
            text(Conversation { tools: vec![tool()], ..Conversation::default() }),
            "tools look"
        );
        assert_eq!(text(Conversation { documents: json!([{}]), ..Conversation::default() }), "rag");
        let broken = Chat::new(main, Some("{% if %}"), None, "", "").unwrap();
        assert!(broken.tool_use.is_none());
    }
}
