//! Decodes codebook types (IQ1 to IQ3) and ternary types into vectors of levels and scales.
//!
//! Eight columns are one codebook entry, or two entries of four; the entries of 64 columns are gathered at once. Signed
//! levels are offset by 64, as in [`crate::kernels::blocks`].

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]

use super::decode::Decode;
use super::vectors::{bytes_to_f32, half, pairs_of_bits, twice_scaled};
use crate::kernels::blocks::grids;
use crate::kernels::x86::read;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// Eight entries of a codebook with eight levels per entry.
///
/// # Safety
/// The indices are below `N`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn eights<const N: usize>(grid: &[[u8; 8]; N], indices: __m512i) -> __m512i {
    // SAFETY: guaranteed by the caller.
    unsafe { _mm512_i64gather_epi64::<8>(indices, grid.as_ptr().cast()) }
}

/// Sixteen entries of a codebook with four levels per entry.
///
/// # Safety
/// The indices are below `N`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn fours<const N: usize>(grid: &[[u8; 4]; N], indices: __m512i) -> __m512i {
    // SAFETY: guaranteed by the caller.
    unsafe { _mm512_i32gather_epi32::<4>(indices, grid.as_ptr().cast()) }
}

/// Levels from magnitudes; those selected by the mask are negative.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn signed(magnitudes: __m512i, negative: __mmask64) -> __m512i {
    let shift = _mm512_set1_epi8(64);
    _mm512_mask_sub_epi8(_mm512_add_epi8(shift, magnitudes), negative, shift, magnitudes)
}

/// Levels from magnitudes, with signs from the low seven bits of each 64-bit lane.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn signed_evenly(magnitudes: __m512i, sevens: __m512i) -> __m512i {
    let sevens = _mm512_and_si512(sevens, _mm512_set1_epi64(127));
    // SAFETY: seven bits stay below the table's 128 entries.
    let negative =
        unsafe { _mm512_i64gather_epi64::<8>(sevens, grids::NEGATIVE_EVEN.as_ptr().cast()) };
    // 64 + m, or if negative (63 - m) + 1.
    let added = _mm512_sub_epi8(_mm512_set1_epi8(64), negative);
    _mm512_add_epi8(_mm512_xor_si512(magnitudes, negative), added)
}

/// `first` in the first four of eight lanes and `second` in the last four, shifted down by the four `shifts`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn moved_down(first: u32, second: u32, shifts: [i64; 4]) -> __m512i {
    let [a, b, c, d] = shifts;
    let both = _mm512_inserti64x4::<1>(
        _mm512_set1_epi64(i64::from(first)),
        _mm256_set1_epi64x(i64::from(second)),
    );
    _mm512_srlv_epi64(both, _mm512_setr_epi64(a, b, c, d, a, b, c, d))
}

/// Eight bytes, one per 64-bit lane.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn eight_lanes(bytes: u64) -> __m512i {
    _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(bytes as i64))
}

/// The bits of `mask` of each lane, as bits 8 and up of an index.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn upper(v: __m512i, mask: i64) -> __m512i {
    _mm512_slli_epi64::<8>(_mm512_and_si512(v, _mm512_set1_epi64(mask)))
}

/// Eight scales (a + b · x) · d · c, then eight mins, -64 times the scales.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn scales_of_eight(x: __m256i, d: __m512, [a, b, c]: [f32; 3]) -> __m512 {
    let x = _mm256_mul_ps(_mm256_cvtepi32_ps(x), _mm256_set1_ps(b));
    let x = _mm256_mul_ps(_mm256_add_ps(x, _mm256_set1_ps(a)), _mm512_castps512_ps256(d));
    twice_scaled(_mm256_mul_ps(x, _mm256_set1_ps(c)), -64.0)
}

/// Sixteen scales from four bits each, (0.5 + x) · d / 4, and sixteen mins, -64 times the scales.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn scales_of_sixteen(packed: u64, d: __m512) -> (__m512, __m512) {
    let scales = _mm512_add_ps(bytes_to_f32(sixteen_nibbles(packed)), _mm512_set1_ps(0.5));
    let scales = _mm512_mul_ps(_mm512_mul_ps(scales, d), _mm512_set1_ps(0.25));
    (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-64.0)))
}

/// The nibbles of eight bytes, low ones first.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn sixteen_nibbles(packed: u64) -> __m128i {
    let low = _mm_cvtsi64_si128((packed & 0x0f0f_0f0f_0f0f_0f0f) as i64);
    let high = _mm_cvtsi64_si128((packed >> 4 & 0x0f0f_0f0f_0f0f_0f0f) as i64);
    _mm_unpacklo_epi8(low, high)
}

/// Defines a type of super-blocks of 256 columns.
macro_rules! codebook {
    ($name:ident, bytes: $bytes:literal, sub: $sub:literal, |$b:ident, $step:ident| $levels:expr, $scales:expr) => {
        /// See [`crate::kernels::blocks`].
        pub struct $name;

        impl Decode for $name {
            const BYTES: usize = $bytes;
            const COLUMNS: usize = 256;
            const SUB: usize = $sub;

            #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
            #[inline]
            unsafe fn levels($b: *const u8, $step: usize) -> __m512i {
                // SAFETY: the trait guarantees a super-block; an index has only as many bits as its codebook needs.
                unsafe { $levels }
            }

            #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
            #[inline]
            unsafe fn scales($b: *const u8, _: usize) -> (__m512, __m512) {
                // SAFETY: the trait guarantees a super-block.
                unsafe { $scales }
            }
        }
    };
}

codebook!(IQ2_XXS, bytes: 66, sub: 32, |b, step| {
    let [first, second] = [read::<u64>(b.add(2 + 16 * step)), read(b.add(10 + 16 * step))];
    let indices = eight_lanes(first & 0xffff_ffff | second << 32);
    let sevens = moved_down((first >> 32) as u32, (second >> 32) as u32, [0, 7, 14, 21]);
    signed_evenly(eights(&grids::IQ2_XXS, indices), sevens)
}, {
    let scales = _mm512_srli_epi64::<60>(_mm512_loadu_si512(b.add(2).cast()));
    let scales = _mm512_cvtepi64_epi32(scales);
    (scales_of_eight(scales, half(b), [0.5, 1.0, 0.25]), _mm512_setzero_ps())
});

codebook!(IQ2_XS, bytes: 74, sub: 16, |b, step| {
    let words = _mm512_cvtepu16_epi64(_mm_loadu_si128(b.add(2 + 16 * step).cast()));
    let indices = _mm512_and_si512(words, _mm512_set1_epi64(511));
    signed_evenly(eights(&grids::IQ2_XS, indices), _mm512_srli_epi64::<9>(words))
}, scales_of_sixteen(read(b.add(66)), half(b)));

codebook!(IQ2_S, bytes: 82, sub: 16, |b, step| {
    let high = u32::from(read::<u16>(b.add(66 + 2 * step)));
    let high = upper(moved_down(high, high >> 8, [0, 2, 4, 6]), 3);
    let indices = _mm512_or_si512(eight_lanes(read(b.add(2 + 8 * step))), high);
    signed(eights(&grids::IQ2_S, indices), read(b.add(34 + 8 * step)))
}, scales_of_sixteen(read(b.add(74)), half(b)));

codebook!(IQ3_XXS, bytes: 98, sub: 32, |b, step| {
    let indices = _mm512_cvtepu8_epi32(_mm_loadu_si128(b.add(2 + 16 * step).cast()));
    let (first, second) = (read(b.add(66 + 8 * step)), read(b.add(70 + 8 * step)));
    signed_evenly(fours(&grids::IQ3_XXS, indices), moved_down(first, second, [0, 7, 14, 21]))
}, {
    let scales = _mm256_srli_epi32::<28>(_mm256_loadu_si256(b.add(66).cast()));
    (scales_of_eight(scales, half(b), [0.5, 1.0, 0.5]), _mm512_setzero_ps())
});

codebook!(IQ3_S, bytes: 110, sub: 32, |b, step| {
    let indices = _mm512_cvtepu8_epi32(_mm_loadu_si128(b.add(2 + 16 * step).cast()));
    let ninth = read::<u16>(b.add(66 + 2 * step));
    let indices = _mm512_mask_add_epi32(indices, ninth, indices, _mm512_set1_epi32(256));
    signed(fours(&grids::IQ3_S, indices), read(b.add(74 + 8 * step)))
}, {
    let scales = _mm256_cvtepu8_epi32(sixteen_nibbles(u64::from(read::<u32>(b.add(106)))));
    (scales_of_eight(scales, half(b), [1.0, 2.0, 1.0]), _mm512_setzero_ps())
});

codebook!(IQ1_S, bytes: 50, sub: 32, |b, step| {
    let words = read::<u32>(b.add(34 + 4 * step));
    let high = upper(moved_down(words, words >> 16, [0, 3, 6, 9]), 7);
    eights(&grids::IQ1, _mm512_or_si512(eight_lanes(read(b.add(2 + 8 * step))), high))
}, {
    let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(b.add(34).cast()));
    let scales = _mm256_and_si256(_mm256_srli_epi32::<11>(words), _mm256_set1_epi32(14));
    let scales = _mm256_cvtepi32_ps(_mm256_or_si256(scales, _mm256_set1_epi32(1)));
    let scales = _mm256_mul_ps(scales, _mm512_castps512_ps256(half(b)));
    let below = _mm256_test_epi32_mask(words, _mm256_set1_epi32(0x8000));
    let added = _mm256_mask_mov_ps(_mm256_set1_ps(-0.875), below, _mm256_set1_ps(-1.125));
    let minima = _mm256_mul_ps(scales, added);
    (_mm512_insertf32x8::<1>(_mm512_castps256_ps512(scales), minima), _mm512_setzero_ps())
});

codebook!(IQ1_M, bytes: 56, sub: 16, |b, step| {
    let nibbles = read::<u32>(b.add(32 + 4 * step));
    let nibbles = moved_down(nibbles, nibbles >> 16, [0, 4, 8, 12]);
    let indices = _mm512_or_si512(eight_lanes(read(b.add(8 * step))), upper(nibbles, 7));
    let below = _mm512_test_epi64_mask(nibbles, _mm512_set1_epi64(8));
    let added = _mm512_mask_mov_epi64(_mm512_set1_epi8(9), below, _mm512_set1_epi8(7));
    _mm512_add_epi8(_mm512_slli_epi64::<3>(eights(&grids::IQ1, indices)), added)
}, {
    let words = read::<u64>(b.add(48));
    let d = words >> 12 & 0xf | words >> 24 & 0xf0 | words >> 36 & 0xf00 | words >> 48 & 0xf000;
    let d = half((d as u16).to_le_bytes().as_ptr());
    let words = _mm256_zextsi128_si256(_mm_cvtsi64_si128(words as i64));
    let words = _mm512_cvtepu16_epi32(words);
    let each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let shifts = _mm512_setr_epi32(0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9);
    let scales = _mm512_srlv_epi32(_mm512_permutexvar_epi32(each, words), shifts);
    let scales = _mm512_and_si512(scales, _mm512_set1_epi32(7));
    let odd = _mm512_or_si512(_mm512_slli_epi32::<1>(scales), _mm512_set1_epi32(1));
    let scales = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(odd), d), _mm512_set1_ps(0.125));
    (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-16.0)))
});

codebook!(TQ1_0, bytes: 54, sub: 32, |b, step| {
    let (first, second) = (_mm256_loadu_si256(b.cast()), _mm_loadu_si128(b.add(32).cast()));
    let bytes = match step {
        0 | 1 => _mm512_broadcast_i64x4(first),
        2 => _mm512_inserti64x4::<1>(
            _mm512_castsi256_si512(first),
            _mm256_broadcastsi128_si256(second),
        ),
        _ => _mm512_inserti32x4::<3>(
            _mm512_broadcast_i32x4(second),
            _mm_set1_epi32(read(b.add(48))),
        ),
    };
    let powers = _mm512_loadu_si512(grids::THREES[32 * step..][..32].as_ptr().cast());
    // Odd and even bytes as 16-bit fractions: scaled by the power of three, the integer part of three times the
    // fraction is the digit.
    let odd = _mm512_and_si512(bytes, _mm512_set1_epi16(-256));
    let even = _mm512_slli_epi16::<8>(bytes);
    let three = _mm512_set1_epi16(3);
    let odd = _mm512_mulhi_epu16(_mm512_mullo_epi16(odd, powers), three);
    let even = _mm512_mulhi_epu16(_mm512_mullo_epi16(even, powers), three);
    _mm512_or_si512(_mm512_slli_epi16::<8>(odd), even)
}, {
    (twice_scaled(_mm512_castps512_ps256(half(b.add(52))), -1.0), _mm512_setzero_ps())
});

codebook!(TQ2_0, bytes: 66, sub: 32, |b, step| pairs_of_bits(b.add(32 * (step / 2)), step), {
    (twice_scaled(_mm512_castps512_ps256(half(b.add(64))), -1.0), _mm512_setzero_ps())
});
