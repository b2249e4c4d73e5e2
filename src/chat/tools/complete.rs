//! Calls that are read when they are complete, because their text is not the JSON that clients are given.

use super::super::answer::{Held, Out, Step};
use super::format::Section;
use super::{Format, Tool};
use serde_json::Value;
use std::sync::Arc;

/// The longest text of calls.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Names and arguments of the calls that a text consists of, if it does.
pub(super) type Parse = fn(&str, &[Tool]) -> Option<Vec<(String, Value)>>;

/// Collects the text of calls up to their end.
pub(super) struct Complete {
    format: &'static Format,
    parse: Parse,
    tools: Arc<[Tool]>,
    text: String,
    between: bool,
}

impl Complete {
    pub(super) fn new(format: &'static Format, parse: Parse, tools: &Arc<[Tool]>) -> Self {
        Self { format, parse, tools: Arc::clone(tools), text: String::new(), between: true }
    }
}

impl Section for Complete {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        self.between = false;
        let found = held.until(self.format.close);
        self.text.push_str(&found.before);
        if self.text.len() > TEXT_BYTES_MAX {
            return Step::Bad;
        }
        if found.marker.is_none() && !held.ended {
            return Step::More;
        }
        let Some(calls) = (self.parse)(self.text.trim(), &self.tools) else { return Step::Bad };
        for (name, arguments) in calls {
            out.call(&name, None);
            out.arguments(&arguments.to_string());
        }
        self.between = true;
        Step::Done
    }

    fn is_between(&self) -> bool {
        self.between
    }
}
