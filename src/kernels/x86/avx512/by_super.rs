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
    type Prepared = ();

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
        (x, ()): ([&Part; T], &()),
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
