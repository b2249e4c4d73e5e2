//! Calls that are parsed only when complete, because their text is not the JSON that clients receive.

use super::super::held::{Held, Out, Step};
use super::arguments::tell;
use super::format::{Format, Parse};
use super::section::Section;
use super::tool::{Tool, tool};
use serde_json::Value;
use std::sync::Arc;

/// Longest text of calls.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Collects the text of calls up to their end.
pub(super) struct Complete {
    format: &'static Format,
    parse: Parse,
    tools: Arc<[Tool]>,
    /// Whether only known functions count.
    bare: bool,
    text: String,
    between: bool,
}

impl Complete {
    pub(super) fn new(
        format: &'static Format,
        parse: Parse,
        bare: bool,
        tools: &Arc<[Tool]>,
    ) -> Self {
        let tools = Arc::clone(tools);
        Self { format, parse, tools, bare, text: String::new(), between: true }
    }

    fn parsed(&self) -> Option<Vec<(String, Value)>> {
        let calls = (self.parse)(self.text.trim(), &self.tools)?;
        let known = |name: &str| tool(&self.tools, name).is_some();
        (!self.bare || calls.iter().all(|(name, _)| known(name))).then_some(calls)
    }
}

impl Section for Complete {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        self.between = false;
        let marks: Vec<&'static str> =
            self.format.close.iter().chain(self.format.open).copied().collect();
        let found = held.until(&marks);
        self.text.push_str(&found.before);
        if self.text.len() > TEXT_BYTES_MAX {
            return Step::Bad;
        }
        let Some(marker) = found.marker else {
            // Calls that were cut off are not what the model intended.
            if !held.ended || held.cut {
                return Step::More;
            }
            let Some(calls) = self.parsed() else { return Step::Bad };
            return self.told(calls, out);
        };
        let is_open = self.format.open.contains(&marker);
        if is_open && self.text.trim().is_empty() {
            return Step::Next;
        }
        let Some(calls) = self.parsed() else { return Step::Bad };
        self.told(calls, out);
        if is_open {
            // The closing marker is missing; the next calls follow.
            self.text.clear();
            return Step::Next;
        }
        Step::Done
    }

    fn is_between(&self) -> bool {
        self.between
    }
}

impl Complete {
    fn told(&mut self, calls: Vec<(String, Value)>, out: &mut Out) -> Step {
        for (name, arguments) in calls {
            tell(out, &name, &arguments.to_string());
        }
        self.between = true;
        Step::Done
    }
}
