//! What all readers of calls have in common.

use super::super::held::{Held, Out, Step};

/// Something that reads calls.
pub trait Section: Send {
    /// Reads on.
    fn step(&mut self, held: &mut Held, out: &mut Out) -> Step;
    /// Whether no call is begun and not ended.
    fn is_between(&self) -> bool;
}
