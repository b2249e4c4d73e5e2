//! What a chat template can take, found by trying it with texts that are easy to find again.

use super::message::{FunctionCall, Message, ToolCall};
use super::template::{ChatTemplate, Inputs};
use serde_json::{Value, json};

/// What a template can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Messages of the system.
    pub system: bool,
    /// Descriptions of functions.
    pub tools: bool,
    /// Calls in the history, and how their arguments are to be given.
    pub arguments: Option<Arguments>,
}

/// How a template takes the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    /// As an object.
    Object,
    /// As the text of one.
    Text,
}

/// A text that no template says by itself.
const MARK: &str = "xq7marker";

impl Abilities {
    /// Tries a template.
    #[must_use]
    pub fn of(template: &ChatTemplate) -> Self {
        let user = Message::new("user", "Hi");
        let shows = |messages: &[Message], tools: &Value| {
            let text = template.render(&Inputs { tools, ..Inputs::new(messages) });
            text.ok().filter(|text| text.contains(MARK))
        };
        let none = Value::Null;
        let tool = |name: &str| {
            json!([{ "type": "function", "function": {
                "name": name, "description": "d",
                "parameters": { "type": "object", "properties": { "x": { "type": "string" } }, "required": ["x"] },
            }}])
        };
        let call = |arguments: Value| {
            let function = FunctionCall { name: "f".to_owned(), arguments };
            let call = ToolCall {
                id: Some("call00001".to_owned()),
                kind: "function".to_owned(),
                function,
            };
            let calls = Message { tool_calls: vec![call], ..Message::new("assistant", "") };
            let result = Message {
                tool_call_id: Some("call00001".to_owned()),
                name: Some("f".to_owned()),
                ..Message::new("tool", "r")
            };
            [user.clone(), calls, result]
        };
        let object = shows(&call(json!({ "x": MARK })), &tool("f"));
        // An object that is printed instead of being written as JSON has Python's quotes.
        let as_object = object.is_some_and(|text| !text.contains(&format!("'{MARK}'")));
        let as_text =
            || shows(&call(json!(format!("{{\"x\": \"{MARK}\"}}"))), &tool("f")).is_some();
        Self {
            system: shows(&[Message::new("system", MARK), user.clone()], &none).is_some(),
            tools: shows(std::slice::from_ref(&user), &tool(MARK)).is_some(),
            arguments: if as_object {
                Some(Arguments::Object)
            } else {
                as_text().then_some(Arguments::Text)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_templates_show_what_they_take() {
        macro_rules! of {
            ($name:literal) => {{
                let source =
                    include_str!(concat!("../../tests/golden/templates/", $name, ".jinja"));
                let template =
                    ChatTemplate::new(source, "<s>".to_owned(), "</s>".to_owned()).unwrap();
                let found = Abilities::of(&template);
                (found.system, found.tools, found.arguments)
            }};
        }
        let object = (true, true, Some(Arguments::Object));
        let text = (true, true, Some(Arguments::Text));
        assert_eq!(of!("Qwen-Qwen2.5-7B-Instruct"), object);
        assert_eq!(of!("Qwen3-Coder"), object);
        assert_eq!(of!("GLM-4.6"), object);
        assert_eq!(of!("openai-gpt-oss-120b"), object);
        assert_eq!(of!("mistralai-Mistral-Nemo-Instruct-2407"), object);
        assert_eq!(of!("ibm-granite-granite-4.0"), object);
        assert_eq!(of!("deepseek-ai-DeepSeek-V3.1"), (true, false, Some(Arguments::Object)));
        assert_eq!(of!("meetkai-functionary-medium-v3.2"), text);
        assert_eq!(of!("Apertus-8B-Instruct"), object);
        assert_eq!(of!("microsoft-Phi-3.5-mini-instruct"), (true, false, None));
        let named = |name| {
            let source = super::super::builtin::source(name).unwrap();
            let template = ChatTemplate::new(source, String::new(), String::new()).unwrap();
            Abilities::of(&template).system
        };
        assert!(named("chatml") && named("gemma"));
        let strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}";
        let template = ChatTemplate::new(strict, String::new(), String::new()).unwrap();
        assert_eq!(
            Abilities::of(&template),
            Abilities { system: false, tools: false, arguments: None }
        );
    }
}
