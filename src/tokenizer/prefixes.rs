//! The longest prefix that a text shares with any token.

use super::{Vocabulary, steps};

/// Tokens sorted by their texts.
pub(super) struct Prefixes(Vec<u32>);

impl Prefixes {
    /// The tokens that `wanted` picks.
    pub(super) fn new(vocabulary: &Vocabulary, wanted: impl Fn(u32) -> bool) -> Self {
        let count = u32::try_from(vocabulary.len()).unwrap_or(0);
        let mut ids: Vec<u32> = (0..count).filter(|&id| wanted(id)).collect();
        ids.sort_by_key(|&id| vocabulary.text(id));
        Self(ids)
    }

    /// Length in bytes of the longest prefix that `text` shares with a token.
    pub(super) fn common(&self, text: &[u8], vocabulary: &Vocabulary) -> usize {
        let common =
            |&id: &u32| vocabulary.text(id).iter().zip(text).take_while(|(a, b)| a == b).count();
        // The longest common prefix is with a neighbour in sorted order.
        let place = self.0.partition_point(|&id| vocabulary.text(id) < text);
        let before = place.checked_sub(1).and_then(|at| self.0.get(at));
        let longest = before.into_iter().chain(self.0.get(place)).map(common).max().unwrap_or(0);
        steps::add(longest + 1);
        longest
    }
}
