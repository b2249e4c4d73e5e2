//! Decodes the bytes of each type into levels, 64 columns at a time. What scales them is read as with 256 bits.
//!
//! [`super::codebooks`] does so for the types with codebooks.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::vectors::{
    bit_planes, by_half, halves_of_bytes, look_up, low_bits, pairs_of_bits, two_masks, two_nibbles,
    with_bit,
};
use crate::kernels::blocks::{E2M1_LEVELS, IQ4_LEVELS, offset};
use crate::kernels::x86::avx2::decode::{
    Decode, IQ4_NL, IQ4_XS, MXFP4, Q1_0, Q2_0, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K,
    Q6_K, Q8_0,
};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// Columns in one vector of levels.
pub const STEP: usize = 64;

/// Decodes a type's levels.
pub trait Levels: Decode {
    /// What is subtracted from the levels.
    const SHIFT: i32 = offset(Self::DTYPE);

    /// The levels of columns `64 · step ..` of the group at `b`.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; `b` points to blocks that contain the columns.
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i;
}

impl Levels for Q4_0 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { low_bits(two_nibbles(b.add(36 * step + 2), b.add(36 * step + 20))) }
    }
}

impl Levels for IQ4_NL {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        look_up(&IQ4_LEVELS, unsafe { Q4_0::levels_of(b, step) })
    }
}

impl Levels for Q4_1 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { low_bits(two_nibbles(b.add(40 * step + 4), b.add(40 * step + 24))) }
    }
}

impl Levels for Q5_0 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            let (first, second) = (b.add(44 * step), b.add(44 * step + 22));
            let low = low_bits(two_nibbles(first.add(6), second.add(6)));
            with_bit(low, two_masks(first.add(2), second.add(2)), 16)
        }
    }
}

impl Levels for Q5_1 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            let (first, second) = (b.add(48 * step), b.add(48 * step + 24));
            let low = low_bits(two_nibbles(first.add(8), second.add(8)));
            with_bit(low, two_masks(first.add(4), second.add(4)), 16)
        }
    }
}

impl Levels for Q8_0 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: the trait guarantees the 32 bytes after each of the two scales.
        let (first, second) = unsafe {
            let b = b.add(68 * step);
            (_mm256_loadu_si256(b.add(2).cast()), _mm256_loadu_si256(b.add(36).cast()))
        };
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
        _mm512_xor_si512(both, _mm512_set1_epi8(-128))
    }
}

impl Levels for MXFP4 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        let nibbles = unsafe { low_bits(two_nibbles(b.add(34 * step + 1), b.add(34 * step + 18))) };
        look_up(&E2M1_LEVELS, nibbles)
    }
}

impl Levels for Q1_0 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        let at = Self::BYTES * (step / 2) + 2 + 8 * (step % 2);
        // SAFETY: the trait guarantees eight bytes for each 64 columns.
        let bits = unsafe { b.add(at).cast::<u64>().read_unaligned() };
        with_bit(_mm512_setzero_si512(), bits, 16)
    }
}

impl Levels for Q2_0 {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: the trait guarantees sixteen bytes after the scale of each 64 columns.
        let bytes = unsafe { _mm_loadu_si128(b.add(Self::BYTES * step + 2).cast()) };
        // Each byte in four; each pair of bits moves to a byte of its own.
        let words = _mm512_cvtepu8_epi32(bytes);
        let first = _mm512_and_si512(words, _mm512_set1_epi32(3));
        let second = _mm512_and_si512(_mm512_slli_epi32::<6>(words), _mm512_set1_epi32(0x300));
        let third = _mm512_and_si512(_mm512_slli_epi32::<12>(words), _mm512_set1_epi32(0x3_0000));
        let fourth =
            _mm512_and_si512(_mm512_slli_epi32::<18>(words), _mm512_set1_epi32(0x300_0000));
        _mm512_or_si512(_mm512_or_si512(first, second), _mm512_or_si512(third, fourth))
    }
}

impl Levels for Q2_K {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { pairs_of_bits(b.add(16 + 32 * (step / 2)), step) }
    }
}

impl Levels for Q3_K {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            with_bit(
                pairs_of_bits(b.add(32 + 32 * (step / 2)), step),
                bit_planes(b, [2 * step, 2 * step + 1]),
                4,
            )
        }
    }
}

impl Levels for Q4_K {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        low_bits(unsafe { halves_of_bytes(b.add(16 + 32 * step)) })
    }
}

impl Levels for Q5_K {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            with_bit(
                low_bits(halves_of_bytes(b.add(48 + 32 * step))),
                bit_planes(b.add(16), [2 * step, 2 * step + 1]),
                16,
            )
        }
    }
}

impl Levels for Q6_K {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        let (half, odd) = (step / 2, step % 2);
        // SAFETY: the trait guarantees 64 bytes of low bits and 32 of high ones for each 128 columns.
        let (low, high) = unsafe {
            (
                _mm512_loadu_si512(b.add(64 * half).cast()),
                _mm256_loadu_si256(b.add(128 + 32 * half).cast()),
            )
        };
        let high = _mm512_broadcast_i64x4(high);
        // The high bits of columns 32 · j .. are bits 2j and 2j + 1 of the byte; they move to bits 4 and 5.
        let (low, high) = if odd == 0 {
            (low, _mm512_sllv_epi16(high, by_half(4, 2)))
        } else {
            (_mm512_srli_epi16::<4>(low), _mm512_srlv_epi16(high, by_half(0, 2)))
        };
        _mm512_or_si512(low_bits(low), _mm512_and_si512(high, _mm512_set1_epi8(0x30)))
    }
}

impl Levels for IQ4_XS {
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels_of(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        let nibbles = unsafe { low_bits(two_nibbles(b.add(8 + 32 * step), b.add(24 + 32 * step))) };
        look_up(&IQ4_LEVELS, nibbles)
    }
}
