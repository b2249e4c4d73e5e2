//! Decodes codebook types (IQ1 to IQ3) and ternary types into vectors of levels.
//!
//! Eight columns are one codebook entry, or two entries of four; the entries of 64 columns are gathered at once. Signed
//! levels are offset by 64, as in [`crate::kernels::blocks`].

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::levels::Levels;
use super::vectors::pairs_of_bits;
use crate::kernels::blocks::grids;
use crate::kernels::x86::avx2::codebooks::{
    IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, TQ1_0, TQ2_0,
};
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

/// Defines how the levels of a type are decoded.
macro_rules! codebook {
    ($name:ident, |$b:ident, $step:ident| $levels:expr) => {
        impl Levels for $name {
            #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
            #[inline]
            unsafe fn levels_of($b: *const u8, $step: usize) -> __m512i {
                // SAFETY: the trait guarantees a super-block; an index has only as many bits as its codebook needs.
                unsafe { $levels }
            }
        }
    };
}

codebook!(IQ2_XXS, |b, step| {
    let [first, second] = [read::<u64>(b.add(2 + 16 * step)), read(b.add(10 + 16 * step))];
    let indices = eight_lanes(first & 0xffff_ffff | second << 32);
    let sevens = moved_down((first >> 32) as u32, (second >> 32) as u32, [0, 7, 14, 21]);
    signed_evenly(eights(&grids::IQ2_XXS, indices), sevens)
});

codebook!(IQ2_XS, |b, step| {
    let words = _mm512_cvtepu16_epi64(_mm_loadu_si128(b.add(2 + 16 * step).cast()));
    let indices = _mm512_and_si512(words, _mm512_set1_epi64(511));
    signed_evenly(eights(&grids::IQ2_XS, indices), _mm512_srli_epi64::<9>(words))
});

codebook!(IQ2_S, |b, step| {
    let high = u32::from(read::<u16>(b.add(66 + 2 * step)));
    let high = upper(moved_down(high, high >> 8, [0, 2, 4, 6]), 3);
    let indices = _mm512_or_si512(eight_lanes(read(b.add(2 + 8 * step))), high);
    signed(eights(&grids::IQ2_S, indices), read(b.add(34 + 8 * step)))
});

codebook!(IQ3_XXS, |b, step| {
    let indices = _mm512_cvtepu8_epi32(_mm_loadu_si128(b.add(2 + 16 * step).cast()));
    let (first, second) = (read(b.add(66 + 8 * step)), read(b.add(70 + 8 * step)));
    signed_evenly(fours(&grids::IQ3_XXS, indices), moved_down(first, second, [0, 7, 14, 21]))
});

codebook!(IQ3_S, |b, step| {
    let indices = _mm512_cvtepu8_epi32(_mm_loadu_si128(b.add(2 + 16 * step).cast()));
    let ninth = read::<u16>(b.add(66 + 2 * step));
    let indices = _mm512_mask_add_epi32(indices, ninth, indices, _mm512_set1_epi32(256));
    signed(fours(&grids::IQ3_S, indices), read(b.add(74 + 8 * step)))
});

codebook!(IQ1_S, |b, step| {
    let words = read::<u32>(b.add(34 + 4 * step));
    let high = upper(moved_down(words, words >> 16, [0, 3, 6, 9]), 7);
    let indices = _mm512_or_si512(eight_lanes(read(b.add(2 + 8 * step))), high);
    // Eighths, offset by 16; an eighth is added, or subtracted if the sign of these 32 columns is set.
    let added = |sign: u32| _mm256_set1_epi8((9 - (sign >> 14 & 2)) as i8);
    let (first, second) = (added(words), added(words >> 16));
    let added = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
    _mm512_add_epi8(_mm512_slli_epi64::<3>(eights(&grids::IQ1, indices)), added)
});

codebook!(IQ1_M, |b, step| {
    let nibbles = read::<u32>(b.add(32 + 4 * step));
    let nibbles = moved_down(nibbles, nibbles >> 16, [0, 4, 8, 12]);
    let indices = _mm512_or_si512(eight_lanes(read(b.add(8 * step))), upper(nibbles, 7));
    let below = _mm512_test_epi64_mask(nibbles, _mm512_set1_epi64(8));
    let added = _mm512_mask_mov_epi64(_mm512_set1_epi8(9), below, _mm512_set1_epi8(7));
    _mm512_add_epi8(_mm512_slli_epi64::<3>(eights(&grids::IQ1, indices)), added)
});

codebook!(TQ1_0, |b, step| {
    let (first, second) = (_mm256_loadu_si256(b.cast()), _mm_loadu_si128(b.add(32).cast()));
    let bytes = match step {
        0 | 1 => _mm512_broadcast_i64x4(first),
        2 => _mm512_inserti64x4::<1>(
            _mm512_castsi256_si512(first),
            _mm256_broadcastsi128_si256(second),
        ),
        _ => {
            _mm512_inserti32x4::<3>(_mm512_broadcast_i32x4(second), _mm_set1_epi32(read(b.add(48))))
        }
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
});

codebook!(TQ2_0, |b, step| pairs_of_bits(b.add(32 * (step / 2)), step));
