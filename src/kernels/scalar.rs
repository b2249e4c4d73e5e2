//! The portable kernels: the meaning that every faster kernel is tested against.
//!
//! Integer sums within a block are exact; blocks are added in f32 from first to last.

use super::activations::{GROUP, Row, SMALL, SUPER};
use super::blocks::{dequantize, half_at, k3_scales, k4_scales, levels};
use super::float::{ToF32, exp};
use tealight_bundle::gguf::DType;

/// The dot product of one stored weight row and one row of activations.
pub fn dot(dtype: DType, weights: &[u8], x: Row<'_>) -> f32 {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => dot_float(dtype, weights, x),
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => {
            dot_small(dtype, weights, x)
        }
        _ => dot_super(dtype, weights, x),
    }
}

fn dot_float(dtype: DType, weights: &[u8], x: Row<'_>) -> f32 {
    let size = dtype.block_bytes();
    let mut sum = 0.0;
    let mut w = [0_f32; SMALL];
    for (bytes, x) in weights.chunks(SMALL * size).zip(x.floats.chunks(SMALL)) {
        dequantize(dtype, bytes, &mut w);
        sum += w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
    }
    sum
}

#[expect(clippy::cast_precision_loss, reason = "block sums stay below 2^24")]
fn dot_small(dtype: DType, weights: &[u8], x: Row<'_>) -> f32 {
    let has_min = matches!(dtype, DType::Q4_1 | DType::Q5_1);
    let mut q = [0_i8; SMALL];
    let mut sum = 0.0;
    for (i, block) in weights.chunks_exact(dtype.block_bytes()).enumerate() {
        levels(dtype, block, &mut q);
        let integer = dot_i8(&q, &x.quants[i * SMALL..][..SMALL]);
        sum += half_at(block, 0) * x.scales[i] * integer as f32;
        if has_min {
            sum += half_at(block, 2) * x.offsets[i];
        }
    }
    sum
}

#[expect(clippy::cast_precision_loss, reason = "block sums are rounded as in the reference")]
fn dot_super(dtype: DType, weights: &[u8], x: Row<'_>) -> f32 {
    let mut q = [0_i8; SUPER];
    let mut sum = 0.0;
    for (i, block) in weights.chunks_exact(dtype.block_bytes()).enumerate() {
        levels(dtype, block, &mut q);
        let (scales, mins, d, dmin) = super_scales(dtype, block);
        let quants = &x.quants[i * SUPER..][..SUPER];
        let sums = &x.sums[i * SUPER / GROUP..][..SUPER / GROUP];
        let (mut scaled, mut minimum) = (0_i32, 0_i32);
        for g in 0..SUPER / GROUP {
            let at = g * GROUP..(g + 1) * GROUP;
            scaled += scales[g] * dot_i8(&q[at.clone()], &quants[at]);
            minimum += mins[g] * i32::from(sums[g]);
        }
        sum += x.scales[i] * (d * scaled as f32 - dmin * minimum as f32);
    }
    sum
}

/// Integer scale and minimum of each group of 16, and the f32 factors of both.
#[expect(clippy::cast_possible_wrap, reason = "Q6_K stores its scales as signed bytes")]
fn super_scales(dtype: DType, block: &[u8]) -> ([i32; 16], [i32; 16], f32, f32) {
    let none = [0; 16];
    let each = |f: &dyn Fn(usize) -> i32| std::array::from_fn(f);
    match dtype {
        DType::Q2_K => (
            each(&|g| i32::from(block[g] & 15)),
            each(&|g| i32::from(block[g] >> 4)),
            half_at(block, 80),
            half_at(block, 82),
        ),
        DType::Q3_K => {
            let scales = k3_scales(&block[96..108]);
            (each(&|g| i32::from(scales[g])), none, half_at(block, 108), 0.0)
        }
        DType::Q6_K => (each(&|g| i32::from(block[192 + g] as i8)), none, half_at(block, 208), 0.0),
        _ => {
            let (scales, mins) = k4_scales(&block[4..16]);
            (
                each(&|g| i32::from(scales[g / 2])),
                each(&|g| i32::from(mins[g / 2])),
                half_at(block, 0),
                half_at(block, 2),
            )
        }
    }
}

fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Dot product of a query with a cached key.
pub fn dot_cached<T: ToF32>(q: &[f32], k: &[T]) -> f32 {
    q.iter().zip(k).map(|(q, k)| q * k.to_f32()).sum()
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
