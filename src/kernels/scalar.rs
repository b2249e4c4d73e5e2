//! The portable kernels: the meaning that every faster kernel is tested against.
//!
//! Integer sums within 16 columns are exact; they are scaled and added in f32 from first to last.

use super::activations::{BLOCK, Row};
use super::attention::KEYS;
use super::blocks::{GROUP, Group, SUB, group_bytes, unpack};
use super::float::{ToF32, exp};
use tealight_bundle::gguf::DType;

/// The dot product of a stored row of levels and a row of activations.
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

/// Dot products of a query with [`KEYS`] cached keys, (key_dim, 16).
pub fn dot_keys<T: ToF32>(q: &[f32], keys: &[T], out: &mut [f32; KEYS]) {
    out.fill(0.0);
    for (q, keys) in q.iter().zip(keys.as_chunks::<KEYS>().0) {
        out.iter_mut().zip(keys).for_each(|(out, k)| *out += q * k.to_f32());
    }
}

/// `out += weight · v` for a cached value.
pub fn add_cached<T: ToF32>(out: &mut [f32], weight: f32, v: &[T]) {
    out.iter_mut().zip(v).for_each(|(o, v)| *o += weight * v.to_f32());
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
