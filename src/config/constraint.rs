//! What answers must look like, from flags.

use super::{ConfigError, Origin, Resolver, read_text};
use crate::cli::SamplingFlags;
use crate::constraint::Constraint;
use std::path::PathBuf;

/// A flag that sets it, and what stands there.
enum Given {
    Grammar(String),
    GrammarFile(PathBuf),
    Schema(String),
    SchemaFile(PathBuf),
}

impl Resolver<'_> {
    /// The constraint of the strongest layer that has one.
    pub(super) fn constraint(&mut self) -> Result<Option<Constraint>, ConfigError> {
        let Some((given, origin)) = self.find(|f| given(&f.sampling)) else {
            self.row("grammar", "(none)", &Origin::BuiltIn);
            return Ok(None);
        };
        let (name, text) = match given {
            Given::Grammar(text) => ("grammar", text),
            Given::GrammarFile(path) => ("grammar-file", read_text("grammar-file", &path)?),
            Given::Schema(text) => ("json-schema", text),
            Given::SchemaFile(path) => ("json-schema-file", read_text("json-schema-file", &path)?),
        };
        self.row(name, &format!("({} bytes)", text.len()), &origin);
        if name.starts_with("grammar") {
            return Ok(Some(Constraint::grammar(&text)));
        }
        match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            Ok(_) => Ok(Some(Constraint::JsonSchema(text))),
            Err(error) => {
                let found = text.chars().take(40).collect();
                let expected = format!("a JSON schema: {error}");
                Err(ConfigError::Value { name, origin, found, expected })
            }
        }
    }
}

fn given(f: &SamplingFlags) -> Option<Given> {
    None.or(f.grammar.clone().map(Given::Grammar))
        .or(f.grammar_file.clone().map(Given::GrammarFile))
        .or(f.json_schema.clone().map(Given::Schema))
        .or(f.json_schema_file.clone().map(Given::SchemaFile))
}
