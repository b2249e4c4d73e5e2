//! What a chat template supports, found by rendering texts that are easy to find again.
//!
//! Each ability is probed on first use only: a probe costs a rendering.

use super::message::{Message, ToolCall};
use super::template::{Inputs, Renderer};
use serde_json::{Value, json};
use std::sync::OnceLock;

/// What a template supports, as far as probed.
#[derive(Debug, Default)]
pub struct Abilities {
    texts: OnceLock<Option<Texts>>,
    systems: OnceLock<Systems>,
    tools: OnceLock<bool>,
    calls: OnceLock<Option<Calls>>,
    thoughts: OnceLock<Thoughts>,
}

/// How a template takes a message's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// As a string.
    Plain,
    /// As a list of typed parts.
    Typed,
}

/// Where a template accepts system messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Systems {
    /// Nowhere.
    None,
    /// One, at the beginning.
    First,
    /// Several, at the beginning.
    Several,
    /// Anywhere.
    Anywhere,
}

/// How a template takes tool calls in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// The form of their arguments.
    pub arguments: Arguments,
    /// Whether a message may have several calls.
    pub several: bool,
    /// Whether ids may be any text, not only nine letters and digits.
    pub any_id: bool,
}

/// How a template takes the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    /// As an object.
    Object,
    /// As the text of an object.
    Text,
}

impl Arguments {
    /// Converts an object to this form.
    fn of(self, object: Value) -> Value {
        match self {
            Self::Object => object,
            Self::Text => object.to_string().into(),
        }
    }
}

/// The field in which a template takes the reasoning before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoughts {
    /// `reasoning_content`, or none at all.
    ReasoningContent,
    /// `reasoning`.
    Reasoning,
    /// `thinking`.
    Thinking,
}

/// Markers that no template writes by itself.
const MARKS: [&str; 4] = ["xq7marker", "xq8marker", "xq9marker", "xq6marker"];
/// An id that Mistral's templates accept, and one as other servers issue them.
const IDS: [&str; 2] = ["call00001", "call_a-B.1/0123456789abcdef"];

impl Abilities {
    /// How it takes alternating user and assistant texts; `None`: it does not show them all.
    pub fn texts(&self, renderer: &Renderer<'_>) -> Option<Texts> {
        known(&self.texts, renderer, || {
            [Texts::Plain, Texts::Typed].into_iter().find(|texts| {
                let mut messages = [
                    Message::new("user", MARKS[0]),
                    Message::new("assistant", MARKS[1]),
                    Message::new("user", MARKS[2]),
                ];
                messages.iter_mut().for_each(|m| m.content.is_typed = *texts == Texts::Typed);
                shows(renderer, &messages, &Value::Null, 3).is_some()
            })
        })
    }

    /// Where it accepts system messages.
    pub fn systems(&self, renderer: &Renderer<'_>) -> Systems {
        known(&self.systems, renderer, || {
            let system = |index: usize| self.message(renderer, "system", MARKS[index]);
            let user = || self.message(renderer, "user", "Hi");
            let assistant = || self.message(renderer, "assistant", "Hello");
            let works = |messages: &[Message], marks: usize| {
                shows(renderer, messages, &Value::Null, marks).is_some()
            };
            if !works(&[system(0), user()], 1) {
                Systems::None
            } else if !works(&[system(0), system(1), user()], 2) {
                Systems::First
            } else if !works(&[system(0), system(1), user(), assistant(), system(2), user()], 3) {
                Systems::Several
            } else {
                Systems::Anywhere
            }
        })
    }

    /// Whether it shows descriptions of functions.
    pub fn tools(&self, renderer: &Renderer<'_>) -> bool {
        known(&self.tools, renderer, || {
            let user = self.message(renderer, "user", "Hi");
            shows(renderer, &[user], &tools(MARKS[0]), 1).is_some()
        })
    }

    /// How it takes calls in the history; `None`: not at all.
    pub fn calls(&self, renderer: &Renderer<'_>) -> Option<Calls> {
        known(&self.calls, renderer, || {
            let round = |arguments: Arguments, id: &str, count: usize| {
                let id = |index: usize| match index {
                    0 => id.to_owned(),
                    _ => format!("{}{}", &id[..id.len() - 1], index + 1),
                };
                let call = |index: usize| {
                    ToolCall::new(Some(id(index)), "f", arguments.of(json!({ "x": MARKS[index] })))
                };
                let mut messages = vec![
                    self.message(renderer, "user", "Hi"),
                    Message {
                        tool_calls: (0..count).map(call).collect(),
                        ..self.message(renderer, "assistant", "")
                    },
                ];
                messages.extend((0..count).map(|index| Message {
                    tool_call_id: Some(id(index)),
                    name: Some("f".to_owned()),
                    ..self.message(renderer, "tool", MARKS[count + index])
                }));
                shows(renderer, &messages, &tools("f"), 2 * count)
            };
            // An object that is printed rather than serialized as JSON has Python's quotes.
            let object = round(Arguments::Object, IDS[0], 1)
                .is_some_and(|text| !text.contains(&format!("'{}'", MARKS[0])));
            let arguments = if object {
                Arguments::Object
            } else {
                round(Arguments::Text, IDS[0], 1).map(|_| Arguments::Text)?
            };
            Some(Calls {
                arguments,
                several: round(arguments, IDS[0], 2).is_some(),
                any_id: round(arguments, IDS[1], 1).is_some(),
            })
        })
    }

    /// The field for reasoning before a call.
    pub fn thoughts(&self, renderer: &Renderer<'_>) -> Thoughts {
        known(&self.thoughts, renderer, || {
            let Some(calls) = self.calls(renderer) else { return Thoughts::ReasoningContent };
            let names = [Thoughts::ReasoningContent, Thoughts::Reasoning, Thoughts::Thinking];
            let found = names.into_iter().find(|name| {
                let arguments = calls.arguments.of(json!({ "x": "y" }));
                let mut call = Message {
                    tool_calls: vec![ToolCall::new(Some(IDS[0].to_owned()), "f", arguments)],
                    ..self.message(renderer, "assistant", "")
                };
                name.give(&mut call, Some(MARKS[0].to_owned()));
                let result = Message {
                    tool_call_id: Some(IDS[0].to_owned()),
                    name: Some("f".to_owned()),
                    ..self.message(renderer, "tool", "r")
                };
                let messages = [self.message(renderer, "user", "Hi"), call, result];
                shows(renderer, &messages, &tools("f"), 1).is_some()
            });
            found.unwrap_or(Thoughts::ReasoningContent)
        })
    }

    fn message(&self, renderer: &Renderer<'_>, role: &str, text: &str) -> Message {
        let mut message = Message::new(role, text);
        message.content.is_typed = self.texts(renderer) == Some(Texts::Typed);
        message
    }
}

impl Thoughts {
    /// Sets a message's reasoning in this field and clears the others.
    pub fn give(self, message: &mut Message, thoughts: Option<String>) {
        (message.reasoning_content, message.reasoning, message.thinking) = (None, None, None);
        match self {
            Self::ReasoningContent => message.reasoning_content = thoughts,
            Self::Reasoning => message.reasoning = thoughts,
            Self::Thinking => message.thinking = thoughts,
        }
    }
}

/// The cached result, or a new one, which is cached unless the probe was interrupted.
fn known<T: Copy>(kept: &OnceLock<T>, renderer: &Renderer<'_>, find: impl FnOnce() -> T) -> T {
    kept.get().copied().unwrap_or_else(|| {
        let found = find();
        if !renderer.is_interrupted() {
            let _ = kept.set(found);
        }
        found
    })
}

/// The rendered text, if it contains the first `marks` markers.
fn shows(
    renderer: &Renderer<'_>,
    messages: &[Message],
    tools: &Value,
    marks: usize,
) -> Option<String> {
    let text = renderer.render(&Inputs { tools, ..Inputs::new(messages) }).ok()?;
    MARKS.iter().take(marks).all(|mark| text.contains(mark)).then_some(text)
}

fn tools(name: &str) -> Value {
    json!([{ "type": "function", "function": {
        "name": name, "description": "d",
        "parameters": { "type": "object", "properties": { "x": { "type": "string" } }, "required": ["x"] },
    }}])
}

#[cfg(test)]
mod tests {
    use super::super::{ChatTemplate, TIME_MAX};
    use super::*;
    use crate::worker::Patience;

    fn new(source: &str) -> Renderer<'static> {
        let template = ChatTemplate::new(source, "<s>".to_owned(), "</s>".to_owned()).unwrap();
        let patience = Box::leak(Box::new(Patience::new(TIME_MAX, &|| true)));
        Box::leak(Box::new(template)).within(patience)
    }

    #[test]
    fn abilities_of_real_templates_are_detected() {
        macro_rules! of {
            ($name:literal) => {{
                let template =
                    new(include_str!(concat!("../../tests/golden/templates/", $name, ".jinja")));
                let found = Abilities::default();
                let calls = found.calls(&template);
                let calls = calls.map(|calls| (calls.arguments, calls.several, calls.any_id));
                (found.systems(&template), found.tools(&template), calls)
            }};
        }
        let object = Some((Arguments::Object, true, true));
        let text = Some((Arguments::Text, true, true));
        assert_eq!(of!("Qwen-Qwen2.5-7B-Instruct"), (Systems::Anywhere, true, object));
        assert_eq!(of!("Qwen3-Coder"), (Systems::Anywhere, true, object));
        assert_eq!(of!("GLM-4.6"), (Systems::Anywhere, true, object));
        assert_eq!(
            of!("openai-gpt-oss-120b"),
            (Systems::First, true, Some((Arguments::Object, false, true)))
        );
        let nemo = Some((Arguments::Object, true, false));
        assert_eq!(of!("mistralai-Mistral-Nemo-Instruct-2407"), (Systems::First, true, nemo));
        assert_eq!(of!("ibm-granite-granite-4.0"), (Systems::Anywhere, true, object));
        assert_eq!(of!("deepseek-ai-DeepSeek-V3.1"), (Systems::Anywhere, false, object));
        assert_eq!(of!("meetkai-functionary-medium-v3.2"), (Systems::Anywhere, true, text));
        assert_eq!(of!("Apertus-8B-Instruct"), (Systems::First, true, object));
        assert_eq!(of!("microsoft-Phi-3.5-mini-instruct"), (Systems::Anywhere, false, None));
    }

    #[test]
    fn named_templates_have_the_listed_abilities() {
        let systems = |name| {
            let source = super::super::builtin::source(name).unwrap();
            Abilities::default().systems(&new(source))
        };
        assert_eq!(systems("chatml"), Systems::Anywhere);
        assert_ne!(systems("gemma"), Systems::None);
    }

    #[test]
    fn strict_and_typed_templates_are_detected() {
        let strict = new(
            "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}",
        );
        let found = Abilities::default();
        assert_eq!(found.texts(&strict), None);
        assert_eq!(found.systems(&strict), Systems::None);
        assert_eq!((found.tools(&strict), found.calls(&strict)), (false, None));
        let typed = new(
            "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}",
        );
        let found = Abilities::default();
        assert_eq!(found.texts(&typed), Some(Texts::Typed));
        assert_eq!(found.systems(&typed), Systems::Anywhere);
        let plain = new("{% for m in messages %}{{ m.content }}{% endfor %}");
        assert_eq!(Abilities::default().texts(&plain), Some(Texts::Plain));
    }
}
