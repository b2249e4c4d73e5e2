//! Picks a reader by the first characters of calls: models mix up the formats that they were trained on.

use super::super::answer::{AnswerSyntax, CallSyntax};
use super::super::held::{Held, Out, Step};
use super::channels::Channels;
use super::complete::Complete;
use super::format::{Format, QWEN_TAGS, Shape};
use super::named::Named;
use super::objects::Objects;
use super::python;
use super::section::Section;
use super::tagged::Tagged;
use super::tool::Tool;
use std::sync::Arc;

/// A reader for the calls after `marker`.
pub(in super::super) fn section(calls: &CallSyntax, marker: &'static str) -> Box<dyn Section> {
    Box::new(Any { format: calls.format, calls: calls.clone(), marker, bare: false, known: None })
}

/// A reader for an answer that looks like calls without their opening marker.
pub(in super::super) fn bare_section(calls: &CallSyntax) -> Box<dyn Section> {
    Box::new(Any {
        format: calls.format,
        calls: calls.clone(),
        marker: "",
        bare: true,
        known: None,
    })
}

/// A reader for answers written in channels.
pub(in super::super) fn channels(plan: &AnswerSyntax) -> Box<dyn Section> {
    let tools = plan.calls.as_ref().map(|calls| Arc::clone(&calls.tools));
    Box::new(Channels::new(plan.apart, plan.thinking, tools))
}

/// Reads calls in the shape that their first characters indicate.
struct Any {
    format: &'static Format,
    calls: CallSyntax,
    marker: &'static str,
    bare: bool,
    known: Option<Box<dyn Section>>,
}

impl Section for Any {
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step {
        if let Some(section) = &mut self.known {
            return section.step(held, out);
        }
        if !self.format.whole {
            held.skip_white();
        }
        let is_outer = |mark: &&&'static str| match self.format.shape {
            Shape::Tagged(style) => **mark != style.function,
            _ => true,
        };
        let outer: Vec<&'static str> = self.format.open.iter().filter(is_outer).copied().collect();
        if !self.bare && !self.format.whole && outer.contains(&self.marker) {
            // A repeated marker.
            if outer.iter().any(|open| held.skip(open)) {
                return Step::Next;
            }
            if held.may_begin(&outer) {
                return Step::More;
            }
        }
        let known = self.bare.then_some(&*self.calls.tools);
        let Some(shape) = self.format.shape_of(&held.text, held.ended, known) else {
            return Step::More;
        };
        if held.text.is_empty() && held.ended {
            return if held.cut { Step::More } else { Step::Bad };
        }
        let section = self.format.of_shape(shape, &self.calls, self.marker, self.bare);
        self.known = Some(section);
        Step::Next
    }

    fn is_between(&self) -> bool {
        self.known.as_ref().is_none_or(|section| section.is_between())
    }
}

impl Format {
    /// The shape of calls that begin with `text`, not necessarily the format's own; `None`: more text is needed.
    fn shape_of(&self, text: &str, ended: bool, known: Option<&[Tool]>) -> Option<Shape> {
        let own = self.other.unwrap_or(self.shape);
        if self.whole {
            return Some(self.shape);
        }
        let is_keyed = matches!(self.shape, Shape::KeyedObjects);
        let json = if is_keyed { self.shape } else { Shape::Objects };
        let is_python = matches!(own, Shape::Complete(_));
        let takes_calls = is_python || matches!(own, Shape::Objects | Shape::KeyedObjects);
        let calls = if is_python { own } else { Shape::Complete(python::calls) };
        match text.chars().next() {
            None if ended => Some(own),
            None => None,
            Some('{') => Some(json),
            Some('[') => match text[1..].trim_start().chars().next() {
                None if !ended => None,
                None | Some('{' | '[' | ']' | ',') => Some(json),
                Some(_) if is_python && known.is_none() => Some(own),
                Some(_) if takes_calls => {
                    let begins = python::begins(text[1..].trim_start(), known, ended)?;
                    Some(if begins { calls } else { json })
                }
                Some(_) => Some(json),
            },
            Some('<') if takes_calls && known.is_none() => {
                let tags = &QWEN_TAGS;
                if text.starts_with(tags.function) {
                    return Some(Shape::Tagged(*tags));
                }
                let waits = !ended && tags.function.starts_with(text);
                if waits { None } else { Some(own) }
            }
            Some(_) if takes_calls && !is_python => {
                let begins = python::begins(text, known, ended)?;
                Some(if begins { calls } else { own })
            }
            Some(_) => Some(own),
        }
    }

    fn of_shape(
        &'static self,
        shape: Shape,
        calls: &CallSyntax,
        marker: &'static str,
        bare: bool,
    ) -> Box<dyn Section> {
        let tools = &calls.tools;
        match shape {
            Shape::Objects => Box::new(Objects::new(self, false, bare, tools)),
            Shape::KeyedObjects => Box::new(Objects::new(self, !bare, bare, tools)),
            Shape::Named { end, id } => Box::new(Named::new(self, end, id, tools)),
            Shape::Tagged(style) => Box::new(Tagged::new(self, style, tools, marker)),
            Shape::Complete(parse) => Box::new(Complete::new(self, parse, bare, tools)),
            Shape::Channels => Box::new(Channels::new(true, false, Some(Arc::clone(tools)))),
        }
    }
}
