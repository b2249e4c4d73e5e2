//! The interface of all call readers.

use super::super::held::{Held, Out, Step};

/// A reader of calls.
pub trait Section: Send {
    /// Reads on from the held text.
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step;
    /// Whether no call is in progress.
    fn is_between(&self) -> bool;
}
