//! Prefill: multiplies panels of unpacked rows with many rows of activations.

#![expect(unsafe_code, reason = "vector stores whose extent is argued beside them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]

use super::dot::{Dot, unsigned};
use super::numbers::{offsets_of_blocks, offsets_of_subs, pairs_of_weighted};
use super::unpack::{ROWS, place};
use super::vectors::{load, load_f32};
use crate::kernels::activations::{Tile, group_of};
use crate::kernels::blocks::{BLOCK, BLOCKS, Form, GROUP, form, has_mins, offset, sub_of};
use crate::kernels::panel::{PANEL_ROWS, Pair, Panel};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Rows in a vector.
const LANES: usize = 8;
/// Vectors of rows that are multiplied together.
const VECTORS: usize = ROWS / LANES;

/// How levels of a type are multiplied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Groups of four products are added in 16 bits as far as they fit; an offset is subtracted afterwards.
    Unsigned,
    /// Levels are signed: their signs move to the activations.
    Signed,
    /// Levels have an offset so large that they are better made signed.
    Shifted,
}

/// An offset times a sum of activations has to fit in twice 16 bits.
const fn way(dtype: DType) -> Way {
    match offset(dtype) {
        128 => Way::Signed,
        64 => Way::Shifted,
        _ => Way::Unsigned,
    }
}

/// How many groups of four products fit in 16 bits together: 8 for levels of 4 bits, 4 for 5 bits, 2 for 6 bits,
/// otherwise 1. Half a block has only four groups.
const fn run_of(dtype: DType) -> usize {
    use DType as T;
    match dtype {
        T::Q4_0 | T::Q4_1 | T::Q4_K | T::TQ1_0 | T::TQ2_0 => 8,
        T::Q5_0 | T::Q5_1 | T::MXFP4 | T::Q2_K | T::Q3_K | T::Q5_K | T::IQ1_S | T::IQ1_M => 4,
        T::Q6_K => 2,
        _ => 1,
    }
}

/// Adds the products of a panel's `columns` with `T` rows of activations to `out[t][row]`.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn multiply<P: Dot, const T: usize>(
    dtype: DType,
    panel: &Panel,
    columns: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    let run = if P::ONE && form(dtype) == Form::Blocks { 1 } else { run_of(dtype) };
    for row in (0..PANEL_ROWS).step_by(LANES * VECTORS) {
        if form(dtype) == Form::Blocks {
            match (way(dtype), run) {
                (Way::Signed, _) => blocks::<P, T, 1, true>(dtype, panel, columns, row, x, out),
                (_, 8) => blocks::<P, T, 8, false>(dtype, panel, columns, row, x, out),
                (_, 4) => blocks::<P, T, 4, false>(dtype, panel, columns, row, x, out),
                _ => blocks::<P, T, 1, false>(dtype, panel, columns, row, x, out),
            }
            continue;
        }
        match (way(dtype), sub_of(dtype), run) {
            (Way::Signed, 32, _) => super_blocks::<T, 32, 1, 0>(dtype, panel, row, x, out),
            (Way::Signed, ..) => super_blocks::<T, 16, 1, 0>(dtype, panel, row, x, out),
            (Way::Shifted, 32, _) => super_blocks::<T, 32, 1, 64>(dtype, panel, row, x, out),
            (Way::Shifted, ..) => super_blocks::<T, 16, 1, 64>(dtype, panel, row, x, out),
            (_, 32, 8) => super_blocks::<T, 32, 8, -1>(dtype, panel, row, x, out),
            (_, 32, _) => super_blocks::<T, 32, 4, -1>(dtype, panel, row, x, out),
            (_, _, 4) => super_blocks::<T, 16, 4, -1>(dtype, panel, row, x, out),
            _ => super_blocks::<T, 16, 2, -1>(dtype, panel, row, x, out),
        }
    }
}

/// Multiplies sixteen rows of blocks; `RUN` groups of four columns are summed in 16 bits first.
#[target_feature(enable = "avx2,fma,f16c")]
fn blocks<P: Dot, const T: usize, const RUN: usize, const SIGNED: bool>(
    dtype: DType,
    panel: &Panel,
    columns: usize,
    row: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    let (offset, mins) = (if SIGNED { 0 } else { offset(dtype) }, has_mins(dtype));
    let mut sums = load_sums(row, out);
    let quants = x.woven::<4>();
    for (group, quants) in quants.as_chunks::<{ GROUP / 4 }>().0.iter().enumerate() {
        let parts = group_of(&x.parts, group);
        let mut by = [[0; BLOCKS]; T];
        for t in 0..T {
            if offset != 0 {
                by[t] = offsets_of_blocks(parts[t], offset);
            }
        }
        for block in 0..BLOCKS.min(columns / BLOCK - BLOCKS * group) {
            let mut integers = [[_mm256_setzero_si256(); VECTORS]; T];
            let levels: &[u8; BLOCK * ROWS] =
                panel.levels(place(GROUP * group + BLOCK * block, row));
            let quants: &[[[i8; 4]; T]; BLOCK / 4] = &quants.as_chunks().0[block];
            for (levels, quants) in
                levels.as_chunks().0.as_chunks::<RUN>().0.iter().zip(quants.as_chunks::<RUN>().0)
            {
                if RUN > 1 {
                    let pairs = pairs_of::<T, RUN>(levels, quants);
                    for t in 0..T {
                        for v in 0..VECTORS {
                            let fours = _mm256_madd_epi16(pairs[t][v], _mm256_set1_epi16(1));
                            integers[t][v] = _mm256_add_epi32(integers[t][v], fours);
                        }
                    }
                    continue;
                }
                let levels = load_levels(&levels[0]);
                for t in 0..T {
                    let quants = _mm256_set1_epi32(word_of(quants[0][t]));
                    for v in 0..VECTORS {
                        let (levels, quants) = unsigned::<SIGNED>(levels[v], quants);
                        // SAFETY: guaranteed by the caller.
                        integers[t][v] = unsafe { P::dot(integers[t][v], levels, quants) };
                    }
                }
            }
            for t in 0..T {
                let part = parts[t];
                let (scale, total) =
                    (_mm256_set1_ps(part.scales[block]), _mm256_set1_ps(part.totals[block]));
                for v in 0..VECTORS {
                    let factors = panel.factors::<LANES>(BLOCKS * group + block, row + LANES * v);
                    let mut integers = integers[t][v];
                    if offset != 0 {
                        integers = _mm256_sub_epi32(integers, _mm256_set1_epi32(by[t][block]));
                    }
                    let scale = _mm256_mul_ps(load_f32(factors[0]), scale);
                    sums[t][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers), scale, sums[t][v]);
                    if mins {
                        sums[t][v] = _mm256_fmadd_ps(load_f32(factors[1]), total, sums[t][v]);
                    }
                }
            }
        }
    }
    store_sums(sums, row, out);
}

/// Multiplies sixteen rows of super-blocks; `RUN` groups of four columns are summed in 16 bits first. `SHIFT` is
/// subtracted from levels, which are then signed; -1: they stay unsigned.
#[target_feature(enable = "avx2,fma,f16c")]
fn super_blocks<const T: usize, const SUB: usize, const RUN: usize, const SHIFT: i8>(
    dtype: DType,
    panel: &Panel,
    row: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    let (offset, mins) = (if SHIFT < 0 { offset(dtype) } else { 0 }, has_mins(dtype));
    let mut sums = load_sums(row, out);
    let quants = x.woven::<4>();
    for (group, quants) in quants.as_chunks::<{ GROUP / 4 }>().0.iter().enumerate() {
        let parts = group_of(&x.parts, group);
        let mut totals = [[_mm256_setzero_si256(); VECTORS]; T];
        let (mut offsets, mut weighted) = ([[[0; BLOCKS]; 2]; T], [[0; BLOCKS]; T]);
        for t in 0..T {
            if offset != 0 {
                offsets[t] = offsets_of_subs::<SUB>(parts[t], offset);
            }
            if mins {
                weighted[t] = pairs_of_weighted::<SUB>(parts[t]);
            }
        }
        for sub in 0..GROUP / SUB {
            let scaled = |t: usize, v: usize| {
                let multiple = parts[t].multiples[0][sub * SUB / BLOCK];
                let scales = panel.scales::<LANES>(GROUP / SUB * group + sub, row + LANES * v);
                _mm256_mullo_epi16(load_pairs(scales), _mm256_set1_epi16(multiple))
            };
            let column = GROUP * group + SUB * sub;
            let levels = &panel.all_levels()[place(column, row)..][..SUB * ROWS];
            let levels: &[[u8; 4 * ROWS]] = levels.as_chunks().0;
            let quants = &quants[SUB / 4 * sub..][..SUB / 4];
            for (levels, quants) in
                levels.as_chunks::<RUN>().0.iter().zip(quants.as_chunks::<RUN>().0)
            {
                let pairs = if SHIFT < 0 {
                    pairs_of::<T, RUN>(levels, quants)
                } else {
                    signed_pairs_of::<T, RUN>(levels, quants, SHIFT)
                };
                for t in 0..T {
                    for v in 0..VECTORS {
                        let products = _mm256_madd_epi16(pairs[t][v], scaled(t, v));
                        totals[t][v] = _mm256_add_epi32(totals[t][v], products);
                    }
                }
            }
            if offset != 0 {
                for t in 0..T {
                    for v in 0..VECTORS {
                        let (half, block) = (sub % (BLOCK / SUB), sub * SUB / BLOCK);
                        let by = _mm256_set1_epi32(offsets[t][half][block]);
                        let products = _mm256_madd_epi16(scaled(t, v), by);
                        totals[t][v] = _mm256_sub_epi32(totals[t][v], products);
                    }
                }
            }
        }
        for t in 0..T {
            let scale = _mm256_set1_ps(parts[t].scale);
            for v in 0..VECTORS {
                let [d, _] = panel.factors::<LANES>(group, row + LANES * v);
                let scale = _mm256_mul_ps(load_f32(d), scale);
                sums[t][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals[t][v]), scale, sums[t][v]);
            }
        }
        if mins {
            for t in 0..T {
                let scale = _mm256_set1_ps(parts[t].weighted_scale);
                for v in 0..VECTORS {
                    let mut total = _mm256_setzero_si256();
                    for i in 0..GROUP / SUB / 2 {
                        let mins =
                            panel.mins::<LANES>(GROUP / SUB / 2 * group + i, row + LANES * v);
                        let by = _mm256_set1_epi32(weighted[t][i]);
                        let products = _mm256_madd_epi16(load_pairs(mins), by);
                        total = _mm256_add_epi32(total, products);
                    }
                    let [_, dmin] = panel.factors::<LANES>(group, row + LANES * v);
                    let scale = _mm256_mul_ps(load_f32(dmin), scale);
                    sums[t][v] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(total), scale, sums[t][v]);
                }
            }
        }
    }
    store_sums(sums, row, out);
}

/// The products of `RUN` times four columns, added in 16 bits.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pairs_of<const T: usize, const RUN: usize>(
    levels: &[[u8; 4 * ROWS]; RUN],
    quants: &[[[i8; 4]; T]; RUN],
) -> [[__m256i; VECTORS]; T] {
    let mut pairs = [[_mm256_setzero_si256(); VECTORS]; T];
    for i in 0..RUN {
        let levels = load_levels(&levels[i]);
        for t in 0..T {
            let quants = _mm256_set1_epi32(word_of(quants[i][t]));
            for v in 0..VECTORS {
                let products = _mm256_maddubs_epi16(levels[v], quants);
                pairs[t][v] =
                    if i == 0 { products } else { _mm256_add_epi16(pairs[t][v], products) };
                in_register(&mut pairs[t][v]);
            }
        }
    }
    pairs
}

/// As [`pairs_of`], of levels that are signed after subtracting `shift`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed_pairs_of<const T: usize, const RUN: usize>(
    levels: &[[u8; 4 * ROWS]; RUN],
    quants: &[[[i8; 4]; T]; RUN],
    shift: i8,
) -> [[__m256i; VECTORS]; T] {
    let mut pairs = [[_mm256_setzero_si256(); VECTORS]; T];
    for i in 0..RUN {
        let mut levels = load_levels(&levels[i]);
        for v in 0..VECTORS {
            levels[v] = _mm256_sub_epi8(levels[v], _mm256_set1_epi8(shift));
        }
        for t in 0..T {
            let quants = _mm256_set1_epi32(word_of(quants[i][t]));
            for v in 0..VECTORS {
                let (levels, quants) = unsigned::<true>(levels[v], quants);
                let products = _mm256_maddubs_epi16(levels, quants);
                pairs[t][v] =
                    if i == 0 { products } else { _mm256_add_epi16(pairs[t][v], products) };
                in_register(&mut pairs[t][v]);
            }
        }
    }
    pairs
}

/// Keeps the compiler from reordering products: with more of them at once than registers, it would store sums.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn in_register(sum: &mut __m256i) {
    // SAFETY: emits no instruction.
    unsafe {
        std::arch::asm!(
            "/* {s} */",
            s = inout(ymm_reg) * sum,
            options(nomem, nostack, preserves_flags)
        );
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_levels(levels: &[u8; 4 * ROWS]) -> [__m256i; VECTORS] {
    let [first, second] = levels.as_chunks().0 else { unreachable!("two halves") };
    [load(first), load(second)]
}

#[inline]
fn word_of(four: [i8; 4]) -> i32 {
    i32::from_le_bytes(four.map(i8::cast_unsigned))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_pairs(pairs: &[Pair; LANES]) -> __m256i {
    // SAFETY: 32 bytes, by the type; the load needs no alignment.
    unsafe { _mm256_loadu_si256(pairs.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_sums<const T: usize>(row: usize, out: &[[f32; PANEL_ROWS]; T]) -> [[__m256; VECTORS]; T] {
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; T];
    for t in 0..T {
        for v in 0..VECTORS {
            sums[t][v] = load_f32(out[t][row + LANES * v..].first_chunk().expect("of 32"));
        }
    }
    sums
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_sums<const T: usize>(
    sums: [[__m256; VECTORS]; T],
    row: usize,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    for t in 0..T {
        for v in 0..VECTORS {
            let out: &mut [f32; LANES] =
                out[t][row + LANES * v..].first_chunk_mut().expect("of 32");
            // SAFETY: 8 floats, by the type; the store needs no alignment.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums[t][v]) };
        }
    }
}

/// See [`crate::kernels::Limits`].
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn multiply_registers<P: Dot>(rounds: usize) -> usize {
    let x = std::hint::black_box(_mm256_set1_epi8(1));
    let (mut levels, mut sums) = ([x; 12], [_mm256_setzero_si256(); 12]);
    for _ in 0..rounds {
        // The compiler must assume that `levels` changed, so it computes the products again.
        std::hint::black_box(&mut levels);
        for (sum, level) in sums.iter_mut().zip(&levels) {
            // SAFETY: guaranteed by the caller.
            *sum = unsafe { P::dot(*sum, *level, x) };
        }
    }
    std::hint::black_box(sums);
    rounds * sums.len() * 32
}
