//! States that are a matrix for each head, and how the rows of a sequence change them.
//!
//! At each position, with a key k, a query q, a value v, a decay g and a rate β:
//!
//! ```text
//! w = β (v − g Sᵀk)     where the state's value at the key is corrected (the delta rule), else w = β v
//! S = g S + k wᵀ
//! o = Sᵀq               plus d v, where the head has such a factor
//! ```
//!
//! Gated delta nets (Yang et al., 2024) and Mamba 2 (Dao and Gu, 2024) are of this form.

/// Columns of a state that lie together: (columns / 32, `key_dim`, 32), the last ones in a narrower block.
pub const BLOCK: usize = 32;
/// Columns of the narrowest block.
pub const NARROW: usize = 16;

/// New rows of one sequence, the state before them, and the states after some of them.
pub struct Stretch<'a> {
    /// Number of rows.
    pub rows: usize,
    /// The state before them; `None`: it lies where the first one after them goes.
    pub before: Option<&'a [f32]>,
    /// Where the state goes after so many of the rows, in ascending order; the last is that after all of them.
    pub after: Vec<(usize, &'a mut [f32])>,
}

impl Stretch<'_> {
    /// The state before its rows, wherever it lies; before anything was written.
    #[must_use]
    pub fn before(&self) -> &[f32] {
        let first = self.after.first().map_or(&[][..], |(_, state)| state);
        self.before.unwrap_or(first)
    }

    /// Whether its states have `len` elements each, and the last is that after all rows.
    #[must_use]
    pub fn fits(&self, len: usize) -> bool {
        self.before.is_none_or(|before| before.len() == len)
            && self.after.iter().all(|(_, state)| state.len() == len)
            && self.after.is_sorted_by(|(a, _), (b, _)| a < b)
            && self.after.last().is_some_and(|(rows, _)| *rows == self.rows)
    }
}

/// What the rows of all sequences bring to the states of their heads.
pub struct Feed<'a> {
    /// Heads.
    pub heads: usize,
    /// Elements of a key and of a query.
    pub key_dim: usize,
    /// Elements of a value.
    pub value_dim: usize,
    /// Keys, of which several heads may share one.
    pub keys: Vectors<'a>,
    /// Queries, likewise.
    pub queries: Vectors<'a>,
    /// Values, one for each head.
    pub values: Vectors<'a>,
    /// The key, and query, of each head.
    pub key_of: Vec<usize>,
    /// g, (rows, heads).
    pub decays: &'a [f32],
    /// β, (rows, heads).
    pub rates: &'a [f32],
    /// Whether what the state holds at the key is taken from the value first.
    pub corrects: bool,
    /// d of each head.
    pub skips: Option<&'a [f32]>,
}

/// Vectors of the same number of elements, side by side within longer rows.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    /// The rows.
    pub rows: &'a [f32],
    /// Elements of a row.
    pub stride: usize,
    /// Where the first vector begins within a row.
    pub first: usize,
    /// Elements of a vector.
    pub dim: usize,
}

impl<'a> Vectors<'a> {
    /// A vector of a row.
    #[inline]
    #[must_use]
    pub fn at(&self, row: usize, index: usize) -> &'a [f32] {
        &self.rows[row * self.stride + self.first + index * self.dim..][..self.dim]
    }
}

/// Elements of a state of so many heads.
#[must_use]
pub fn state_len(heads: usize, key_dim: usize, value_dim: usize) -> usize {
    heads * key_dim * value_dim.next_multiple_of(NARROW)
}
