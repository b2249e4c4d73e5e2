//! The portable kernels: the definition that every faster kernel is tested against.
//!
//! Integer sums over 16 columns are exact; they are scaled and added in f32, in order.

use super::activations::{BLOCK, Row};
use super::attention::layout::{ROWS, Weights};
use super::attention::stored::Element;
use super::blocks::{GROUP, Group, SUB, group_bytes, unpack};
use super::float::exp;
use std::ops::Range;
use tealight_bundle::gguf::DType;

/// The dot product of a stored quantized row and a row of activations.
pub fn dot(dtype: DType, weights: &[u8], x: Row<'_>) -> f32 {
    let mut group = Group::ZERO;
    let mut sum = 0.0;
    for (index, bytes) in weights.chunks(group_bytes(dtype)).enumerate() {
        let columns = bytes.len() / dtype.block_bytes() * dtype.block_elements();
        unpack(dtype, bytes, &mut group);
        for sub in 0..columns / SUB {
            let at = index * GROUP + sub * SUB;
            let integer: i32 = group.levels[sub * SUB..][..SUB]
                .iter()
                .zip(&x.quants[at..][..SUB])
                .map(|(&w, &x)| i32::from(w) * i32::from(x))
                .sum();
            let value = group.scales[sub] * integer as f32 + group.mins[sub] * x.sums16[at / SUB];
            sum += value * x.scales[at / BLOCK];
        }
    }
    sum
}

/// The dot product of a stored row of floats and a row of activations.
pub fn dot_float<const SIZE: usize>(
    weights: &[u8],
    x: &[f32],
    value: impl Fn([u8; SIZE]) -> f32,
) -> f32 {
    weights.as_chunks().0.iter().zip(x).map(|(w, x)| value(*w) * x).sum()
}

/// Unscaled scores of some positions for some query rows.
pub fn scores<T: Element>(q: &[&[f32]], k: &[T], positions: Range<usize>, out: &mut Weights) {
    for (q, out) in q.iter().zip(out) {
        for (out, position) in out.iter_mut().zip(positions.clone()) {
            let key = |d| T::key(k, position, q.len(), d);
            *out = q.iter().enumerate().map(|(d, q)| q * key(d)).sum();
        }
    }
}

/// `mixed[i] = factors[i] · mixed[i] + Σ weights[i][p] · values[p]` over the positions of a block.
pub fn mix<T: Element>(
    weights: &Weights,
    factors: &[f32; ROWS],
    v: &[T],
    positions: Range<usize>,
    mixed: &mut [&mut [f32]],
) {
    for ((weights, factor), mixed) in weights.iter().zip(factors).zip(mixed) {
        let dim = mixed.len();
        mixed.iter_mut().for_each(|m| *m *= factor);
        for (&weight, position) in weights.iter().zip(positions.clone()) {
            for (d, mixed) in mixed.iter_mut().enumerate() {
                *mixed += weight * T::value(v, position, dim, d);
            }
        }
    }
}

/// Replaces `x` by `exp(x - max)` and returns the sum.
pub fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    let mut sum = 0.0;
    for x in x {
        *x = exp(*x - max);
        sum += *x;
    }
    sum
}
