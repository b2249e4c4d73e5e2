//! The tokens that a text begins with.

use super::Vocabulary;

/// Tokens in the order of their texts, so that those with a common beginning stand together.
pub(super) struct Prefixes(Vec<u32>);

impl Prefixes {
    /// The tokens that `wanted` picks.
    pub(super) fn new(vocabulary: &Vocabulary, wanted: impl Fn(u32) -> bool) -> Self {
        let count = u32::try_from(vocabulary.len()).unwrap_or(0);
        let mut ids: Vec<u32> = (0..count).filter(|&id| wanted(id)).collect();
        ids.sort_by_key(|&id| vocabulary.text(id));
        Self(ids)
    }

    /// The tokens that `text` begins with, each with its length, the shortest first. Of two with the
    /// same text, the later id.
    pub(super) fn of<'a>(
        &'a self,
        text: &'a [u8],
        vocabulary: &'a Vocabulary,
    ) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut rest = self.0.as_slice();
        text.iter()
            .enumerate()
            .map_while(move |(depth, &byte)| {
                // All in `rest` begin with `text[..depth]`; those that end there stand first.
                let at = |&id: &u32| vocabulary.text(id).get(depth).copied();
                let start = rest.partition_point(|id| at(id) < Some(byte));
                let end = start + rest[start..].partition_point(|id| at(id) == Some(byte));
                rest = &rest[start..end];
                let whole = |id: &&u32| vocabulary.text(**id).len() == depth + 1;
                let found = rest.iter().take_while(whole).last();
                (!rest.is_empty()).then(|| found.map(|&id| (depth + 1, id)))
            })
            .flatten()
    }

    /// How many bytes of `text` some token begins with.
    pub(super) fn common(&self, text: &[u8], vocabulary: &Vocabulary) -> usize {
        let common =
            |&id: &u32| vocabulary.text(id).iter().zip(text).take_while(|(a, b)| a == b).count();
        // The longest common beginning is with a neighbour in the order.
        let place = self.0.partition_point(|&id| vocabulary.text(id) < text);
        let before = place.checked_sub(1).and_then(|at| self.0.get(at));
        before.into_iter().chain(self.0.get(place)).map(common).max().unwrap_or(0)
    }
}
