//! The numbers of a group of activations, as panels are multiplied with them.

#![expect(unsafe_code, reason = "vector loads and stores of arrays whose length the type says")]

use crate::kernels::activations::Part;
use crate::kernels::blocks::{BLOCK, BLOCKS};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// offset · sum of the activations of each block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn offsets_of_blocks(part: &Part, offset: i32) -> [i32; BLOCKS] {
    let sums = _mm_add_epi16(eight(&part.sums[0]), eight(&part.sums[1]));
    to_words(_mm256_mullo_epi32(_mm256_cvtepi16_epi32(sums), _mm256_set1_epi32(offset)))
}

/// offset · sum of the activations of each half of each block, (half, block).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn offsets_of_halves(part: &Part, offset: i32) -> [[i32; BLOCKS]; 2] {
    let mut out = [[0; BLOCKS]; 2];
    for (out, sums) in out.iter_mut().zip(&part.sums) {
        let sums = _mm256_cvtepi16_epi32(eight(sums));
        *out = to_words(_mm256_mullo_epi32(sums, _mm256_set1_epi32(offset)));
    }
    out
}

/// Numbers of each block in 32 bits.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn words_of(numbers: &[i16; BLOCKS]) -> [i32; BLOCKS] {
    to_words(_mm256_cvtepi16_epi32(eight(numbers)))
}

/// offset · sum of the activations of each sub-block, (half, block), in two parts of sixteen bits, which the two equal
/// scales of a panel are multiplied with.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn offsets_of_subs<const SUB: usize>(part: &Part, offset: i32) -> [[i32; BLOCKS]; 2] {
    let (low, high) = ((offset / 2) as i16, (offset - offset / 2) as i16);
    let mut all = [eight(&part.sums[0]), eight(&part.sums[1])];
    if SUB == 32 {
        all[0] = _mm_add_epi16(all[0], all[1]);
    }
    let mut out = [[0; BLOCKS]; 2];
    for half in 0..BLOCK / SUB {
        let first = _mm_mullo_epi16(all[half], _mm_set1_epi16(low));
        let second = _mm_mullo_epi16(all[half], _mm_set1_epi16(high));
        out[half] = side_by_side(first, second);
    }
    out
}

/// Weighted sums of two neighbouring sub-blocks, side by side as their mins in a panel.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn pairs_of_weighted<const SUB: usize>(part: &Part) -> [i32; BLOCKS] {
    let (first, second) = (eight(&part.weighted[0]), eight(&part.weighted[1]));
    if SUB == 16 {
        return side_by_side(first, second);
    }
    // Blocks are neighbours already.
    to_words(_mm256_castsi128_si256(_mm_add_epi16(first, second)))
}

/// Two numbers of 16 bits in each word.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn side_by_side(first: __m128i, second: __m128i) -> [i32; BLOCKS] {
    let (low, high) = (_mm_unpacklo_epi16(first, second), _mm_unpackhi_epi16(first, second));
    to_words(_mm256_set_m128i(high, low))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn eight(numbers: &[i16; BLOCKS]) -> __m128i {
    // SAFETY: sixteen bytes, by the type; the load needs no alignment.
    unsafe { _mm_loadu_si128(numbers.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn to_words(words: __m256i) -> [i32; BLOCKS] {
    let mut out = [0; BLOCKS];
    // SAFETY: 32 bytes, by the type; the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), words) };
    out
}
