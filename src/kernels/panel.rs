//! A panel: a block of rows and columns of a matrix, unpacked for prefill.
//!
//! Input: stored rows of any type. Output: levels in the order in which kernels read them, four columns of
//! one row, then of the next, with their scales and mins. A panel fits in the L1 cache, is unpacked once and
//! used for every row of activations.

use super::blocks::{GROUP, Group, SUB, group_bytes, sub_of, unpack};
use tealight_bundle::gguf::DType;

/// Rows in a panel.
pub const PANEL_ROWS: usize = 32;
/// Columns in a panel: two groups.
pub const PANEL_COLUMNS: usize = 2 * GROUP;

/// Maximum rows in one vector of scales.
const LANES: usize = 16;

/// Unpacked rows: value = scale · level + minimum.
#[repr(align(64))]
pub struct Panel {
    /// (columns / 4, rows, 4)
    levels: [u8; PANEL_COLUMNS * PANEL_ROWS],
    /// (columns / sub, rows)
    scales: [f32; PANEL_COLUMNS / SUB * PANEL_ROWS],
    /// (columns / sub, rows)
    minima: [f32; PANEL_COLUMNS / SUB * PANEL_ROWS],
}

/// Sixteen rows starting at `row`, in the sub-block `sub`.
#[derive(Clone, Copy)]
pub struct Place {
    /// Index of the sub-block of 16 or 32 columns.
    pub sub: usize,
    /// The first row, 0 or 16.
    pub row: usize,
}

impl Panel {
    /// All zero.
    pub const ZERO: Self = Self {
        levels: [0; PANEL_COLUMNS * PANEL_ROWS],
        scales: [0.0; PANEL_COLUMNS / SUB * PANEL_ROWS],
        minima: [0.0; PANEL_COLUMNS / SUB * PANEL_ROWS],
    };

    /// Levels of four columns of sixteen rows.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub fn levels(&self, four: usize, row: usize) -> &[u8; 4 * LANES] {
        self.levels[4 * (four * PANEL_ROWS + row)..].first_chunk().expect("within the panel")
    }

    /// Like [`Panel::levels`], mutable.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub fn levels_mut(&mut self, four: usize, row: usize) -> &mut [u8; 4 * LANES] {
        self.levels[4 * (four * PANEL_ROWS + row)..].first_chunk_mut().expect("within the panel")
    }

    /// Sixteen levels, in the order that the instruction set uses.
    #[inline]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn sixteen(&self, index: usize) -> &[u8; 16] {
        &self.levels.as_chunks().0[index]
    }

    /// Like [`Panel::sixteen`], mutable.
    #[inline]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn sixteen_mut(&mut self, index: usize) -> &mut [u8; 16] {
        &mut self.levels.as_chunks_mut().0[index]
    }

    /// Scales of sixteen rows.
    #[inline]
    pub fn scales(&self, place: Place) -> &[f32; LANES] {
        self.scales[place.index()..].first_chunk().expect("within the panel")
    }

    /// Like [`Panel::scales`], mutable.
    #[inline]
    pub fn scales_mut(&mut self, place: Place) -> &mut [f32; LANES] {
        self.scales[place.index()..].first_chunk_mut().expect("within the panel")
    }

    /// Mins of sixteen rows.
    #[inline]
    pub fn minima(&self, place: Place) -> &[f32; LANES] {
        self.minima[place.index()..].first_chunk().expect("within the panel")
    }

    /// Like [`Panel::minima`], mutable.
    #[inline]
    pub fn minima_mut(&mut self, place: Place) -> &mut [f32; LANES] {
        self.minima[place.index()..].first_chunk_mut().expect("within the panel")
    }

    /// Unpacks rows `row(0)` to `row(PANEL_ROWS - 1)`: whole blocks, starting at a group boundary.
    ///
    /// Always inlined, so that it is compiled for the instruction set of its caller.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
    pub fn unpack<'a>(&mut self, dtype: DType, row: &dyn Fn(usize) -> &'a [u8]) {
        let step = sub_of(dtype) / SUB;
        let mut group = Group::ZERO;
        for index in 0..PANEL_ROWS {
            for (number, bytes) in row(index).chunks(group_bytes(dtype)).enumerate() {
                let columns = bytes.len() / dtype.block_bytes() * dtype.block_elements();
                unpack(dtype, bytes, &mut group);
                let first = number * GROUP / 4;
                for (four, levels) in group.levels[..columns].as_chunks::<4>().0.iter().enumerate()
                {
                    self.levels[4 * ((first + four) * PANEL_ROWS + index)..][..4]
                        .copy_from_slice(levels);
                }
                let first = number * GROUP / SUB / step;
                for sub in 0..columns / SUB / step {
                    let at = (first + sub) * PANEL_ROWS + index;
                    self.scales[at] = group.scales[sub * step];
                    self.minima[at] = group.mins[sub * step];
                }
            }
        }
    }
}

impl Place {
    #[inline]
    fn index(self) -> usize {
        self.sub * PANEL_ROWS + self.row
    }
}
