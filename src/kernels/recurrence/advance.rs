//! Takes states that are matrices through rows: divides their columns among the threads.
//!
//! Input: what rows bring ([`Feed`]), the states before them. Output: mixed rows, the states after some of them.

use super::super::Compute;
use super::super::disjoint::Disjoint;
use super::super::isa::by_floats;
use super::state::{BLOCK, Feed, NARROW, Stretch};
use std::ops::Range;

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
