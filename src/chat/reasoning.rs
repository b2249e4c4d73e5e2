//! How models mark their reasoning.
//!
//! Input: a template's source, and the end of a prompt. Output: the tags, and whether the prompt ends inside them. A
//! model whose template names no tags has none, so none of its text is ever taken for reasoning.

use serde::{Deserialize, Serialize};

/// The tags around reasoning.
#[derive(Debug, PartialEq, Eq)]
pub struct Tags {
    /// The opening tag.
    pub open: &'static str,
    /// The closing tag.
    pub close: &'static str,
    /// What begins the answer after the closing tag.
    pub then: &'static str,
    /// Whether reasoning is one of several channels, each with a header (gpt-oss).
    pub channels: bool,
    /// Whether reasoning may recur within an answer: where tags are tokens that never occur in text.
    pub again: bool,
}

const fn tags(open: &'static str, close: &'static str) -> Tags {
    Tags { open, close, then: "", channels: false, again: false }
}

/// Known tags; if a template names several, the first in this list counts.
const TAGS: &[Tags] = &[
    Tags {
        channels: true,
        then: "<|start|>assistant<|channel|>final<|message|>",
        ..tags("<|channel|>analysis<|message|>", "<|end|>")
    },
    Tags { again: true, ..tags("<|channel>thought", "<channel|>") },
    Tags { again: true, ..tags("<|START_THINKING|>", "<|END_THINKING|>") },
    tags("<|inner_prefix|>", "<|inner_suffix|>"),
    tags("<seed:think>", "</seed:think>"),
    tags("<mm:think>", "</mm:think>"),
    tags("[THINK]", "[/THINK]"),
    tags("<think>", "</think>"),
];

impl Tags {
    /// The tags that a template names.
    #[must_use]
    pub fn of(template: &str) -> Option<&'static Self> {
        let names = |tags: &&Self| {
            if tags.channels {
                template.contains("<|channel|>") && template.contains("<|message|>")
            } else {
                template.contains(tags.open) || template.contains(tags.close)
            }
        };
        TAGS.iter().find(names)
    }

    /// Whether a prompt ends inside reasoning.
    #[must_use]
    pub fn is_open(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}

/// What to do with reasoning: llama.cpp's `reasoning_format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReasoningFormat {
    /// It stays in the text, tags included.
    None,
    /// It is separated.
    #[default]
    Auto,
    /// It is separated, into the field of DeepSeek's API: the same here.
    Deepseek,
}

impl ReasoningFormat {
    /// All names.
    pub const NAMES: &str = "none, auto or deepseek";

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "auto" => Some(Self::Auto),
            "deepseek" => Some(Self::Deepseek),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_from_the_template() {
        let open = |template| Tags::of(template).map(|t| t.open);
        assert_eq!(open("{{ '<think>\n' }}"), Some("<think>"));
        assert_eq!(open("{% set content = content.split('</think>')[-1] %}"), Some("<think>"));
        assert_eq!(open("[THINK]{{ x }}[/THINK]"), Some("[THINK]"));
        assert_eq!(open("<|channel|>final<|message|>"), Some("<|channel|>analysis<|message|>"));
        assert_eq!(open("{{ '<|channel>thought\n<channel|>' }}"), Some("<|channel>thought"));
        assert_eq!(open("{# think about it #}<|im_start|>"), None);
    }

    #[test]
    fn a_prompt_that_ends_with_the_tag_opens_reasoning() {
        let tags = Tags::of("<think>").unwrap();
        assert!(tags.is_open("<|im_start|>assistant\n<think>\n"));
        assert!(!tags.is_open("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
        assert!(!tags.is_open("What is <think>?<|im_end|>"));
    }
}
