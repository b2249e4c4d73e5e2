//! A cursor over untrusted bytes.
//!
//! Input: a byte slice. Output: little-endian numbers, strings and skipped ranges, each checked against the bytes left
//! before anything is allocated. Knows nothing of what they mean.

use super::GgufError;
use std::ops::Range;

/// Reads forward through a byte slice.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Offset from the start, in bytes.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The unread bytes.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], GgufError> {
        let rest = self.rest();
        let taken = usize::try_from(count).ok().and_then(|n| rest.get(..n));
        let Some(taken) = taken else {
            return Err(GgufError::Truncated {
                what: what.to_owned(),
                offset: self.offset,
                needed: count,
                left: rest.len(),
            });
        };
        self.offset = self.offset.saturating_add(taken.len());
        Ok(taken)
    }

    /// Skips the next `count` bytes and returns their range.
    pub(super) fn range(&mut self, count: u64, what: &str) -> Result<Range<usize>, GgufError> {
        let start = self.offset;
        self.take(count, what)?;
        Ok(start..self.offset)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let taken = self.take(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(taken);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A string of at most `max` bytes: a 64-bit length, then that many bytes.
    pub(super) fn string(&mut self, what: &str, max: u64) -> Result<&'a [u8], GgufError> {
        let offset = self.offset;
        let length = self.u64(what)?;
        if length > max && length <= self.rest().len() as u64 {
            return Err(GgufError::Value {
                what: what.to_owned(),
                offset,
                found: format!("{length} bytes"),
                expected: format!("at most {max}"),
            });
        }
        self.take(length, what)
    }

    /// A key or tensor name: a non-empty UTF-8 string.
    pub(super) fn name(&mut self, what: &str, max: u64) -> Result<String, GgufError> {
        let offset = self.offset;
        let bytes = self.string(what, max)?;
        match std::str::from_utf8(bytes) {
            Ok(s) if !s.is_empty() => Ok(s.to_owned()),
            _ => Err(GgufError::Value {
                what: what.to_owned(),
                offset,
                found: format!("{:?}", String::from_utf8_lossy(bytes)),
                expected: "a non-empty UTF-8 name".to_owned(),
            }),
        }
    }
}
