//! Takes states that are matrices through rows: divides their columns among the threads.
//!
//! Input: what rows bring ([`Feed`], [`KeyedFeed`]), the states before them. Output: mixed rows, the states after some of them.

use super::super::Compute;
use super::super::disjoint::Disjoint;
use super::super::isa::by_floats;
use super::state::{BLOCK, Feed, KeyedFeed, NARROW, Part, Shape, Stretch};

/// A stretch whose states several threads write, each its own columns.
struct Shared<'a> {
    first: usize,
    before: Option<&'a [f32]>,
    after: Vec<(usize, Disjoint<'a>)>,
}

/// Takes the states of all stretches through their rows. Returns the mixed rows, (rows, heads · `value_dim`).
pub fn advance(compute: &Compute, feed: &Feed<'_>, stretches: &mut [Stretch<'_>]) -> Vec<f32> {
    divide(compute, feed.shape, stretches, &|part, state, out| {
        by_floats!(compute.isa, scalar: scalar(feed, part, state, out), advance(feed, part, state, out));
    })
}

/// The same where each element of a key forgets at a rate of its own.
pub fn advance_keyed(
    compute: &Compute,
    feed: &KeyedFeed<'_>,
    stretches: &mut [Stretch<'_>],
) -> Vec<f32> {
    divide(compute, feed.shape, stretches, &|part, state, out| {
        by_floats!(
            compute.isa,
            scalar: scalar_keyed(feed, part, state, out),
            advance_keyed(feed, part, state, out)
        );
    })
}

/// Divides the columns of all heads and stretches among the threads; `take` takes some of them, (`key_dim`, columns),
/// through some rows, and writes what these give.
fn divide(
    compute: &Compute,
    shape: Shape,
    stretches: &mut [Stretch<'_>],
    take: &(dyn Fn(&Part, &mut [f32], &Disjoint<'_>) + Sync),
) -> Vec<f32> {
    let Shape { heads, key_dim, value_dim } = shape;
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
                let part = Part { head, columns: columns.clone(), rows: row..first + rows };
                row = part.rows.end;
                take(&part, state, &results);
                from = Some(state);
            }
        }
    });
    out
}

/// The definition: takes some columns of a head's state, (`key_dim`, columns), through some rows. Sums over the key's
/// elements are sums of those with even and odd indices.
fn scalar(feed: &Feed<'_>, part: &Part, state: &mut [f32], out: &Disjoint<'_>) {
    let (Part { head, columns, rows }, Shape { heads, value_dim, .. }) = (part, feed.shape);
    let head = *head;
    for row in rows.clone() {
        let key = feed.keys.at(row, feed.key_of[head]);
        let query = feed.queries.at(row, feed.key_of[head]);
        let values = feed.values.at(row, head);
        let (decay, rate) = (feed.decays[row * heads + head], feed.rates[row * heads + head]);
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
                unsafe { out.set((row * heads + head) * value_dim + column, mixed) };
            }
        }
    }
}

/// The definition where each element of a key forgets at a rate of its own. Sums as there.
fn scalar_keyed(feed: &KeyedFeed<'_>, part: &Part, state: &mut [f32], out: &Disjoint<'_>) {
    let (Part { head, columns, rows }, Shape { heads, value_dim, .. }) = (part, feed.shape);
    let head = *head;
    for row in rows.clone() {
        let (key, query) = (feed.keys.at(row, head), feed.queries.at(row, head));
        let (decay, values) = (feed.decays.at(row, head), feed.values.at(row, head));
        let correction = feed.correction.map(|both| both.map(|vectors| vectors.at(row, head)));
        for column in columns.clone() {
            let place = |i: usize| i * columns.len() + column - columns.start;
            let value = values.get(column).copied().unwrap_or(0.0);
            let mut held = [0.0_f32; 2];
            if let Some([probe, _]) = correction {
                for (i, p) in probe.iter().enumerate() {
                    held[i % 2] = p.mul_add(state[place(i)], held[i % 2]);
                }
            }
            let held = held[0] + held[1];
            let mut mixed = [0.0_f32; 2];
            for (i, (k, q)) in key.iter().zip(query).enumerate() {
                let state = &mut state[place(i)];
                let mut new = decay[i].mul_add(*state, k * value);
                if let Some([_, back]) = correction {
                    new = back[i].mul_add(held, new);
                }
                let read = if feed.before { *state } else { new };
                mixed[i % 2] = q.mul_add(read, mixed[i % 2]);
                *state = new;
            }
            let mut mixed = mixed[0] + mixed[1];
            if let Some(skips) = feed.skips {
                mixed = skips[row * heads + head].mul_add(value, mixed);
            }
            if column < value_dim {
                // SAFETY: each column of a head belongs to one task.
                unsafe { out.set((row * heads + head) * value_dim + column, mixed) };
            }
        }
    }
}
