//! Decodes the bytes of each type into vectors of levels and their factors.
//!
//! [`super::codebooks`] does so for the types with codebooks.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]

use super::vectors::{
    by_block, halves_of_rows, halves_of_tile, look_up, mask_of_bits, nibbles_of_block,
    pair_of_bits, sixteen, words_of_rows,
};
use crate::kernels::blocks::{E2M1_LEVELS, EIGHTH, IQ4_LEVELS, has_mins, k3_scales, offset, parts};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Decodes a type's blocks of 32 columns, or super-blocks of 256.
pub trait Decode {
    /// The type.
    const DTYPE: DType;
    /// Bytes of a block or super-block.
    const BYTES: usize = Self::DTYPE.block_bytes();
    /// Parts of 32 columns of a block.
    const PARTS: usize = parts(Self::DTYPE);
    /// Whether levels are signed bytes without an offset: unsigned, they would exceed 127.
    const SIGNED: bool = offset(Self::DTYPE) == 128;
    /// What is still to be subtracted from the levels.
    const OFFSET: i32 = if Self::SIGNED { 0 } else { offset(Self::DTYPE) };
    /// Whether the type has mins.
    const MINS: bool = has_mins(Self::DTYPE);

    /// Data extracted once, from which levels are decoded.
    type Read: Copy + Default;

    /// Extracts it, for types that need it.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; the pointer is that of a block or super-block.
    #[inline]
    unsafe fn read(_: *const u8, _: &mut Self::Read) {}

    /// The levels of columns `32 · part ..`.
    ///
    /// # Safety
    /// As [`Decode::read`], which gave `read` for the same bytes; `part` is within the block or super-block.
    unsafe fn levels(b: *const u8, read: &Self::Read, part: usize) -> __m256i;
}

/// A type with a float for each block of 32 columns.
pub trait Blocks: Decode {
    /// Scales and mins of a block of each of the eight rows of a tile with `T` tokens.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; a block is `at` bytes after each pointer.
    unsafe fn factors<const T: usize>(rows: &[*const u8; 8], at: usize) -> (__m256, __m256);
}

/// A type with super-blocks of 256 columns.
pub trait Super: Decode {
    /// The scales, (half of the block, block).
    ///
    /// # Safety
    /// The processor has the instruction set of this module; the pointer is that of a super-block.
    unsafe fn scales(b: *const u8) -> __m256i;

    /// The mins, (half of the block, block).
    ///
    /// # Safety
    /// As [`Super::scales`].
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn mins(_: *const u8) -> __m256i {
        _mm256_setzero_si256()
    }

    /// Units of the scales and of the mins of eight rows.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; a super-block is `at` bytes after each pointer.
    unsafe fn units(rows: &[*const u8; 8], at: usize) -> (__m256, __m256);
}

/// Defines a type of blocks.
macro_rules! blocks {
    ($name:ident, |$b:ident| $levels:expr, |$rows:ident, $at:ident| $factors:expr) => {
        blocks!($name, |$b, _part| $levels, |$rows, $at| $factors);
    };
    ($name:ident, |$b:ident, $part:ident| $levels:expr, |$rows:ident, $at:ident| $factors:expr) => {
        /// See [`crate::kernels::blocks`].
        pub struct $name;

        impl Decode for $name {
            const DTYPE: DType = DType::$name;
            type Read = ();

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn levels($b: *const u8, (): &(), $part: usize) -> __m256i {
                // SAFETY: the trait guarantees a block.
                unsafe { $levels }
            }
        }

        impl Blocks for $name {
            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn factors<const T: usize>(
                $rows: &[*const u8; 8],
                $at: usize,
            ) -> (__m256, __m256) {
                // SAFETY: the trait guarantees blocks.
                unsafe { $factors }
            }
        }
    };
}

blocks!(Q4_0, |b| nibbles_of_block(b.add(2)), |rows, at| scales_only::<T>(rows, at));
blocks!(Q4_1, |b| nibbles_of_block(b.add(4)), |rows, at| words_of_rows(rows, at));
blocks!(
    Q5_0,
    |b| with_fifth_bits(nibbles_of_block(b.add(6)), b.add(2)),
    |rows, at| scales_only::<T>(rows, at)
);
blocks!(Q5_1, |b| with_fifth_bits(nibbles_of_block(b.add(8)), b.add(4)), |rows, at| {
    words_of_rows(rows, at)
});
blocks!(Q8_0, |b| _mm256_loadu_si256(b.add(2).cast()), |rows, at| scales_only::<T>(rows, at));
blocks!(IQ4_NL, |b| look_up(&IQ4_SIGNED, nibbles_of_block(b.add(2))), |rows, at| scales_only::<T>(
    rows, at
));
blocks!(MXFP4, |b| look_up(&E2M1_LEVELS, nibbles_of_block(b.add(1))), |rows, at| {
    let mut exponents = [0; 8];
    for i in 0..8 {
        exponents[i] = *rows[i].add(at);
    }
    let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(exponents)));
    let usual = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
    // Exponents 0 and 1 are subnormal in f32.
    let smallest = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
    let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    let scales = _mm256_castsi256_ps(_mm256_blendv_epi8(usual, smallest, small));
    (scales, _mm256_setzero_ps())
});

blocks!(
    Q1_0,
    |b, part| with_fifth_bits(_mm256_setzero_si256(), b.add(2 + 4 * part)),
    |rows, at| {
        let (scales, mins) = scales_only::<T>(rows, at);
        (_mm256_mul_ps(scales, _mm256_set1_ps(EIGHTH)), mins)
    }
);
blocks!(Q2_0, |b, part| fours_of_bytes(b.add(2 + 8 * part)), |rows, at| scales_only::<T>(rows, at));

/// The pairs of bits of eight bytes, lowest first.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn fours_of_bytes(b: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let bytes = unsafe { _mm_loadl_epi64(b.cast()) };
    // Each byte in four; each pair of bits moves to a byte of its own.
    let words = _mm256_cvtepu8_epi32(bytes);
    let first = _mm256_and_si256(words, _mm256_set1_epi32(3));
    let second = _mm256_and_si256(_mm256_slli_epi32::<6>(words), _mm256_set1_epi32(0x300));
    let third = _mm256_and_si256(_mm256_slli_epi32::<12>(words), _mm256_set1_epi32(0x3_0000));
    let fourth = _mm256_and_si256(_mm256_slli_epi32::<18>(words), _mm256_set1_epi32(0x300_0000));
    _mm256_or_si256(_mm256_or_si256(first, second), _mm256_or_si256(third, fourth))
}

/// [`IQ4_LEVELS`] without their offset.
const IQ4_SIGNED: [u8; 16] = {
    let mut signed = IQ4_LEVELS;
    let mut i = 0;
    while i < 16 {
        signed[i] ^= 0x80;
        i += 1;
    }
    signed
};

/// The f16 at `at`, as scales.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn scales_only<const T: usize>(rows: &[*const u8; 8], at: usize) -> (__m256, __m256) {
    // SAFETY: guaranteed by the caller.
    (unsafe { halves_of_tile::<T>(rows, at) }, _mm256_setzero_ps())
}

/// Adds 16 to the levels whose fifth bit is set.
///
/// # Safety
/// Four bytes can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn with_fifth_bits(levels: __m256i, bits: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let set = mask_of_bits(unsafe { bits.cast::<u32>().read_unaligned() });
    _mm256_or_si256(levels, _mm256_and_si256(set, _mm256_set1_epi8(16)))
}

/// Defines a type of super-blocks.
macro_rules! super_blocks {
    ($name:ident, |$b:ident, $part:ident| $levels:expr, scales: $scales:expr, $(mins: $mins:expr,)?
        units: |$rows:ident, $at:ident| $units:expr) => {
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
            unsafe fn scales($b: *const u8) -> __m256i {
                // SAFETY: the trait guarantees a super-block.
                unsafe { $scales }
            }

            $(#[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn mins($b: *const u8) -> __m256i {
                // SAFETY: the trait guarantees a super-block.
                unsafe { $mins }
            })?

            #[target_feature(enable = "avx2,fma,f16c")]
            #[inline]
            unsafe fn units($rows: &[*const u8; 8], $at: usize) -> (__m256, __m256) {
                // SAFETY: the trait guarantees super-blocks.
                unsafe { $units }
            }
        }
    };
}

super_blocks!(Q4_K, |b, part| {
    let bytes = _mm256_loadu_si256(b.add(16 + 32 * (part / 2)).cast());
    nibble(bytes, part % 2)
},
scales: both(_mm_cvtepu8_epi16(six_bits(b))),
mins: both(_mm_unpackhi_epi8(six_bits(b), _mm_setzero_si128())),
units: |rows, at| words_of_rows(rows, at));

super_blocks!(Q5_K, |b, part| {
    let bytes = _mm256_loadu_si256(b.add(48 + 32 * (part / 2)).cast());
    // This part's fifth bit moves to bit 4.
    let fifths = _mm256_loadu_si256(b.add(16).cast());
    let fifths = match part {
        0 => _mm256_slli_epi16::<4>(fifths),
        1 => _mm256_slli_epi16::<3>(fifths),
        2 => _mm256_slli_epi16::<2>(fifths),
        3 => _mm256_slli_epi16::<1>(fifths),
        4 => fifths,
        5 => _mm256_srli_epi16::<1>(fifths),
        6 => _mm256_srli_epi16::<2>(fifths),
        _ => _mm256_srli_epi16::<3>(fifths),
    };
    _mm256_or_si256(nibble(bytes, part % 2), _mm256_and_si256(fifths, _mm256_set1_epi8(16)))
},
scales: both(_mm_cvtepu8_epi16(six_bits(b))),
mins: both(_mm_unpackhi_epi8(six_bits(b), _mm_setzero_si128())),
units: |rows, at| words_of_rows(rows, at));

super_blocks!(Q6_K, |b, part| {
    let (half, part) = (part / 4, part % 4);
    let low = _mm256_loadu_si256(b.add(64 * half + 32 * (part % 2)).cast());
    // This part's pair of bits moves to bits 4 and 5.
    let bits = _mm256_loadu_si256(b.add(128 + 32 * half).cast());
    let high = match part {
        0 => _mm256_slli_epi16::<4>(bits),
        1 => _mm256_slli_epi16::<2>(bits),
        2 => bits,
        _ => _mm256_srli_epi16::<2>(bits),
    };
    _mm256_or_si256(nibble(low, part / 2), _mm256_and_si256(high, _mm256_set1_epi8(0x30)))
},
scales: _mm256_cvtepi8_epi16(by_block(_mm_loadu_si128(b.add(192).cast()))),
units: |rows, at| (halves_of_rows(rows, at + 208), _mm256_setzero_ps()));

super_blocks!(Q2_K, |b, part| {
    pair_of_bits(_mm256_loadu_si256(b.add(16 + 32 * (part / 4)).cast()), part)
},
scales: {
    let low = _mm_and_si128(_mm_loadu_si128(b.cast()), _mm_set1_epi8(15));
    _mm256_cvtepu8_epi16(by_block(low))
},
mins: {
    let high = _mm_srli_epi16::<4>(_mm_loadu_si128(b.cast()));
    _mm256_cvtepu8_epi16(by_block(_mm_and_si128(high, _mm_set1_epi8(15))))
},
units: |rows, at| words_of_rows(rows, at + 80));

super_blocks!(Q3_K, |b, part| {
    let pairs = pair_of_bits(_mm256_loadu_si256(b.add(32 + 32 * (part / 4)).cast()), part);
    // This part's third bit.
    let bit = _mm256_set1_epi8((1_u8 << part) as i8);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_loadu_si256(b.cast()), bit), bit);
    _mm256_or_si256(pairs, _mm256_and_si256(set, _mm256_set1_epi8(4)))
},
scales: {
    let packed = sixteen(k3_scales(std::slice::from_raw_parts(b.add(96), 12)));
    _mm256_sub_epi16(_mm256_cvtepu8_epi16(by_block(packed)), _mm256_set1_epi16(32))
},
units: |rows, at| (halves_of_rows(rows, at + 108), _mm256_setzero_ps()));

super_blocks!(IQ4_XS, |b, part| look_up(&IQ4_SIGNED, nibbles_of_block(b.add(8 + 16 * part))),
scales: {
    let low = _mm_cvtsi32_si128(b.add(4).cast::<i32>().read_unaligned());
    let low = _mm_unpacklo_epi8(low, _mm_srli_epi16::<4>(low)); // block after block
    let low = _mm_cvtepu8_epi16(_mm_and_si128(low, _mm_set1_epi8(15)));
    // The pair of bits 2n and 2n + 1 moves to bits 4 and 5.
    let pairs = _mm_set1_epi16(b.add(2).cast::<i16>().read_unaligned());
    let to_the_top = _mm_setr_epi16(1 << 14, 1 << 12, 1 << 10, 1 << 8, 1 << 6, 1 << 4, 1 << 2, 1);
    let pairs = _mm_srli_epi16::<14>(_mm_mullo_epi16(pairs, to_the_top));
    let scales = _mm_or_si128(low, _mm_slli_epi16::<4>(pairs));
    both(_mm_sub_epi16(scales, _mm_set1_epi16(32)))
},
units: |rows, at| (halves_of_rows(rows, at), _mm256_setzero_ps()));

/// Low nibbles (0) or high nibbles (1) of bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn nibble(bytes: __m256i, which: usize) -> __m256i {
    let bytes = if which == 0 { bytes } else { _mm256_srli_epi16::<4>(bytes) };
    _mm256_and_si256(bytes, _mm256_set1_epi8(15))
}

/// Eight words for both halves of eight blocks.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn both(words: __m128i) -> __m256i {
    _mm256_broadcastsi128_si256(words)
}

/// Eight scales, then eight mins, of a super-block of `Q4_K` or `Q5_K`, as bytes.
///
/// # Safety
/// Sixteen bytes can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn six_bits(b: *const u8) -> __m128i {
    // d, dmin, then twelve bytes s: scales 0 to 3 and mins 0 to 3 are the low six bits of s0 to s7; the others join
    // four bits of s8 to s11 with the upper two bits of s0 to s7.
    let low = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    let high = _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11);
    let six_or_four = _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f);
    // SAFETY: guaranteed by the caller.
    let head = unsafe { _mm_loadu_si128(b.cast()) };
    let low = _mm_srlv_epi32(_mm_shuffle_epi8(head, low), _mm_setr_epi32(0, 0, 0, 4));
    let high = _mm_srli_epi16::<2>(_mm_shuffle_epi8(head, high));
    let high = _mm_and_si128(high, _mm_set1_epi8(0x30));
    _mm_or_si128(_mm_and_si128(low, six_or_four), high)
}
