//! The formats in which models write calls, as data, and which of them a template uses.

use super::format::{BARE, Format, QWEN_TAGS, Shape, TagStyle, Written};
use super::{gemma, python};

/// A list of JSON objects between markers.
const fn list(start: &'static str, end: &'static str) -> Written {
    Written { start, end, between: Some(", "), ..BARE }
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

/// Known formats. The first whose signs a template contains is used: more distinctive ones come first.
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

/// For models whose template does not support functions: the JSON that the prompt asks for.
static GENERIC: Format = Format { name: "generic", ..NONE };

impl Format {
    /// The format that a template uses.
    #[must_use]
    pub fn of(template: &str) -> &'static Self {
        let shown = |signs: &[&str]| signs.iter().all(|sign| template.contains(sign));
        FORMATS.iter().find(|f| f.signs.iter().any(|s| shown(s))).unwrap_or(&GENERIC)
    }

    /// The format for models whose template does not support functions.
    #[must_use]
    pub fn generic() -> &'static Self {
        &GENERIC
    }

    /// Whether it is that format.
    #[must_use]
    pub fn is_generic(&self) -> bool {
        std::ptr::eq(self, &raw const GENERIC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_real_templates_are_detected() {
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
