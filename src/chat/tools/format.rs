//! The parts of a call format.

use super::tool::Tool;
use serde_json::Value;

/// A format in which calls are written.
#[derive(Debug)]
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// Sets of texts: a model uses this format if its template contains all texts of any set.
    pub(super) signs: &'static [&'static [&'static str]],
    /// Opening markers.
    pub(in super::super) open: &'static [&'static str],
    /// Closing markers, which are not content.
    pub(super) close: &'static [&'static str],
    /// How calls are written.
    pub(super) shape: Shape,
    /// How they are written if they don't begin with a JSON object or list.
    pub(super) other: Option<Shape>,
    /// Whether an answer is in this format from its first character on.
    pub(in super::super) whole: bool,
    /// Markers within calls.
    pub(super) inner: &'static [&'static str],
    /// How to write required calls, if they are JSON between markers.
    pub(super) written: Option<Written>,
}

/// The text around calls in JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// Before the first.
    pub start: &'static str,
    /// Before each.
    pub before: &'static str,
    /// After each.
    pub after: &'static str,
    /// Between two calls; `None`: only one is possible.
    pub between: Option<&'static str>,
    /// After the last.
    pub end: &'static str,
    /// JSON key of the name.
    pub name: &'static str,
    /// JSON key of the arguments.
    pub arguments: &'static str,
}

/// A JSON object and nothing else.
pub(super) const BARE: Written = Written {
    start: "",
    before: "",
    after: "",
    between: None,
    end: "",
    name: "name",
    arguments: "arguments",
};

/// How calls are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Each is a JSON object with the name and the arguments, alone or in a list.
    Objects,
    /// Each is a JSON object whose only key is the name.
    KeyedObjects,
    /// The name, then a JSON object.
    Named {
        /// Ends the name if no brace does.
        end: Option<&'static str>,
        /// Separates name and id.
        id: Option<&'static str>,
    },
    /// Tags around each argument.
    Tagged(TagStyle),
    /// Text that is parsed only when complete.
    Complete(Parse),
    /// Messages to recipients other than the user, each with a header.
    Channels,
}

/// Parses a text into names and arguments of calls; `None` if it is anything else.
pub(super) type Parse = fn(&str, &[Tool]) -> Option<Vec<(String, Value)>>;

/// The tags around a function and its arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct TagStyle {
    /// Before the name of the function.
    pub function: &'static str,
    /// After it; empty: the name ends with the line.
    pub function_end: &'static str,
    /// After all arguments.
    pub function_close: &'static str,
    /// Before the name of an argument.
    pub argument: &'static str,
    /// After it.
    pub argument_end: &'static str,
    /// Further text before a value.
    pub value: &'static str,
    /// After a value.
    pub close: &'static str,
    /// Whether values stand on lines of their own.
    pub lines: bool,
}

/// The tags of Qwen3-Coder, which other models write as well.
pub(super) const QWEN_TAGS: TagStyle = TagStyle {
    function: "<function=",
    function_end: ">",
    function_close: "</function>",
    argument: "<parameter=",
    argument_end: ">",
    value: "",
    close: "</parameter>",
    lines: true,
};

impl Format {
    /// Whether a call of a known function counts without its markers, which models leave out.
    pub(in super::super) fn bare(&self) -> bool {
        !self.whole && !matches!(self.shape, Shape::Channels)
    }

    /// Closing markers that are markup wherever they appear.
    pub(in super::super) fn closers(&self) -> impl Iterator<Item = &'static str> {
        let inner = match self.shape {
            Shape::Tagged(style) => [style.function_close, style.close],
            _ => ["", ""],
        };
        let tokens = self.inner.iter().copied().filter(|mark| mark.contains(['|', '｜']));
        let close = self.close.iter().copied().chain(inner);
        close.filter(|mark| mark.starts_with(['<', '['])).chain(tokens)
    }

    /// Whether a text begins like calls without their opening markers; `None`: more text is needed.
    pub(in super::super) fn begins_bare(
        &self,
        text: &str,
        tools: &[Tool],
        ended: bool,
    ) -> Option<bool> {
        let Shape::Tagged(style) = self.shape else { return Some(false) };
        if !style.function.is_empty() {
            return Some(false);
        }
        let mut found = Some(false);
        for tool in tools {
            match text.strip_prefix(&tool.name).map(str::trim_start) {
                Some(rest) if rest.starts_with(style.argument) => return Some(true),
                Some(rest) if !ended && style.argument.starts_with(rest) => found = None,
                None if !ended && tool.name.starts_with(text) => found = None,
                _ => {}
            }
        }
        found
    }

    /// How to write required calls, if they can be enforced.
    pub(super) fn written(&self) -> Option<Written> {
        let all_marked = self.whole || matches!(self.shape, Shape::Channels);
        if all_marked { None } else { Some(self.written.unwrap_or(BARE)) }
    }

    /// How optional calls are written beside answers in JSON: as JSON between markers, or their opening markers.
    pub(super) fn optional(&self) -> Option<(Option<Written>, &'static [&'static str])> {
        match self.written() {
            Some(_) if self.written.is_none() && !self.open.is_empty() => Some((None, self.open)),
            Some(written) => Some((Some(written), &[])),
            None => None,
        }
    }

    /// All markers of the format.
    pub(in super::super) fn markers(&self) -> impl Iterator<Item = &'static str> {
        let tags = [Some(self.shape), self.other].into_iter().flatten().flat_map(|shape| {
            let (end, id, tags) = match shape {
                Shape::Named { end, id } => (end, id, None),
                Shape::Tagged(t) => (None, None, Some([t.function, t.function_close, t.close])),
                _ => (None, None, None),
            };
            end.into_iter().chain(id).chain(tags.into_iter().flatten())
        });
        let lists = self.open.iter().chain(self.close).chain(self.inner);
        lists.copied().chain(tags).filter(|marker| !marker.trim().is_empty())
    }
}
