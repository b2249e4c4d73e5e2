//! Environment variables as flags: `LLAMA_ARG_…` for every flag, and the variables of Ollama and of browsers.
//!
//! Input: a function that looks up variables. Output: the equivalent arguments for each variable that is set, highest
//! precedence last. An empty variable counts as unset.

use crate::settings::{self, Setting, Takes};
use std::ffi::OsString;

/// A variable that is set.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The equivalent arguments.
    pub arguments: Vec<OsString>,
    /// A warning, if the value is odd but no reason to stop.
    pub warning: Option<String>,
}

/// The variables that are set, highest precedence last.
#[must_use]
pub fn environment(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<Variable> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut found = Vec::new();
    if let Some(value) = set("OLLAMA_CONTEXT_LENGTH") {
        let value = trimmed(&value, &[' ', '"', '\'']);
        found.push(one("OLLAMA_CONTEXT_LENGTH", with_value("ctx-size", &value)));
    }
    if let Some(value) = set("OLLAMA_HOST") {
        found.push(ollama_host(&value));
    }
    if set("NOBROWSER").is_some_and(|value| value != "0") {
        found.push(one("NOBROWSER", "--nobrowser".into()));
    }
    for setting in settings::all() {
        for name in setting.all_variables() {
            if let Some(argument) = set(&name).and_then(|value| meant(setting, &value)) {
                found.push(one(&name, argument));
            }
        }
    }
    found
}

/// The argument equivalent to a variable with this value; `None` if it turns a switch off.
fn meant(setting: &Setting, value: &OsString) -> Option<OsString> {
    if setting.takes() == Takes::Nothing {
        let text = trimmed(value, &[]);
        return match text.to_str() {
            Some("1" | "true" | "on" | "enabled") => Some(format!("--{}", setting.flag).into()),
            Some("0" | "false" | "off" | "disabled") => None,
            // Passed on as an argument, so that the parse error shows the value.
            _ => Some(with_value(setting.flag, &text)),
        };
    }
    // Whitespace around a number is ignored.
    let value = if setting.is_number() { trimmed(value, &[]) } else { value.clone() };
    Some(with_value(setting.flag, &value))
}

fn one(name: &str, argument: OsString) -> Variable {
    Variable { name: name.to_owned(), arguments: vec![argument], warning: None }
}

/// `--flag=value` as one argument, so that a value like -5 is not taken for a flag.
fn with_value(flag: &str, value: &OsString) -> OsString {
    let mut argument = OsString::from(format!("--{flag}="));
    argument.push(value);
    argument
}

/// Trims whitespace and the given characters from both ends of a value.
fn trimmed(value: &OsString, around: &[char]) -> OsString {
    match value.to_str() {
        Some(text) => text.trim_matches(|c: char| c.is_whitespace() || around.contains(&c)).into(),
        // Not Unicode: the parser will report it.
        None => value.clone(),
    }
}

/// Reads `OLLAMA_HOST` as Ollama does (its `envconfig`): surrounding spaces and quotes are stripped, the scheme
/// supplies the port if none is written, IPv6 may come with or without brackets, a path is ignored because it matters
/// to clients and not to servers, and an invalid port is reported and dropped. Two differences: the default port is
/// this program's, and the default host is the loopback address, not all interfaces.
fn ollama_host(value: &OsString) -> Variable {
    let name = "OLLAMA_HOST";
    let Some(text) = value.to_str() else { return one(name, with_value("host", value)) };
    let text = text.trim().trim_matches(['"', '\'']).trim();
    let (of_scheme, address) = match text.split_once("://") {
        Some(("http", address)) => (Some("80"), address),
        Some(("https", address)) => (Some("443"), address),
        Some((_, address)) => (None, address),
        None => (None, text),
    };
    let address = address.split_once('/').map_or(address, |(address, _)| address);
    let (host, port) = split(address);
    let number = port.map(|port| port.parse::<u16>().map_err(|_| port));
    let warning = match number {
        Some(Err(port)) => {
            Some(format!("{name}: found port `{port}`, expected 0 to 65535; the port is ignored"))
        }
        _ => None,
    };
    let port = match number {
        Some(Ok(port)) => Some(port.to_string()),
        _ => of_scheme.map(str::to_owned),
    };
    let host = Some(host.to_owned()).filter(|host| !host.is_empty());
    // An empty address sets nothing, not even the port of its scheme.
    let port = port.filter(|_| !address.is_empty());
    let set = [("host", host), ("port", port)];
    let arguments = set
        .into_iter()
        .filter_map(|(flag, value)| Some(with_value(flag, &value?.into())))
        .collect();
    Variable { name: name.to_owned(), arguments, warning }
}

/// Host and port: `host:port`, `[v6]:port`, `:port`, `host`, `[v6]`, or an IPv6 address without brackets.
fn split(address: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => (address, None),
        };
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn with(set: &[(&str, &str)]) -> Vec<Variable> {
        environment(&|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into()))
    }

    fn arguments(set: &[(&str, &str)]) -> String {
        let all = with(set).into_iter().flat_map(|v| v.arguments);
        all.map(|a| a.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    }

    /// Cases from Ollama's own tests, with this program's port if none is given.
    #[test]
    fn ollama_host_is_parsed_as_in_ollama() {
        for (value, wanted) in [
            ("1.2.3.4", "--host=1.2.3.4"),
            (":1234", "--port=1234"),
            ("1.2.3.4:1234", "--host=1.2.3.4 --port=1234"),
            ("example.com", "--host=example.com"),
            ("example.com:1234", "--host=example.com --port=1234"),
            (":0", "--port=0"),
            ("[::1]", "--host=::1"),
            ("[::]", "--host=::"),
            ("::1", "--host=::1"),
            ("[::1]:1337", "--host=::1 --port=1337"),
            (" 1.2.3.4 ", "--host=1.2.3.4"),
            ("\"1.2.3.4\"", "--host=1.2.3.4"),
            (" \" 1.2.3.4:5 \" \r\n", "--host=1.2.3.4 --port=5"),
            ("'1.2.3.4'", "--host=1.2.3.4"),
            ("http://1.2.3.4", "--host=1.2.3.4 --port=80"),
            ("http://1.2.3.4:4321/", "--host=1.2.3.4 --port=4321"),
            ("https://1.2.3.4", "--host=1.2.3.4 --port=443"),
            ("https://1.2.3.4:4321", "--host=1.2.3.4 --port=4321"),
            ("https://example.com/ollama", "--host=example.com --port=443"),
            ("http://[::1]:81/a/b", "--host=::1 --port=81"),
            ("tcp://h:1", "--host=h --port=1"),
            ("", ""),
            ("''", ""),
            ("http://", ""),
        ] {
            assert_eq!(arguments(&[("OLLAMA_HOST", value)]), wanted, "{value:?}");
            assert!(with(&[("OLLAMA_HOST", value)]).iter().all(|v| v.warning.is_none()));
        }
        for (value, wanted) in
            [(":66000", ""), (":-1", ""), ("h:", "--host=h"), ("http://h:x", "--host=h --port=80")]
        {
            assert_eq!(arguments(&[("OLLAMA_HOST", value)]), wanted, "{value:?}");
            assert!(with(&[("OLLAMA_HOST", value)])[0].warning.is_some(), "{value:?}");
        }
        assert_eq!(arguments(&[("OLLAMA_CONTEXT_LENGTH", " \"8192\" ")]), "--ctx-size=8192");
    }

    /// llama.cpp's own variables for the flags supported here, plus `LLAMA_ARG_API_KEY`, which people write for the
    /// key.
    #[test]
    fn llama_cpp_variables_mean_the_same_here() {
        for (name, flag) in [
            ("LLAMA_API_KEY", "api-key"),
            ("LLAMA_ARG_API_KEY", "api-key"),
            ("LLAMA_ARG_API_KEY_FILE", "api-key-file"),
            ("LLAMA_ARG_API_PREFIX", "api-prefix"),
            ("LLAMA_ARG_ALIAS", "alias"),
            ("LLAMA_ARG_BATCH", "batch-size"),
            ("LLAMA_ARG_UBATCH", "ubatch-size"),
            ("LLAMA_ARG_CACHE_TYPE_K", "cache-type-k"),
            ("LLAMA_ARG_CACHE_TYPE_V", "cache-type-v"),
            ("LLAMA_ARG_CHAT_TEMPLATE", "chat-template"),
            ("LLAMA_ARG_CHAT_TEMPLATE_FILE", "chat-template-file"),
            ("LLAMA_ARG_CHAT_TEMPLATE_KWARGS", "chat-template-kwargs"),
            ("LLAMA_ARG_CTX_SIZE", "ctx-size"),
            ("LLAMA_ARG_FLASH_ATTN", "flash-attn"),
            ("LLAMA_ARG_FREQUENCY_PENALTY", "frequency-penalty"),
            ("LLAMA_ARG_HOST", "host"),
            ("LLAMA_ARG_MIN_P", "min-p"),
            ("LLAMA_ARG_MODEL", "model"),
            ("LLAMA_ARG_N_GPU_LAYERS", "n-gpu-layers"),
            ("LLAMA_ARG_N_PARALLEL", "parallel"),
            ("LLAMA_ARG_N_PREDICT", "predict"),
            ("LLAMA_ARG_POOLING", "pooling"),
            ("LLAMA_ARG_PORT", "port"),
            ("LLAMA_ARG_PRESENCE_PENALTY", "presence-penalty"),
            ("LLAMA_ARG_REPEAT_PENALTY", "repeat-penalty"),
            ("LLAMA_ARG_STATIC_PATH", "path"),
            ("LLAMA_ARG_TEMPERATURE", "temp"),
            ("LLAMA_ARG_THINK", "reasoning-format"),
            ("LLAMA_ARG_THINK_BUDGET", "reasoning-budget"),
            ("LLAMA_ARG_THREADS", "threads"),
            ("LLAMA_ARG_TOP_K", "top-k"),
            ("LLAMA_ARG_TOP_P", "top-p"),
        ] {
            assert_eq!(arguments(&[(name, "-5")]), format!("--{flag}=-5"), "{name}");
        }
        for (value, wanted) in [
            ("1", "--embeddings"),
            ("true", "--embeddings"),
            ("on", "--embeddings"),
            ("0", ""),
            ("off", ""),
            ("", ""),
        ] {
            assert_eq!(arguments(&[("LLAMA_ARG_EMBEDDINGS", value)]), wanted);
        }
        assert_eq!(arguments(&[("LLAMA_ARG_PORT", " 8081\r")]), "--port=8081");
        let wrong: Vec<OsString> = vec![arguments(&[("LLAMA_ARG_PORTABLE", "maybe")]).into()];
        assert!(parse(&wrong).err().unwrap().to_string().contains("maybe"));
    }

    /// A variable that is silently ignored could be an API key that is never required.
    #[test]
    fn every_flag_has_its_variable() {
        for setting in settings::all().filter(|setting| !setting.flag.is_empty()) {
            let name = format!("LLAMA_ARG_{}", setting.flag.to_uppercase().replace('-', "_"));
            assert!(!arguments(&[(&name, "1")]).is_empty(), "{name}");
        }
    }

    #[test]
    fn the_more_specific_variable_wins() {
        let set = [("OLLAMA_HOST", "1.1.1.1"), ("LLAMA_ARG_HOST", "2.2.2.2")];
        assert_eq!(arguments(&set), "--host=1.1.1.1 --host=2.2.2.2");
    }
}
