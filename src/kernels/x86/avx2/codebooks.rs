//! Decodes codebook types (IQ1 to IQ3) and ternary types into vectors of levels.
//!
//! The indices of all entries of a super-block and the signs of all columns are extracted at once ([`Read`]). Entries
//! are then loaded one by one: gathers are no faster with so few lanes, and much slower on some processors. Signed
//! levels are offset by 64, as in [`crate::kernels::blocks`].

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]

use super::vectors::{
    factors_of_eight, factors_of_sixteen, half_of_rows, mask_of_bits, pair_of_bits, transpose_fours,
};
use crate::kernels::blocks::grids;
use crate::kernels::x86::read;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// A type of super-blocks of 256 columns.
pub trait Codebook {
    /// Bytes of a super-block.
    const BYTES: usize;
    /// Columns that share a scale: 16 or 32.
    const SUB: usize;

    /// Data extracted once, from which levels are decoded.
    type Read: Copy + Default;

    /// Extracts it, for types that need it.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; the pointer is that of a super-block.
    #[inline]
    unsafe fn read(_: *const u8, _: &mut Self::Read) {}

    /// The levels of columns `32 · part ..`.
    ///
    /// # Safety
    /// As [`Codebook::read`], which gave `read` for the same super-block.
    unsafe fn levels(b: *const u8, read: &Self::Read, part: usize) -> __m256i;

    /// Scales and mins of pairs of sub-blocks of four rows: eight pairs, or four if a sub-block has 32 columns.
    ///
    /// # Safety
    /// As [`Codebook::levels`], at each pointer.
    unsafe fn factors(rows: [*const u8; 4]) -> [(__m256, __m256); 8];
}

/// Data extracted from a super-block at once; types leave fields they don't need unused.
#[derive(Clone, Copy)]
pub struct Read {
    /// Indices of the codebook entries, one for each 8 or 4 columns.
    indices: [u16; 64],
    /// One bit per column, set if it is negative.
    signs: [u32; 8],
}

impl Default for Read {
    fn default() -> Self {
        Self { indices: [0; 64], signs: [0; 8] }
    }
}

impl Read {
    /// Stores sixteen indices, from `16 · part` on.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn set_indices(&mut self, part: usize, indices: __m256i) {
        let out: &mut [u16; 16] = (&mut self.indices[16 * part..][..16]).try_into().expect("16");
        // SAFETY: 32 bytes, by the type; the store needs no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), indices) };
    }

    /// Stores the signs, one byte for each eight columns.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn set_signs(&mut self, signs: __m256i) {
        // SAFETY: 32 bytes, by the type; the store needs no alignment.
        unsafe { _mm256_storeu_si256(self.signs.as_mut_ptr().cast(), signs) };
    }

    /// The `N` indices of 32 columns.
    #[inline]
    fn entries<const N: usize>(&self, part: usize) -> [usize; N] {
        let part: &[u16; N] = self.indices[N * part..].first_chunk().expect("of 64");
        // One by one: they would have to be shifted out of a larger word.
        std::array::from_fn(|i| usize::from(part[i]))
    }
}

/// Four entries of a codebook with eight levels per entry.
///
/// # Safety
/// `entries` are below `N`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn eights<const N: usize>(grid: &[[u8; 8]; N], entries: [usize; 4]) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let word = |i: usize| i64::from_le_bytes(unsafe { *grid.get_unchecked(entries[i]) });
    _mm256_setr_epi64x(word(0), word(1), word(2), word(3))
}

/// Eight entries of a codebook with four levels per entry.
///
/// # Safety
/// `entries` are below `N`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn fours<const N: usize>(grid: &[[u8; 4]; N], entries: [usize; 8]) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let word = |i: usize| i32::from_le_bytes(unsafe { *grid.get_unchecked(entries[i]) });
    _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7))
}

/// Levels from magnitudes; those with a set bit are negative.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn signed(magnitudes: __m256i, negative: u32) -> __m256i {
    let negative = mask_of_bits(negative);
    let signed = _mm256_sub_epi8(_mm256_xor_si256(magnitudes, negative), negative);
    _mm256_add_epi8(signed, _mm256_set1_epi8(64))
}

/// Completes seven signs in each byte with an eighth that makes the number of negative columns even.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn with_eighth(sevens: __m256i) -> __m256i {
    // Parity of each nibble, in bit 7.
    let odd = _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0);
    let (odd, low) = (_mm256_broadcastsi128_si256(odd), _mm256_set1_epi8(15));
    let first = _mm256_shuffle_epi8(odd, _mm256_and_si256(sevens, low));
    let second = _mm256_and_si256(_mm256_srli_epi16::<4>(sevens), low);
    let eighth = _mm256_xor_si256(first, _mm256_shuffle_epi8(odd, second));
    _mm256_or_si256(sevens, eighth)
}

/// As [`with_eighth`], for the low 28 bits of eight words: four times seven signs.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn with_eighths(words: __m256i) -> __m256i {
    let byte = |v: __m256i, i: u32| _mm256_and_si256(v, _mm256_set1_epi32(0x7f << (8 * i)));
    let first = _mm256_or_si256(byte(words, 0), byte(_mm256_slli_epi32::<1>(words), 1));
    let second = _mm256_slli_epi32::<2>(words);
    let second = _mm256_or_si256(byte(second, 2), byte(_mm256_slli_epi32::<1>(second), 3));
    with_eighth(_mm256_or_si256(first, second))
}

/// Four 16-bit words, each repeated four times and shifted left by multiplying with the four `factors`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn moved(words: u64, factors: [u16; 4]) -> __m256i {
    let each = _mm256_setr_epi64x(
        0x0100_0100_0100_0100,
        0x0302_0302_0302_0302,
        0x0504_0504_0504_0504,
        0x0706_0706_0706_0706,
    );
    let [a, b, c, d] = factors.map(i64::from);
    let factors = _mm256_set1_epi64x(a | b << 16 | c << 32 | d << 48);
    let words = _mm256_shuffle_epi8(_mm256_set1_epi64x(words as i64), each);
    _mm256_mullo_epi16(words, factors)
}

/// Sixteen bytes as words, with the top three bits of the words `high` above them.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn with_threes(low: *const u8, high: __m256i) -> __m256i {
    let high = _mm256_and_si256(_mm256_srli_epi16::<5>(high), _mm256_set1_epi16(0x700));
    // SAFETY: guaranteed by the caller.
    _mm256_or_si256(unsafe { words(low) }, high)
}

/// Sixteen bytes as words.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn words(b: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller.
    _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(b.cast()) })
}

/// Order of eight sub-blocks whose pairs become units: 0, 2, 4, 6, 1, 3, 5, 7.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn even_then_odd() -> __m256i {
    _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)
}

/// The nibbles of eight bytes at `at` of each row, low ones first.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn nibbles_of_rows(rows: [*const u8; 4], at: usize) -> [__m128i; 4] {
    let mut all = [_mm_setzero_si128(); 4];
    for i in 0..4 {
        // SAFETY: guaranteed by the caller.
        let bytes = _mm_cvtsi64_si128(unsafe { read(rows[i].add(at)) });
        let low = _mm_set1_epi8(15);
        let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), low);
        all[i] = _mm_unpacklo_epi8(_mm_and_si128(bytes, low), high);
    }
    all
}

/// `N` bytes as table indices, loaded one by one.
///
/// # Safety
/// They can be read.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
unsafe fn bytes<const N: usize>(b: *const u8) -> [usize; N] {
    let mut all = [0; N];
    for (i, byte) in all.iter_mut().enumerate() {
        // SAFETY: guaranteed by the caller.
        *byte = usize::from(unsafe { *b.add(i) });
    }
    all
}

macro_rules! codebook {
    ($name:ident, bytes: $bytes:literal, sub: $sub:literal,
        read: |$of:ident, $out:ident| $read:expr,
        levels: |$b:ident, $found:ident, $part:ident| $levels:expr,
        factors: |$rows:ident| $factors:expr) => {
        /// See [`crate::kernels::blocks`].
        pub struct $name;

        impl Codebook for $name {
            const BYTES: usize = $bytes;
            const SUB: usize = $sub;
            type Read = Read;

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn read($of: *const u8, $out: &mut Read) {
                // SAFETY: the trait guarantees a super-block.
                unsafe { $read }
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn levels($b: *const u8, $found: &Read, $part: usize) -> __m256i {
                // SAFETY: the trait guarantees a super-block and indices within its codebook.
                unsafe { $levels }
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn factors($rows: [*const u8; 4]) -> [(__m256, __m256); 8] {
                // SAFETY: the trait guarantees super-blocks.
                unsafe { $factors }
            }
        }
    };
}

codebook!(IQ2_XXS, bytes: 66, sub: 32, read: |b, out| {
    // The second word of each pair, in the order 0, 1, 4, 5, 2, 3, 6, 7.
    let first = _mm256_castsi256_ps(_mm256_loadu_si256(b.add(2).cast()));
    let second = _mm256_castsi256_ps(_mm256_loadu_si256(b.add(34).cast()));
    let packed = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(first, second));
    out.set_signs(with_eighths(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed)));
}, levels: |b, found, part| {
    signed(eights(&grids::IQ2_XXS, bytes(b.add(2 + 8 * part))), found.signs[part])
}, factors: |rows| {
    let mut scales = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        // The upper four bits of eight words, in the order of [`even_then_odd`].
        let first = _mm256_srli_epi64::<60>(_mm256_loadu_si256(rows[i].add(2).cast()));
        let second = _mm256_srli_epi64::<60>(_mm256_loadu_si256(rows[i].add(34).cast()));
        let both = _mm256_or_si256(first, _mm256_slli_epi64::<32>(second)); // 0, 4, 1, 5, …
        scales[i] = _mm256_permutevar8x32_epi32(both, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    factors_of_eight(scales, half_of_rows(rows, 0), [0.5, 1.0, 0.25], -64.0)
});

codebook!(IQ2_XS, bytes: 74, sub: 16, read: |b, out| {
    let first = _mm256_loadu_si256(b.add(2).cast());
    let second = _mm256_loadu_si256(b.add(34).cast());
    out.set_indices(0, _mm256_and_si256(first, _mm256_set1_epi16(511)));
    out.set_indices(1, _mm256_and_si256(second, _mm256_set1_epi16(511)));
    let sevens = _mm256_packus_epi16(_mm256_srli_epi16::<9>(first), _mm256_srli_epi16::<9>(second));
    out.set_signs(with_eighth(_mm256_permute4x64_epi64::<0b11_01_10_00>(sevens)));
}, levels: |_b, found, part| {
    signed(eights(&grids::IQ2_XS, found.entries(part)), found.signs[part])
}, factors: |rows| factors_of_sixteen(nibbles_of_rows(rows, 66), half_of_rows(rows, 0), [0.5, 1.0, 0.25], -64.0));

codebook!(IQ2_S, bytes: 82, sub: 16, read: |b, out| {
    for half in 0..2 {
        let low = words(b.add(2 + 16 * half));
        // Each byte four times, a different pair of its bits moved to bits 8 and 9 each time.
        let each = _mm256_setr_epi64x(
            0x8000_8000_8000_8000_u64 as i64,
            0x8001_8001_8001_8001_u64 as i64,
            0x8002_8002_8002_8002_u64 as i64,
            0x8003_8003_8003_8003_u64 as i64,
        );
        let high = _mm256_shuffle_epi8(_mm256_set1_epi32(read(b.add(66 + 4 * half))), each);
        let high = _mm256_mullo_epi16(high, _mm256_set1_epi64x(0x0004_0010_0040_0100));
        let high = _mm256_and_si256(high, _mm256_set1_epi16(0x300));
        out.set_indices(half, _mm256_or_si256(low, high));
    }
}, levels: |b, found, part| {
    signed(eights(&grids::IQ2_S, found.entries(part)), read(b.add(34 + 4 * part)))
}, factors: |rows| factors_of_sixteen(nibbles_of_rows(rows, 74), half_of_rows(rows, 0), [0.5, 1.0, 0.25], -64.0));

codebook!(IQ3_XXS, bytes: 98, sub: 32, read: |b, out| {
    out.set_signs(with_eighths(_mm256_loadu_si256(b.add(66).cast())));
}, levels: |b, found, part| {
    signed(fours(&grids::IQ3_XXS, bytes(b.add(2 + 8 * part))), found.signs[part])
}, factors: |rows| {
    let mut scales = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let words = _mm256_srli_epi32::<28>(_mm256_loadu_si256(rows[i].add(66).cast()));
        scales[i] = _mm256_permutevar8x32_epi32(words, even_then_odd());
    }
    factors_of_eight(scales, half_of_rows(rows, 0), [0.5, 1.0, 0.5], -64.0)
});

codebook!(IQ3_S, bytes: 110, sub: 32, read: |b, out| {
    for quarter in 0..4 {
        let low = words(b.add(2 + 16 * quarter));
        let bits = _mm256_set1_epi16(read(b.add(66 + 2 * quarter)));
        let each = _mm256_setr_epi16(
            1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768,
        );
        let set = _mm256_cmpeq_epi16(_mm256_and_si256(bits, each), each);
        let high = _mm256_and_si256(set, _mm256_set1_epi16(256));
        out.set_indices(quarter, _mm256_or_si256(low, high));
    }
}, levels: |b, found, part| {
    signed(fours(&grids::IQ3_S, found.entries(part)), read(b.add(74 + 4 * part)))
}, factors: |rows| {
    let mut scales = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        let packed = read::<u32>(rows[i].add(106));
        let even_odd = u64::from(packed & 0x0f0f_0f0f) | u64::from(packed >> 4 & 0x0f0f_0f0f) << 32;
        scales[i] = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(even_odd as i64));
    }
    factors_of_eight(scales, half_of_rows(rows, 0), [1.0, 2.0, 1.0], -64.0)
});

codebook!(IQ1_S, bytes: 50, sub: 32, read: |b, out| {
    for half in 0..2 {
        let high = moved(read(b.add(34 + 8 * half)), [1 << 13, 1 << 10, 1 << 7, 1 << 4]);
        out.set_indices(half, with_threes(b.add(2 + 16 * half), high));
    }
}, levels: |_b, found, part| eights(&grids::IQ1, found.entries(part)), factors: |rows| {
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

codebook!(IQ1_M, bytes: 56, sub: 16, read: |b, out| {
    for half in 0..2 {
        let words = read(b.add(32 + 8 * half));
        let high = moved(words, [1 << 13, 1 << 9, 1 << 5, 1 << 1]);
        out.set_indices(half, with_threes(b.add(16 * half), high));
        // Stored after the indices: the offset added to eight times an entry, 9 or, if a fourth bit is set, 7.
        let below = _mm256_srai_epi16::<15>(moved(words, [1 << 12, 1 << 8, 1 << 4, 1]));
        let below = _mm256_and_si256(below, _mm256_set1_epi8(2));
        out.set_indices(2 + half, _mm256_sub_epi8(_mm256_set1_epi8(9), below));
    }
}, levels: |_b, found, part| {
    let eight_times = _mm256_slli_epi64::<3>(eights(&grids::IQ1, found.entries(part)));
    let added: &[u16; 4] = found.indices[32 + 4 * part..].first_chunk().expect("of 64");
    let added = moved(read(added.as_ptr().cast()), [1; 4]);
    _mm256_add_epi8(eight_times, added)
}, factors: |rows| {
    let (mut scales, mut d) = ([_mm_setzero_si128(); 4], 0);
    for i in 0..4 {
        let words = read::<u64>(rows[i].add(48));
        let upper = words >> 12 & 0xf | words >> 24 & 0xf0 | words >> 36 & 0xf00;
        d |= ((upper | words >> 48 & 0xf000) as i64) << (16 * i);
        let threes = moved(words, [1 << 13, 1 << 10, 1 << 7, 1 << 4]);
        let threes = _mm256_srli_epi16::<13>(threes);
        let (low, high) = (_mm256_castsi256_si128(threes), _mm256_extracti128_si256::<1>(threes));
        scales[i] = _mm_packus_epi16(low, high);
    }
    factors_of_sixteen(scales, _mm256_cvtph_ps(_mm_set1_epi64x(d)), [1.0, 2.0, 0.125], -16.0)
});

/// Defines a type whose levels are offset by 1, with d in the last two bytes.
macro_rules! ternary {
    ($name:ident, bytes: $bytes:literal, |$b:ident, $part:ident| $levels:expr) => {
        /// See [`crate::kernels::blocks`].
        pub struct $name;

        impl Codebook for $name {
            const BYTES: usize = $bytes;
            const SUB: usize = 32;
            type Read = ();

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn levels($b: *const u8, (): &(), $part: usize) -> __m256i {
                // SAFETY: the trait guarantees a super-block.
                unsafe { $levels }
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn factors(rows: [*const u8; 4]) -> [(__m256, __m256); 8] {
                // SAFETY: the trait guarantees super-blocks.
                let d = unsafe { half_of_rows(rows, $bytes - 2) };
                [(d, _mm256_sub_ps(_mm256_setzero_ps(), d)); 8]
            }
        }
    };
}

ternary!(TQ1_0, bytes: 54, |b, part| {
    let second = _mm_loadu_si128(b.add(32).cast());
    let bytes = match part {
        0..5 => _mm256_loadu_si256(b.cast()),
        5 | 6 => _mm256_broadcastsi128_si256(second),
        _ => _mm256_set_m128i(_mm_set1_epi32(read(b.add(48))), second),
    };
    let powers = _mm256_loadu_si256(grids::THREES[16 * part..][..16].as_ptr().cast());
    // Odd and even bytes as 16-bit fractions: scaled by the power of three, the integer part of three times the
    // fraction is the digit.
    let odd = _mm256_and_si256(bytes, _mm256_set1_epi16(-256));
    let even = _mm256_slli_epi16::<8>(bytes);
    let three = _mm256_set1_epi16(3);
    let odd = _mm256_mulhi_epu16(_mm256_mullo_epi16(odd, powers), three);
    let even = _mm256_mulhi_epu16(_mm256_mullo_epi16(even, powers), three);
    _mm256_or_si256(_mm256_slli_epi16::<8>(odd), even)
});

ternary!(TQ2_0, bytes: 66, |b, part| {
    pair_of_bits(_mm256_loadu_si256(b.add(32 * (part / 4)).cast()), part)
});
