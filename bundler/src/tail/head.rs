//! The head entry, which marks a file as a bundle and says where its parts end.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::TailError;
use super::layout::{self, HEAD_NAME, HeadFacts, Member};
use super::slices::{len64, part};

/// A head entry whose every byte has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub offset: u64,
    pub crc32: u32,
    pub facts: HeadFacts,
    /// Whether a part of the executable follows the tail.
    pub in_segment: bool,
}

impl Head {
    pub fn at(bytes: &[u8], offset: u64) -> Result<Head, TailError> {
        let damaged = |what| TailError::Head { offset, what };
        let header_len = layout::local_len(HEAD_NAME, layout::HEAD_DATA_LEN);
        let data_offset =
            offset.checked_add(header_len).ok_or(damaged("its offset is too large"))?;
        let (Some(header), Some(data)) =
            (part(bytes, offset, header_len), part(bytes, data_offset, layout::HEAD_DATA_LEN))
        else {
            return Err(TailError::TruncatedHead { file_bytes: len64(bytes), offset });
        };
        let (format, facts) =
            layout::decode_head(data).ok_or(damaged("it does not begin with `tealight`"))?;
        if format != layout::FORMAT {
            return Err(TailError::Format { found: format });
        }
        let crc32 = crc32fast::hash(data);
        let member =
            Member { name: HEAD_NAME, bytes: layout::HEAD_DATA_LEN, crc32, header_offset: offset };
        if member.local() != header || facts.encode() != data {
            return Err(damaged("its header or its CRC-32 does not match its data"));
        }
        let head_end = data_offset.checked_add(layout::HEAD_DATA_LEN);
        if layout::align_up(facts.runtime_end, layout::BOUNDARY) != Some(offset)
            || facts.runtime_end > layout::RUNTIME_BYTES_MAX
            || head_end.is_none_or(|end| end > facts.weights_end)
            || layout::align_up(facts.weights_end, layout::SECTOR) != Some(facts.tail_start)
        {
            return Err(damaged("its offsets contradict each other"));
        }
        Ok(Head { offset, crc32, facts, in_segment: false })
    }

    /// If a segment holds the tail, checks that the runtime ends where the segment begins.
    pub fn must_follow(&mut self, front_end: Option<u64>) -> Result<(), TailError> {
        self.in_segment = front_end.is_some();
        if front_end.is_some_and(|front_end| front_end != self.facts.runtime_end) {
            let what = "it does not match the segment that contains it";
            return Err(TailError::Head { offset: self.offset, what });
        }
        Ok(())
    }

    pub fn end(&self) -> u64 {
        let header_len = layout::local_len(HEAD_NAME, layout::HEAD_DATA_LEN);
        self.offset.saturating_add(header_len).saturating_add(layout::HEAD_DATA_LEN)
    }
}
