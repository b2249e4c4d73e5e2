//! `tealight doctor`: would it run here, and if not, why?
//!
//! Input: the settings of a server run, and the program and weights that were found, or why not. Output: a [`Report`],
//! as text or as JSON. Checks everything, starts nothing, writes nothing.

mod checks;
mod model;

use crate::model::Shard;
use crate::settings::Config;
use crate::source::{Program, SourceError};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The things to check.
pub struct Patient<'p> {
    /// The settings.
    pub config: &'p Config,
    /// The program's own file.
    pub program: &'p Result<Program, SourceError>,
    /// The weights.
    pub shards: Result<Option<Vec<Shard>>, SourceError>,
}

/// Checks everything that a server run needs.
#[must_use]
pub fn doctor(patient: Patient<'_>) -> Report {
    let Patient { config, program, shards } = patient;
    let mut checks = vec![checks::system(), checks::processor(config), checks::threads(config)];
    let weights: Vec<std::path::PathBuf> = match &shards {
        Ok(Some(shards)) => shards.iter().map(|shard| shard.file.path().to_owned()).collect(),
        _ => Vec::new(),
    };
    let (model, memory) = model::weights_and_memory(config, shards);
    checks.push(memory);
    checks.push(checks::graphics());
    checks.push(checks::bundle(program));
    checks.push(model);
    checks.push(checks::medium(program, &weights));
    checks.push(checks::mark(program));
    checks.push(checks::writing(program));
    checks.push(checks::port(config));
    checks.push(checks::browser(config));
    Report { checks }
}

/// The results of all checks.
pub struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Whether nothing stops the program.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        self.checks.iter().all(|check| check.state != State::Problem)
    }

    /// For people: a line for each check, with its hint below.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for Check { name, state, text, hint, .. } in &self.checks {
            let _ = writeln!(out, "{:<8} {name:<10} {text}", state.name());
            if let Some(hint) = hint {
                let _ = writeln!(out, "{:<19} hint: {hint}", "");
            }
        }
        let problems = self.checks.iter().filter(|c| c.state == State::Problem).count();
        let _ = match problems {
            0 => writeln!(out, "\nIt runs here."),
            1 => writeln!(out, "\nOne problem stops it."),
            n => writeln!(out, "\n{n} problems stop it."),
        };
        out
    }

    /// For programs: the same as JSON, with the numbers in fields of their own.
    #[must_use]
    pub fn json(&self) -> String {
        let check = |check: &Check| {
            let Check { name, state, text, hint, facts } = check;
            let mut all = json!({ "name": name, "state": state.name(), "text": text });
            if let Value::Object(all) = &mut all {
                if let Some(hint) = hint {
                    all.insert("hint".to_owned(), json!(hint));
                }
                all.extend(facts.clone());
            }
            all
        };
        let all = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "runs": self.is_fit(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
        });
        format!("{all:#}\n")
    }
}

/// A check and its result.
struct Check {
    name: &'static str,
    state: State,
    text: String,
    hint: Option<String>,
    facts: Map<String, Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// Worth knowing, but no reason not to run.
    Note,
    /// The program can't run.
    Problem,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

impl Check {
    fn new(name: &'static str, state: State, text: impl Into<String>) -> Self {
        Self { name, state, text: text.into(), hint: None, facts: Map::new() }
    }

    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, State::Ok, text)
    }

    /// A failed check for an error, with the error's hint split off.
    fn of_error(name: &'static str, error: &str) -> Self {
        let (text, hint) = split_hint(error);
        let mut check = Self::new(name, State::Problem, text);
        check.hint = hint;
        check
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds facts for programs, given as an object.
    fn facts(mut self, facts: Value) -> Self {
        if let Value::Object(facts) = facts {
            self.facts.extend(facts);
        }
        self
    }
}

/// The message of an error in one line, and the text after `hint:`.
fn split_hint(error: &str) -> (String, Option<String>) {
    let (text, hint) = match error.split_once("\nhint: ") {
        Some((text, hint)) => (text, Some(hint.replace('\n', " "))),
        None => (error, None),
    };
    (text.trim().replace('\n', " "), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_makes_the_report_unfit() {
        let fine =
            Report { checks: vec![Check::ok("a", "good"), Check::new("b", State::Note, "so")] };
        assert!(fine.is_fit() && fine.text().ends_with("It runs here.\n"));
        let ill = Report { checks: vec![Check::of_error("c", "no\ngood\nhint: do\nthis")] };
        assert!(!ill.is_fit());
        assert!(
            ill.text().contains("problem  c          no good\n")
                && ill.text().contains("hint: do this")
        );
        let json: Value = serde_json::from_str(&ill.json()).unwrap();
        assert_eq!(json["runs"], json!(false));
        assert_eq!(json["checks"][0]["hint"], json!("do this"));
    }
}
