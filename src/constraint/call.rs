//! The constraint "call one of these functions", alone or as an alternative to another form of answer.

use super::Constraint;
use serde::{Deserialize, Serialize};

/// Function calls, and what else an answer may be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallSpec {
    /// Function names, each with the JSON schema of its arguments as source text.
    pub functions: Vec<(String, String)>,
    /// How calls are written, if they are JSON between markers.
    pub form: Option<CallForm>,
    /// Markers that begin calls in other forms; the text after them is not constrained.
    pub markers: Vec<String>,
    /// JSON schema, as source text, of an answer that is not a call; `None`: only calls are allowed.
    pub answer: Option<String>,
}

/// How a model family writes calls: `start`, then each call between `before` and `after`, then `end`. Names of control
/// tokens in these strings stand for the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallForm {
    /// Before the first call.
    pub start: String,
    /// Before each call.
    pub before: String,
    /// After each call.
    pub after: String,
    /// Between two calls; `None`: only one call is allowed.
    pub between: Option<String>,
    /// After the last call.
    pub end: String,
    /// JSON key of the function name.
    pub name: String,
    /// JSON key of the arguments.
    pub arguments: String,
}

impl Constraint {
    /// At least one call to one of `functions`: names, each with the JSON schema of its arguments as source text.
    #[must_use]
    pub fn calls(functions: &[(&str, &str)], form: CallForm) -> Self {
        let owned = |(name, schema): &(&str, &str)| ((*name).to_owned(), (*schema).to_owned());
        let functions = functions.iter().map(owned).collect();
        Self::Calls(Box::new(CallSpec { functions, form: Some(form), ..CallSpec::default() }))
    }
}
