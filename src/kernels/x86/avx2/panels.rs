//! Prefill: multiplies panels of unpacked rows with many rows of activations.

#![expect(unsafe_code, reason = "vector stores whose extent is argued beside them")]

use super::dot::Dot;
use super::vectors::{load, load_f32, term, transpose_words};
use crate::kernels::activations::{BLOCK, Tile};
use crate::kernels::blocks::{GROUP, Group, SUB, group_bytes, is_wide, sub_of, unpack};
use crate::kernels::panel::{PANEL_COLUMNS, PANEL_ROWS, Panel, Place};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Rows in a vector of scales.
const LANES: usize = 8;

/// Unpacks some columns of a panel's rows, eight rows at a time: each becomes a [`Group`], then 8 × 8 words of four
/// levels are transposed.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn unpack_panel<'a>(dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let step = sub_of(dtype) / SUB;
    let mut groups = [Group::ZERO; LANES];
    for first in (0..PANEL_ROWS).step_by(LANES) {
        let rows: [&[u8]; LANES] = std::array::from_fn(|i| row(first + i));
        let (sixteen, part) = (first / 16 * 16, first % 16);
        for number in 0..rows[0].len().div_ceil(group_bytes(dtype)) {
            let at = number * group_bytes(dtype);
            let bytes = at..rows[0].len().min(at + group_bytes(dtype));
            let columns = bytes.len() / dtype.block_bytes() * dtype.block_elements();
            for i in 0..LANES {
                unpack(dtype, &rows[i][bytes.clone()], &mut groups[i]);
            }
            for eight in 0..columns / 32 {
                let mut fours = [_mm256_setzero_si256(); LANES];
                for (four, group) in fours.iter_mut().zip(&groups) {
                    *four = load(group.levels[32 * eight..].first_chunk().expect("of 256"));
                }
                fours = transpose_words(fours);
                for (i, fours) in fours.into_iter().enumerate() {
                    let levels = panel.levels_mut(number * GROUP / 4 + 8 * eight + i, sixteen);
                    let out: &mut [u8; 32] = levels[4 * part..].first_chunk_mut().expect("of 64");
                    // SAFETY: 32 bytes, by the type; the store needs no alignment.
                    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), fours) };
                }
            }
            for sub in 0..columns / SUB / step {
                let place = Place { sub: number * GROUP / SUB / step + sub, row: sixteen };
                let scales = &mut panel.scales_mut(place)[part..part + LANES];
                scales.iter_mut().zip(&groups).for_each(|(s, group)| *s = group.scales[sub * step]);
                let minima = &mut panel.minima_mut(place)[part..part + LANES];
                minima.iter_mut().zip(&groups).for_each(|(m, group)| *m = group.mins[sub * step]);
            }
        }
    }
}

/// Adds the products of a panel's `columns` with `T` rows of activations to `out[t][row]`.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn multiply<P: Dot, const T: usize, const SUB: usize>(
    dtype: DType,
    panel: &Panel,
    columns: usize,
    x: Tile<'_, T>,
    out: &mut [[f32; PANEL_ROWS]; T],
) {
    let multiply = match (is_wide(dtype) && !P::WIDE, if P::WIDE { 1 } else { run_of(dtype) }) {
        (true, _) => multiply_eight::<P, T, SUB, 1, true>,
        (_, 1) => multiply_eight::<P, T, SUB, 1, false>,
        (_, 2) => multiply_eight::<P, T, SUB, 2, false>,
        (_, 8) if SUB == 32 => multiply_eight::<P, T, SUB, 8, false>,
        _ => multiply_eight::<P, T, SUB, 4, false>,
    };
    for eight in 0..PANEL_ROWS / 8 {
        let mut sums = [_mm256_setzero_ps(); T];
        for t in 0..T {
            sums[t] = load_f32(out[t][8 * eight..].first_chunk().expect("of 32"));
        }
        let sums = multiply(panel, 8 * eight, columns, x, sums);
        for t in 0..T {
            let out: &mut [f32; 8] = out[t][8 * eight..].first_chunk_mut().expect("of 32");
            // SAFETY: 8 floats, by the type; the store needs no alignment.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums[t]) };
        }
    }
}

/// How many groups of four products fit in 16 bits together: 8 for levels of 4 bits, 4 for 5 bits, 2 for 6 bits,
/// otherwise 1. Sub-blocks of `Q2_K` and `Q3_K` have only four groups.
fn run_of(dtype: DType) -> usize {
    use DType as T;
    match dtype {
        T::Q4_0 | T::Q4_1 | T::Q4_K => 8,
        T::Q5_0 | T::Q5_1 | T::MXFP4 | T::Q2_K | T::Q3_K | T::Q5_K => 4,
        T::Q6_K => 2,
        _ => 1,
    }
}

/// Multiplies eight rows of the panel; `RUN` groups of four columns are summed in 16 bits first.
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_eight<
    P: Dot,
    const T: usize,
    const SUB: usize,
    const RUN: usize,
    const SIGNED: bool,
>(
    panel: &Panel,
    row: usize,
    columns: usize,
    x: Tile<'_, T>,
    mut sums: [__m256; T],
) -> [__m256; T] {
    let (sixteen, part) = (row / 16 * 16, row % 16);
    let sums_of_x = if SUB == 32 { x.sums32 } else { x.sums16 };
    assert!(columns <= PANEL_COLUMNS && sums_of_x.len() >= columns / SUB);
    let quants = x.woven::<4>();
    assert!(quants.len() >= columns / 4 && x.scales.len() >= columns.div_ceil(BLOCK));
    for sub in 0..columns / SUB {
        let mut integers = [_mm256_setzero_si256(); T];
        for run in 0..SUB / 4 / RUN {
            let mut pairs = [_mm256_setzero_si256(); T];
            for four in sub * SUB / 4 + run * RUN..sub * SUB / 4 + (run + 1) * RUN {
                let levels = &panel.levels(four, sixteen)[4 * part..];
                let levels = load(levels.first_chunk().expect("of 64"));
                // SAFETY: within the columns, by the assertion above.
                let x = unsafe { quants.get_unchecked(four) };
                for t in 0..T {
                    let four = i32::from_le_bytes(x[t].map(i8::cast_unsigned));
                    let four = _mm256_set1_epi32(four);
                    if RUN == 1 {
                        // SAFETY: guaranteed by the caller.
                        integers[t] = unsafe { P::dot::<SIGNED>(integers[t], levels, four) };
                    } else {
                        let products = _mm256_maddubs_epi16(levels, four);
                        pairs[t] = _mm256_add_epi16(pairs[t], products);
                    }
                }
            }
            if RUN > 1 {
                for t in 0..T {
                    let fours = _mm256_madd_epi16(pairs[t], _mm256_set1_epi16(1));
                    integers[t] = _mm256_add_epi32(integers[t], fours);
                }
            }
        }
        // SAFETY: within the columns, by the assertions above.
        let (sum, scale) =
            unsafe { (sums_of_x.get_unchecked(sub), x.scales.get_unchecked(sub * SUB / BLOCK)) };
        let place = Place { sub, row: sixteen };
        let scales = load_f32(panel.scales(place)[part..].first_chunk().expect("of 16"));
        let minima = load_f32(panel.minima(place)[part..].first_chunk().expect("of 16"));
        for t in 0..T {
            let term = term::<SIGNED>(integers[t], scales, minima, sum[t]);
            sums[t] = _mm256_fmadd_ps(term, _mm256_set1_ps(scale[t]), sums[t]);
        }
    }
    sums
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
            *sum = unsafe { P::dot::<false>(*sum, *level, x) };
        }
    }
    std::hint::black_box(sums);
    rounds * sums.len() * 32
}
