//! Generates `docs/settings.md`, the table for people.

use super::all;
use super::config::Config;
use super::resolve::built_in;
use super::setting::{Group, Setting, Takes, Value};
use std::fmt::Write as _;

/// The page, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut out = "# Settings

Built-in values yield to a bundle's (`tealight-bundle --args`), these to environment variables, and these to flags. Every
flag has a variable: `LLAMA_ARG_` and its name in capitals (`LLAMA_ARG_CTX_SIZE`); others that count are listed. A field
is what requests call the setting, and `/props`. `OLLAMA_HOST`, `OLLAMA_CONTEXT_LENGTH` and `NOBROWSER` count too. This page is made from the program's table of settings (`src/settings`).
"
    .to_owned();
    for (group, title) in [
        (Group::General, "Model and program"),
        (Group::Server, "Server"),
        (Group::Sampling, "Sampling and form"),
        (Group::Text, "Prompts and templates"),
    ] {
        let _ = write!(out, "\n## {title}\n\n| flag | built in | field | |\n|---|---|---|---|\n");
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
        "\n## Taken from other programs\n\nWithout effect here, or so anyway: {}.\n",
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
    // Defaults that depend on the computer are described in the help text.
    let default = if setting.flag == "threads" || setting.takes() == Takes::Nothing {
        String::new()
    } else {
        built_in(Config::built_in(), setting)
    };
    let is_value = !default.starts_with(['(', '[']);
    let default = if is_value { code(&default) } else { String::new() };
    let field = code(setting.field);
    let help = setting.help.replace('|', "\\|").replace('<', "&lt;");
    format!("| {} | {default} | {field} | {help} |", flags.join(" "))
}
