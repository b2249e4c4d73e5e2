//! Prefill: multiplies panels of unpacked rows with many rows of activations.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]

use super::dot::Dot;
use super::levels::STEP;
use super::vectors::{load, load_f32};
use crate::kernels::activations::{Tile, group_of};
use crate::kernels::blocks::{BLOCK, BLOCKS, Form, GROUP, form, has_mins, is_wide, offset, sub_of};
use crate::kernels::panel::{PANEL_COLUMNS, PANEL_ROWS, Pair, Panel};
use crate::kernels::x86::avx2::numbers::{
    offsets_of_blocks, offsets_of_halves, pairs_of_weighted, words_of,
};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Rows in a vector.
const LANES: usize = 16;
/// Vectors of rows that are multiplied together.
const VECTORS: usize = 2;

/// Adds the products of a panel's `columns` with `T` rows of activations to `out[t][row]`.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn multiply<P: Dot, const T: usize>(
    dtype: DType,
    panel: &Panel,
    columns: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    match (form(dtype), sub_of(dtype), is_wide(dtype) && !P::WIDE) {
        (Form::Blocks, _, true) => blocks::<P, T, true>(dtype, panel, columns, x, out),
        (Form::Blocks, _, false) => blocks::<P, T, false>(dtype, panel, columns, x, out),
        (_, 32, true) => super_blocks::<P, T, 32, true>(dtype, panel, x, out),
        (_, 32, false) => super_blocks::<P, T, 32, false>(dtype, panel, x, out),
        _ => super_blocks::<P, T, 16, false>(dtype, panel, x, out),
    }
}

/// Multiplies blocks of 32 columns.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn blocks<P: Dot, const T: usize, const WIDE: bool>(
    dtype: DType,
    panel: &Panel,
    columns: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    let (offset, mins) = (offset(dtype), has_mins(dtype));
    let mut sums = load_sums(out);
    let quants = x.woven::<4>();
    for (group, quants) in quants.as_chunks::<{ GROUP / 4 }>().0.iter().enumerate() {
        let parts = group_of(&x.parts, group);
        let mut by = [[0; BLOCKS]; T];
        for t in 0..T {
            if offset != 0 {
                by[t] = offsets_of_blocks(parts[t], -offset);
            }
        }
        for block in 0..BLOCKS.min(columns / BLOCK - BLOCKS * group) {
            let (column, quants) = (GROUP * group + BLOCK * block, &quants[BLOCK / 4 * block..]);
            let integers =
                integers::<P, T, 32, WIDE>(panel, column, quants, offset != 0, &by, block);
            for v in 0..VECTORS {
                let [scales, minima] = panel.factors(BLOCKS * group + block, LANES * v);
                let (scales, minima) = (load_f32(scales), load_f32(minima));
                for t in 0..T {
                    let part = parts[t];
                    let products = _mm512_cvtepi32_ps(integers[t][v]);
                    let scale = _mm512_mul_ps(scales, _mm512_set1_ps(part.scales[block]));
                    sums[t][v] = _mm512_fmadd_ps(products, scale, sums[t][v]);
                    if mins {
                        let total = _mm512_set1_ps(part.totals[block]);
                        sums[t][v] = _mm512_fmadd_ps(minima, total, sums[t][v]);
                    }
                }
            }
        }
    }
    store_sums(sums, out);
}

/// Multiplies super-blocks, `SUB` columns with a scale at a time.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn super_blocks<P: Dot, const T: usize, const SUB: usize, const WIDE: bool>(
    dtype: DType,
    panel: &Panel,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    let (offset, mins) = (offset(dtype), has_mins(dtype));
    let mut sums = load_sums(out);
    let quants = x.woven::<4>();
    for (group, quants) in quants.as_chunks::<{ GROUP / 4 }>().0.iter().enumerate() {
        let parts = group_of(&x.parts, group);
        let mut totals = [[_mm512_setzero_si512(); VECTORS]; T];
        let (mut by, mut multiples) = ([[[0; BLOCKS]; T]; 2], [[0; BLOCKS]; T]);
        let mut weighted = [[0; BLOCKS]; T];
        for t in 0..T {
            multiples[t] = words_of(&parts[t].multiples[0]);
            if offset != 0 {
                if SUB == 32 {
                    by[0][t] = offsets_of_blocks(parts[t], -offset);
                } else {
                    [by[0][t], by[1][t]] = offsets_of_halves(parts[t], -offset);
                }
            }
            if mins {
                weighted[t] = pairs_of_weighted::<SUB>(parts[t]);
            }
        }
        for sub in 0..GROUP / SUB {
            let (column, quants) = (GROUP * group + SUB * sub, &quants[SUB / 4 * sub..]);
            let block = sub * SUB / BLOCK;
            let by = &by[sub % (BLOCK / SUB)];
            let integers =
                integers::<P, T, SUB, WIDE>(panel, column, quants, offset != 0, by, block);
            for v in 0..VECTORS {
                let scales = load_pairs(panel.scales(GROUP / SUB * group + sub, LANES * v));
                for t in 0..T {
                    // The second of the two equal scales is multiplied by zero.
                    let scale = _mm512_madd_epi16(scales, _mm512_set1_epi32(multiples[t][block]));
                    let products = _mm512_mullo_epi32(integers[t][v], scale);
                    totals[t][v] = _mm512_add_epi32(totals[t][v], products);
                }
            }
        }
        for t in 0..T {
            let part = parts[t];
            for v in 0..VECTORS {
                let [d, dmin] = panel.factors(group, LANES * v);
                let scale = _mm512_mul_ps(load_f32(d), _mm512_set1_ps(part.scale));
                sums[t][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals[t][v]), scale, sums[t][v]);
                if mins {
                    let mut total = _mm512_setzero_si512();
                    for i in 0..GROUP / SUB / 2 {
                        let mins = load_pairs(panel.mins(GROUP / SUB / 2 * group + i, LANES * v));
                        let weighted = _mm512_set1_epi32(weighted[t][i]);
                        // SAFETY: guaranteed by the caller.
                        total = unsafe { P::add_pairs(total, mins, weighted) };
                    }
                    let scale = _mm512_mul_ps(load_f32(dmin), _mm512_set1_ps(part.weighted_scale));
                    sums[t][v] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(total), scale, sums[t][v]);
                }
            }
        }
    }
    store_sums(sums, out);
}

/// Products of `N` columns of all rows, those from `column` on of the panel, with `T` rows of activations. If there is an
/// offset, they are added to a number of each of these, `by[t][block]`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn integers<P: Dot, const T: usize, const N: usize, const WIDE: bool>(
    panel: &Panel,
    column: usize,
    quants: &[[[i8; 4]; T]],
    has_offset: bool,
    by: &[[i32; BLOCKS]; T],
    block: usize,
) -> [[__m512i; VECTORS]; T] {
    let mut integers = [[_mm512_setzero_si512(); VECTORS]; T];
    if has_offset {
        for t in 0..T {
            integers[t] = [_mm512_set1_epi32(by[t][block]); VECTORS];
        }
    }
    let all = panel.all_levels().as_chunks::<{ 4 * LANES }>().0;
    // Of a known length, so that nothing is checked in the loop.
    let at = column / 4;
    let first = &all[at..][..N / 4];
    let second = &all[PANEL_COLUMNS / 4 + at..][..N / 4];
    let quants = &quants[..N / 4];
    for four in 0..N / 4 {
        let levels = [load(&first[four]), load(&second[four])];
        for t in 0..T {
            let four =
                _mm512_set1_epi32(i32::from_le_bytes(quants[four][t].map(i8::cast_unsigned)));
            for v in 0..VECTORS {
                // SAFETY: guaranteed by the callers' caller.
                integers[t][v] = unsafe { P::dot::<WIDE>(integers[t][v], levels[v], four) };
            }
        }
    }
    integers
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn load_pairs(pairs: &[Pair; LANES]) -> __m512i {
    // SAFETY: 64 bytes, by the type; the load needs no alignment.
    unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn load_sums<const T: usize>(out: &[[f32; PANEL_ROWS]; T]) -> [[__m512; VECTORS]; T] {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; T];
    for t in 0..T {
        for v in 0..VECTORS {
            sums[t][v] = load_f32(&out[t].as_chunks().0[v]);
        }
    }
    sums
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn store_sums<const T: usize>(sums: [[__m512; VECTORS]; T], out: &mut [[f32; PANEL_ROWS]; T]) {
    for t in 0..T {
        for v in 0..VECTORS {
            let out: &mut [f32; LANES] = &mut out[t].as_chunks_mut().0[v];
            // SAFETY: 16 floats, by the type; the store needs no alignment.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums[t][v]) };
        }
    }
}

/// See [`crate::kernels::Limits`].
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn multiply_registers<P: Dot>(rounds: usize) -> usize {
    let x = std::hint::black_box(_mm512_set1_epi8(1));
    let (mut levels, mut sums) = ([x; 16], [_mm512_setzero_si512(); 16]);
    for _ in 0..rounds {
        // The compiler must assume that `levels` changed, so it computes the products again.
        std::hint::black_box(&mut levels);
        for (sum, level) in sums.iter_mut().zip(&levels) {
            // SAFETY: guaranteed by the caller.
            *sum = unsafe { P::dot::<false>(*sum, *level, x) };
        }
    }
    std::hint::black_box(sums);
    rounds * sums.len() * STEP
}
