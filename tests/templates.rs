//! Chat templates compared with Hugging Face's rendering, byte for byte.
//!
//! `tests/golden/templates.py` makes the cases and the reference's digests. The templates are in
//! `tests/golden/templates/` and inside the models; those that may not be copied here are checked if
//! `TEALIGHT_TEMPLATES` names a folder with them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tealight::chat::{ChatTemplate, Inputs, Message, TemplateError};
use tealight::model::ModelFile;
use tealight::source;

#[test]
fn every_template_renders_as_the_reference_renders_it() {
    let golden: Value = serde_json::from_str(&read(&folder().join("templates.json"))).unwrap();
    let text = |name: &str| golden[name].as_str().unwrap().to_owned();
    let now: DateTime = text("now").replace(' ', "T").parse().unwrap();
    let now = now.to_zoned(TimeZone::UTC).unwrap();
    let (mut checked, mut names) = (0, HashSet::new());
    let mut wrong = Vec::new();
    for (name, source) in sources() {
        let Some(expected) = golden["templates"].get(&name) else { panic!("{name}: no golden") };
        assert_eq!(sha256(&source), expected["sha256"].as_str().unwrap(), "{name} has changed");
        let template = ChatTemplate::new(&source, text("bos"), text("eos")).unwrap();
        for (case, inputs) in golden["cases"].as_object().unwrap() {
            let messages: Vec<Message> =
                serde_json::from_value(inputs["messages"].clone()).unwrap();
            let none = Map::new();
            let rendered = template.render(&Inputs {
                messages: &messages,
                tools: &inputs["tools"],
                documents: &inputs["documents"],
                add_generation_prompt: inputs["add_generation_prompt"].as_bool().unwrap_or(true),
                variables: inputs["variables"].as_object().unwrap_or(&none),
                now: now.clone(),
            });
            // If the reference itself fails, there is nothing to compare with.
            let Some(expected) = expected["cases"][case].as_str() else { continue };
            let found = match &rendered {
                Ok(text) => sha256(text),
                Err(TemplateError::Refused(why)) => format!("refused: {why}"),
                Err(other) => other.to_string(),
            };
            checked += 1;
            if found != expected {
                wrong.push(format!("{name}, {case}: expected {expected}, found\n{rendered:?}"));
            }
        }
        names.insert(name);
    }
    assert!(wrong.is_empty(), "{} of {checked} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(names.len() >= TEMPLATES_MIN, "only {} templates: {names:?}", names.len());
}

/// Number of templates that are always there.
const TEMPLATES_MIN: usize = 29;

/// All available templates, by name.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let elsewhere = std::env::var_os("TEALIGHT_TEMPLATES").map(PathBuf::from);
    for folder in [Some(folder().join("templates")), elsewhere].into_iter().flatten() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "jinja") {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                found.push((name, read(&path)));
            }
        }
    }
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in ["qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "smollm2-135m-instruct-q4_1.gguf"] {
        let path = models.join(name);
        assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
        let file = ModelFile::open(source::open(&path).unwrap()).unwrap();
        found.push((name.to_owned(), file.text("tokenizer.chat_template").unwrap().to_owned()));
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
