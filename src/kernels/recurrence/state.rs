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

use super::super::Compute;
use super::super::disjoint::Disjoint;
use super::super::isa::by_floats;
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

/// A stretch whose states several threads write, each its own columns.
struct Shared<'a> {
    first: usize,
    before: Option<&'a [f32]>,
    after: Vec<(usize, Disjoint<'a>)>,
}

/// Takes the states of all stretches through their rows. Returns the mixed rows, (rows, heads · `value_dim`).
pub fn advance(compute: &Compute, feed: &Feed<'_>, stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    let Feed { heads, key_dim, value_dim, .. } = *feed;
    let (width, mut rows) = (value_dim.next_multiple_of(NARROW), 0);
    let mut shared = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        let after = stretch.after.iter_mut().map(|(rows, state)| (*rows, Disjoint::new(state)));
        shared.push(Shared { first: rows, before: stretch.before, after: after.collect() });
        rows += stretch.rows;
    }
    let mut out = vec![0.0; rows * heads * value_dim];
    let results = Disjoint::new(&mut out);
    let blocks = width.div_ceil(BLOCK);
    let each = heads * blocks;
    let cost = 3 * key_dim * BLOCK.min(width) * rows.div_ceil(shared.len().max(1));
    compute.for_ranges(shared.len() * each, cost, &|tasks| {
        for task in tasks {
            let (stretch, head, block) = (task / each, task % each / blocks, task % blocks);
            let columns = BLOCK * block..width.min(BLOCK * (block + 1));
            let start = key_dim * (head * width + columns.start);
            let place = start..start + key_dim * columns.len();
            let Shared { first, before, after } = &shared[stretch];
            let (mut row, mut from) = (*first, before.map(|before| &before[place.clone()]));
            for (rows, after) in after {
                // SAFETY: each block of columns of a head belongs to one task, and is borrowed here once.
                let state = unsafe { after.slice(place.clone()) };
                if let Some(from) = from {
                    state.copy_from_slice(from);
                }
                let (columns, rows) = (columns.clone(), row..first + rows);
                row = rows.end;
                by_floats!(
                    compute.isa,
                    scalar: scalar(feed, head, columns, rows, state, &results),
                    advance(feed, head, columns, rows, state, &results)
                );
                from = Some(state);
            }
        }
    });
    out
}

/// The definition: takes some columns of a head's state, (`key_dim`, columns), through some rows. Sums over the key's
/// elements are sums of those with even and odd indices.
fn scalar(
    feed: &Feed<'_>,
    head: usize,
    columns: Range<usize>,
    rows: Range<usize>,
    state: &mut [f32],
    out: &Disjoint<'_>,
) {
    for row in rows {
        let key = feed.keys.at(row, feed.key_of[head]);
        let query = feed.queries.at(row, feed.key_of[head]);
        let values = feed.values.at(row, head);
        let (decay, rate) =
            (feed.decays[row * feed.heads + head], feed.rates[row * feed.heads + head]);
        for column in columns.clone() {
            let place = |i: usize| i * columns.len() + column - columns.start;
            // Columns that only fill a vector have no values.
            let own = values.get(column).copied().unwrap_or(0.0);
            let mut value = own;
            if feed.corrects {
                let mut held = [0.0_f32; 2];
                for (i, k) in key.iter().enumerate() {
                    held[i % 2] = k.mul_add(state[place(i)], held[i % 2]);
                }
                value = (-decay).mul_add(held[0] + held[1], value);
            }
            let written = value * rate;
            let mut mixed = [0.0_f32; 2];
            for (i, (k, q)) in key.iter().zip(query).enumerate() {
                let state = &mut state[place(i)];
                *state = decay.mul_add(*state, k * written);
                mixed[i % 2] = q.mul_add(*state, mixed[i % 2]);
            }
            let mut mixed = mixed[0] + mixed[1];
            if let Some(skips) = feed.skips {
                mixed = skips[head].mul_add(own, mixed);
            }
            if column < values.len() {
                // SAFETY: each column of a head belongs to one task.
                unsafe { out.set((row * feed.heads + head) * feed.value_dim + column, mixed) };
            }
        }
    }
}
