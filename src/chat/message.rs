//! One message of a conversation, in the form that templates and API clients share.

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::{Deref, DerefMut};

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or whatever else the template knows.
    pub role: String,
    /// The text.
    #[serde(default)]
    pub content: Content,
    /// The assistant's reasoning before its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same, under the name that some templates use.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The same, under the name that others use.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// The functions an assistant called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The id of the call that a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The speaker's name; in a `tool` message the function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A message's text, and whether the template receives it as a list of typed parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    text: String,
    /// Whether it is passed as `[{"type": "text", "text": …}]`.
    pub is_typed: bool,
}

impl Deref for Content {
    type Target = String;

    fn deref(&self) -> &String {
        &self.text
    }
}

impl DerefMut for Content {
    fn deref_mut(&mut self) -> &mut String {
        &mut self.text
    }
}

impl<T: Into<String>> From<T> for Content {
    fn from(text: T) -> Self {
        Self { text: text.into(), is_typed: false }
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_typed {
            return json!([{ "type": "text", "text": self.text }]).serialize(serializer);
        }
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = |part: &Value| Some(part["text"].as_str()?.to_owned());
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(text.into()),
            Value::Array(parts) => {
                let text: Option<String> = parts.iter().map(part).collect();
                let text =
                    text.ok_or_else(|| D::Error::custom("found a content part that is not text"))?;
                Ok(Self { text, is_typed: true })
            }
            _ => Err(D::Error::custom("expected content to be a string or an array of text parts")),
        }
    }
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id by which the result refers to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// The function and its arguments.
    pub function: FunctionCall,
}

/// A function's name and arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// A JSON object, or its text.
    pub arguments: Value,
}

fn function() -> String {
    "function".to_owned()
}

impl Message {
    /// A message of that role.
    #[must_use]
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: content.into().into(), ..Self::default() }
    }
}

impl ToolCall {
    /// A call with that id.
    #[must_use]
    pub fn new(id: Option<String>, name: &str, arguments: Value) -> Self {
        Self { id, kind: function(), function: FunctionCall { name: name.to_owned(), arguments } }
    }
}
