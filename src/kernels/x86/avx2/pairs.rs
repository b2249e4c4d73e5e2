//! Multiplies rows of `Q4_K` and `Q5_K` two by two, for one or two tokens: each half of a vector holds sixteen columns
//! of one row.
//!
//! Products of the two halves of a block are added in 16 bits, so that half as many are scaled, and a row's sum is left
//! in four lanes instead of eight.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::by_row::ByRow;
use super::decode::{Q4_K, Q5_K, Super};
use super::dot::Dot;
use super::tile::{Tile, add_super_blocks, word};
use super::vectors::sum_words;
use crate::kernels::activations::Part;
use crate::kernels::blocks::BLOCKS;
use crate::kernels::x86::frame::QUAD;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Types whose super-blocks begin as those of `Q4_K` do, two rows at a time.
pub struct Pairs<D>(PhantomData<D>);

/// A type whose 32 bytes of nibbles hold two blocks each: the low nibbles of one, the high ones of the next.
pub trait Nibbles: Super {
    /// Place of the nibbles in a super-block.
    const AT: usize;

    /// The sixteen columns of two rows in `half` of the blocks `2 · two` and `2 · two + 1`, from their `bytes`.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; the pointers are those of super-blocks.
    unsafe fn levels_of_two(
        rows: [*const u8; 2],
        bytes: __m256i,
        two: usize,
        half: usize,
    ) -> [__m256i; 2];
}

impl Nibbles for Q4_K {
    const AT: usize = 16;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn levels_of_two(_: [*const u8; 2], bytes: __m256i, _: usize, _: usize) -> [__m256i; 2] {
        nibbles(bytes)
    }
}

impl Nibbles for Q5_K {
    const AT: usize = 48;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn levels_of_two(
        rows: [*const u8; 2],
        bytes: __m256i,
        two: usize,
        half: usize,
    ) -> [__m256i; 2] {
        // SAFETY: the trait guarantees 32 bytes of fifth bits after sixteen others.
        let fifths = unsafe { sixteen_of_two(rows, 16 + 16 * half) };
        // The fifth bit of either block moves to bit 4.
        let (first, second) = match two {
            0 => (_mm256_slli_epi16::<4>(fifths), _mm256_slli_epi16::<3>(fifths)),
            1 => (_mm256_slli_epi16::<2>(fifths), _mm256_slli_epi16::<1>(fifths)),
            2 => (fifths, _mm256_srli_epi16::<1>(fifths)),
            _ => (_mm256_srli_epi16::<2>(fifths), _mm256_srli_epi16::<3>(fifths)),
        };
        let bit = _mm256_set1_epi8(16);
        let [low, high] = nibbles(bytes);
        [
            _mm256_or_si256(low, _mm256_and_si256(first, bit)),
            _mm256_or_si256(high, _mm256_and_si256(second, bit)),
        ]
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn nibbles(bytes: __m256i) -> [__m256i; 2] {
    let low = _mm256_set1_epi8(15);
    [_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low)]
}

/// Sixteen bytes of each row.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn sixteen_of_two(rows: [*const u8; 2], at: usize) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let half = |row: *const u8| unsafe { _mm_loadu_si128(row.add(at).cast()) };
    _mm256_set_m128i(half(rows[1]), half(rows[0]))
}

/// Scales and mins of two rows, a row in each half.
///
/// # Safety
/// The pointers are those of super-blocks that begin with d, dmin and twelve bytes of scales and mins.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn scales_and_mins(rows: [*const u8; 2]) -> (__m256i, __m256i) {
    // As for a single row.
    let low = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    let high = _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11);
    let six_or_four = _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f);
    let shifts = _mm_setr_epi32(0, 0, 0, 4);
    // SAFETY: guaranteed by the caller.
    let head = unsafe { sixteen_of_two(rows, 0) };
    let low = _mm256_shuffle_epi8(head, _mm256_broadcastsi128_si256(low));
    let low = _mm256_srlv_epi32(low, _mm256_broadcastsi128_si256(shifts));
    let high = _mm256_shuffle_epi8(head, _mm256_broadcastsi128_si256(high));
    let high = _mm256_and_si256(_mm256_srli_epi16::<2>(high), _mm256_set1_epi8(0x30));
    let low = _mm256_and_si256(low, _mm256_broadcastsi128_si256(six_or_four));
    let bytes = _mm256_or_si256(low, high);
    let zero = _mm256_setzero_si256();
    (_mm256_unpacklo_epi8(bytes, zero), _mm256_unpackhi_epi8(bytes, zero))
}

impl<D: Nibbles> Tile for Pairs<D> {
    type Type = D;
    // Two vectors of totals, two of mins: each has a row in either half.
    const SLOTS: usize = 4;
    type Prepared = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        blocks: usize,
        x: [&Part; T],
        out: &mut [__m256i],
    ) {
        if T > 2 {
            // A quad has only one row.
            // SAFETY: guaranteed by the caller.
            return unsafe { ByRow::<D>::products::<P, T>(rows, blocks, x, out) };
        }
        for pair in 0..2 / T {
            let rows = [rows[2 * pair], rows[2 * pair + 1]];
            // SAFETY: guaranteed by the caller.
            let (scales, mins) = unsafe { scales_and_mins(rows) };
            let (mut products, mut scaled) = ([_mm256_setzero_si256(); T], [scales; T]);
            for t in 0..T {
                let (multiples, weighted) = of_blocks(x[t]);
                scaled[t] = _mm256_mullo_epi16(scales, multiples);
                out[2 + pair + t] = _mm256_madd_epi16(mins, weighted);
            }
            for two in 0..BLOCKS / 2 {
                let place = D::AT + 32 * two;
                // SAFETY: guaranteed by the caller.
                let (first, second) = unsafe {
                    (
                        D::levels_of_two(rows, sixteen_of_two(rows, place), two, 0),
                        D::levels_of_two(rows, sixteen_of_two(rows, place + 16), two, 1),
                    )
                };
                for t in 0..T {
                    for odd in 0..2 {
                        let block = 2 * two + odd;
                        // Four products of 31 · 127 fit in 16 bits.
                        let low = _mm256_maddubs_epi16(first[odd], quants(x[t], 2 * block));
                        let high = _mm256_maddubs_epi16(second[odd], quants(x[t], 2 * block + 1));
                        let scale = _mm256_shuffle_epi8(scaled[t], word(block));
                        let fours = _mm256_madd_epi16(_mm256_add_epi16(low, high), scale);
                        products[t] = _mm256_add_epi32(products[t], fours);
                    }
                }
            }
            out[pair..pair + T].copy_from_slice(&products);
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; 8],
        blocks: usize,
        (x, ()): ([&Part; T], &()),
        kept: &[__m256i],
        next: usize,
        sums: __m256,
    ) -> __m256 {
        if T > 2 {
            // SAFETY: guaranteed by the caller.
            return unsafe { ByRow::<D>::add::<P, T>(rows, blocks, (x, &()), kept, next, sums) };
        }
        // From (half, vector) to (vector, half).
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let (first, second) = (&kept[..4], &kept[next..][..4]);
        let totals = sum_words([first[0], first[1], second[0], second[1]]);
        let minima = sum_words([first[2], first[3], second[2], second[3]]);
        let totals = _mm256_permutevar8x32_epi32(totals, order);
        let minima = _mm256_permutevar8x32_epi32(minima, order);
        // SAFETY: guaranteed by the caller.
        unsafe { add_super_blocks::<D, T>(totals, minima, rows, x, sums) }
    }
}

/// Sixteen quants, in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn quants(x: &Part, index: usize) -> __m256i {
    let quants: &[i8; 16] = &x.quants.as_chunks().0[index];
    // SAFETY: sixteen bytes, by the type; the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(quants.as_ptr().cast()) })
}

/// The multiples and the weighted sums of whole blocks, in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn of_blocks(x: &Part) -> (__m256i, __m256i) {
    // SAFETY: sixteen bytes each, by the type; the loads need no alignment.
    let eight = |of: &[i16; BLOCKS]| unsafe { _mm_loadu_si128(of.as_ptr().cast()) };
    let weighted = _mm_add_epi16(eight(&x.weighted[0]), eight(&x.weighted[1]));
    (_mm256_broadcastsi128_si256(eight(&x.multiples[0])), _mm256_broadcastsi128_si256(weighted))
}
