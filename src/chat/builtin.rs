//! Named chat templates, for model files that have none.
//!
//! The names and the prompts are llama.cpp's; `tests/golden/builtin.py` generates the goldens. Knows nothing of how
//! templates are rendered.

macro_rules! named {
    ($name:literal) => {
        ($name, include_str!(concat!("builtin/", $name, ".jinja")))
    };
}

/// Name and Jinja source of each, sorted by name.
const TEMPLATES: &[(&str, &str)] = &[
    named!("bailing"),
    named!("bailing-think"),
    named!("bailing2"),
    named!("chatglm3"),
    named!("chatglm4"),
    named!("chatml"),
    named!("command-r"),
    named!("deepseek"),
    named!("deepseek-ocr"),
    named!("deepseek2"),
    named!("deepseek3"),
    named!("exaone-moe"),
    named!("exaone3"),
    named!("exaone4"),
    named!("falcon3"),
    named!("gemma"),
    named!("gigachat"),
    named!("glmedge"),
    named!("gpt-oss"),
    named!("granite"),
    named!("granite-4.0"),
    named!("grok-2"),
    named!("hunyuan-dense"),
    named!("hunyuan-moe"),
    named!("hunyuan-vl"),
    named!("kimi-k2"),
    named!("llama2"),
    named!("llama2-sys"),
    named!("llama2-sys-bos"),
    named!("llama2-sys-strip"),
    named!("llama3"),
    named!("llama4"),
    named!("megrez"),
    named!("minicpm"),
    named!("mistral-v1"),
    named!("mistral-v3"),
    named!("mistral-v3-tekken"),
    named!("mistral-v7"),
    named!("mistral-v7-tekken"),
    named!("monarch"),
    named!("openchat"),
    named!("orion"),
    named!("pangu-embedded"),
    named!("phi3"),
    named!("phi4"),
    named!("rwkv-world"),
    named!("seed_oss"),
    named!("smolvlm"),
    named!("solar-open"),
    named!("vicuna"),
    named!("vicuna-orca"),
    named!("yandex"),
    named!("zephyr"),
];
/// Aliases.
const ALIASES: &[(&str, &str)] = &[("granite-4.1", "granite-4.0")];
/// The template of last resort.
pub const DEFAULT: &str = "chatml";

/// The source of a named template.
#[must_use]
pub fn source(name: &str) -> Option<&'static str> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

/// All names, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = TEMPLATES.iter().chain(ALIASES).map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

/// Guesses the template that a model without one was trained with, from tokens that only one family of templates uses.
/// `has` looks up a token in the vocab.
#[must_use]
pub fn guess(architecture: &str, has: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    // More distinctive tokens come first: Kimi's vocab, for example, also has `<|im_end|>`.
    const SIGNS: &[(&[&str], &str)] = &[
        (&["<|im_middle|>"], "kimi-k2"),
        (&["<|im_start|>", "<|im_sep|>"], "phi4"),
        (&["<|im_start|>", "<end_of_utterance>"], "smolvlm"),
        (&["<|im_start|>"], "chatml"),
        (&["<|start_header_id|>"], "llama3"),
        (&["<|header_start|>"], "llama4"),
        (&["<start_of_turn>"], "gemma"),
        (&["<|START_OF_TURN_TOKEN|>"], "command-r"),
        (&["<|start_of_role|>"], "granite"),
        (&["<|channel|>", "<|message|>"], "gpt-oss"),
        (&["<｜User｜>", "<｜Assistant｜>"], "deepseek3"),
        (&["<seed:bos>"], "seed_oss"),
        (&["[|endofturn|]"], "exaone3"),
        (&["<|role_start|>"], "megrez"),
        (&["<|role_sep|>", "<|message_sep|>"], "gigachat"),
        (&["[SYSTEM_PROMPT]", "[INST]"], "mistral-v7-tekken"),
        (&["[AVAILABLE_TOOLS]", "[INST]"], "mistral-v3"),
        (&["<sop>", "<|assistant|>"], "chatglm4"),
        (&["<|assistant|>", "<|end|>"], "phi3"),
        (&["<用户>"], "minicpm"),
    ];
    let by_token = SIGNS.iter().find(|(tokens, _)| tokens.iter().all(|token| has(token)));
    by_token.map(|(_, name)| *name).or(match architecture {
        "rwkv6" | "rwkv7" | "arwkv7" => Some("rwkv-world"),
        "orion" => Some("orion"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{ChatTemplate, Inputs, Message};
    use super::*;
    use serde_json::Value;

    #[test]
    fn each_template_matches_the_reference() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/builtin.json")).unwrap();
        let prompts = golden["prompts"].as_object().unwrap();
        assert_eq!(prompts.keys().collect::<Vec<_>>(), names());
        for (name, cases) in prompts {
            let source = source(name).unwrap();
            let template = ChatTemplate::new(source, String::new(), String::new()).unwrap();
            for (case, expected) in cases.as_object().unwrap() {
                let messages = golden["cases"][case].clone();
                let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
                for (index, begin) in [false, true].into_iter().enumerate() {
                    let inputs = Inputs { add_generation_prompt: begin, ..Inputs::new(&messages) };
                    let found = template.render(&inputs).unwrap();
                    assert_eq!(found, expected[index].as_str().unwrap(), "{name}, {case}, {begin}");
                }
            }
        }
    }

    #[test]
    fn the_vocabulary_selects_the_template() {
        let with = |tokens: &[&str]| guess("llama", &|token| tokens.contains(&token));
        assert_eq!(with(&["<|im_start|>", "<|im_end|>"]), Some("chatml"));
        assert_eq!(with(&["<|im_start|>", "<|im_sep|>"]), Some("phi4"));
        assert_eq!(with(&["<|start_header_id|>"]), Some("llama3"));
        assert_eq!(with(&["[INST]", "[AVAILABLE_TOOLS]"]), Some("mistral-v3"));
        assert_eq!(with(&["<s>", "</s>"]), None);
        assert_eq!(guess("rwkv7", &|_| false), Some("rwkv-world"));
    }
}
