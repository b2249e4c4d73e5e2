//! Decodes codebook types (IQ1 to IQ3) and ternary types into vectors of levels.
//!
//! The indices of all entries of a super-block and the signs of all columns are extracted at once ([`Read`]). Entries
//! are then loaded one by one: gathers are no faster with so few lanes, and much slower on some processors. Signed
//! levels are offset by 64, as in [`crate::kernels::blocks`].

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]

use super::decode::{Decode, Super, both};
use super::vectors::{halves_of_rows, mask_of_bits, pair_of_bits};
use crate::kernels::blocks::{
    grids, iq1_m_factors, iq1_s_scales, iq2_xxs_scales, iq3_s_scales, iq3_xxs_scales,
};
use crate::kernels::x86::read;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

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

/// Eight scales, for both halves of each block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn of_blocks(scales: [i16; 8]) -> __m256i {
    // SAFETY: sixteen bytes, by the type; the load needs no alignment.
    both(unsafe { _mm_loadu_si128(scales.as_ptr().cast()) })
}

/// The scales 2n + 1 for the nibbles n of eight bytes: a block's first half has the low one.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn odd_nibbles(b: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let bytes = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(unsafe { read(b) }));
    let nibbles = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    let nibbles = _mm256_and_si256(nibbles, _mm256_set1_epi16(15));
    _mm256_or_si256(_mm256_slli_epi16::<1>(nibbles), _mm256_set1_epi16(1))
}

/// The f16 at `at` of eight rows, times an exact factor.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn units_at(rows: &[*const u8; 8], at: usize, by: f32) -> __m256 {
    // SAFETY: guaranteed by the caller.
    _mm256_mul_ps(unsafe { halves_of_rows(rows, at) }, _mm256_set1_ps(by))
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
    ($name:ident,
        read: |$of:ident, $out:ident| $read:expr,
        levels: |$b:pat_param, $found:ident, $part:ident| $levels:expr,
        scales: |$at:ident| $scales:expr, units: |$rows:ident, $place:ident| $units:expr) => {
        /// See [`crate::kernels::blocks`].
        pub struct $name;

        impl Decode for $name {
            const DTYPE: DType = DType::$name;
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
        }

        impl Super for $name {
            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn scales($at: *const u8) -> __m256i {
                // SAFETY: the trait guarantees a super-block.
                unsafe { $scales }
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn units($rows: &[*const u8; 8], $place: usize) -> (__m256, __m256) {
                // SAFETY: the trait guarantees super-blocks.
                (unsafe { $units }, _mm256_setzero_ps())
            }
        }
    };
}

codebook!(IQ2_XXS, read: |b, out| {
    // The second word of each pair, in the order 0, 1, 4, 5, 2, 3, 6, 7.
    let first = _mm256_castsi256_ps(_mm256_loadu_si256(b.add(2).cast()));
    let second = _mm256_castsi256_ps(_mm256_loadu_si256(b.add(34).cast()));
    let packed = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(first, second));
    out.set_signs(with_eighths(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed)));
}, levels: |b, found, part| {
    signed(eights(&grids::IQ2_XXS, bytes(b.add(2 + 8 * part))), found.signs[part])
}, scales: |b| of_blocks(iq2_xxs_scales(&*b.cast())), units: |rows, at| units_at(rows, at, 0.125));

codebook!(IQ2_XS, read: |b, out| {
    let first = _mm256_loadu_si256(b.add(2).cast());
    let second = _mm256_loadu_si256(b.add(34).cast());
    out.set_indices(0, _mm256_and_si256(first, _mm256_set1_epi16(511)));
    out.set_indices(1, _mm256_and_si256(second, _mm256_set1_epi16(511)));
    let sevens = _mm256_packus_epi16(_mm256_srli_epi16::<9>(first), _mm256_srli_epi16::<9>(second));
    out.set_signs(with_eighth(_mm256_permute4x64_epi64::<0b11_01_10_00>(sevens)));
}, levels: |_, found, part| {
    signed(eights(&grids::IQ2_XS, found.entries(part)), found.signs[part])
}, scales: |b| odd_nibbles(b.add(66)), units: |rows, at| units_at(rows, at, 0.125));

codebook!(IQ2_S, read: |b, out| {
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
}, scales: |b| odd_nibbles(b.add(74)), units: |rows, at| units_at(rows, at, 0.125));

codebook!(IQ3_XXS, read: |b, out| {
    out.set_signs(with_eighths(_mm256_loadu_si256(b.add(66).cast())));
}, levels: |b, found, part| {
    signed(fours(&grids::IQ3_XXS, bytes(b.add(2 + 8 * part))), found.signs[part])
}, scales: |b| of_blocks(iq3_xxs_scales(&*b.cast())), units: |rows, at| units_at(rows, at, 0.25));

codebook!(IQ3_S, read: |b, out| {
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
}, scales: |b| of_blocks(iq3_s_scales(&*b.cast())), units: |rows, at| units_at(rows, at, 1.0));

codebook!(IQ1_S, read: |b, out| {
    for half in 0..2 {
        let high = moved(read(b.add(34 + 8 * half)), [1 << 13, 1 << 10, 1 << 7, 1 << 4]);
        out.set_indices(half, with_threes(b.add(2 + 16 * half), high));
    }
}, levels: |b, found, part| {
    // Eighths, offset by 16; an eighth is added, or subtracted if the part's sign is set.
    let eight_times = _mm256_slli_epi64::<3>(eights(&grids::IQ1, found.entries(part)));
    let added = 9 - (*b.add(35 + 2 * part) >> 6 & 2);
    _mm256_add_epi8(eight_times, _mm256_set1_epi8(added as i8))
}, scales: |b| of_blocks(iq1_s_scales(&*b.cast())), units: |rows, at| units_at(rows, at, 0.125));

codebook!(IQ1_M, read: |b, out| {
    for half in 0..2 {
        let words = read(b.add(32 + 8 * half));
        let high = moved(words, [1 << 13, 1 << 9, 1 << 5, 1 << 1]);
        out.set_indices(half, with_threes(b.add(16 * half), high));
        // Stored after the indices: the offset added to eight times an entry, 9 or, if a fourth bit is set, 7.
        let below = _mm256_srai_epi16::<15>(moved(words, [1 << 12, 1 << 8, 1 << 4, 1]));
        let below = _mm256_and_si256(below, _mm256_set1_epi8(2));
        out.set_indices(2 + half, _mm256_sub_epi8(_mm256_set1_epi8(9), below));
    }
}, levels: |_, found, part| {
    let eight_times = _mm256_slli_epi64::<3>(eights(&grids::IQ1, found.entries(part)));
    let added: &[u16; 4] = found.indices[32 + 4 * part..].first_chunk().expect("of 64");
    let added = moved(read(added.as_ptr().cast()), [1; 4]);
    _mm256_add_epi8(eight_times, added)
}, scales: |b| {
    let ([first, second], _) = iq1_m_factors(&*b.cast());
    let (first, second) = (first.as_ptr().cast(), second.as_ptr().cast());
    _mm256_set_m128i(_mm_loadu_si128(second), _mm_loadu_si128(first))
}, units: |rows, at| {
    let mut d = [0.0; 8];
    for (d, row) in d.iter_mut().zip(rows) {
        *d = iq1_m_factors(&*row.add(at).cast()).1;
    }
    _mm256_loadu_ps(d.as_ptr())
});

/// Defines a type whose levels are offset by 1, with d in the last two bytes.
macro_rules! ternary {
    ($name:ident, |$b:ident, $part:ident| $levels:expr) => {
        /// See [`crate::kernels::blocks`].
        pub struct $name;

        impl Decode for $name {
            const DTYPE: DType = DType::$name;
            type Read = ();

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn levels($b: *const u8, (): &(), $part: usize) -> __m256i {
                // SAFETY: the trait guarantees a super-block.
                unsafe { $levels }
            }
        }

        impl Super for $name {
            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn scales(_: *const u8) -> __m256i {
                _mm256_set1_epi16(1)
            }

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn units(rows: &[*const u8; 8], at: usize) -> (__m256, __m256) {
                // SAFETY: the trait guarantees super-blocks, which end in d.
                (unsafe { halves_of_rows(rows, at + Self::BYTES - 2) }, _mm256_setzero_ps())
            }
        }
    };
}

ternary!(TQ1_0, |b, part| {
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

ternary!(TQ2_0, |b, part| {
    pair_of_bits(_mm256_loadu_si256(b.add(32 * (part / 4)).cast()), part)
});
