//! The forms in which models write calls, as data, and which of them a template asks for.

use super::super::answer::{Calls, Held, Out, Plan, Step};
use super::channels::Channels;
use super::complete::{Complete, Parse};
use super::named::Named;
use super::objects::Objects;
use super::tagged::Tagged;
use super::{Tool, gemma, python};
use std::sync::Arc;

/// One form of writing calls.
#[derive(Debug)]
pub struct Format {
    /// What it is called.
    pub name: &'static str,
    /// Any of these sets, all of whose texts stand in a template, tells that its model uses this form.
    signs: &'static [&'static [&'static str]],
    /// What begins calls.
    pub(in super::super) open: &'static [&'static str],
    /// What may end them, and is no text.
    pub(super) close: &'static [&'static str],
    /// How they are written.
    shape: Shape,
    /// How they are written if not with a JSON object or list at their beginning.
    other: Option<Shape>,
    /// Whether an answer has this form from its first character on.
    pub(in super::super) whole: bool,
    /// Texts within calls that mark something.
    pub(super) inner: &'static [&'static str],
    /// How calls are written that have to be made, if they are JSON between marks.
    written: Option<Written>,
}

/// The texts around calls that are JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// Before the first.
    pub start: &'static str,
    /// Before each.
    pub before: &'static str,
    /// After each.
    pub after: &'static str,
    /// Between two; `None`: there is one only.
    pub between: Option<&'static str>,
    /// After the last.
    pub end: &'static str,
    /// The key of the name.
    pub name: &'static str,
    /// The key of the arguments.
    pub arguments: &'static str,
}

/// A JSON object and nothing else.
const BARE: Written = Written {
    start: "",
    before: "",
    after: "",
    between: None,
    end: "",
    name: "name",
    arguments: "arguments",
};

/// A list of JSON objects between marks.
const fn list(start: &'static str, end: &'static str) -> Written {
    Written { start, end, between: Some(", "), ..BARE }
}

/// How calls are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Each is a JSON object with the name and the arguments, alone or in a list.
    Objects,
    /// Each is a JSON object whose one key is the name.
    KeyedObjects,
    /// The name, then a JSON object.
    Named {
        /// What ends the name where no brace does.
        end: Option<&'static str>,
        /// What stands between name and id.
        id: Option<&'static str>,
    },
    /// Tags around each argument.
    Tagged(TagStyle),
    /// Something that is read when it is complete.
    Complete(Parse),
    /// Messages to other recipients than the user, each with a header.
    Channels,
}

/// The tags around a function and its arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct TagStyle {
    /// Before the name of the function.
    pub function: &'static str,
    /// After it; nothing: the line's end.
    pub function_end: &'static str,
    /// After all arguments.
    pub function_close: &'static str,
    /// Before the name of an argument.
    pub argument: &'static str,
    /// After it.
    pub argument_end: &'static str,
    /// What else stands before a value.
    pub value: &'static str,
    /// After a value.
    pub close: &'static str,
    /// Whether values stand on lines of their own.
    pub lines: bool,
}

/// The tags of Qwen3-Coder, which other models write as well.
const QWEN_TAGS: TagStyle = TagStyle {
    function: "<function=",
    function_end: ">",
    function_close: "</function>",
    argument: "<parameter=",
    argument_end: ">",
    value: "",
    close: "</parameter>",
    lines: true,
};

/// Something that reads calls.
pub trait Section: Send {
    /// Reads on.
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step;
    /// Whether no call is begun and not ended.
    fn is_between(&self) -> bool;
}

const NONE: Format = Format {
    name: "",
    signs: &[],
    open: &[],
    close: &[],
    shape: Shape::Objects,
    other: None,
    whole: false,
    inner: &[],
    written: None,
};

/// Known forms. The first whose signs a template shows counts: the more telling come earlier.
const FORMATS: &[Format] = &[
    Format {
        name: "gpt-oss",
        signs: &[&["<|channel|>", "<|message|>"]],
        shape: Shape::Channels,
        inner: &["<|channel|>", "<|message|>", "<|constrain|>", "<|start|>", "<|end|>"],
        ..NONE
    },
    Format {
        name: "Gemma 4",
        signs: &[&["<|tool_call>", "<tool_call|>"]],
        open: &["<|tool_call>"],
        close: &["<tool_call|>"],
        shape: Shape::Complete(gemma::calls),
        inner: &["<|\"|>"],
        ..NONE
    },
    Format {
        name: "functionary v3.2",
        signs: &[&[">>>all"]],
        open: &[">>>"],
        shape: Shape::Named { end: Some("\n"), id: None },
        whole: true,
        ..NONE
    },
    Format {
        name: "Kimi K2",
        signs: &[&["<|tool_call_begin|>", "<|tool_call_argument_begin|>"]],
        open: &["<|tool_calls_section_begin|>", "<|tool_call_begin|>"],
        close: &["<|tool_call_end|>", "<|tool_calls_section_end|>"],
        shape: Shape::Named { end: None, id: None },
        inner: &["<|tool_call_argument_begin|>"],
        ..NONE
    },
    Format {
        name: "DeepSeek V3.2",
        signs: &[&["DSML"]],
        open: &["<｜DSML｜function_calls>", "<｜DSML｜tool_calls>", "<｜DSML｜invoke name="],
        close: &["</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"],
        shape: Shape::Tagged(TagStyle {
            function: "<｜DSML｜invoke name=",
            function_end: ">",
            function_close: "</｜DSML｜invoke>",
            argument: "<｜DSML｜parameter name=",
            argument_end: ">",
            value: "",
            close: "</｜DSML｜parameter>",
            lines: false,
        }),
        ..NONE
    },
    Format {
        name: "DeepSeek",
        signs: &[&["<｜tool▁call▁begin｜>"], &["<｜tool▁calls▁begin｜>"]],
        open: &["<｜tool▁calls▁begin｜>", "<｜tool_calls_begin｜>", "<｜tool▁call▁begin｜>"],
        close: &["```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"],
        shape: Shape::Named { end: None, id: None },
        inner: &["function<｜tool▁sep｜>", "<｜tool▁sep｜>", "```json"],
        ..NONE
    },
    Format {
        name: "MiniMax",
        signs: &[&["<minimax:tool_call>"]],
        open: &["<minimax:tool_call>", "<invoke name="],
        close: &["</minimax:tool_call>"],
        shape: Shape::Tagged(TagStyle {
            function: "<invoke name=",
            function_end: ">",
            function_close: "</invoke>",
            argument: "<parameter name=",
            argument_end: ">",
            value: "",
            close: "</parameter>",
            lines: false,
        }),
        ..NONE
    },
    Format {
        name: "MiniCPM",
        signs: &[&["<function name=\"", "<param name=\""]],
        open: &["<function name="],
        shape: Shape::Tagged(TagStyle {
            function: "<function name=",
            function_end: ">",
            function_close: "</function>",
            argument: "<param name=",
            argument_end: ">",
            value: "",
            close: "</param>",
            lines: false,
        }),
        ..NONE
    },
    Format {
        name: "GLM",
        signs: &[&["<arg_key>", "<arg_value>"]],
        open: &["<tool_call>"],
        close: &[],
        shape: Shape::Tagged(TagStyle {
            function: "",
            function_end: "",
            function_close: "</tool_call>",
            argument: "<arg_key>",
            argument_end: "</arg_key>",
            value: "<arg_value>",
            close: "</arg_value>",
            lines: false,
        }),
        ..NONE
    },
    Format {
        name: "Qwen3-Coder",
        signs: &[&["<function=", "<parameter="]],
        open: &["<tool_call>", "<seed:tool_call>", "<function="],
        close: &["</tool_call>", "</seed:tool_call>"],
        shape: Shape::Tagged(QWEN_TAGS),
        ..NONE
    },
    Format {
        name: "functionary v3.1",
        signs: &[&["<function="]],
        open: &["<function="],
        close: &["</function>"],
        shape: Shape::Named { end: Some(">"), id: None },
        ..NONE
    },
    Format {
        name: "Command R7B",
        signs: &[&["<|START_ACTION|>"]],
        open: &["<|START_ACTION|>"],
        close: &["<|END_ACTION|>"],
        written: Some(Written {
            start: "<|START_ACTION|>[",
            between: Some(", "),
            end: "]<|END_ACTION|>",
            name: "tool_name",
            arguments: "parameters",
            ..BARE
        }),
        ..NONE
    },
    Format {
        name: "Command R",
        signs: &[&["Action:", "```json", "tool_name"]],
        open: &["Action: ```json", "Action:\n```json", "Action:```json"],
        close: &["```"],
        ..NONE
    },
    Format {
        name: "Mistral",
        signs: &[&["[TOOL_CALLS]"]],
        open: &["[TOOL_CALLS]"],
        other: Some(Shape::Named { end: Some("[ARGS]"), id: Some("[CALL_ID]") }),
        written: Some(list("[TOOL_CALLS][", "]")),
        ..NONE
    },
    Format {
        name: "Granite",
        signs: &[&["<|tool_call|>"]],
        open: &["<|tool_call|>"],
        close: &["<|/tool_call|>"],
        written: Some(list("<|tool_call|>[", "]")),
        ..NONE
    },
    Format {
        name: "Phi-4",
        signs: &[&["<|tool|>"], &["functools["]],
        open: &["<|tool_call|>", "functools"],
        close: &["<|/tool_call|>"],
        written: Some(list("<|tool_call|>[", "]<|/tool_call|>")),
        ..NONE
    },
    Format {
        name: "Nemotron",
        signs: &[&["<TOOLCALL>"]],
        open: &["<TOOLCALL>"],
        close: &["</TOOLCALL>"],
        written: Some(list("<TOOLCALL>[", "]</TOOLCALL>")),
        ..NONE
    },
    Format {
        name: "Apertus",
        signs: &[&["<|tools_prefix|>"]],
        open: &["<|tools_prefix|>"],
        close: &["<|tools_suffix|>"],
        shape: Shape::KeyedObjects,
        ..NONE
    },
    Format {
        name: "Apriel",
        signs: &[&["<tool_calls>["]],
        open: &["<tool_calls>"],
        close: &["</tool_calls>"],
        written: Some(list("<tool_calls>[", "]</tool_calls>")),
        ..NONE
    },
    Format {
        name: "LFM2",
        signs: &[&["<|tool_call_start|>"], &["<|tool_list_start|>"], &["List of tools: ["]],
        open: &["<|tool_call_start|>"],
        close: &["<|tool_call_end|>"],
        shape: Shape::Complete(python::calls),
        ..NONE
    },
    Format {
        name: "OLMo 3",
        signs: &[&["<function_calls>"]],
        open: &["<function_calls>"],
        close: &["</function_calls>"],
        shape: Shape::Complete(python::calls),
        ..NONE
    },
    Format {
        name: "Hermes",
        signs: &[&["<tool_call>"]],
        open: &["<tool_call>"],
        close: &["</tool_call>"],
        written: Some(Written {
            before: "<tool_call>\n",
            after: "\n</tool_call>",
            between: Some("\n"),
            ..BARE
        }),
        ..NONE
    },
    Format {
        name: "Llama 3",
        signs: &[
            &["<|python_tag|>"],
            &["<|start_header_id|>", "\"parameters\": dictionary of argument name"],
        ],
        open: &["<|python_tag|>"],
        other: Some(Shape::Complete(python::calls_or_code)),
        written: Some(Written { arguments: "parameters", ..BARE }),
        ..NONE
    },
];

/// For models whose template knows nothing of functions: the JSON that they are asked for.
static GENERIC: Format = Format { name: "generic", ..NONE };

impl Format {
    /// The form that a template asks for.
    #[must_use]
    pub fn of(template: &str) -> &'static Self {
        let shown = |signs: &[&str]| signs.iter().all(|sign| template.contains(sign));
        FORMATS.iter().find(|f| f.signs.iter().any(|s| shown(s))).unwrap_or(&GENERIC)
    }

    /// The form for models whose template knows nothing of functions.
    #[must_use]
    pub fn generic() -> &'static Self {
        &GENERIC
    }

    /// Whether an answer that is the JSON of a call of a known function is a call: models leave out what should stand
    /// around it.
    pub(in super::super) fn bare(&self) -> bool {
        !self.whole && !matches!(self.shape, Shape::Channels)
    }

    /// What ends calls, and is markup wherever it stands.
    pub(in super::super) fn closers(&self) -> impl Iterator<Item = &'static str> {
        let inner = match self.shape {
            Shape::Tagged(style) => [style.function_close, style.close],
            _ => ["", ""],
        };
        let tokens = self.inner.iter().copied().filter(|mark| mark.contains(['|', '｜']));
        let close = self.close.iter().copied().chain(inner);
        close.filter(|mark| mark.starts_with(['<', '['])).chain(tokens)
    }

    /// Whether a text begins like calls without what should stand before them; `None`: it may.
    pub(in super::super) fn begins_bare(
        &self,
        text: &str,
        tools: &[Tool],
        ended: bool,
    ) -> Option<bool> {
        let Shape::Tagged(style) = self.shape else { return Some(false) };
        if !style.function.is_empty() {
            return Some(false);
        }
        let mut found = Some(false);
        for tool in tools {
            match text.strip_prefix(&tool.name).map(str::trim_start) {
                Some(rest) if rest.starts_with(style.argument) => return Some(true),
                Some(rest) if !ended && style.argument.starts_with(rest) => found = None,
                None if !ended && tool.name.starts_with(text) => found = None,
                _ => {}
            }
        }
        found
    }

    /// Whether it is that form.
    #[must_use]
    pub fn is_generic(&self) -> bool {
        std::ptr::eq(self, &raw const GENERIC)
    }

    /// How calls are written that have to be made, if they can be enforced.
    pub(super) fn written(&self) -> Option<Written> {
        let all_marked = self.whole || matches!(self.shape, Shape::Channels);
        if all_marked { None } else { Some(self.written.unwrap_or(BARE)) }
    }

    /// How calls are written that may be made beside answers in JSON: JSON between marks, or what begins others.
    pub(super) fn optional(&self) -> Option<(Option<Written>, &'static [&'static str])> {
        match self.written() {
            Some(_) if self.written.is_none() && !self.open.is_empty() => Some((None, self.open)),
            Some(written) => Some((Some(written), &[])),
            None => None,
        }
    }

    /// All texts that mark something in it.
    pub(in super::super) fn markers(&self) -> impl Iterator<Item = &'static str> {
        let tags = [Some(self.shape), self.other].into_iter().flatten().flat_map(|shape| {
            let (end, id, tags) = match shape {
                Shape::Named { end, id } => (end, id, None),
                Shape::Tagged(t) => (None, None, Some([t.function, t.function_close, t.close])),
                _ => (None, None, None),
            };
            end.into_iter().chain(id).chain(tags.into_iter().flatten())
        });
        let lists = self.open.iter().chain(self.close).chain(self.inner);
        lists.copied().chain(tags).filter(|marker| !marker.trim().is_empty())
    }

    /// What reads calls after `marker`.
    pub(in super::super) fn section(
        &'static self,
        calls: &Calls,
        marker: &'static str,
    ) -> Box<dyn Section> {
        Box::new(Any { format: self, calls: calls.clone(), marker, bare: false, known: None })
    }

    /// What reads an answer that looks like calls without what should stand before them.
    pub(in super::super) fn bare_section(&'static self, calls: &Calls) -> Box<dyn Section> {
        Box::new(Any { format: self, calls: calls.clone(), marker: "", bare: true, known: None })
    }

    /// What reads answers that are written in channels.
    pub(in super::super) fn channels(plan: &Plan) -> Box<dyn Section> {
        let tools = plan.calls.as_ref().map(|calls| Arc::clone(&calls.tools));
        Box::new(Channels::new(plan.apart, plan.thinking, tools))
    }

    /// The shape of calls that begin like this, which need not be the format's own; `None`: more is needed.
    fn shape_of(&self, text: &str, ended: bool, known: Option<&[Tool]>) -> Option<Shape> {
        let own = self.other.unwrap_or(self.shape);
        if self.whole {
            return Some(self.shape);
        }
        let is_keyed = matches!(self.shape, Shape::KeyedObjects);
        let json = if is_keyed { self.shape } else { Shape::Objects };
        let is_python = matches!(own, Shape::Complete(_));
        let takes_calls = is_python || matches!(own, Shape::Objects | Shape::KeyedObjects);
        let calls = if is_python { own } else { Shape::Complete(python::calls) };
        match text.chars().next() {
            None if ended => Some(own),
            None => None,
            Some('{') => Some(json),
            Some('[') => match text[1..].trim_start().chars().next() {
                None if !ended => None,
                None | Some('{' | '[' | ']' | ',') => Some(json),
                Some(_) if is_python && known.is_none() => Some(own),
                Some(_) if takes_calls => {
                    let begins = python::begins(text[1..].trim_start(), known, ended)?;
                    Some(if begins { calls } else { json })
                }
                Some(_) => Some(json),
            },
            Some('<') if takes_calls && known.is_none() => {
                let tags = &QWEN_TAGS;
                if text.starts_with(tags.function) {
                    return Some(Shape::Tagged(*tags));
                }
                let waits = !ended && tags.function.starts_with(text);
                if waits { None } else { Some(own) }
            }
            Some(_) if takes_calls && !is_python => {
                let begins = python::begins(text, known, ended)?;
                Some(if begins { calls } else { own })
            }
            Some(_) => Some(own),
        }
    }

    fn of_shape(
        &'static self,
        shape: Shape,
        calls: &Calls,
        marker: &'static str,
        bare: bool,
    ) -> Box<dyn Section> {
        let tools = &calls.tools;
        match shape {
            Shape::Objects => Box::new(Objects::new(self, false, bare, tools)),
            Shape::KeyedObjects => Box::new(Objects::new(self, !bare, bare, tools)),
            Shape::Named { end, id } => Box::new(Named::new(self, end, id, tools)),
            Shape::Tagged(style) => Box::new(Tagged::new(self, style, tools, marker)),
            Shape::Complete(parse) => Box::new(Complete::new(self, parse, bare, tools)),
            Shape::Channels => Box::new(Channels::new(true, false, Some(Arc::clone(tools)))),
        }
    }
}

/// Calls of whatever shape their first characters tell: models mix up the forms that they were trained on.
struct Any {
    format: &'static Format,
    calls: Calls,
    marker: &'static str,
    bare: bool,
    known: Option<Box<dyn Section>>,
}

impl Section for Any {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        if let Some(section) = &mut self.known {
            return section.step(held, out);
        }
        if !self.format.whole {
            held.skip_white();
        }
        let is_outer = |mark: &&&'static str| match self.format.shape {
            Shape::Tagged(style) => **mark != style.function,
            _ => true,
        };
        let outer: Vec<&'static str> = self.format.open.iter().filter(is_outer).copied().collect();
        if !self.bare && !self.format.whole && outer.contains(&self.marker) {
            // Said twice.
            if outer.iter().any(|open| held.skip(open)) {
                return Step::Next;
            }
            if held.may_begin(&outer) {
                return Step::More;
            }
        }
        let known = self.bare.then_some(&*self.calls.tools);
        let Some(shape) = self.format.shape_of(&held.text, held.ended, known) else {
            return Step::More;
        };
        if held.text.is_empty() && held.ended {
            return if held.cut { Step::More } else { Step::Bad };
        }
        let section = self.format.of_shape(shape, &self.calls, self.marker, self.bare);
        self.known = Some(section);
        Step::Next
    }

    fn is_between(&self) -> bool {
        self.known.as_ref().is_none_or(|section| section.is_between())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_templates_tell_their_form() {
        macro_rules! form_of {
            ($name:literal) => {
                Format::of(include_str!(concat!(
                    "../../../tests/golden/templates/",
                    $name,
                    ".jinja"
                )))
                .name
            };
        }
        assert_eq!(form_of!("Qwen-Qwen2.5-7B-Instruct"), "Hermes");
        assert_eq!(form_of!("Qwen-Qwen3-0.6B"), "Hermes");
        assert_eq!(form_of!("HuggingFaceTB-SmolLM3-3B"), "generic");
        assert_eq!(form_of!("ibm-granite-granite-4.0"), "Hermes");
        assert_eq!(form_of!("ibm-granite-granite-3.3-2B-Instruct"), "Granite");
        assert_eq!(form_of!("Qwen3-Coder"), "Qwen3-Coder");
        assert_eq!(form_of!("Qwen3.5-4B"), "Qwen3-Coder");
        assert_eq!(form_of!("ByteDance-Seed-OSS"), "Qwen3-Coder");
        assert_eq!(form_of!("openai-gpt-oss-120b"), "gpt-oss");
        assert_eq!(form_of!("mistralai-Mistral-Nemo-Instruct-2407"), "Mistral");
        assert_eq!(form_of!("Mistral-Small-3.2-24B-Instruct-2506"), "Mistral");
        assert_eq!(form_of!("mistralai-Ministral-3-14B-Reasoning-2512"), "Mistral");
        assert_eq!(form_of!("unsloth-mistral-Devstral-Small-2507"), "Mistral");
        assert_eq!(form_of!("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B"), "DeepSeek");
        assert_eq!(form_of!("deepseek-ai-DeepSeek-V3.1"), "DeepSeek");
        assert_eq!(form_of!("deepseek-ai-DeepSeek-V3.2"), "DeepSeek V3.2");
        assert_eq!(form_of!("GLM-4.6"), "GLM");
        assert_eq!(form_of!("GLM-4.7-Flash"), "GLM");
        assert_eq!(form_of!("MiniMax-M2"), "MiniMax");
        assert_eq!(form_of!("meetkai-functionary-medium-v3.1"), "functionary v3.1");
        assert_eq!(form_of!("meetkai-functionary-medium-v3.2"), "functionary v3.2");
        assert_eq!(form_of!("Apertus-8B-Instruct"), "Apertus");
        assert_eq!(form_of!("unsloth-Apriel-1.5"), "Apriel");
        assert_eq!(form_of!("microsoft-Phi-3.5-mini-instruct"), "generic");
    }
}
