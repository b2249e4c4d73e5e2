//! Prefill: multiplies panels of unpacked rows with many rows of activations.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]

use super::decode::{Decode, STEP};
use super::dot::Dot;
use super::types::for_type;
use super::vectors::{load, load_f32, store, transpose};
use crate::kernels::activations::{BLOCK, Tile};
use crate::kernels::blocks::{GROUP, is_wide};
use crate::kernels::panel::{PANEL_COLUMNS, PANEL_ROWS, Panel, Place};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Unpacks some columns of rows `row(0)` to `row(PANEL_ROWS - 1)` into a panel.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn unpack_panel<'a>(dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let size = row(0).len();
    let odd = dtype.block_elements() == BLOCK && !size.is_multiple_of(2 * dtype.block_bytes());
    if odd {
        return panel.unpack(dtype, row);
    }
    for_type!(dtype, D => unpack_panel_of::<D>(row, panel), panel.unpack(dtype, row));
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn unpack_panel_of<'a, D: Decode>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let size = GROUP / D::COLUMNS * D::BYTES;
    for first in (0..PANEL_ROWS).step_by(16) {
        let mut rows = [row(first); 16];
        for i in 1..16 {
            rows[i] = row(first + i);
        }
        let len = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == len));
        for at in (0..len).step_by(size) {
            let column = at / D::BYTES * D::COLUMNS;
            let group_len = size.min(len - at);
            let mut scales = [_mm512_setzero_si512(); 16];
            let mut minima = [_mm512_setzero_si512(); 16];
            for i in 0..16 {
                // SAFETY: each row holds `group_len` bytes from `at` on.
                let found = unsafe { D::scales(rows[i].as_ptr().add(at), group_len) };
                scales[i] = _mm512_castps_si512(found.0);
                minima[i] = _mm512_castps_si512(found.1);
            }
            let scales = transpose(scales);
            if D::SUB == 32 {
                for i in 0..8 {
                    let place = Place { sub: column / 32 + i, row: first };
                    store(panel.scales_mut(place), scales[i]);
                    store(panel.minima_mut(place), scales[8 + i]);
                }
            } else {
                let minima = transpose(minima);
                for i in 0..16 {
                    let place = Place { sub: column / 16 + i, row: first };
                    store(panel.scales_mut(place), scales[i]);
                    store(panel.minima_mut(place), minima[i]);
                }
            }
            for step in 0..group_len / D::BYTES * D::COLUMNS / STEP {
                let mut levels = [_mm512_setzero_si512(); 16];
                for i in 0..16 {
                    // SAFETY: the number of blocks is even, and this is one pair of them.
                    levels[i] = unsafe { D::levels(rows[i].as_ptr().add(at), step) };
                }
                let levels = transpose(levels);
                for i in 0..16 {
                    let out = panel.levels_mut((column + STEP * step) / 4 + i, first);
                    // SAFETY: 64 bytes, by the type; the store needs no alignment.
                    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), levels[i]) };
                }
            }
        }
    }
}

/// Adds the products of a panel's `columns` with `T` rows of activations to `out[t][row]`, sub-block by sub-block.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn multiply<P: Dot, const T: usize, const SUB: usize>(
    dtype: DType,
    panel: &Panel,
    columns: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    if is_wide(dtype) && !P::WIDE {
        multiply_of::<P, T, SUB, true>(panel, columns, x, out);
    } else {
        multiply_of::<P, T, SUB, false>(panel, columns, x, out);
    }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn multiply_of<P: Dot, const T: usize, const SUB: usize, const WIDE: bool>(
    panel: &Panel,
    columns: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; T];
    for t in 0..T {
        let old = out[t].as_chunks().0;
        sums[t] = [load_f32(&old[0]), load_f32(&old[1])];
    }
    let subs = columns / SUB;
    let sums_of_x = if SUB == 32 { x.sums32 } else { x.sums16 };
    assert!(columns <= PANEL_COLUMNS && sums_of_x.len() >= subs);
    let quants = x.woven::<4>();
    assert!(quants.len() >= columns / 4 && x.scales.len() >= columns.div_ceil(BLOCK));
    for sub in 0..subs {
        let mut integers = [[_mm512_setzero_si512(); 2]; T];
        for four in sub * SUB / 4..(sub + 1) * SUB / 4 {
            let levels = [load(panel.levels(four, 0)), load(panel.levels(four, 16))];
            // SAFETY: within the columns, by the assertion above.
            let x = unsafe { quants.get_unchecked(four) };
            for t in 0..T {
                let four = _mm512_set1_epi32(i32::from_le_bytes(x[t].map(i8::cast_unsigned)));
                for r in 0..2 {
                    // SAFETY: guaranteed by the caller.
                    integers[t][r] = unsafe { P::dot::<WIDE>(integers[t][r], levels[r], four) };
                }
            }
        }
        // SAFETY: within the columns, by the assertions above.
        let (sum, scale) =
            unsafe { (sums_of_x.get_unchecked(sub), x.scales.get_unchecked(sub * SUB / BLOCK)) };
        for r in 0..2 {
            let place = Place { sub, row: 16 * r };
            let (scales, minima) = (load_f32(panel.scales(place)), load_f32(panel.minima(place)));
            for t in 0..T {
                let minima = _mm512_mul_ps(minima, _mm512_set1_ps(sum[t]));
                let term = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers[t][r]), scales, minima);
                sums[t][r] = _mm512_fmadd_ps(term, _mm512_set1_ps(scale[t]), sums[t][r]);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
            store(out, _mm512_castps_si512(sum));
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
