//! The portable kernels: the definition of what every kernel computes, to the bit (SSE4.1 has no fused multiply-add and
//! alone may differ).
//!
//! The product of a row of weights and a row of activations, 256 columns after the other, in f32 with fused
//! multiply-adds:
//!
//! - Types with super-blocks add (Σ scale · multiple · (level − offset) · quant) · (d · scale of the activations), then
//!   −(Σ min · weighted sum) · (dmin · unit of the weighted sums). Both sums are whole numbers of 32 bits, so their order
//!   does not matter.
//! - Types with blocks of 32 add, for each, (Σ (level − offset) · quant) · (d · scale of the block's activations), then
//!   min · total of the block's activations.

use super::activations::Part;
use super::attention::layout::{ROWS, Weights};
use super::attention::stored::Element;
use super::blocks::{
    BLOCK, BLOCKS, Form, GROUP, Group, Halves, SUB, form, group_bytes, has_mins, offset, parts,
    unpack,
};
use std::ops::Range;
use tealight_bundle::gguf::DType;

/// The dot product of a stored quantized row and a row of activations.
pub fn dot(dtype: DType, weights: &[u8], x: &[Part]) -> f32 {
    let mut group = Group::ZERO;
    let mut sum = 0.0;
    for (bytes, x) in weights.chunks(group_bytes(dtype)).zip(x) {
        unpack(dtype, bytes, &mut group);
        sum = match form(dtype) {
            Form::Super => add_super_block(dtype, &group, x, sum),
            Form::Blocks => {
                let blocks = bytes.len() / dtype.block_bytes() * parts(dtype);
                add_blocks(dtype, &group, blocks, x, sum)
            }
        };
    }
    sum
}

/// Adds the product of a super-block.
fn add_super_block(dtype: DType, group: &Group, x: &Part, sum: f32) -> f32 {
    let weigh = |numbers: &Halves, by: &dyn Fn(usize, usize) -> i32| {
        let each = (0..2).flat_map(|half| (0..BLOCKS).map(move |block| (half, block)));
        each.map(|(half, block)| i32::from(numbers[half][block]) * by(half, block)).sum::<i32>()
    };
    let total = weigh(&group.factors.scales, &|half, block| {
        let columns = BLOCK * block + SUB * half..BLOCK * block + SUB * (half + 1);
        i32::from(x.multiples[half][block]) * products(dtype, group, x, columns)
    });
    let sum = (total as f32).mul_add(group.factors.d * x.scale, sum);
    if !has_mins(dtype) {
        return sum;
    }
    let total = weigh(&group.factors.mins, &|half, block| i32::from(x.weighted[half][block]));
    (total as f32).mul_add(-(group.factors.dmin * x.weighted_scale), sum)
}

/// Adds the products of some blocks.
fn add_blocks(dtype: DType, group: &Group, blocks: usize, x: &Part, mut sum: f32) -> f32 {
    for (block, (d, min)) in group.factors.blocks.iter().enumerate().take(blocks) {
        let total = products(dtype, group, x, BLOCK * block..BLOCK * (block + 1));
        sum = (total as f32).mul_add(d * x.scales[block], sum);
        if has_mins(dtype) {
            sum = min.mul_add(x.totals[block], sum);
        }
    }
    sum
}

/// Σ (level − offset) · quant over some columns of a group.
fn products(dtype: DType, group: &Group, x: &Part, columns: Range<usize>) -> i32 {
    debug_assert!(columns.end <= GROUP);
    let levels =
        group.levels[columns.clone()].iter().map(|&level| i32::from(level) - offset(dtype));
    levels.zip(&x.quants[columns]).map(|(level, &quant)| level * i32::from(quant)).sum()
}

/// The dot product of a stored row of floats and a row of activations: eight partial sums, then the columns beyond a
/// multiple of eight.
pub fn dot_float<const SIZE: usize>(
    weights: &[u8],
    x: &[f32],
    value: impl Fn([u8; SIZE]) -> f32,
) -> f32 {
    let mut lanes = [0_f32; 8];
    let (eights, rest) = weights.as_chunks::<SIZE>().0.as_chunks::<8>();
    let (x, x_rest) = x.split_at(8 * eights.len());
    for (weights, x) in eights.iter().zip(x.as_chunks::<8>().0) {
        for i in 0..8 {
            lanes[i] = value(weights[i]).mul_add(x[i], lanes[i]);
        }
    }
    let four: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    let mut sum = (four[0] + four[2]) + (four[1] + four[3]);
    for (weight, x) in rest.iter().zip(x_rest) {
        sum += value(*weight) * x;
    }
    sum
}

/// Unscaled scores of some positions for some query rows: element after element. Where elements share a scale, the sum
/// of each such group is multiplied with it.
pub fn scores<T: Element>(q: &[&[f32]], k: &[T], positions: Range<usize>, out: &mut Weights) {
    for (q, out) in q.iter().zip(out) {
        let (dim, group) = (q.len(), T::GROUP.min(q.len()).max(1));
        for (out, position) in out.iter_mut().zip(positions.clone()) {
            *out = 0.0;
            for (first, q) in (0..dim).step_by(group).zip(q.chunks(group)) {
                let mut sum = 0.0;
                for (d, q) in q.iter().enumerate() {
                    sum = q.mul_add(T::key_level(k, position, dim, first + d), sum);
                }
                let scale = T::key_scale(k, position, dim, first);
                *out = if T::SCALED { sum.mul_add(scale, *out) } else { sum };
            }
        }
    }
}

/// `mixed[i] = factors[i] · mixed[i] + Σ weights[i][p] · values[p]` over the positions of a block: one after the other,
/// for elements beyond a multiple of sixteen without fused multiply-adds.
pub fn mix<T: Element>(
    weights: &Weights,
    factors: &[f32; ROWS],
    v: &[T],
    positions: Range<usize>,
    mixed: &mut [&mut [f32]],
) {
    for ((weights, factor), mixed) in weights.iter().zip(factors).zip(mixed) {
        let dim = mixed.len();
        let (whole, rest) = mixed.split_at_mut(dim - dim % 16);
        whole.iter_mut().for_each(|m| *m *= factor);
        for (&weight, position) in weights.iter().zip(positions.clone()) {
            for (d, mixed) in whole.iter_mut().enumerate() {
                *mixed = weight.mul_add(T::value(v, position, dim, d), *mixed);
            }
        }
        mix_rest(weights, *factor, v, positions.clone(), dim, rest);
    }
}

/// The last elements of a value of `dim` elements, less than sixteen.
#[inline]
pub fn mix_rest<T: Element>(
    weights: &[f32],
    factor: f32,
    v: &[T],
    positions: Range<usize>,
    dim: usize,
    mixed: &mut [f32],
) {
    let first = dim - mixed.len();
    for (i, mixed) in mixed.iter_mut().enumerate() {
        let mut sum = 0.0;
        for (position, weight) in positions.clone().zip(weights) {
            sum += weight * T::value(v, position, dim, first + i);
        }
        *mixed = factor * *mixed + sum;
    }
}
