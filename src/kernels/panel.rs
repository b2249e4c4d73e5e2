//! A panel: a block of rows and columns of a matrix, unpacked for prefill.
//!
//! Input: stored rows of any type. Output: levels in the order in which kernels read them, with what scales them. A
//! panel fits in the L1 cache, is unpacked once and used for every row of activations.

use super::blocks::{BLOCK, GROUP, SUB};

/// Rows in a panel.
pub const PANEL_ROWS: usize = 32;
/// Columns in a panel: two groups.
pub const PANEL_COLUMNS: usize = 2 * GROUP;

/// Two numbers of a row, side by side in the 32 bits that a kernel multiplies at once.
pub type Pair = [i16; 2];

/// Unpacked rows. What scales the levels depends on the type's [`super::blocks::Form`].
#[repr(align(64))]
pub struct Panel {
    /// The levels, in an order that is the instruction set's own.
    levels: [u8; PANEL_COLUMNS * PANEL_ROWS],
    /// Super-blocks: scales, each twice, (columns / sub, rows).
    scales: [[Pair; PANEL_ROWS]; PANEL_COLUMNS / SUB],
    /// Super-blocks: mins of two neighbours of `sub` columns, (columns / sub / 2, rows).
    mins: [[Pair; PANEL_ROWS]; PANEL_COLUMNS / SUB / 2],
    /// Blocks: their scale and min, (blocks, rows). Super-blocks: their two units, (groups, rows).
    factors: [[[f32; PANEL_ROWS]; 2]; PANEL_COLUMNS / BLOCK],
}

impl Panel {
    /// All zero.
    pub const ZERO: Self = Self {
        levels: [0; PANEL_COLUMNS * PANEL_ROWS],
        scales: [[[0; 2]; PANEL_ROWS]; PANEL_COLUMNS / SUB],
        mins: [[[0; 2]; PANEL_ROWS]; PANEL_COLUMNS / SUB / 2],
        factors: [[[0.0; PANEL_ROWS]; 2]; PANEL_COLUMNS / BLOCK],
    };

    /// All levels.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub fn all_levels(&self) -> &[u8; PANEL_COLUMNS * PANEL_ROWS] {
        &self.levels
    }

    /// `N` levels from the one at `at` on.
    #[inline]
    pub fn levels<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.levels[at..].first_chunk().expect("within the panel")
    }

    /// Like [`Panel::levels`], mutable.
    #[inline]
    pub fn levels_mut<const N: usize>(&mut self, at: usize) -> &mut [u8; N] {
        self.levels[at..].first_chunk_mut().expect("within the panel")
    }

    /// Adds 128 to signed levels.
    #[cfg(target_arch = "x86_64")]
    pub fn make_unsigned(&mut self) {
        self.levels.iter_mut().for_each(|level| *level ^= 0x80);
    }

    /// Scales of `N` rows from `row` on, in the columns `sub · index ..`.
    #[inline]
    pub fn scales<const N: usize>(&self, index: usize, row: usize) -> &[Pair; N] {
        self.scales[index][row..].first_chunk().expect("within the panel")
    }

    /// Like [`Panel::scales`], mutable.
    #[inline]
    pub fn scales_mut<const N: usize>(&mut self, index: usize, row: usize) -> &mut [Pair; N] {
        self.scales[index][row..].first_chunk_mut().expect("within the panel")
    }

    /// Mins of `N` rows from `row` on, in the columns `2 · sub · index ..`.
    #[inline]
    pub fn mins<const N: usize>(&self, index: usize, row: usize) -> &[Pair; N] {
        self.mins[index][row..].first_chunk().expect("within the panel")
    }

    /// Like [`Panel::mins`], mutable.
    #[inline]
    pub fn mins_mut<const N: usize>(&mut self, index: usize, row: usize) -> &mut [Pair; N] {
        self.mins[index][row..].first_chunk_mut().expect("within the panel")
    }

    /// The two factors of a block, or units of a super-block, of `N` rows from `row` on.
    #[inline]
    pub fn factors<const N: usize>(&self, index: usize, row: usize) -> [&[f32; N]; 2] {
        let [first, second] = &self.factors[index];
        [
            first[row..].first_chunk().expect("within the panel"),
            second[row..].first_chunk().expect("within the panel"),
        ]
    }

    /// Like [`Panel::factors`], mutable.
    #[inline]
    pub fn factors_mut<const N: usize>(&mut self, index: usize, row: usize) -> [&mut [f32; N]; 2] {
        let [first, second] = &mut self.factors[index];
        [
            first[row..].first_chunk_mut().expect("within the panel"),
            second[row..].first_chunk_mut().expect("within the panel"),
        ]
    }
}
