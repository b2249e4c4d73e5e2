//! Decodes four rows of each type into the terms of their sub-blocks: integers, scales and mins. [`super::rows`] sums
//! them.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]

use super::decode::Decode;
use super::dot::Dot;
use super::types::{
    IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0,
    Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, TQ1_0, TQ2_0,
};
use super::vectors::{
    bytes_of_rows, four, four_words, halves, halves_of_blocks, halves_of_rows, look_up, low_bits,
    quarters, swap_words, transpose_quarters, with_bit,
};
use crate::kernels::blocks::{E2M1_LEVELS, IQ4_LEVELS, k3_scales};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// Scales and mins of four sub-blocks of four rows, (sub-block, row).
pub type Factors = (__m512, __m512);

/// Decodes four rows of a type into terms. A *unit* is four sub-blocks of each row, one in each quarter of a vector.
pub trait Quad: Decode {
    /// Columns that are decoded together: four blocks, or a super-block.
    const SPAN: usize;
    /// Units of a span.
    const UNITS: usize = Self::SPAN / (4 * Self::SUB);
    /// Vectors of activations in a unit: one for each 16 columns of a sub-block.
    const HALVES: usize = Self::SUB / 16;
    /// Whether the first unit has a super-block's even blocks and the second its odd ones.
    const ALTERNATING: bool = false;
    /// Exact factor on the sums of activations, so that mins needn't be multiplied by it.
    const SUMS: f32 = 1.0;

    /// Index in the span of the sub-block in quarter `quarter` of `unit`.
    #[inline]
    fn sub(unit: usize, quarter: usize) -> usize {
        if Self::ALTERNATING { 2 * quarter + unit } else { 4 * unit + quarter }
    }

    /// Products of a unit's levels with its activations, not yet summed within the quarters.
    ///
    /// # Safety
    /// The processor has the instruction set of this module and of `P`; `b` points to a span and `x` to the unit's
    /// activations.
    unsafe fn integers<P: Dot>(b: *const u8, unit: usize, x: *const __m512i) -> __m512i;

    /// The factors of each unit of four rows. They match `integers`, which may scale its products depending on `P`, and
    /// [`Quad::SUMS`].
    ///
    /// # Safety
    /// The processor has the instruction set of this module and of `P`; each pointer is that of a span.
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4];
}

/// The products of two vectors of levels with a unit's activations.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; `x` points to two vectors.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn dot_two<P: Dot, const WIDE: bool>(levels: [__m512i; 2], x: *const __m512i) -> __m512i {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let sum = P::dot::<WIDE>(_mm512_setzero_si512(), levels[0], *x);
        P::dot::<WIDE>(sum, levels[1], *x.add(1))
    }
}

/// The signed bytes of each word as floats: byte 0 of all words, byte 1, ….
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn floats_of_bytes<P: Dot>(words: __m512i) -> [__m512; 4] {
    // SAFETY: guaranteed by the caller.
    four!(|i| _mm512_cvtepi32_ps(unsafe {
        P::dot::<false>(_mm512_setzero_si512(), _mm512_set1_epi32(1 << (8 * i)), words)
    }))
}

/// Low and high nibbles of sixteen bytes of four blocks, `stride` bytes apart: a block of 32 columns per quarter.
///
/// # Safety
/// The bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn nibbles(b: *const u8, stride: usize) -> [__m512i; 2] {
    // SAFETY: guaranteed by the caller.
    halves_of_bytes(unsafe { quarters(four!(|i| b.add(stride * i))) })
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn halves_of_bytes(v: __m512i) -> [__m512i; 2] {
    [low_bits(v), low_bits(_mm512_srli_epi16::<4>(v))]
}

/// Uses the scales as mins too; [`Quad::SUMS`] has the factor.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn twice(scales: __m512) -> Factors {
    (scales, scales)
}

impl Quad for Q4_0 {
    const SPAN: usize = 128;
    const SUMS: f32 = -8.0;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, _: usize, x: *const __m512i) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { dot_two::<P, false>(nibbles(b.add(2), 18), x) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        [twice(unsafe { halves_of_blocks(rows, 18, 0) }); 4]
    }
}

impl Quad for IQ4_NL {
    const SPAN: usize = 128;
    const SUMS: f32 = -128.0;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, _: usize, x: *const __m512i) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            let [low, high] = nibbles(b.add(2), 18);
            dot_two::<P, true>([look_up(&IQ4_LEVELS, low), look_up(&IQ4_LEVELS, high)], x)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        [twice(unsafe { halves_of_blocks(rows, 18, 0) }); 4]
    }
}

impl Quad for MXFP4 {
    const SPAN: usize = 128;
    const SUMS: f32 = -12.0;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, _: usize, x: *const __m512i) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            let [low, high] = nibbles(b.add(1), 17);
            dot_two::<P, false>([look_up(&E2M1_LEVELS, low), look_up(&E2M1_LEVELS, high)], x)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: the first byte of a block of each row.
        let words = unsafe { four!(|i| u32::from_le_bytes(four!(|r| *rows[r].add(17 * i)))) };
        let e = _mm512_cvtepu8_epi32(four_words(words));
        let usual = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
        // Exponents 0 and 1 are subnormal in f32.
        let smallest = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), e);
        let small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
        [twice(_mm512_castsi512_ps(_mm512_mask_mov_epi32(usual, small, smallest))); 4]
    }
}

impl Quad for Q4_1 {
    const SPAN: usize = 128;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, _: usize, x: *const __m512i) -> __m512i {
        // Indices 0 to 15 are words of the first 64 bytes, 16 to 31 those of the last 64.
        let places = _mm512_setr_epi32(1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16 + 12, 29, 30, 31);
        // SAFETY: the trait guarantees four blocks of 20 bytes.
        unsafe {
            let (begin, end) = (_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(16).cast()));
            let bytes = _mm512_permutex2var_epi32(begin, places, end);
            dot_two::<P, false>(halves_of_bytes(bytes), x)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // Words 0, 5, 10 and 15 of each row, to (word, row).
        // SAFETY: the trait guarantees four blocks of 20 bytes.
        let [a, b, c, d] = unsafe { four!(|i| _mm512_loadu_si512(rows[i].cast())) };
        let places = _mm512_setr_epi32(0, 16, 0, 16, 5, 21, 5, 21, 10, 26, 10, 26, 15, 31, 15, 31);
        let ab = _mm512_permutex2var_epi32(a, places, b);
        let cd = _mm512_permutex2var_epi32(c, places, d);
        let words = _mm512_mask_mov_epi32(ab, 0xcccc, cd);
        let scales = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
        let minima = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words)));
        [(scales, minima); 4]
    }
}

/// 5-bit levels of four blocks: each has its fifth bits in the four bytes at `bits`, its nibbles at `bytes`.
///
/// # Safety
/// The blocks can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn fives(b: *const u8, stride: usize, bits: usize, bytes: usize) -> [__m512i; 2] {
    // SAFETY: guaranteed by the caller.
    let (four, words) = unsafe {
        let words = four!(|i| b.add(stride * i + bits).cast::<u32>().read_unaligned());
        (nibbles(b.add(bytes), stride), four!(|i| u64::from(words[i])))
    };
    let [p, q, r, s] = words;
    let low = (p & 0xffff) | (q & 0xffff) << 16 | (r & 0xffff) << 32 | s << 48;
    let high = p >> 16 | (q >> 16) << 16 | (r >> 16) << 32 | (s >> 16) << 48;
    [with_bit(four[0], low, 16), with_bit(four[1], high, 16)]
}

impl Quad for Q5_0 {
    const SPAN: usize = 128;
    const SUMS: f32 = -16.0;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, _: usize, x: *const __m512i) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { dot_two::<P, false>(fives(b, 22, 2, 6), x) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        [twice(unsafe { halves_of_blocks(rows, 22, 0) }); 4]
    }
}

impl Quad for Q5_1 {
    const SPAN: usize = 128;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, _: usize, x: *const __m512i) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { dot_two::<P, false>(fives(b, 24, 4, 8), x) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        [unsafe { (halves_of_blocks(rows, 24, 0), halves_of_blocks(rows, 24, 2)) }; 4]
    }
}

impl Quad for Q8_0 {
    const SPAN: usize = 128;
    const SUMS: f32 = -128.0;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, _: usize, x: *const __m512i) -> __m512i {
        let sign = _mm512_set1_epi8(-128);
        // SAFETY: the trait guarantees four blocks of 34 bytes.
        unsafe {
            let first = quarters(four!(|i| b.add(34 * i + 2)));
            let second = quarters(four!(|i| b.add(34 * i + 18)));
            dot_two::<P, true>([_mm512_xor_si512(first, sign), _mm512_xor_si512(second, sign)], x)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        [twice(unsafe { halves_of_blocks(rows, 34, 0) }); 4]
    }
}

impl Quad for IQ4_XS {
    const SPAN: usize = 256;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, unit: usize, x: *const __m512i) -> __m512i {
        // SAFETY: the trait guarantees 16 bytes for each block of 32.
        unsafe {
            let [low, high] = halves_of_bytes(_mm512_loadu_si512(b.add(8 + 64 * unit).cast()));
            dot_two::<P, true>([look_up(&IQ4_LEVELS, low), look_up(&IQ4_LEVELS, high)], x)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        unsafe { factors_of_32::<Self>(rows) }
    }
}

/// Implements [`Quad`] for codebook and ternary types with a scale for each 32 or 16 columns.
macro_rules! codebook {
    (32, $($name:ident)*) => {$(
        impl Quad for $name {
            const SPAN: usize = 256;

            #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
            #[inline]
            unsafe fn integers<P: Dot>(b: *const u8, unit: usize, x: *const __m512i) -> __m512i {
                // SAFETY: guaranteed by the trait.
                unsafe {
                    let first = Self::levels(b, 2 * unit);
                    let second = Self::levels(b, 2 * unit + 1);
                    let low = _mm512_shuffle_i32x4::<0x88>(first, second);
                    let high = _mm512_shuffle_i32x4::<0xdd>(first, second);
                    dot_two::<P, false>([low, high], x)
                }
            }

            #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
            #[inline]
            unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
                // SAFETY: guaranteed by the trait.
                unsafe { factors_of_32::<Self>(rows) }
            }
        }
    )*};
    (16, $($name:ident)*) => {$(
        impl Quad for $name {
            const SPAN: usize = 256;

            integers_of_levels!();

            #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
            #[inline]
            unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
                // SAFETY: guaranteed by the trait.
                unsafe { factors_of_16::<Self>(rows) }
            }
        }
    )*};
}

/// Factors from sixteen scales and sixteen mins of each row.
///
/// # Safety
/// As [`Decode::scales`], for each row.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn factors_of_16<D: Decode>(rows: [*const u8; 4]) -> [Factors; 4] {
    // SAFETY: guaranteed by the caller.
    let both = unsafe { four!(|i| D::scales(rows[i], D::BYTES)) };
    let scales = transpose_quarters(four!(|i| both[i].0));
    let minima = transpose_quarters(four!(|i| both[i].1));
    four!(|i| (scales[i], minima[i]))
}

/// Factors from eight scales and eight mins of each row.
///
/// # Safety
/// As [`Decode::scales`], for each row.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn factors_of_32<D: Decode>(rows: [*const u8; 4]) -> [Factors; 4] {
    // SAFETY: guaranteed by the caller.
    let all = unsafe { four!(|i| D::scales(rows[i], D::BYTES).0) };
    let [first, second, first_minima, second_minima] = transpose_quarters(all);
    let (first, second) = ((first, first_minima), (second, second_minima));
    [first, second, first, second]
}

/// The first and the second sixteen columns of eight consecutive blocks of 32: two vectors of bytes, whose low nibbles
/// are the even blocks and whose high nibbles are the odd ones.
///
/// # Safety
/// 128 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn alternating(b: *const u8) -> [__m512i; 2] {
    // SAFETY: guaranteed by the caller.
    let (a, b) = unsafe { (_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(64).cast())) };
    [_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b)]
}

/// Scales and negated mins of even and odd blocks; `odd` multiplies the odd blocks' scales.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; 16 bytes can be read from each pointer.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn factors_of_k4<P: Dot>(rows: [*const u8; 4], odd: f32) -> [Factors; 4] {
    // d, dmin, then twelve bytes s: scales 0 to 3 and mins 0 to 3 are the low six bits of s0 to s7; the others join
    // four bits of s8 to s11 with the upper two bits of s0 to s7. Each unpacked word holds two scales and two mins.
    let low = _mm_setr_epi8(4, 5, 8, 9, 6, 7, 10, 11, 12, 13, 12, 13, 14, 15, 14, 15);
    let high = _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 4, 5, 8, 9, 6, 7, 10, 11);
    let shifts = _mm_setr_epi16(0, 0, 0, 0, 0, 4, 0, 4);
    let six_or_four = _mm_setr_epi32(0x3f3f_3f3f, 0x3f3f_3f3f, 0x0f0f_0f0f, 0x0f0f_0f0f);
    // SAFETY: guaranteed by the caller.
    let head = unsafe { quarters(rows) };
    let low = _mm512_shuffle_epi8(head, _mm512_broadcast_i32x4(low));
    let low = _mm512_srlv_epi16(low, _mm512_broadcast_i32x4(shifts));
    let high = _mm512_shuffle_epi8(head, _mm512_broadcast_i32x4(high));
    let high = _mm512_srli_epi16::<2>(high);
    let low = _mm512_and_si512(low, _mm512_broadcast_i32x4(six_or_four));
    let bytes = _mm512_ternarylogic_epi32::<0xf8>(low, high, _mm512_set1_epi8(0x30));
    // SAFETY: guaranteed by the caller.
    let [even, uneven, even_minima, odd_minima] =
        unsafe { floats_of_bytes::<P>(swap_words(bytes)) };
    let (d, dmin) = (halves_of_rows(head, 0), halves_of_rows(head, 1));
    let even = (_mm512_mul_ps(even, d), _mm512_mul_ps(even_minima, dmin));
    let d = _mm512_mul_ps(d, _mm512_set1_ps(odd));
    let odd = (_mm512_mul_ps(uneven, d), _mm512_mul_ps(odd_minima, dmin));
    [even, odd, even, odd]
}

impl Quad for Q4_K {
    const SPAN: usize = 256;
    const ALTERNATING: bool = true;
    const SUMS: f32 = -1.0;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, unit: usize, x: *const __m512i) -> __m512i {
        // SAFETY: the trait guarantees 128 bytes of nibbles after 16 others.
        let bytes = unsafe { alternating(b.add(16)) };
        let mut levels = bytes;
        for half in 0..2 {
            levels[half] = match (unit, P::WIDE) {
                (0, _) => low_bits(bytes[half]),
                // 16 · level; `factors` undoes this exactly.
                (_, true) => _mm512_and_si512(bytes[half], _mm512_set1_epi8(0xf0_u8 as i8)),
                (_, false) => low_bits(_mm512_srli_epi16::<4>(bytes[half])),
            };
        }
        // SAFETY: guaranteed by the trait.
        unsafe { dot_two::<P, false>(levels, x) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        unsafe { factors_of_k4::<P>(rows, if P::WIDE { 1.0 / 16.0 } else { 1.0 }) }
    }
}

impl Quad for Q5_K {
    const SPAN: usize = 256;
    const ALTERNATING: bool = true;
    const SUMS: f32 = -1.0;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn integers<P: Dot>(b: *const u8, unit: usize, x: *const __m512i) -> __m512i {
        let bit = 1 << unit;
        let bits = _mm512_broadcast_i32x4(_mm_set1_epi8(bit));
        let bits = _mm512_sllv_epi32(
            bits,
            _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6),
        );
        let mut levels = [bits; 2];
        for half in 0..2 {
            // SAFETY: the trait guarantees 32 bytes of fifth bits, 128 of nibbles.
            let (bytes, fifths) = unsafe {
                (alternating(b.add(48))[half], _mm_loadu_si128(b.add(16 + 16 * half).cast()))
            };
            let four = if unit == 0 { bytes } else { _mm512_srli_epi16::<4>(bytes) };
            let mask = _mm512_test_epi8_mask(_mm512_broadcast_i32x4(fifths), bits);
            levels[half] = with_bit(low_bits(four), mask, 16);
        }
        // SAFETY: guaranteed by the trait.
        unsafe { dot_two::<P, false>(levels, x) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: guaranteed by the trait.
        unsafe { factors_of_k4::<P>(rows, 1.0) }
    }
}

/// Defines `integers` for a type with sub-blocks of 16, whose units have 64 columns.
macro_rules! integers_of_levels {
    () => {
        #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
        #[inline]
        unsafe fn integers<P: Dot>(b: *const u8, unit: usize, x: *const __m512i) -> __m512i {
            // SAFETY: guaranteed by the trait.
            unsafe { P::dot::<false>(_mm512_setzero_si512(), Self::levels(b, unit), *x) }
        }
    };
}

impl Quad for Q6_K {
    const SPAN: usize = 256;
    const SUMS: f32 = -32.0;

    integers_of_levels!();

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: the trait guarantees sixteen signed bytes, then d.
        let (bytes, d) = unsafe { (quarters(four!(|i| rows[i].add(192))), halves(rows, 208)) };
        // SAFETY: guaranteed by the trait.
        let scales = unsafe { floats_of_bytes::<P>(bytes_of_rows(bytes)) };
        four!(|i| twice(_mm512_mul_ps(scales[i], d)))
    }
}

impl Quad for Q3_K {
    const SPAN: usize = 256;
    const SUMS: f32 = -4.0;

    integers_of_levels!();

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: the trait guarantees twelve bytes of scales.
        let scales =
            unsafe { four!(|i| k3_scales(std::slice::from_raw_parts(rows[i].add(96), 12))) };
        // SAFETY: sixteen bytes each, by the type; d is guaranteed by the trait.
        let (bytes, d) =
            unsafe { (quarters(four!(|i| scales[i].as_ptr().cast())), halves(rows, 108)) };
        // SAFETY: guaranteed by the trait.
        let scales = unsafe { floats_of_bytes::<P>(bytes_of_rows(bytes)) };
        let high = _mm512_set1_ps(32.0);
        four!(|i| twice(_mm512_mul_ps(_mm512_sub_ps(scales[i], high), d)))
    }
}

impl Quad for Q2_K {
    const SPAN: usize = 256;
    const SUMS: f32 = -1.0;

    integers_of_levels!();

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn factors<P: Dot>(rows: [*const u8; 4]) -> [Factors; 4] {
        // SAFETY: the trait guarantees sixteen bytes of scales and mins, as nibbles, then d and dmin.
        let (bytes, d, dmin) = unsafe { (quarters(rows), halves(rows, 80), halves(rows, 82)) };
        let [scales, minima] = halves_of_bytes(bytes_of_rows(bytes));
        // SAFETY: guaranteed by the trait.
        let (scales, minima) =
            unsafe { (floats_of_bytes::<P>(scales), floats_of_bytes::<P>(minima)) };
        four!(|i| (_mm512_mul_ps(scales[i], d), _mm512_mul_ps(minima[i], dmin)))
    }
}

codebook!(32, IQ2_XXS IQ3_XXS IQ3_S IQ1_S TQ1_0 TQ2_0);
codebook!(16, IQ2_XS IQ2_S IQ1_M);
