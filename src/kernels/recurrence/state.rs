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
//! Gated delta nets (Yang et al., 2024), Mamba 2 (Dao and Gu, 2024) and lightning attention (Qin et al., 2024) are of this
//! form ([`Feed`]). Where each element of a key forgets at a rate of its own, and what is taken back goes where it likes
//! ([`KeyedFeed`]), with a probe p and a return b:
//!
//! ```text
//! h = Sᵀp               where there is a probe
//! S = diag(g) S + k vᵀ + b hᵀ
//! o = Sᵀq               of the state before or after this, plus d v
//! ```
//!
//! Kimi's delta attention (Kimi Team, 2025) and RWKV 6 and 7 (Peng et al., 2024 and 2025) are of this form.

use std::ops::Range;

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
    /// Heads, elements of a key and of a value.
    pub shape: Shape,
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

/// What the rows of all sequences bring to states whose key elements forget each at a rate of its own. All vectors are one
/// for each head.
pub struct KeyedFeed<'a> {
    /// Heads, elements of a key and of a value.
    pub shape: Shape,
    /// k.
    pub keys: Vectors<'a>,
    /// q.
    pub queries: Vectors<'a>,
    /// v.
    pub values: Vectors<'a>,
    /// g.
    pub decays: Vectors<'a>,
    /// p and b.
    pub correction: Option<[Vectors<'a>; 2]>,
    /// Whether the state is read before the row changes it.
    pub before: bool,
    /// d, (rows, heads).
    pub skips: Option<&'a [f32]>,
}

/// Shape of the states of a layer: a matrix for each head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Heads.
    pub heads: usize,
    /// Elements of a key.
    pub key_dim: usize,
    /// Elements of a value.
    pub value_dim: usize,
}

/// Vectors of the same number of elements, at equal distances within longer rows.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    /// The rows.
    pub rows: &'a [f32],
    /// Elements of a row.
    pub stride: usize,
    /// Where the first vector begins within a row.
    pub first: usize,
    /// From where a vector begins to where the next one does, in elements.
    pub apart: usize,
    /// Elements of a vector.
    pub dim: usize,
}

impl<'a> Vectors<'a> {
    /// Rows that are such vectors side by side, and nothing else.
    #[must_use]
    pub fn whole(rows: &'a [f32], heads: usize, dim: usize) -> Self {
        Self { rows, stride: heads * dim, first: 0, apart: dim, dim }
    }

    /// A vector of a row.
    #[inline]
    #[must_use]
    pub fn at(&self, row: usize, index: usize) -> &'a [f32] {
        &self.rows[row * self.stride + self.first + index * self.apart..][..self.dim]
    }
}

impl Shape {
    /// Elements of the states.
    #[must_use]
    pub fn state_len(self) -> usize {
        state_len(self.heads, self.key_dim, self.value_dim)
    }
}

/// Elements of a state of so many heads.
#[must_use]
pub fn state_len(heads: usize, key_dim: usize, value_dim: usize) -> usize {
    heads * key_dim * value_dim.next_multiple_of(NARROW)
}

/// Some columns of a head's state, and the rows that they are taken through.
pub struct Part {
    /// The head.
    pub head: usize,
    /// Columns of its state.
    pub columns: Range<usize>,
    /// The rows, of all that are computed together.
    pub rows: Range<usize>,
}
