//! Describes functions in the prompt, for models whose template does not support them.

use super::super::json;
use super::tool::Tool;

/// The prompt text that describes the functions and how to call one.
pub(in super::super) fn describe(tools: &[Tool]) -> String {
    const DESCRIPTION_BYTES_MAX: usize = 16 << 20;
    let style = json::Style::default();
    let mut text = "You can call these functions, described in JSON:\n".to_owned();
    for tool in tools {
        let function = tool.raw.get("function").unwrap_or(&tool.raw);
        text.push_str(&json::dumps(function, &style, DESCRIPTION_BYTES_MAX).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(
        "To call one, answer with nothing but a JSON object that names it and its arguments: \
         {\"name\": \"function_name\", \"arguments\": {\"argument\": \"value\"}}\n\
         When no function is needed, or its result is known, answer in plain text.",
    );
    text
}
