//! Multiplies rows of super-blocks, one after the other.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::QUAD;
use super::decode::{Decode, Super};
use super::dot::{Dot, unsigned};
use super::tile::{LANES, Tile, add_super_blocks, load_halves, word};
use super::vectors::{load_signed, sum_halves, sum_words};
use crate::kernels::activations::Part;
use crate::kernels::blocks::BLOCKS;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Types of super-blocks, row by row.
pub struct ByRow<D>(PhantomData<D>);

impl<D: Super> Tile for ByRow<D> {
    type Type = D;
    const SLOTS: usize = 1 + D::MINS as usize;
    type Prepared = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        _: usize,
        x: [&Part; T],
        out: &mut [__m256i],
    ) {
        let (mut totals, mut minima) =
            ([_mm256_setzero_si256(); QUAD], [_mm256_setzero_si256(); QUAD]);
        let count = QUAD / T;
        for r in 0..count {
            // SAFETY: guaranteed by the caller.
            let [products, mins] = unsafe { products::<D, T>(rows[r], x) };
            for t in 0..T {
                totals[t * count + r] = products[t];
                minima[t * count + r] = mins[t];
            }
        }
        out[0] = sum_words(totals);
        if D::MINS {
            out[1] = sum_words(minima);
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        _: usize,
        (x, ()): ([&Part; T], &()),
        kept: &[__m256i],
        next: usize,
        sums: __m256,
    ) -> __m256 {
        let totals = sum_halves([kept[0], kept[next]]);
        let minima = if D::MINS { sum_halves([kept[1], kept[next + 1]]) } else { totals };
        // SAFETY: guaranteed by the caller.
        unsafe { add_super_blocks::<D, T>(totals, minima, rows, x, sums) }
    }
}

/// Products of a row's super-block with each token, and of its mins, in eight parts each.
///
/// # Safety
/// The processor has the instruction set of this module; the pointer is that of a super-block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn products<D: Super, const T: usize>(row: *const u8, x: [&Part; T]) -> [[__m256i; T]; 2] {
    let mut read = D::Read::default();
    // SAFETY: guaranteed by the caller.
    let scales = unsafe {
        D::read(row, &mut read);
        D::scales(row)
    };
    let (mut products, mut minima) = ([_mm256_setzero_si256(); T], [_mm256_setzero_si256(); T]);
    let mut scaled = [scales; T];
    for t in 0..T {
        scaled[t] = _mm256_mullo_epi16(scales, load_halves(&x[t].multiples));
        if D::OFFSET != 0 {
            let sums = _mm256_madd_epi16(scaled[t], load_halves(&x[t].sums));
            let offset = _mm256_mullo_epi32(sums, _mm256_set1_epi32(D::OFFSET));
            products[t] = _mm256_sub_epi32(products[t], offset);
        }
        if D::MINS {
            // SAFETY: guaranteed by the caller.
            let mins = unsafe { D::mins(row) };
            minima[t] = _mm256_madd_epi16(mins, load_halves(&x[t].weighted));
        }
    }
    for part in 0..BLOCKS {
        // SAFETY: guaranteed by the caller.
        let levels = unsafe { D::levels(row, &read, part) };
        for t in 0..T {
            let quants = load_signed(&x[t].quants.as_chunks().0[part]);
            let pairs = pairs_of::<D>(levels, quants);
            let scale = _mm256_shuffle_epi8(scaled[t], word(part));
            products[t] = _mm256_add_epi32(products[t], _mm256_madd_epi16(pairs, scale));
        }
    }
    [products, minima]
}

/// Products of levels and quants, added in pairs.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn pairs_of<D: Decode>(levels: __m256i, quants: __m256i) -> __m256i {
    if D::SIGNED {
        let (levels, quants) = unsigned::<true>(levels, quants);
        return _mm256_maddubs_epi16(levels, quants);
    }
    _mm256_maddubs_epi16(levels, quants)
}
