//! An array of strings that stays in the mapped file: a vocabulary, or merges.

use std::ops::Range;
use std::sync::Arc;
use tealight_bundle::gguf::Array;
use tealight_bundle::mapped::Mapped;

/// Strings by index, without a copy.
pub struct Strings {
    file: Arc<Mapped>,
    /// Offset of the GGUF file in the mapped file.
    base: usize,
    /// Offset from `base` and length of each string.
    places: Vec<(u32, u32)>,
}

impl Strings {
    /// The strings of `array`, read from the GGUF file in `range` of `file`. `None` when it does not hold strings, or
    /// they start more than 4 GiB into the GGUF file.
    pub(super) fn new(file: &Arc<Mapped>, range: &Range<usize>, array: &Array) -> Option<Self> {
        let bytes = file.bytes().get(range.clone())?;
        let mut places = Vec::with_capacity(array.len);
        for text in array.strings(bytes) {
            let offset = text.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
            places.push((u32::try_from(offset).ok()?, u32::try_from(text.len()).ok()?));
        }
        if places.len() != array.len {
            return None;
        }
        Some(Self { file: Arc::clone(file), base: range.start, places })
    }

    /// Number of strings.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a table, not a collection")]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The string at `index`; empty past the end.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        let Some(&(offset, len)) = self.places.get(index) else { return &[] };
        let start = self.base + offset as usize;
        self.file.bytes().get(start..start + len as usize).unwrap_or_default()
    }
}
