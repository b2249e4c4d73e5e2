//! Multiplies rows of the types whose blocks are sixteen bytes of nibbles and no more bits, four blocks at a time: each
//! quarter of a vector holds sixteen columns of one block.
//!
//! So the sums of a quad's products are those of whole blocks at once.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::dot::Dot;
use super::levels::Levels;
use super::tile::{LANES, Tile, add_block, add_scaled, joined, product};
use super::vectors::{look_up, low_bits, sum_words, swap_quarters};
use crate::kernels::activations::Part;
use crate::kernels::blocks::{BLOCKS, E2M1_LEVELS, IQ4_LEVELS};
use crate::kernels::x86::avx2::decode::{Blocks, IQ4_NL, MXFP4, Q4_0, Q4_1};
use crate::kernels::x86::frame::{QUAD, by_row, further};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Blocks at a time.
const FOUR: usize = 4;

/// Types of blocks, four at a time.
pub struct ByFour<D>(PhantomData<D>);

/// A type whose block ends in sixteen bytes of nibbles.
pub trait Nibbles: Blocks + Sized {
    /// What the low and the high nibbles stand for: the levels of the first sixteen and of the last sixteen columns of
    /// four blocks.
    ///
    /// # Safety
    /// The processor has the instruction set of this module.
    unsafe fn levels_of(low: __m512i, high: __m512i) -> [__m512i; 2];

    /// The bytes of the nibbles of four blocks, of which `count` are there. Further ones have any bytes, and meet
    /// activations of zero.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; the first `count` pointers are those of blocks that follow
    /// each other, the others repeat the last.
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn bytes(at: [*const u8; FOUR], _count: usize) -> __m512i {
        let mut bytes = [_mm_setzero_si128(); FOUR];
        for i in 0..FOUR {
            // SAFETY: guaranteed by the caller; nibbles are the last sixteen bytes of a block.
            bytes[i] = unsafe { _mm_loadu_si128(at[i].add(Self::BYTES - 16).cast()) };
        }
        let [a, b, c, d] = bytes;
        let (first, second) = (_mm256_set_m128i(b, a), _mm256_set_m128i(d, c));
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
    }

    /// What scales and mins of four blocks of four rows are made of, (block, row).
    ///
    /// # Safety
    /// The processor has the instruction set of this module; each row has `count` blocks there.
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn words_of_four(rows: [*const u8; QUAD], count: usize) -> __m512i {
        let first = two_blocks(&rows, 0, Self::BYTES * 1.min(count - 1));
        let second =
            two_blocks(&rows, Self::BYTES * 2.min(count - 1), Self::BYTES * 3.min(count - 1));
        // SAFETY: guaranteed by the caller.
        let (first, second) =
            unsafe { (Self::factors::<1>(&first, 0), Self::factors::<1>(&second, 0)) };
        _mm512_castps_si512(joined(first.0, second.0))
    }

    /// Scales and mins, given what they are made of.
    ///
    /// # Safety
    /// The processor has the instruction set of this module.
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors_of_words(words: __m512i) -> (__m512, __m512) {
        (_mm512_castsi512_ps(words), _mm512_setzero_ps())
    }
}

/// Pointers to a block of each of four rows, then to another.
#[inline]
fn two_blocks(rows: &[*const u8; QUAD], first: usize, second: usize) -> [*const u8; 8] {
    let mut pointers = [rows[0]; 8];
    for (i, pointer) in pointers.iter_mut().enumerate() {
        *pointer = rows[i % QUAD].wrapping_add(if i < QUAD { first } else { second });
    }
    pointers
}

macro_rules! nibbles {
    ($name:ident, |$low:ident, $high:ident| $levels:expr) => {
        impl Nibbles for $name {
            #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
            #[inline]
            unsafe fn levels_of($low: __m512i, $high: __m512i) -> [__m512i; 2] {
                $levels
            }
        }
    };
}

nibbles!(Q4_0, |low, high| [low, high]);

impl Nibbles for Q4_1 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(low: __m512i, high: __m512i) -> [__m512i; 2] {
        [low, high]
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn bytes(at: [*const u8; FOUR], count: usize) -> __m512i {
        // Of four blocks, words 0 to 15 are in the first 64 bytes, 16 to 31 of these in the last.
        let places = _mm512_setr_epi32(1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 28, 29, 30, 31);
        let there = words_of_q4_1(count);
        // SAFETY: guaranteed by the caller: only words of these blocks are read.
        unsafe {
            let begin = _mm512_maskz_loadu_epi32(there as u16, at[0].cast());
            let end = _mm512_maskz_loadu_epi32((there >> 4) as u16, at[0].add(16).cast());
            _mm512_permutex2var_epi32(begin, places, end)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn words_of_four(rows: [*const u8; QUAD], count: usize) -> __m512i {
        // Words 0, 5, 10 and 15 of each row, to (word, row).
        let there = words_of_q4_1(count) as u16;
        let mut all = [_mm512_setzero_si512(); QUAD];
        for i in 0..QUAD {
            // SAFETY: only words of blocks that the trait guarantees are read.
            all[i] = unsafe { _mm512_maskz_loadu_epi32(there, rows[i].cast()) };
        }
        let [a, b, c, d] = all;
        let places = _mm512_setr_epi32(0, 16, 0, 16, 5, 21, 5, 21, 10, 26, 10, 26, 15, 31, 15, 31);
        let ab = _mm512_permutex2var_epi32(a, places, b);
        let cd = _mm512_permutex2var_epi32(c, places, d);
        _mm512_mask_mov_epi32(ab, 0xcccc, cd)
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors_of_words(words: __m512i) -> (__m512, __m512) {
        let scales = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
        (scales, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words))))
    }
}

/// A mask of the words of `count` of four `Q4_1` blocks of five words.
#[inline]
const fn words_of_q4_1(count: usize) -> u32 {
    (1 << (5 * count)) - 1
}

nibbles!(IQ4_NL, |low, high| [look_up(&IQ4_LEVELS, low), look_up(&IQ4_LEVELS, high)]);
nibbles!(MXFP4, |low, high| [look_up(&E2M1_LEVELS, low), look_up(&E2M1_LEVELS, high)]);

/// The levels of `count` blocks from `b` on; further ones repeat the last, and meet activations of zero.
///
/// # Safety
/// The processor has the instruction set of this module; there are as many blocks.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn levels<D: Nibbles>(b: *const u8, count: usize) -> [__m512i; 2] {
    let mut at = [b; FOUR];
    for (i, at) in at.iter_mut().enumerate() {
        *at = b.wrapping_add(D::BYTES * i.min(count - 1));
    }
    // SAFETY: guaranteed by the caller.
    unsafe {
        let bytes = D::bytes(at, count);
        D::levels_of(low_bits(bytes), low_bits(_mm512_srli_epi16::<4>(bytes)))
    }
}

/// The first and the last sixteen quants of four blocks.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn quants(x: &Part, four: usize) -> [__m512i; 2] {
    let all: &[i8; 128] = &x.quants.as_chunks().0[four];
    // SAFETY: twice 64 bytes, by the type; the loads need no alignment.
    let (first, second) = unsafe {
        (_mm512_loadu_si512(all.as_ptr().cast()), _mm512_loadu_si512(all.as_ptr().add(64).cast()))
    };
    [_mm512_shuffle_i32x4::<0x88>(first, second), _mm512_shuffle_i32x4::<0xdd>(first, second)]
}

/// The products of a quad with four blocks, (block, product).
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; each of the first `4 / T` rows has `count` blocks
/// there.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn products_of_four<D: Nibbles + Levels, P: Dot, const T: usize>(
    rows: [*const u8; QUAD],
    four: usize,
    count: usize,
    x: [&Part; T],
) -> __m512i {
    let mut products = [_mm512_setzero_si512(); QUAD];
    for r in 0..QUAD / T {
        let row = rows[r].wrapping_add(FOUR * four * D::BYTES);
        // SAFETY: guaranteed by the caller.
        let [low, high] = unsafe { levels::<D>(row, count) };
        for t in 0..T {
            let [first, second] = quants(x[t], four);
            // SAFETY: guaranteed by the caller.
            products[t * (QUAD / T) + r] = unsafe {
                let sum = product::<D, P>(_mm512_setzero_si512(), low, first);
                product::<D, P>(sum, high, second)
            };
        }
    }
    sum_words(products)
}

impl<D: Nibbles + Levels> Tile for ByFour<D> {
    type Type = D;
    /// Totals of each four, and what their scales and mins are made of.
    const SLOTS: usize = 2 * BLOCKS / FOUR;
    type Prepared = ();

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        blocks: usize,
        x: [&Part; T],
        out: &mut [__m512i],
    ) {
        let (fours, _) = out.as_chunks_mut::<2>();
        // SAFETY: guaranteed by the caller.
        unsafe {
            // Rows of many models end with half a group.
            if blocks == BLOCKS / 2 {
                fours[0] = of_four::<D, P, T>(rows, 0, FOUR, x);
                return;
            }
            if blocks == BLOCKS {
                fours[0] = of_four::<D, P, T>(rows, 0, FOUR, x);
                fours[1] = of_four::<D, P, T>(rows, 1, FOUR, x);
                return;
            }
            for (four, out) in fours.iter_mut().enumerate().take(blocks.div_ceil(FOUR)) {
                *out = of_four::<D, P, T>(rows, four, FOUR.min(blocks - FOUR * four), x);
            }
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        blocks: usize,
        (x, ()): ([&Part; T], &()),
        kept: &[__m512i],
        next: usize,
        mut sums: __m512,
    ) -> __m512 {
        let by_lanes = [by_row::<T, LANES, 8>(rows, 0), by_row::<T, LANES, 8>(rows, 8)];
        for four in 0..blocks.div_ceil(FOUR) {
            let at = 2 * four;
            // From (block, product) of each quad to (quad, product) of each block.
            let totals = of_quads(kept, next, at);
            let first = FOUR * four;
            if T > 1 {
                for (i, totals) in totals.into_iter().enumerate().take(blocks - first) {
                    let [low, high] = &by_lanes;
                    // SAFETY: guaranteed by the caller.
                    sums = unsafe { add_block::<D, T>([low, high], first + i, x, totals, sums) };
                }
                continue;
            }
            let words = of_quads(kept, next, at + 1);
            if blocks >= first + FOUR {
                sums = add_words::<D, T>(first, x, totals[0], words[0], sums);
                sums = add_words::<D, T>(first + 1, x, totals[1], words[1], sums);
                sums = add_words::<D, T>(first + 2, x, totals[2], words[2], sums);
                sums = add_words::<D, T>(first + 3, x, totals[3], words[3], sums);
                continue;
            }
            for i in 0..blocks - first {
                sums = add_words::<D, T>(first + i, x, totals[i], words[i], sums);
            }
        }
        sums
    }
}

/// Adds the products of sixteen rows with a block, given their sums in whole numbers and what scales and mins are made
/// of.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn add_words<D: Nibbles + Levels, const T: usize>(
    block: usize,
    x: [&Part; T],
    totals: __m512i,
    words: __m512i,
    sums: __m512,
) -> __m512 {
    // SAFETY: the caller has the same target features.
    let (scales, minima) = unsafe { D::factors_of_words(words) };
    add_scaled::<D, T>(block, x, totals, scales, minima, sums)
}

/// What is kept of four blocks of a quad. With several tokens, a quad has fewer rows, and scales and mins are read later.
///
/// # Safety
/// As [`products_of_four`].
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn of_four<D: Nibbles + Levels, P: Dot, const T: usize>(
    rows: [*const u8; QUAD],
    four: usize,
    count: usize,
    x: [&Part; T],
) -> [__m512i; 2] {
    // SAFETY: guaranteed by the caller.
    let totals = unsafe { products_of_four::<D, P, T>(rows, four, count, x) };
    if T > 1 {
        return [totals; 2];
    }
    let at = further(&rows, FOUR * four * D::BYTES);
    // SAFETY: guaranteed by the caller.
    [totals, unsafe { D::words_of_four(at, count) }]
}

/// What was kept of the four quads, with quarters exchanged.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn of_quads(kept: &[__m512i], next: usize, at: usize) -> [__m512i; FOUR] {
    swap_quarters([kept[at], kept[next + at], kept[2 * next + at], kept[3 * next + at]])
}
