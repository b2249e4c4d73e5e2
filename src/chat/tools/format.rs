//! What a form of writing calls consists of.

use super::tool::Tool;
use serde_json::Value;

/// One form of writing calls.
#[derive(Debug)]
pub struct Format {
    /// What it is called.
    pub name: &'static str,
    /// Any of these sets, all of whose texts stand in a template, tells that its model uses this form.
    pub(super) signs: &'static [&'static [&'static str]],
    /// What begins calls.
    pub(in super::super) open: &'static [&'static str],
    /// What may end them, and is no text.
    pub(super) close: &'static [&'static str],
    /// How they are written.
    pub(super) shape: Shape,
    /// How they are written if not with a JSON object or list at their beginning.
    pub(super) other: Option<Shape>,
    /// Whether an answer has this form from its first character on.
    pub(in super::super) whole: bool,
    /// Texts within calls that mark something.
    pub(super) inner: &'static [&'static str],
    /// How calls are written that have to be made, if they are JSON between marks.
    pub(super) written: Option<Written>,
}

/// The texts around calls that are JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// Before the first.
    pub start: &'static str,
    /// Before each.
    pub before: &'static str,
    /// After each.
    pub after: &'static str,
    /// Between two; `None`: there is one only.
    pub between: Option<&'static str>,
    /// After the last.
    pub end: &'static str,
    /// The key of the name.
    pub name: &'static str,
    /// The key of the arguments.
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
    /// Each is a JSON object whose one key is the name.
    KeyedObjects,
    /// The name, then a JSON object.
    Named {
        /// What ends the name where no brace does.
        end: Option<&'static str>,
        /// What stands between name and id.
        id: Option<&'static str>,
    },
    /// Tags around each argument.
    Tagged(TagStyle),
    /// Something that is read when it is complete.
    Complete(Parse),
    /// Messages to other recipients than the user, each with a header.
    Channels,
}

/// Names and arguments of the calls that a text consists of, if it does.
pub(super) type Parse = fn(&str, &[Tool]) -> Option<Vec<(String, Value)>>;

/// The tags around a function and its arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct TagStyle {
    /// Before the name of the function.
    pub function: &'static str,
    /// After it; nothing: the line's end.
    pub function_end: &'static str,
    /// After all arguments.
    pub function_close: &'static str,
    /// Before the name of an argument.
    pub argument: &'static str,
    /// After it.
    pub argument_end: &'static str,
    /// What else stands before a value.
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
    /// Whether an answer that is the JSON of a call of a known function is a call: models leave out what should stand
    /// around it.
    pub(in super::super) fn bare(&self) -> bool {
        !self.whole && !matches!(self.shape, Shape::Channels)
    }

    /// What ends calls, and is markup wherever it stands.
    pub(in super::super) fn closers(&self) -> impl Iterator<Item = &'static str> {
        let inner = match self.shape {
            Shape::Tagged(style) => [style.function_close, style.close],
            _ => ["", ""],
        };
        let tokens = self.inner.iter().copied().filter(|mark| mark.contains(['|', '｜']));
        let close = self.close.iter().copied().chain(inner);
        close.filter(|mark| mark.starts_with(['<', '['])).chain(tokens)
    }

    /// Whether a text begins like calls without what should stand before them; `None`: it may.
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

    /// How calls are written that have to be made, if they can be enforced.
    pub(super) fn written(&self) -> Option<Written> {
        let all_marked = self.whole || matches!(self.shape, Shape::Channels);
        if all_marked { None } else { Some(self.written.unwrap_or(BARE)) }
    }

    /// How calls are written that may be made beside answers in JSON: JSON between marks, or what begins others.
    pub(super) fn optional(&self) -> Option<(Option<Written>, &'static [&'static str])> {
        match self.written() {
            Some(_) if self.written.is_none() && !self.open.is_empty() => Some((None, self.open)),
            Some(written) => Some((Some(written), &[])),
            None => None,
        }
    }

    /// All texts that mark something in it.
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
