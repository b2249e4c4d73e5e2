//! "Answer by calling one of these functions", alone or beside another form that an answer may have.

use super::Constraint;
use serde::{Deserialize, Serialize};

/// Calls of functions, and what else an answer may be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallSpec {
    /// Names of functions, and the JSON schemas of their arguments as texts.
    pub functions: Vec<(String, String)>,
    /// How calls are written, if their form is JSON between marks.
    pub form: Option<CallForm>,
    /// Texts that begin calls of another form: what comes after one of them is not constrained.
    pub markers: Vec<String>,
    /// The JSON schema of an answer that is no call, as a text; `None`: it has to be one.
    pub answer: Option<String>,
}

/// How a line of models writes calls: `start`, then each call between `before` and `after`, then `end`. In all
/// of these texts, names of control tokens stand for the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallForm {
    /// Before the first call.
    pub start: String,
    /// Before each call.
    pub before: String,
    /// After each call.
    pub after: String,
    /// Between two calls; `None`: there is one call only.
    pub between: Option<String>,
    /// After the last call.
    pub end: String,
    /// What the call's JSON has its name under.
    pub name: String,
    /// What the call's JSON has its arguments under.
    pub arguments: String,
}

impl Constraint {
    /// At least one call of one of `functions`: names, and the JSON schemas of their arguments as texts.
    #[must_use]
    pub fn calls(functions: &[(&str, &str)], form: CallForm) -> Self {
        let owned = |(name, schema): &(&str, &str)| ((*name).to_owned(), (*schema).to_owned());
        let functions = functions.iter().map(owned).collect();
        Self::Calls(Box::new(CallSpec { functions, form: Some(form), ..CallSpec::default() }))
    }
}
