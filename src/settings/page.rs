//! Generates `docs/settings.md`, the table for people.

use super::all;
use super::resolve::default_in_help;
use super::setting::{Group, Setting, Value};
use std::fmt::Write as _;

/// The page, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut out = "# Settings

A bundle's arguments (`tealight-bundle --args`) override the defaults, environment variables override these, and flags
override all. Every flag has a variable: `LLAMA_ARG_` plus its name in capitals (`LLAMA_ARG_CTX_SIZE`). Further variables
are listed; `OLLAMA_HOST`, `OLLAMA_CONTEXT_LENGTH` and `NOBROWSER` are read too. *Field* is the setting's name in requests
and in `/props`. This page is generated from the table in `src/settings`.
"
    .to_owned();
    for (group, title) in [
        (Group::General, "Model and program"),
        (Group::Server, "Server"),
        (Group::Sampling, "Sampling and form"),
        (Group::Text, "Prompts and templates"),
    ] {
        let _ = write!(out, "\n## {title}\n\n| flag | default | field | |\n|---|---|---|---|\n");
        for setting in all().filter(|s| s.group == group && !s.help.is_empty()) {
            let _ = writeln!(out, "{}", row(setting));
        }
    }
    let taken: Vec<String> = all()
        .filter(|s| matches!(s.value, Value::Ignored { .. }) && s.help.is_empty())
        .flat_map(|s| s.dashed.iter().map(ToString::to_string).chain([format!("--{}", s.flag)]))
        .map(|flag| format!("`{flag}`"))
        .collect();
    let _ = write!(
        out,
        "\n## Flags of other programs\n\nAccepted without effect: {}.\n",
        taken.join(" ")
    );
    out
}

fn row(setting: &Setting) -> String {
    let mut flags: Vec<String> = Vec::new();
    flags.extend(setting.short.map(|letter| format!("-{letter}")));
    flags.extend(setting.dashed.iter().map(ToString::to_string));
    if !setting.flag.is_empty() {
        flags.push(format!("--{}", setting.flag));
        flags.extend(setting.aliases.iter().map(|name| format!("--{name}")));
    }
    flags.extend(setting.variables.iter().map(ToString::to_string));
    let flags: Vec<String> = flags.iter().map(|flag| format!("`{flag}`")).collect();
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let default = code(&default_in_help(setting).unwrap_or_default());
    let field = code(setting.field);
    let help = setting.help.replace('|', "\\|").replace('<', "&lt;");
    format!("| {} | {default} | {field} | {help} |", flags.join(" "))
}
