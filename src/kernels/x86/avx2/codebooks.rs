//! How the bytes of types with codebooks (IQ1 to IQ3) and of ternary ones become vectors of levels.
//!
//! Levels of signed magnitudes are 64 too high, as in [`crate::kernels::blocks`]. Entries are loaded one by one: gathers
//! are no faster with so few lanes, and much slower on some processors.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]

use super::vectors::{
    factors_of_eight, factors_of_sixteen, half_of_rows, mask_of_bits, pair_of_bits, transpose_fours,
};
use crate::kernels::blocks::grids::{self, NEGATIVE_EVEN};
use crate::kernels::x86::read;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// A type of super-blocks of 256 columns.
pub trait Codebook {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Columns that share a scale: 16 or 32.
    const SUB: usize;

    /// The levels of columns `32 · part ..`.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; a super-block lies at `b`.
    unsafe fn levels(b: *const u8, part: usize) -> __m256i;

    /// Scales and minima of pairs of sub-blocks of four rows: eight of them, or four where a sub-block has 32 columns.
    ///
    /// # Safety
    /// As [`Codebook::levels`], at each pointer.
    unsafe fn factors(rows: [*const u8; 4]) -> [(__m256, __m256); 8];
}

/// Four entries of a codebook of eights.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn eights<const N: usize>(grid: &[[u8; 8]; N], [a, b, c, d]: [usize; 4]) -> __m256i {
    let [a, b, c, d] = [grid[a], grid[b], grid[c], grid[d]];
    let word = i64::from_le_bytes;
    _mm256_setr_epi64x(word(a), word(b), word(c), word(d))
}

/// Eight entries of a codebook of fours.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn fours<const N: usize>(grid: &[[u8; 4]; N], index: [usize; 8]) -> __m256i {
    let word = |i: usize| i32::from_le_bytes(grid[index[i]]);
    _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7))
}

/// Levels of magnitudes, those of set bits negative.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed(magnitudes: __m256i, negative: u32) -> __m256i {
    let negative = mask_of_bits(negative);
    let signed = _mm256_sub_epi8(_mm256_xor_si256(magnitudes, negative), negative);
    _mm256_add_epi8(signed, _mm256_set1_epi8(64))
}

/// Levels of magnitudes with the signs of seven bits, the lowest of each word.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed_evenly(magnitudes: __m256i, sevens: [u32; 4]) -> __m256i {
    let [a, b, c, d] = sevens.map(|seven| NEGATIVE_EVEN[seven as usize & 127] as i64);
    let negative = _mm256_setr_epi64x(a, b, c, d);
    // 64 more, or (63 - m) + 1.
    let added = _mm256_sub_epi8(_mm256_set1_epi8(64), negative);
    _mm256_add_epi8(_mm256_xor_si256(magnitudes, negative), added)
}

/// The places of eight sub-blocks whose pairs become units: 0, 2, 4, 6, 1, 3, 5, 7.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn even_then_odd() -> __m256i {
    _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)
}

/// The halves of eight bytes at `at` of each row, low ones first.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn nibbles_of_rows(rows: [*const u8; 4], at: usize) -> [__m128i; 4] {
    let mut all = [_mm_setzero_si128(); 4];
    for i in 0..4 {
        // SAFETY: said by the caller.
        let bytes = _mm_cvtsi64_si128(unsafe { read(rows[i].add(at)) });
        let low = _mm_set1_epi8(15);
        let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), low);
        all[i] = _mm_unpacklo_epi8(_mm_and_si128(bytes, low), high);
    }
    all
}

/// Levels that are one too high.
///
/// # Safety
/// An f16 can be read at `at` of each row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn ternary(rows: [*const u8; 4], at: usize) -> [(__m256, __m256); 8] {
    // SAFETY: said by the caller.
    let d = unsafe { half_of_rows(rows, at) };
    [(d, _mm256_sub_ps(_mm256_setzero_ps(), d)); 8]
}

/// Four bytes of a word.
#[inline]
fn bytes(word: u32) -> [usize; 4] {
    word.to_le_bytes().map(usize::from)
}

macro_rules! codebook {
    ($name:ident, bytes: $bytes:literal, sub: $sub:literal, |$b:ident, $part:ident| $levels:expr,
        |$rows:ident| $factors:expr) => {
        /// See [`crate::kernels::blocks`].
        pub struct $name;

        impl Codebook for $name {
            const BYTES: usize = $bytes;
            const SUB: usize = $sub;

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn levels($b: *const u8, $part: usize) -> __m256i {
                // SAFETY: said by the trait: a super-block.
                unsafe { $levels }
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn factors($rows: [*const u8; 4]) -> [(__m256, __m256); 8] {
                // SAFETY: said by the trait: super-blocks.
                unsafe { $factors }
            }
        }
    };
}

codebook!(IQ2_XXS, bytes: 66, sub: 32, |b, part| {
    let (indices, packed) = (read(b.add(2 + 8 * part)), read::<u32>(b.add(6 + 8 * part)));
    let sevens = [packed, packed >> 7, packed >> 14, packed >> 21];
    signed_evenly(eights(&grids::IQ2_XXS, bytes(indices)), sevens)
}, |rows| {
    let mut scales = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        // The upper four bits of eight words, in the order of pairs.
        let first = _mm256_srli_epi64::<60>(_mm256_loadu_si256(rows[i].add(2).cast()));
        let second = _mm256_srli_epi64::<60>(_mm256_loadu_si256(rows[i].add(34).cast()));
        let both = _mm256_or_si256(first, _mm256_slli_epi64::<32>(second)); // 0, 4, 1, 5, …
        scales[i] = _mm256_permutevar8x32_epi32(both, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    factors_of_eight(scales, half_of_rows(rows, 0), [0.5, 1.0, 0.25], -64.0)
});

codebook!(IQ2_XS, bytes: 74, sub: 16, |b, part| {
    let words = read::<[u16; 4]>(b.add(2 + 8 * part)).map(u16::from_le);
    let grid = eights(&grids::IQ2_XS, words.map(|word| usize::from(word & 511)));
    signed_evenly(grid, words.map(|word| u32::from(word >> 9)))
}, |rows| factors_of_sixteen(nibbles_of_rows(rows, 66), half_of_rows(rows, 0), [0.5, 1.0, 0.25], -64.0));

codebook!(IQ2_S, bytes: 82, sub: 16, |b, part| {
    let (low, high) = (bytes(read(b.add(2 + 4 * part))), usize::from(*b.add(66 + part)));
    let high = [high << 8, high << 6, high << 4, high << 2];
    let indices = [0, 1, 2, 3].map(|i| low[i] | high[i] & 0x300);
    signed(eights(&grids::IQ2_S, indices), read(b.add(34 + 4 * part)))
}, |rows| factors_of_sixteen(nibbles_of_rows(rows, 74), half_of_rows(rows, 0), [0.5, 1.0, 0.25], -64.0));

codebook!(IQ3_XXS, bytes: 98, sub: 32, |b, part| {
    let indices = read::<[u8; 8]>(b.add(2 + 8 * part)).map(usize::from);
    let packed = read::<u32>(b.add(66 + 4 * part));
    let sevens = [packed, packed >> 7, packed >> 14, packed >> 21];
    signed_evenly(fours(&grids::IQ3_XXS, indices), sevens)
}, |rows| {
    let mut scales = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let words = _mm256_srli_epi32::<28>(_mm256_loadu_si256(rows[i].add(66).cast()));
        scales[i] = _mm256_permutevar8x32_epi32(words, even_then_odd());
    }
    factors_of_eight(scales, half_of_rows(rows, 0), [0.5, 1.0, 0.5], -64.0)
});

codebook!(IQ3_S, bytes: 110, sub: 32, |b, part| {
    let low = read::<[u8; 8]>(b.add(2 + 8 * part)).map(usize::from);
    let high = usize::from(*b.add(66 + part));
    let high = [8, 7, 6, 5, 4, 3, 2, 1].map(|shift| high << shift & 256);
    let indices = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| low[i] | high[i]);
    signed(fours(&grids::IQ3_S, indices), read(b.add(74 + 4 * part)))
}, |rows| {
    let mut scales = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let packed = read::<u32>(rows[i].add(106));
        let even_odd = u64::from(packed & 0x0f0f_0f0f) | u64::from(packed >> 4 & 0x0f0f_0f0f) << 32;
        scales[i] = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(even_odd as i64));
    }
    factors_of_eight(scales, half_of_rows(rows, 0), [1.0, 2.0, 1.0], -64.0)
});

codebook!(IQ1_S, bytes: 50, sub: 32, |b, part| {
    let low = bytes(read(b.add(2 + 4 * part)));
    let high = usize::from(read::<u16>(b.add(34 + 2 * part)));
    let high = [high << 8, high << 5, high << 2, high >> 1];
    eights(&grids::IQ1, [0, 1, 2, 3].map(|i| low[i] | high[i] & 0x700))
}, |rows| {
    let (mut scales, mut added) = ([_mm256_setzero_si256(); 4], [_mm256_setzero_ps(); 4]);
    for i in 0..4 {
        let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(rows[i].add(34).cast()));
        let words = _mm256_permutevar8x32_epi32(words, even_then_odd());
        scales[i] = _mm256_and_si256(_mm256_srli_epi32::<12>(words), _mm256_set1_epi32(7));
        let below = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)); // by the sign bit
        added[i] = _mm256_blendv_ps(_mm256_set1_ps(-0.875), _mm256_set1_ps(-1.125), below);
    }
    let mut all = factors_of_eight(scales, half_of_rows(rows, 0), [1.0, 2.0, 1.0], 0.0);
    for (factors, added) in all.iter_mut().zip(transpose_fours(added)) {
        factors.1 = _mm256_mul_ps(factors.0, added);
    }
    all
});

codebook!(IQ1_M, bytes: 56, sub: 16, |b, part| {
    let low = bytes(read(b.add(4 * part)));
    let high = u32::from(read::<u16>(b.add(32 + 2 * part)));
    let upper = [high << 8, high << 4, high, high >> 4].map(|high| high as usize & 0x700);
    let grid = eights(&grids::IQ1, [0, 1, 2, 3].map(|i| low[i] | upper[i]));
    // Where the fourth bit of a four is set, seven are added instead of nine.
    let bits = _mm256_set1_epi64x(i64::from(high));
    let bits = _mm256_sllv_epi64(bits, _mm256_setr_epi64x(60, 56, 52, 48));
    let below = _mm256_cmpgt_epi64(_mm256_setzero_si256(), bits);
    let below = _mm256_and_si256(below, _mm256_set1_epi8(2));
    let added = _mm256_sub_epi8(_mm256_set1_epi8(9), below);
    _mm256_add_epi8(_mm256_slli_epi64::<3>(grid), added)
}, |rows| {
    let (mut scales, mut d) = ([_mm_setzero_si128(); 4], 0);
    for i in 0..4 {
        let words = read::<u64>(rows[i].add(48));
        let upper = words >> 12 & 0xf | words >> 24 & 0xf0 | words >> 36 & 0xf00;
        d |= ((upper | words >> 48 & 0xf000) as i64) << (16 * i);
        // Each word four times, three bits of it moved to the top.
        let words = _mm256_broadcastsi128_si256(_mm_cvtsi64_si128(words as i64));
        let each = _mm256_setr_epi64x(
            0x0100_0100_0100_0100,
            0x0302_0302_0302_0302,
            0x0504_0504_0504_0504,
            0x0706_0706_0706_0706,
        );
        let up = _mm256_set1_epi64x(0x0010_0080_0400_2000);
        let threes = _mm256_mullo_epi16(_mm256_shuffle_epi8(words, each), up);
        let threes = _mm256_srli_epi16::<13>(threes);
        let (low, high) = (_mm256_castsi256_si128(threes), _mm256_extracti128_si256::<1>(threes));
        scales[i] = _mm_packus_epi16(low, high);
    }
    factors_of_sixteen(scales, _mm256_cvtph_ps(_mm_set1_epi64x(d)), [1.0, 2.0, 0.125], -16.0)
});

codebook!(TQ1_0, bytes: 54, sub: 32, |b, part| {
    let second = _mm_loadu_si128(b.add(32).cast());
    let bytes = match part {
        0..5 => _mm256_loadu_si256(b.cast()),
        5 | 6 => _mm256_broadcastsi128_si256(second),
        _ => _mm256_set_m128i(_mm_set1_epi32(read(b.add(48))), second),
    };
    let powers = _mm256_loadu_si256(grids::THREES[16 * part..][..16].as_ptr().cast());
    // Odd and even bytes; what stands before the point after multiplying is a digit.
    let odd = _mm256_and_si256(bytes, _mm256_set1_epi16(-256));
    let even = _mm256_slli_epi16::<8>(bytes);
    let three = _mm256_set1_epi16(3);
    let odd = _mm256_mulhi_epu16(_mm256_mullo_epi16(odd, powers), three);
    let even = _mm256_mulhi_epu16(_mm256_mullo_epi16(even, powers), three);
    _mm256_or_si256(_mm256_slli_epi16::<8>(odd), even)
}, |rows| ternary(rows, 52));

codebook!(TQ2_0, bytes: 66, sub: 32, |b, part| {
    pair_of_bits(_mm256_loadu_si256(b.add(32 * (part / 4)).cast()), part)
}, |rows| ternary(rows, 64));
