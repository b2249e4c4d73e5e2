//! Multiplies rows of super-blocks that begin as those of `Q4_K` do: scales and mins of four rows are decoded at once.
//!
//! Nibbles are taken from 64 bytes at a time: the low ones are those of two blocks, the high ones of the two between and
//! after them.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::QUAD;
use super::by_super::BySuper;
use super::dot::Dot;
use super::levels::Levels;
use super::tile::{LANES, Tile, add_super_blocks, halves_of_quads};
use super::vectors::{bit_planes, load_signed, low_bits, sum_words, with_bit};
use crate::kernels::activations::Part;
use crate::kernels::x86::avx2::decode::{Q4_K, Q5_K, Super};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Types whose super-blocks begin as those of `Q4_K` do.
pub struct ByHeads<D>(PhantomData<D>);

/// Such a type.
pub trait Heads: Super + Levels {
    /// The levels of blocks 0 and 2, then those of blocks 1 and 3, of columns `128 · half ..`.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; the pointer is that of a super-block.
    unsafe fn even_and_odd(b: *const u8, half: usize) -> [__m512i; 2];
}

impl Heads for Q4_K {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn even_and_odd(b: *const u8, half: usize) -> [__m512i; 2] {
        // SAFETY: guaranteed by the trait.
        unsafe { nibbles(b.add(16 + 64 * half)) }
    }
}

impl Heads for Q5_K {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn even_and_odd(b: *const u8, half: usize) -> [__m512i; 2] {
        // SAFETY: guaranteed by the trait.
        unsafe {
            let [even, odd] = nibbles(b.add(48 + 64 * half));
            // Bit `n` of 32 bytes is the fifth bit of block `n`.
            let (fifths, block) = (b.add(16), 4 * half);
            [
                with_bit(even, bit_planes(fifths, [block, block + 2]), 16),
                with_bit(odd, bit_planes(fifths, [block + 1, block + 3]), 16),
            ]
        }
    }
}

/// The low and the high nibbles of 64 bytes.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn nibbles(at: *const u8) -> [__m512i; 2] {
    // SAFETY: guaranteed by the caller.
    let bytes = unsafe { _mm512_loadu_si512(at.cast()) };
    [low_bits(bytes), low_bits(_mm512_srli_epi16::<4>(bytes))]
}

impl<D: Heads> Tile for ByHeads<D> {
    type Type = D;
    const SLOTS: usize = 2;
    type Prepared = ();

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
        let quants = quants_of(x[0]);
        // SAFETY: guaranteed by the caller.
        let totals = unsafe {
            [
                products_of::<D, P>(rows[0], _mm512_shuffle_i32x4::<0x00>(scaled, scaled), quants),
                products_of::<D, P>(rows[1], _mm512_shuffle_i32x4::<0x55>(scaled, scaled), quants),
                products_of::<D, P>(rows[2], _mm512_shuffle_i32x4::<0xaa>(scaled, scaled), quants),
                products_of::<D, P>(rows[3], _mm512_shuffle_i32x4::<0xff>(scaled, scaled), quants),
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
        (x, ()): ([&Part; T], &()),
        kept: &[__m512i],
        next: usize,
        sums: __m512,
    ) -> __m512 {
        if T > 1 {
            // SAFETY: guaranteed by the caller.
            return unsafe { BySuper::<D>::add::<P, T>(rows, blocks, (x, &()), kept, next, sums) };
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

/// Quants in the order of the levels: (half, (even, odd)).
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn quants_of(x: &Part) -> [[__m512i; 2]; 2] {
    let steps: &[[i8; 64]; 4] = x.quants.as_chunks().0.first_chunk().expect("256 columns");
    let (a, b, c, d) = (
        load_signed(&steps[0]),
        load_signed(&steps[1]),
        load_signed(&steps[2]),
        load_signed(&steps[3]),
    );
    [
        [_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b)],
        [_mm512_shuffle_i64x2::<0x44>(c, d), _mm512_shuffle_i64x2::<0xee>(c, d)],
    ]
}

/// Products of a row's super-block with a token, in sixteen parts; all quarters of `scaled` have the same eight numbers.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; the pointer is that of a super-block.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn products_of<D: Heads, P: Dot>(
    row: *const u8,
    scaled: __m512i,
    quants: [[__m512i; 2]; 2],
) -> __m512i {
    let mut products = _mm512_setzero_si512();
    for (half, quants) in quants.into_iter().enumerate() {
        // SAFETY: guaranteed by the caller.
        let levels = unsafe { D::even_and_odd(row, half) };
        for odd in 0..2 {
            let pairs = _mm512_maddubs_epi16(levels[odd], quants[odd]);
            let scale = _mm512_shuffle_epi8(scaled, words(4 * half + odd));
            // SAFETY: guaranteed by the caller.
            products = unsafe { P::add_pairs(products, pairs, scale) };
        }
    }
    products
}

/// Shuffle indices that repeat word `block` in the first two quarters and the next but one in the others.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn words(block: usize) -> __m512i {
    // Bytes 2n and 2n + 1 for word n.
    let first = _mm256_set1_epi16((0x0100 + 0x0202 * block) as i16);
    let second = _mm256_set1_epi16((0x0504 + 0x0202 * block) as i16);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
}
