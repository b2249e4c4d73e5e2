//! Multiplies rows of super-blocks.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::QUAD;
use super::dot::Dot;
use super::levels::Levels;
use super::tile::{LANES, Tile, add_super_blocks, halves_of_quads};
use super::vectors::{load_signed, sum_words};
use crate::kernels::activations::Part;
use crate::kernels::x86::avx2::decode::{Decode, Super};
use crate::kernels::x86::avx2::tile::load_halves;
use crate::kernels::x86::avx2::vectors as avx2;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Types of super-blocks.
pub struct BySuper<D>(PhantomData<D>);

impl<D: Super + Levels> Tile for BySuper<D> {
    type Type = D;
    const SLOTS: usize = 1 + D::MINS as usize;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        _: usize,
        x: [&Part; T],
        out: &mut [__m512i],
    ) {
        let mut totals = [_mm512_setzero_si512(); QUAD];
        let mut minima = [_mm256_setzero_si256(); QUAD];
        let count = QUAD / T;
        for r in 0..count {
            // SAFETY: guaranteed by the caller.
            let scales = unsafe { D::scales(rows[r]) };
            let mut scaled = [_mm512_setzero_si512(); T];
            let mut products = [_mm512_setzero_si512(); T];
            for t in 0..T {
                let by = _mm256_mullo_epi16(scales, load_halves(&x[t].multiples));
                scaled[t] = _mm512_broadcast_i64x4(by);
                if D::OFFSET != 0 {
                    let sums = _mm256_madd_epi16(by, load_halves(&x[t].sums));
                    let offset = _mm256_mullo_epi32(sums, _mm256_set1_epi32(-D::OFFSET));
                    products[t] = _mm512_zextsi256_si512(offset);
                }
                if D::MINS {
                    // SAFETY: guaranteed by the caller.
                    let mins = unsafe { D::mins(rows[r]) };
                    minima[t * count + r] = _mm256_madd_epi16(mins, load_halves(&x[t].weighted));
                }
            }
            for step in 0..4 {
                // SAFETY: guaranteed by the caller.
                let levels = unsafe { D::levels_of(rows[r], step) };
                for t in 0..T {
                    let quants = load_signed(&x[t].quants.as_chunks().0[step]);
                    let pairs = pairs_of::<D>(levels, quants);
                    let scale = _mm512_shuffle_epi8(scaled[t], words(step));
                    // SAFETY: guaranteed by the caller.
                    products[t] = unsafe { P::add_pairs(products[t], pairs, scale) };
                }
            }
            for t in 0..T {
                totals[t * count + r] = products[t];
            }
        }
        out[0] = sum_words(totals);
        if D::MINS {
            out[1] = _mm512_zextsi256_si512(avx2::sum_words(minima));
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        _: usize,
        x: [&Part; T],
        kept: &[__m512i],
        next: usize,
        sums: __m512,
    ) -> __m512 {
        let [first_half, second_half] = halves_of_quads(kept, next, 0);
        let totals = _mm512_add_epi32(first_half, second_half);
        // The other halves of mins are zero.
        let [minima, _] = halves_of_quads(kept, next, usize::from(D::MINS));
        // SAFETY: guaranteed by the caller.
        unsafe { add_super_blocks::<D, T>(totals, minima, rows, x, sums) }
    }
}

/// Types whose super-blocks begin as those of `Q4_K` do: scales and mins of four rows are decoded at once.
pub struct ByHeads<D>(PhantomData<D>);

impl<D: Super + Levels> Tile for ByHeads<D> {
    type Type = D;
    const SLOTS: usize = 2;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        blocks: usize,
        x: [&Part; T],
        out: &mut [__m512i],
    ) {
        if T > 1 {
            // A quad has fewer rows.
            // SAFETY: guaranteed by the caller.
            return unsafe { BySuper::<D>::products::<P, T>(rows, blocks, x, out) };
        }
        // SAFETY: guaranteed by the caller.
        let (scales, mins) = unsafe { scales_and_mins(rows) };
        let (multiples, weighted) = of_blocks(x[0]);
        let scaled = _mm512_mullo_epi16(scales, multiples);
        // SAFETY: guaranteed by the caller.
        let totals = unsafe {
            [
                products_of::<D, P>(rows[0], _mm512_shuffle_i32x4::<0x00>(scaled, scaled), x[0]),
                products_of::<D, P>(rows[1], _mm512_shuffle_i32x4::<0x55>(scaled, scaled), x[0]),
                products_of::<D, P>(rows[2], _mm512_shuffle_i32x4::<0xaa>(scaled, scaled), x[0]),
                products_of::<D, P>(rows[3], _mm512_shuffle_i32x4::<0xff>(scaled, scaled), x[0]),
            ]
        };
        out[0] = sum_words(totals);
        out[1] = _mm512_madd_epi16(mins, weighted);
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        blocks: usize,
        x: [&Part; T],
        kept: &[__m512i],
        next: usize,
        sums: __m512,
    ) -> __m512 {
        if T > 1 {
            // SAFETY: guaranteed by the caller.
            return unsafe { BySuper::<D>::add::<P, T>(rows, blocks, x, kept, next, sums) };
        }
        let [first_half, second_half] = halves_of_quads(kept, next, 0);
        let totals = _mm512_add_epi32(first_half, second_half);
        // Mins are (row, part of the sum) of each quad; their sums are (row, quad).
        let minima = sum_words([kept[1], kept[next + 1], kept[2 * next + 1], kept[3 * next + 1]]);
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let minima = _mm512_permutexvar_epi32(order, minima);
        // SAFETY: guaranteed by the caller.
        unsafe { add_super_blocks::<D, T>(totals, minima, rows, x, sums) }
    }
}

/// Scales and mins of four rows, a row in each quarter.
///
/// # Safety
/// The pointers are those of super-blocks that begin with d, dmin and twelve bytes of scales and mins.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn scales_and_mins(rows: [*const u8; QUAD]) -> (__m512i, __m512i) {
    // As for a single row.
    let low = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    let high = _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11);
    let six_or_four = _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f);
    let shifts = _mm_setr_epi32(0, 0, 0, 4);
    // SAFETY: guaranteed by the caller.
    let heads = unsafe {
        let first =
            _mm256_set_m128i(_mm_loadu_si128(rows[1].cast()), _mm_loadu_si128(rows[0].cast()));
        let second =
            _mm256_set_m128i(_mm_loadu_si128(rows[3].cast()), _mm_loadu_si128(rows[2].cast()));
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
    };
    let low = _mm512_shuffle_epi8(heads, _mm512_broadcast_i32x4(low));
    let low = _mm512_srlv_epi32(low, _mm512_broadcast_i32x4(shifts));
    let high = _mm512_shuffle_epi8(heads, _mm512_broadcast_i32x4(high));
    let high = _mm512_and_si512(_mm512_srli_epi16::<2>(high), _mm512_set1_epi8(0x30));
    let low = _mm512_and_si512(low, _mm512_broadcast_i32x4(six_or_four));
    let (bytes, zero) = (_mm512_or_si512(low, high), _mm512_setzero_si512());
    (_mm512_unpacklo_epi8(bytes, zero), _mm512_unpackhi_epi8(bytes, zero))
}

/// The multiples and the weighted sums of whole blocks, in all quarters.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn of_blocks(x: &Part) -> (__m512i, __m512i) {
    // SAFETY: sixteen bytes each, by the type; the loads need no alignment.
    let (multiples, first, second) = unsafe {
        (
            _mm_loadu_si128(x.multiples[0].as_ptr().cast()),
            _mm_loadu_si128(x.weighted[0].as_ptr().cast()),
            _mm_loadu_si128(x.weighted[1].as_ptr().cast()),
        )
    };
    (_mm512_broadcast_i32x4(multiples), _mm512_broadcast_i32x4(_mm_add_epi16(first, second)))
}

/// Products of a row's super-block with a token, in sixteen parts; all quarters of `scaled` have the same eight numbers.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; the pointer is that of a super-block.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn products_of<D: Levels, P: Dot>(row: *const u8, scaled: __m512i, x: &Part) -> __m512i {
    let mut products = _mm512_setzero_si512();
    for step in 0..4 {
        let quants = load_signed(&x.quants.as_chunks().0[step]);
        // SAFETY: guaranteed by the caller.
        let pairs = pairs_of::<D>(unsafe { D::levels_of(row, step) }, quants);
        let scale = _mm512_shuffle_epi8(scaled, words(step));
        // SAFETY: guaranteed by the caller.
        products = unsafe { P::add_pairs(products, pairs, scale) };
    }
    products
}

/// Shuffle indices that repeat word `2 · step` in the first two quarters and the next one in the others.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn words(step: usize) -> __m512i {
    // Bytes 2n and 2n + 1 for word n.
    let first = _mm256_set1_epi16((0x0100 + 0x0404 * step) as i16);
    let second = _mm256_set1_epi16((0x0302 + 0x0404 * step) as i16);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
}

/// Products of levels and quants, added in pairs.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn pairs_of<D: Decode>(levels: __m512i, quants: __m512i) -> __m512i {
    if !D::SIGNED {
        return _mm512_maddubs_epi16(levels, quants);
    }
    // The levels' signs move to the quants.
    let levels = _mm512_xor_si512(levels, _mm512_set1_epi8(-128));
    let negative = _mm512_movepi8_mask(levels);
    let quants = _mm512_mask_sub_epi8(quants, negative, _mm512_setzero_si512(), quants);
    _mm512_maddubs_epi16(_mm512_abs_epi8(levels), quants)
}
