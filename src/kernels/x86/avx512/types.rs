//! Decodes the bytes of each type into vectors of levels and scales; codebook types are in `codebooks`.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]

use super::decode::Decode;
use super::vectors::{
    bit_planes, by_half, bytes_to_f32, four_words, half, halves_of_bytes, k4_scales_and_minima,
    look_up, low_bits, pairs_of_bits, shifted, twice_scaled, two_masks, two_nibbles, with_bit,
    with_minima, words,
};
use crate::kernels::blocks::{E2M1_LEVELS, IQ4_LEVELS, k3_scales};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

pub use super::codebooks::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, TQ1_0, TQ2_0};

/// Evaluates an expression with the [`Decode`] of a type under the given name, or the fallback.
macro_rules! for_type {
    ($dtype:expr, $D:ident => $found:expr, $fallback:expr) => {
        for_type!(@ $dtype, $D, $found, $fallback,
            Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS
            IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ1_S IQ1_M TQ1_0 TQ2_0)
    };
    (@ $dtype:expr, $D:ident, $found:expr, $fallback:expr, $($name:ident)*) => {
        match $dtype {
            $(DType::$name => {
                type $D = $crate::kernels::x86::avx512::types::$name;
                $found
            })*
            _ => $fallback,
        }
    };
}
pub(super) use for_type;

/// See [`crate::kernels::blocks`].
pub struct Q4_0;

impl Decode for Q4_0 {
    const BYTES: usize = 18;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { low_bits(two_nibbles(b.add(36 * step + 2), b.add(36 * step + 20))) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: guaranteed by the trait.
        let halves = unsafe { words(b, len, 0, [0, 9, 18, 27, 36, 45, 54, 63]) };
        shifted(halves, -8.0)
    }
}

/// See [`crate::kernels::blocks`].
pub struct IQ4_NL;

impl Decode for IQ4_NL {
    const BYTES: usize = 18;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        look_up(&IQ4_LEVELS, unsafe { Q4_0::levels(b, step) })
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: guaranteed by the trait.
        let halves = unsafe { words(b, len, 0, [0, 9, 18, 27, 36, 45, 54, 63]) };
        shifted(halves, -128.0)
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q4_1;

impl Decode for Q4_1 {
    const BYTES: usize = 20;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { low_bits(two_nibbles(b.add(40 * step + 4), b.add(40 * step + 24))) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: guaranteed by the trait.
        let scales = unsafe { words(b, len, 0, [0, 10, 20, 30, 40, 50, 60, 70]) };
        // SAFETY: as above.
        let minima = unsafe { words(b, len, 0, [1, 11, 21, 31, 41, 51, 61, 71]) };
        with_minima(scales, minima)
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q5_0;

impl Decode for Q5_0 {
    const BYTES: usize = 22;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            let (first, second) = (b.add(44 * step), b.add(44 * step + 22));
            let low = low_bits(two_nibbles(first.add(6), second.add(6)));
            with_bit(low, two_masks(first.add(2), second.add(2)), 16)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: guaranteed by the trait.
        let halves = unsafe { words(b, len, 0, [0, 11, 22, 33, 44, 55, 66, 77]) };
        shifted(halves, -16.0)
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q5_1;

impl Decode for Q5_1 {
    const BYTES: usize = 24;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            let (first, second) = (b.add(48 * step), b.add(48 * step + 24));
            let low = low_bits(two_nibbles(first.add(8), second.add(8)));
            with_bit(low, two_masks(first.add(4), second.add(4)), 16)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: guaranteed by the trait.
        let scales = unsafe { words(b, len, 0, [0, 12, 24, 36, 48, 60, 72, 84]) };
        // SAFETY: as above.
        let minima = unsafe { words(b, len, 0, [1, 13, 25, 37, 49, 61, 73, 85]) };
        with_minima(scales, minima)
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q8_0;

impl Decode for Q8_0 {
    const BYTES: usize = 34;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: the trait guarantees the 32 bytes after each of the two scales.
        let (first, second) = unsafe {
            let b = b.add(68 * step);
            (_mm256_loadu_si256(b.add(2).cast()), _mm256_loadu_si256(b.add(36).cast()))
        };
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
        _mm512_xor_si512(both, _mm512_set1_epi8(-128))
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: guaranteed by the trait.
        let (low, high) = unsafe {
            (
                words(b, len, 0, [0, 17, 34, 51, 0, 0, 0, 0]),
                words(b, len, 128, [4, 21, 38, 55, 0, 0, 0, 0]),
            )
        };
        shifted(_mm_unpacklo_epi64(low, high), -128.0)
    }
}

/// See [`crate::kernels::blocks`].
pub struct MXFP4;

impl Decode for MXFP4 {
    const BYTES: usize = 17;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        let nibbles = unsafe { low_bits(two_nibbles(b.add(34 * step + 1), b.add(34 * step + 18))) };
        look_up(&E2M1_LEVELS, nibbles)
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        let mut exponents = [0_u8; 8];
        for (i, exponent) in exponents.iter_mut().enumerate().take(len / 17) {
            // SAFETY: the first byte of a block.
            *exponent = unsafe { *b.add(17 * i) };
        }
        let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(exponents)));
        let usual = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
        // Exponents 0 and 1 are subnormal in f32.
        let smallest = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
        let usual = _mm256_mask_mov_epi32(
            usual,
            _mm256_cmplt_epi32_mask(e, _mm256_set1_epi32(2)),
            smallest,
        );
        let d = _mm256_castsi256_ps(usual);
        (twice_scaled(d, -12.0), _mm512_setzero_ps())
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q2_K;

impl Decode for Q2_K {
    const BYTES: usize = 84;
    const COLUMNS: usize = 256;
    const SUB: usize = 16;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe { pairs_of_bits(b.add(16 + 32 * (step / 2)), step) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: `b` points to a super-block.
        let (packed, d) = unsafe {
            (_mm_loadu_si128(b.cast()), _mm_cvtsi32_si128(b.add(80).cast::<i32>().read_unaligned()))
        };
        let low = _mm_set1_epi8(15);
        let d = _mm_cvtph_ps(d);
        let scales = bytes_to_f32(_mm_and_si128(packed, low));
        let minima = bytes_to_f32(_mm_and_si128(_mm_srli_epi16::<4>(packed), low));
        let dmin = _mm512_broadcastss_ps(_mm_movehdup_ps(d));
        let dmin = _mm512_sub_ps(_mm512_setzero_ps(), dmin);
        (_mm512_mul_ps(scales, _mm512_broadcastss_ps(d)), _mm512_mul_ps(minima, dmin))
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q3_K;

impl Decode for Q3_K {
    const BYTES: usize = 110;
    const COLUMNS: usize = 256;
    const SUB: usize = 16;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            with_bit(pairs_of_bits(b.add(32 + 32 * (step / 2)), step), bit_planes(b, step), 4)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: `b` points to a super-block.
        let (packed, d) = unsafe { (std::slice::from_raw_parts(b.add(96), 12), half(b.add(108))) };
        let scales =
            _mm512_sub_ps(bytes_to_f32(four_words(k3_scales(packed))), _mm512_set1_ps(32.0));
        let scales = _mm512_mul_ps(scales, d);
        (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-4.0)))
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q4_K;

impl Decode for Q4_K {
    const BYTES: usize = 144;
    const COLUMNS: usize = 256;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        low_bits(unsafe { halves_of_bytes(b.add(16 + 32 * step)) })
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: `b` points to a super-block.
        (unsafe { k4_scales_and_minima(b) }, _mm512_setzero_ps())
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q5_K;

impl Decode for Q5_K {
    const BYTES: usize = 176;
    const COLUMNS: usize = 256;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        unsafe {
            with_bit(
                low_bits(halves_of_bytes(b.add(48 + 32 * step))),
                bit_planes(b.add(16), step),
                16,
            )
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: `b` points to a super-block.
        (unsafe { k4_scales_and_minima(b) }, _mm512_setzero_ps())
    }
}

/// See [`crate::kernels::blocks`].
pub struct Q6_K;

impl Decode for Q6_K {
    const BYTES: usize = 210;
    const COLUMNS: usize = 256;
    const SUB: usize = 16;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
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

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: `b` points to a super-block.
        let (packed, d) = unsafe { (_mm_loadu_si128(b.add(192).cast()), half(b.add(208))) };
        let scales = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(packed)), d);
        (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-32.0)))
    }
}

/// See [`crate::kernels::blocks`].
pub struct IQ4_XS;

impl Decode for IQ4_XS {
    const BYTES: usize = 136;
    const COLUMNS: usize = 256;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: guaranteed by the trait.
        let nibbles = unsafe { low_bits(two_nibbles(b.add(8 + 32 * step), b.add(24 + 32 * step))) };
        look_up(&IQ4_LEVELS, nibbles)
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: `b` points to a super-block.
        let (d, high, low) = unsafe {
            (
                half(b),
                b.add(2).cast::<u16>().read_unaligned(),
                b.add(4).cast::<i32>().read_unaligned(),
            )
        };
        let low = _mm256_srlv_epi32(
            _mm256_set1_epi32(low),
            _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28),
        );
        let high = _mm256_set1_epi32(i32::from(high));
        let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
        let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3)));
        let scales = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
        let scales = _mm256_mul_ps(_mm256_cvtepi32_ps(scales), _mm512_castps512_ps256(d));
        (twice_scaled(scales, -128.0), _mm512_setzero_ps())
    }
}
