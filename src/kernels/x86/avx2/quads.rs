//! Decodes four rows of each type into the terms of their sub-blocks: integers, scales and mins. [`super::rows`] sums
//! them.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]

use super::codebooks::Codebook;
pub use super::codebooks::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, TQ1_0, TQ2_0};
use super::dot::Dot;
use super::vectors::{
    bytes_of_rows, factors_of_eight, factors_of_sixteen, half_of_rows, halves, halves_of_blocks,
    look_up, mask_of_bits, nibbles, pair_of_bits, sixteen, two_of,
};
use crate::kernels::blocks::{E2M1_LEVELS, GROUP, IQ4_LEVELS, k3_scales};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// Scales and mins of two sub-blocks of four rows, (sub-block, row).
pub type Factors = (__m256, __m256);

/// Decodes four rows of a type into terms. A *unit* is two sub-blocks of each row, one in each half of a vector.
pub trait Quad {
    /// Bytes of a span.
    const BYTES: usize;
    /// Columns that are decoded together: two blocks, or a super-block.
    const SPAN: usize;
    /// Columns that share a scale: 16 or 32.
    const SUB: usize;
    /// Whether levels exceed 127.
    const WIDE: bool = false;
    /// Units of a span.
    const UNITS: usize = Self::SPAN / (2 * Self::SUB);
    /// Vectors of activations in a unit: one for each 16 columns of a sub-block.
    const HALVES: usize = Self::SUB / 16;
    /// Whether two units divide four blocks: the first has the even ones, the second the odd ones.
    const ALTERNATING: bool = false;
    /// Exact factor on the sums of activations, so that mins needn't be multiplied by it.
    const SUMS: f32 = 1.0;

    /// Index in the span of the sub-block in half `half` of `unit`.
    #[inline]
    fn sub(unit: usize, half: usize) -> usize {
        if Self::ALTERNATING { unit / 2 * 4 + unit % 2 + 2 * half } else { 2 * unit + half }
    }

    /// Data extracted from a span once, before its units are decoded.
    type Read: Copy + Default;

    /// Extracts it, for types that need it.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; the pointer is that of a span.
    #[inline]
    unsafe fn read(_: *const u8, _: &mut Self::Read) {}

    /// Products of a unit's levels with its activations, not yet summed within the halves. If a span has several units,
    /// those of the next unit as well: the two share bytes.
    ///
    /// # Safety
    /// The processor has the instruction set of this module and of `P`; `b` points to a span, from which `read` was
    /// filled, and `x` to the activations.
    unsafe fn integers<P: Dot>(
        b: *const u8,
        read: &Self::Read,
        unit: usize,
        x: *const __m256i,
    ) -> [__m256i; 2];

    /// Vectors of a unit's activations, including the one of their sums.
    const UNIT_VECTORS: usize = Self::HALVES + 1;

    /// The factors of each unit of four rows.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; each pointer is that of a span.
    unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8];
}

/// Uses the scales as mins too; [`Quad::SUMS`] has the factor.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn twice(scales: __m256) -> [Factors; 8] {
    [(scales, scales); 8]
}

/// Defines a type of blocks of 32 columns.
macro_rules! small_blocks {
    ($name:ident, bytes: $bytes:literal, wide: $wide:literal, dot: $dot:ident, sums: $sums:literal,
        |$b:ident| $levels:expr, |$rows:ident| $factors:expr) => {
        pub struct $name;

        impl Quad for $name {
            const BYTES: usize = 2 * $bytes;
            const SPAN: usize = 64;
            const SUB: usize = 32;
            const WIDE: bool = $wide;
            const SUMS: f32 = $sums;
            type Read = ();

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn integers<P: Dot>(
                $b: *const u8,
                (): &(),
                _: usize,
                x: *const __m256i,
            ) -> [__m256i; 2] {
                // SAFETY: the trait guarantees two blocks.
                unsafe { [$dot::<P>($levels, x), _mm256_setzero_si256()] }
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn factors($rows: [*const u8; 4]) -> [Factors; 8] {
                // SAFETY: the trait guarantees two blocks.
                unsafe { $factors }
            }
        }
    };
}

/// # Safety
/// As [`Dot::dot_small`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn small<P: Dot>(levels: [__m256i; 2], x: *const __m256i) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe { P::dot_small(levels, x) }
}

/// # Safety
/// As [`Dot::dot`]; `x` points to two vectors.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn wide<P: Dot>(levels: [__m256i; 2], x: *const __m256i) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe { if P::WIDE { two::<P, false>(levels, x) } else { two::<P, true>(levels, x) } }
}

/// # Safety
/// As [`wide`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn two<P: Dot, const SIGNED: bool>(levels: [__m256i; 2], x: *const __m256i) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let sum = P::dot::<SIGNED>(_mm256_setzero_si256(), levels[0], *x);
        P::dot::<SIGNED>(sum, levels[1], *x.add(1))
    }
}

small_blocks!(Q4_0, bytes: 18, wide: false, dot: small, sums: -8.0,
    |b| nibbles(halves(b.add(2), b.add(20))),
    |rows| twice(halves_of_blocks(rows, 18, 0)));

small_blocks!(Q4_1, bytes: 20, wide: false, dot: small, sums: 1.0,
    |b| nibbles(halves(b.add(4), b.add(24))),
    |rows| [(halves_of_blocks(rows, 20, 0), halves_of_blocks(rows, 20, 2)); 8]);

small_blocks!(Q5_0, bytes: 22, wide: false, dot: small, sums: -16.0,
    |b| fives(b, 22, 2),
    |rows| twice(halves_of_blocks(rows, 22, 0)));

small_blocks!(Q5_1, bytes: 24, wide: false, dot: small, sums: 1.0,
    |b| fives(b, 24, 4),
    |rows| [(halves_of_blocks(rows, 24, 0), halves_of_blocks(rows, 24, 2)); 8]);

small_blocks!(Q8_0, bytes: 34, wide: true, dot: wide, sums: -128.0,
    |b| {
        let sign = _mm256_set1_epi8(-128);
        let (first, second) = (halves(b.add(2), b.add(36)), halves(b.add(18), b.add(52)));
        [_mm256_xor_si256(first, sign), _mm256_xor_si256(second, sign)]
    },
    |rows| twice(halves_of_blocks(rows, 34, 0)));

small_blocks!(IQ4_NL, bytes: 18, wide: true, dot: wide, sums: -128.0,
    |b| {
        let [low, high] = nibbles(halves(b.add(2), b.add(20)));
        [look_up(&IQ4_LEVELS, low), look_up(&IQ4_LEVELS, high)]
    },
    |rows| twice(halves_of_blocks(rows, 18, 0)));

small_blocks!(MXFP4, bytes: 17, wide: false, dot: small, sums: -12.0,
|b| {
    let [low, high] = nibbles(halves(b.add(1), b.add(18)));
    [look_up(&E2M1_LEVELS, low), look_up(&E2M1_LEVELS, high)]
},
|rows| {
    let mut exponents = [0; 8];
    for i in 0..8 {
        exponents[i] = *rows[i % 4].add(17 * (i / 4));
    }
    let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(exponents)));
    let usual = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
    // Exponents 0 and 1 are subnormal in f32.
    let smallest = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
    let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    twice(_mm256_castsi256_ps(_mm256_blendv_epi8(usual, smallest, small)))
});

/// 5-bit levels of two blocks: the fifth bits are the four bytes at `bits`, the nibbles follow.
///
/// # Safety
/// The blocks can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn fives(b: *const u8, stride: usize, bits: usize) -> [__m256i; 2] {
    // SAFETY: guaranteed by the caller.
    let (four, first, second) = unsafe {
        (
            nibbles(halves(b.add(bits + 4), b.add(stride + bits + 4))),
            b.add(bits).cast::<u32>().read_unaligned(),
            b.add(stride + bits).cast::<u32>().read_unaligned(),
        )
    };
    let bit = _mm256_set1_epi8(16);
    let low = mask_of_bits(first & 0xffff | second << 16);
    let high = mask_of_bits(first >> 16 | second & 0xffff_0000);
    [
        _mm256_or_si256(four[0], _mm256_and_si256(low, bit)),
        _mm256_or_si256(four[1], _mm256_and_si256(high, bit)),
    ]
}

macro_rules! codebook {
    ($($name:ident)*) => {$(
        impl Quad for $name {
            const BYTES: usize = <Self as Codebook>::BYTES;
            const SPAN: usize = GROUP;
            const SUB: usize = <Self as Codebook>::SUB;
            type Read = <$name as Codebook>::Read;

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn read(b: *const u8, out: &mut Self::Read) {
                // SAFETY: guaranteed by the trait.
                unsafe { <Self as Codebook>::read(b, out) }
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn integers<P: Dot>(
                b: *const u8,
                read: &Self::Read,
                unit: usize,
                x: *const __m256i,
            ) -> [__m256i; 2] {
                let mut integers = [_mm256_setzero_si256(); 2];
                for next in 0..2 {
                    let (unit, zero) = (unit + next, integers[next]);
                    // SAFETY: guaranteed by the trait.
                    integers[next] = unsafe {
                        let x = x.add(next * Self::UNIT_VECTORS);
                        if <Self as Codebook>::SUB == 16 {
                            P::dot::<false>(zero, Self::levels(b, read, unit), *x)
                        } else {
                            let a = Self::levels(b, read, 2 * unit);
                            let b = Self::levels(b, read, 2 * unit + 1);
                            let low = _mm256_permute2x128_si256::<0x20>(a, b);
                            let high = _mm256_permute2x128_si256::<0x31>(a, b);
                            two::<P, false>([low, high], x)
                        }
                    };
                }
                integers
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8] {
                // SAFETY: guaranteed by the trait.
                unsafe { <Self as Codebook>::factors(rows) }
            }
        }
    )*};
}

codebook!(IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ1_S IQ1_M TQ1_0 TQ2_0);

/// The first and the second sixteen columns of four consecutive blocks of 32: two vectors of bytes, whose low nibbles
/// are the even blocks and whose high nibbles are the odd ones.
///
/// # Safety
/// 64 bytes can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn alternating(b: *const u8) -> [__m256i; 2] {
    // SAFETY: guaranteed by the caller.
    unsafe { [halves(b, b.add(32)), halves(b.add(16), b.add(48))] }
}

/// Scales and negated mins of alternating units (see [`Quad::ALTERNATING`]).
///
/// # Safety
/// 16 bytes can be read from each pointer.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn factors_of_k4(rows: [*const u8; 4]) -> [Factors; 8] {
    // d, dmin, then twelve bytes s: scales 0 to 3 and mins 0 to 3 are the low six bits of s0 to s7; the others join
    // four bits of s8 to s11 with the upper two bits of s0 to s7. Unpacked to words: four scales, four mins, then four
    // more of each.
    let low = _mm_setr_epi8(4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 12, 13, 14, 15);
    let high = _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 4, 5, 6, 7, 8, 9, 10, 11);
    let shifts = _mm_setr_epi32(0, 0, 0, 4);
    let six_or_four = _mm_setr_epi32(0x3f3f_3f3f, 0x3f3f_3f3f, 0x0f0f_0f0f, 0x0f0f_0f0f);
    // SAFETY: guaranteed by the caller.
    let heads = unsafe { [halves(rows[0], rows[2]), halves(rows[1], rows[3])] };
    let mut bytes = heads;
    for (bytes, head) in bytes.iter_mut().zip(heads) {
        let low = _mm256_shuffle_epi8(head, _mm256_broadcastsi128_si256(low));
        let low = _mm256_srlv_epi32(low, _mm256_broadcastsi128_si256(shifts));
        let low = _mm256_and_si256(low, _mm256_broadcastsi128_si256(six_or_four));
        let high = _mm256_shuffle_epi8(head, _mm256_broadcastsi128_si256(high));
        let high = _mm256_and_si256(_mm256_srli_epi16::<2>(high), _mm256_set1_epi8(0x30));
        *bytes = _mm256_or_si256(low, high);
    }
    // Interleaves rows, two words per vector; the loop below completes (word, row).
    let words =
        [_mm256_unpacklo_epi32(bytes[0], bytes[1]), _mm256_unpackhi_epi32(bytes[0], bytes[1])];
    // d and dmin of each row, then all d and all dmin.
    let d = _mm256_permute4x64_epi64::<0x88>(_mm256_unpacklo_epi32(heads[0], heads[1]));
    let apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let d = _mm256_cvtph_ps(_mm_shuffle_epi8(_mm256_castsi256_si128(d), apart));
    let (d, dmin) = (_mm256_permute2f128_ps::<0x00>(d, d), _mm256_permute2f128_ps::<0x11>(d, d));
    // Bytes 0 and 2 of each word, or bytes 1 and 3.
    let (even, odd) = (by_half_bytes(0, 2), by_half_bytes(1, 3));
    let mut all = [(d, dmin); 8];
    for (unit, factors) in all.iter_mut().enumerate().take(4) {
        let which = if unit % 2 == 0 { even } else { odd };
        let scales = _mm256_permute4x64_epi64::<0x88>(words[unit / 2]);
        let minima = _mm256_permute4x64_epi64::<0xdd>(words[unit / 2]);
        let float = |v| _mm256_cvtepi32_ps(_mm256_shuffle_epi8(v, which));
        *factors = (_mm256_mul_ps(float(scales), d), _mm256_mul_ps(float(minima), dmin));
    }
    all
}

/// Shuffle indices of byte `low` of each word in the lower half and byte `high` in the upper one.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn by_half_bytes(low: i32, high: i32) -> __m256i {
    let words =
        _mm256_setr_epi32(low, low + 4, low + 8, low + 12, high, high + 4, high + 8, high + 12);
    _mm256_or_si256(words, _mm256_set1_epi32(0x8080_8000_u32 as i32))
}

pub struct Q4_K;

impl Quad for Q4_K {
    const BYTES: usize = 144;
    const SPAN: usize = 256;
    const SUB: usize = 32;
    const ALTERNATING: bool = true;
    const SUMS: f32 = -1.0;
    type Read = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn integers<P: Dot>(
        b: *const u8,
        (): &(),
        unit: usize,
        x: *const __m256i,
    ) -> [__m256i; 2] {
        // SAFETY: the trait guarantees 128 bytes of nibbles after 16 others.
        unsafe {
            let [first, second] = alternating(b.add(16 + 32 * unit));
            let (first, second) = (nibbles(first), nibbles(second));
            let next = x.add(Self::UNIT_VECTORS);
            [P::dot_small([first[0], second[0]], x), P::dot_small([first[1], second[1]], next)]
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8] {
        // SAFETY: guaranteed by the trait.
        unsafe { factors_of_k4(rows) }
    }
}

pub struct Q5_K;

impl Quad for Q5_K {
    const BYTES: usize = 176;
    const SPAN: usize = 256;
    const SUB: usize = 32;
    const ALTERNATING: bool = true;
    const SUMS: f32 = -1.0;
    type Read = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn integers<P: Dot>(
        b: *const u8,
        (): &(),
        unit: usize,
        x: *const __m256i,
    ) -> [__m256i; 2] {
        let five = _mm256_set1_epi8(16);
        // SAFETY: the trait guarantees 128 bytes of nibbles after the fifth bits.
        let bytes = unsafe { alternating(b.add(48 + 32 * unit)) };
        let mut levels = [bytes; 2]; // (units, halves)
        for half in 0..2 {
            // SAFETY: the trait guarantees 32 bytes of fifth bits.
            let fifths = unsafe { _mm_loadu_si128(b.add(16 + 16 * half).cast()) };
            let fifths = _mm256_broadcastsi128_si256(fifths);
            let nibbles = nibbles(bytes[half]);
            for next in 0..2 {
                // Masks of the fifth bits of the unit's two blocks.
                let block = unit * 2 + next;
                let bits = _mm256_set_m128i(
                    _mm_set1_epi8((4_u8 << block) as i8),
                    _mm_set1_epi8((1_u8 << block) as i8),
                );
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(fifths, bits), bits);
                levels[next][half] = _mm256_or_si256(nibbles[next], _mm256_and_si256(set, five));
            }
        }
        // SAFETY: guaranteed by the trait.
        unsafe { [P::dot_small(levels[0], x), P::dot_small(levels[1], x.add(Self::UNIT_VECTORS))] }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8] {
        // SAFETY: guaranteed by the trait.
        unsafe { factors_of_k4(rows) }
    }
}

pub struct Q6_K;

impl Quad for Q6_K {
    const BYTES: usize = 210;
    const SPAN: usize = 256;
    const SUB: usize = 16;
    const SUMS: f32 = -32.0;
    type Read = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn integers<P: Dot>(
        b: *const u8,
        (): &(),
        unit: usize,
        x: *const __m256i,
    ) -> [__m256i; 2] {
        let half = unit / 4;
        // SAFETY: the trait guarantees 64 bytes of low bits and 32 of high ones for each 128 columns.
        let (low, bits) = unsafe {
            let low = b.add(64 * half);
            (
                [_mm256_loadu_si256(low.cast()), _mm256_loadu_si256(low.add(32).cast())],
                _mm256_loadu_si256(b.add(128 + 32 * half).cast()),
            )
        };
        let mut integers = [_mm256_setzero_si256(); 2];
        for next in 0..2 {
            let part = unit % 4 + next;
            // Move this part's pair of bits to bits 4 and 5.
            let high = match part {
                0 => _mm256_slli_epi16::<4>(bits),
                1 => _mm256_slli_epi16::<2>(bits),
                2 => bits,
                _ => _mm256_srli_epi16::<2>(bits),
            };
            let high = _mm256_and_si256(high, _mm256_set1_epi8(0x30));
            let levels = _mm256_or_si256(nibbles(low[next])[part / 2], high);
            // SAFETY: guaranteed by the trait.
            integers[next] = unsafe {
                P::dot::<false>(integers[next], levels, *x.add(next * Self::UNIT_VECTORS))
            };
        }
        integers
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8] {
        let mut bytes = [_mm_setzero_si128(); 4];
        for i in 0..4 {
            // SAFETY: the trait guarantees sixteen signed bytes, then d.
            bytes[i] = unsafe { _mm_loadu_si128(rows[i].add(192).cast()) };
        }
        // SAFETY: guaranteed by the trait.
        let d = unsafe { half_of_rows(rows, 208) };
        let fours = bytes_of_rows(bytes);
        let mut all = [(d, d); 8];
        for unit in 0..8 {
            let two = two_of(fours, unit);
            let scales = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(two)), d);
            all[unit] = (scales, scales);
        }
        all
    }
}

pub struct Q2_K;

impl Quad for Q2_K {
    const BYTES: usize = 84;
    const SPAN: usize = 256;
    const SUB: usize = 16;
    const SUMS: f32 = -1.0;
    type Read = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn integers<P: Dot>(
        b: *const u8,
        (): &(),
        unit: usize,
        x: *const __m256i,
    ) -> [__m256i; 2] {
        // SAFETY: the trait guarantees 64 bytes of bit pairs after 16 others, and the activations of two units.
        unsafe {
            let bytes = _mm256_loadu_si256(b.add(16 + 32 * (unit / 4)).cast());
            let (zero, next) = (_mm256_setzero_si256(), x.add(Self::UNIT_VECTORS));
            [
                P::dot::<false>(zero, pair_of_bits(bytes, unit), *x),
                P::dot::<false>(zero, pair_of_bits(bytes, unit + 1), *next),
            ]
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8] {
        let mut bytes = [_mm_setzero_si128(); 4];
        for i in 0..4 {
            // SAFETY: the trait guarantees sixteen bytes of scales and mins, as nibbles.
            bytes[i] = unsafe { _mm_loadu_si128(rows[i].cast()) };
        }
        // SAFETY: guaranteed by the trait.
        let (d, dmin) = unsafe { (half_of_rows(rows, 80), half_of_rows(rows, 82)) };
        let fours = bytes_of_rows(bytes);
        let mut all = [(d, dmin); 8];
        for unit in 0..8 {
            let both = _mm256_cvtepu8_epi32(two_of(fours, unit));
            let scales = _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(15)));
            let minima = _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(both));
            all[unit] = (_mm256_mul_ps(scales, d), _mm256_mul_ps(minima, dmin));
        }
        all
    }
}

pub struct Q3_K;

impl Quad for Q3_K {
    const BYTES: usize = 110;
    const SPAN: usize = 256;
    const SUB: usize = 16;
    type Read = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn integers<P: Dot>(
        b: *const u8,
        (): &(),
        unit: usize,
        x: *const __m256i,
    ) -> [__m256i; 2] {
        // SAFETY: the trait guarantees 32 bytes of third bits, then 64 of bit pairs.
        let (thirds, bytes) = unsafe {
            (_mm256_loadu_si256(b.cast()), _mm256_loadu_si256(b.add(32 + 32 * (unit / 4)).cast()))
        };
        let mut integers = [_mm256_setzero_si256(); 2];
        for next in 0..2 {
            let bit = _mm256_set1_epi8((1_u8 << (unit + next)) as i8);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(thirds, bit), bit);
            let third = _mm256_and_si256(set, _mm256_set1_epi8(4));
            let levels = _mm256_or_si256(pair_of_bits(bytes, unit + next), third);
            // SAFETY: guaranteed by the trait.
            integers[next] = unsafe {
                P::dot::<false>(integers[next], levels, *x.add(next * Self::UNIT_VECTORS))
            };
        }
        integers
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8] {
        let mut bytes = [_mm_setzero_si128(); 4];
        for i in 0..4 {
            // SAFETY: the trait guarantees twelve bytes of scales, then d.
            bytes[i] =
                sixteen(k3_scales(unsafe { std::slice::from_raw_parts(rows[i].add(96), 12) }));
        }
        // SAFETY: guaranteed by the trait.
        let d = unsafe { half_of_rows(rows, 108) };
        factors_of_sixteen(bytes, d, [-32.0, 1.0, 1.0], -4.0)
    }
}

pub struct IQ4_XS;

impl Quad for IQ4_XS {
    const BYTES: usize = 136;
    const SPAN: usize = 256;
    const SUB: usize = 32;
    const WIDE: bool = true;
    type Read = ();

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn integers<P: Dot>(
        b: *const u8,
        (): &(),
        unit: usize,
        x: *const __m256i,
    ) -> [__m256i; 2] {
        let mut integers = [_mm256_setzero_si256(); 2];
        for next in 0..2 {
            // SAFETY: the trait guarantees 16 bytes for each block of 32 after 8 others.
            integers[next] = unsafe {
                let bytes = _mm256_loadu_si256(b.add(8 + 32 * (unit + next)).cast());
                let [low, high] = nibbles(bytes);
                let levels = [look_up(&IQ4_LEVELS, low), look_up(&IQ4_LEVELS, high)];
                wide::<P>(levels, x.add(next * Self::UNIT_VECTORS))
            };
        }
        integers
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn factors(rows: [*const u8; 4]) -> [Factors; 8] {
        let mut scales = [_mm256_setzero_si256(); 4]; // of each row: blocks 0, 2, 4, 6, 1, 3, 5, 7
        for i in 0..4 {
            // SAFETY: the trait guarantees d, then the scales' upper bit pairs and lower nibbles.
            let (upper, lower) = unsafe {
                (
                    rows[i].add(2).cast::<u16>().read_unaligned(),
                    rows[i].add(4).cast::<u32>().read_unaligned(),
                )
            };
            let lower = u64::from(lower & 0x0f0f_0f0f) | u64::from(lower >> 4 & 0x0f0f_0f0f) << 32;
            let lower = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(lower as i64));
            let shifts = _mm256_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14);
            let upper = _mm256_srlv_epi32(_mm256_set1_epi32(i32::from(upper)), shifts);
            let upper = _mm256_slli_epi32::<4>(_mm256_and_si256(upper, _mm256_set1_epi32(3)));
            scales[i] = _mm256_or_si256(lower, upper);
        }
        // SAFETY: guaranteed by the trait.
        let d = unsafe { half_of_rows(rows, 0) };
        factors_of_eight(scales, d, [-32.0, 1.0, 1.0], -128.0)
    }
}
