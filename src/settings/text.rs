//! Settings of prompts and templates.

use super::files::{read_text, without_last_break};
use super::setting::{Given, Group, Origin, Setting, Value, Wrong};
use crate::chat::{ReasoningFormat, builtin};
use std::path::Path;

const fn text(
    flag: &'static str,
    value: Value,
    placeholder: &'static str,
    help: &'static str,
) -> Setting {
    Setting::new(flag, value, placeholder, help).within(Group::Text)
}

/// The rows.
pub static ROWS: &[Setting] = &[
    text(
        "prompt",
        Value::Text(|c, given| {
            c.prompt = Some(given.text.to_owned());
            Ok(())
        }),
        "TEXT",
        "Complete this text, print the result and exit",
    )
    .short('p')
    .takes_dash(),
    text(
        "file",
        Value::Path(|c, path, _| {
            c.prompt_file = Some(path);
            Ok(())
        }),
        "FILE",
        "Complete the text in this file (-: standard input)",
    )
    .short('f'),
    text(
        "system-prompt",
        Value::Text(|c, given| {
            // `@FILE` is read only if the user gives it; in a bundle it stays plain text, or a bundle could put a file
            // of its user's into the prompt.
            c.system_prompt = Some(match given.text.strip_prefix('@') {
                Some(path) if *given.origin != Origin::Bundle => {
                    without_last_break(&read_text(Path::new(path))?).to_owned()
                }
                _ => given.text.to_owned(),
            });
            Ok(())
        }),
        "TEXT",
        "System prompt of chats (@FILE: read it from a file)",
    )
    .dashed(&["-sys"])
    .takes_dash(),
    text(
        "reverse-prompt",
        Value::Texts(|c, texts, _| {
            c.stops = texts.iter().map(ToString::to_string).collect();
            Ok(())
        }),
        "TEXT",
        "Stop the answer at this text (repeatable)",
    )
    .short('r')
    .shown(|c| format!("{:?}", c.stops))
    .takes_dash(),
    text(
        "history",
        Value::Path(|c, path, given| {
            may_be_written(given.origin)?;
            c.history = Some(path);
            Ok(())
        }),
        "FILE",
        "Keep the input history of `chat` in this file",
    ),
    text(
        "prompt-cache",
        Value::Path(|c, path, given| {
            may_be_written(given.origin)?;
            c.prompt_cache = Some(path);
            Ok(())
        }),
        "FILE",
        "Keep what the prompt of -p was read as in this file, so that it is read only once",
    ),
    text(
        "escape",
        Value::Switch(|c| c.escape = true),
        "",
        r#"Process the escapes \n, \r, \t, \', \", \\ and \xHH in prompts and stop texts (default)"#,
    )
    .short('e')
    .shown(|c| c.escape.to_string()),
    text(
        "no-escape",
        Value::Switch(|c| c.escape = false),
        "",
        "Take prompts and stop texts literally",
    )
    .same_as("escape"),
    text(
        "chat-template",
        Value::Text(|c, given| {
            c.template = Some(template(given)?);
            Ok(())
        }),
        "NAME|FILE",
        "Chat template instead of the model's own: a name (such as chatml or llama3), a file, or Jinja",
    )
    .none("(the model's)")
    .long()
    .takes_dash(),
    text(
        "chat-template-file",
        Value::Path(|c, path, given| {
            if *given.origin == Origin::Bundle {
                let expected =
                    "nothing: a bundle must contain its template (tealight-bundle --chat-template)";
                return Err(Wrong::Expected(expected.to_owned()));
            }
            let plain = path.to_str().and_then(|path| path.strip_prefix('@')).map(Path::new);
            c.template = Some(read_text(plain.unwrap_or(&path))?);
            Ok(())
        }),
        "FILE",
        "Read the chat template from a file",
    )
    .same_as("chat-template"),
    text(
        "chat-template-kwargs",
        Value::Text(|c, given| {
            let expected = |_| Wrong::Expected("a JSON object".to_owned());
            c.template_variables = serde_json::from_str(given.text).map_err(expected)?;
            Ok(())
        }),
        "JSON",
        "Variables of the chat template, as a JSON object",
    )
    .default("{}"),
    text(
        "reasoning-format",
        Value::Text(|c, given| {
            let found = ReasoningFormat::from_name(given.text);
            let expected = || Wrong::Expected(ReasoningFormat::NAMES.to_owned());
            c.reasoning_format = found.ok_or_else(expected)?;
            Ok(())
        }),
        "NAME",
        "Where a model's reasoning goes: apart from its answer (auto, deepseek) or inside it (none)",
    )
    .variables(&["LLAMA_ARG_THINK"])
    .default("auto"),
    text(
        "reasoning-budget",
        Value::Whole {
            min: -1,
            max: (1 << 31) - 1,
            set: |c, n, _| c.reasoning_budget = usize::try_from(n).ok(),
        },
        "N",
        "Tokens that a model may think before its answer: 0 turns reasoning off, -1 is unlimited",
    )
    .variables(&["LLAMA_ARG_THINK_BUDGET"])
    .default("-1"),
    text(
        "reasoning-budget-message",
        Value::Text(|c, given| {
            given.text.clone_into(&mut c.reasoning_budget_message);
            Ok(())
        }),
        "TEXT",
        "What a thought ends with that reached the reasoning budget",
    )
    .variables(&["LLAMA_ARG_THINK_BUDGET_MESSAGE"])
    .default(""),
];

/// The source of a chat template: by name, from a file, or inline. A bundle can't name a file, as with the system
/// prompt.
fn template(given: Given<'_>) -> Result<String, Wrong> {
    let text = given.text;
    if text.contains('{') {
        return Ok(text.to_owned());
    }
    if let Some(source) = builtin::source(text) {
        return Ok(source.to_owned());
    }
    let path = text.strip_prefix('@').unwrap_or(text);
    let named = path.len() < text.len();
    if *given.origin != Origin::Bundle && (named || Path::new(path).is_file()) {
        return read_text(Path::new(path));
    }
    let names = builtin::names().join(", ");
    Err(Wrong::Expected(format!("a Jinja template file, or one of: {names}")))
}

/// A file that is written to must not be one that a bundle names of its user's.
pub(super) fn may_be_written(origin: &Origin) -> Result<(), Wrong> {
    let expected = "nothing: a bundle may not name a file to write to";
    let allowed = *origin != Origin::Bundle;
    allowed.then_some(()).ok_or_else(|| Wrong::Expected(expected.to_owned()))
}
