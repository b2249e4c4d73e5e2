//! Small operations on 256-bit vectors.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use crate::kernels::x86::half_words;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// scale · integer + min · sum of activations; `SIGNED` levels have no mins.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn term<const SIGNED: bool>(
    integers: __m256i,
    scales: __m256,
    minima: __m256,
    sum: f32,
) -> __m256 {
    let integers = _mm256_cvtepi32_ps(integers);
    if SIGNED {
        return _mm256_mul_ps(integers, scales);
    }
    let minima = _mm256_mul_ps(minima, _mm256_set1_ps(sum));
    _mm256_fmadd_ps(integers, scales, minima)
}

/// The sums of the four words of each half of four vectors: (half, vector).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn sum_words([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// 16 bytes from each pointer as halves of a vector.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn halves(first: *const u8, second: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe { _mm256_set_m128i(_mm_loadu_si128(second.cast()), _mm_loadu_si128(first.cast())) }
}

/// Low and high nibbles of bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn nibbles(v: __m256i) -> [__m256i; 2] {
    let low = _mm256_set1_epi8(15);
    [_mm256_and_si256(v, low), _mm256_and_si256(_mm256_srli_epi16::<4>(v), low)]
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn look_up(table: &[u8; 16], nibbles: __m256i) -> __m256i {
    // SAFETY: 16 bytes, by the type.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles)
}

/// Transposes sixteen bytes of four rows to four vectors (byte, row): bytes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn bytes_of_rows([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
    let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
    let (low_cd, high_cd) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
    [
        _mm_unpacklo_epi16(low, low_cd),
        _mm_unpackhi_epi16(low, low_cd),
        _mm_unpacklo_epi16(high, high_cd),
        _mm_unpackhi_epi16(high, high_cd),
    ]
}

/// The f16 at `at` of four rows, repeated in both halves.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn half_of_rows(rows: [*const u8; 4], at: usize) -> __m256 {
    // SAFETY: guaranteed by the caller.
    let four = unsafe { half_words(rows, at) };
    _mm256_cvtph_ps(_mm_set1_epi64x(four))
}

/// The f16 at `at` of two consecutive blocks of four rows: (block, row).
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn halves_of_blocks(rows: [*const u8; 4], stride: usize, at: usize) -> __m256 {
    // SAFETY: guaranteed by the caller.
    unsafe { _mm256_cvtph_ps(_mm_set_epi64x(half_words(rows, stride + at), half_words(rows, at))) }
}

/// Expands bit `i` to byte `i`: 255 or 0.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn mask_of_bits(bits: u32) -> __m256i {
    let spread = _mm256_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3,
        3, 3,
    );
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits as i32), spread);
    let each = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    _mm256_cmpeq_epi8(_mm256_and_si256(bytes, each), each)
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes, by the type; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn load_f32(x: &[f32; 8]) -> __m256 {
    // SAFETY: 8 floats, by the type; the load needs no alignment.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

/// Pair of bits `part` (modulo 4) of 32 bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn pair_of_bits(bytes: __m256i, part: usize) -> __m256i {
    let bits = match part % 4 {
        0 => bytes,
        1 => _mm256_srli_epi16::<2>(bytes),
        2 => _mm256_srli_epi16::<4>(bytes),
        _ => _mm256_srli_epi16::<6>(bytes),
    };
    _mm256_and_si256(bits, _mm256_set1_epi8(3))
}

/// A unit's two bytes of each row, in the lower half, from the result of [`bytes_of_rows`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn two_of(fours: [__m128i; 4], unit: usize) -> __m128i {
    let four = fours[unit / 2];
    if unit.is_multiple_of(2) { four } else { _mm_unpackhi_epi64(four, four) }
}

/// Scales (a + b · x) · d · c and mins (scale · `minimum`) from integers of eight sub-blocks (0, 2, 4, 6, 1, 3, 5, 7)
/// of each row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn factors_of_eight(
    x: [__m256i; 4],
    d: __m256,
    by: [f32; 3],
    minimum: f32,
) -> [(__m256, __m256); 8] {
    let mut floats = [_mm256_setzero_ps(); 4];
    for i in 0..4 {
        floats[i] = _mm256_cvtepi32_ps(x[i]);
    }
    let mut all = [(d, d); 8];
    for (factors, x) in all.iter_mut().zip(transpose_fours(floats)) {
        *factors = scaled(x, d, by, minimum);
    }
    all
}

/// As [`factors_of_eight`], from the bytes of sixteen sub-blocks of each row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn factors_of_sixteen(
    x: [__m128i; 4],
    d: __m256,
    by: [f32; 3],
    minimum: f32,
) -> [(__m256, __m256); 8] {
    let fours = bytes_of_rows(x);
    let mut all = [(d, d); 8];
    for (unit, factors) in all.iter_mut().enumerate() {
        let x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(two_of(fours, unit)));
        *factors = scaled(x, d, by, minimum);
    }
    all
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scaled(x: __m256, d: __m256, [a, b, c]: [f32; 3], minimum: f32) -> (__m256, __m256) {
    let x = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(b)), _mm256_set1_ps(a));
    let scale = _mm256_mul_ps(_mm256_mul_ps(x, d), _mm256_set1_ps(c));
    (scale, _mm256_mul_ps(scale, _mm256_set1_ps(minimum)))
}

/// Sixteen bytes from four words.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn sixteen(words: [u32; 4]) -> __m128i {
    let pair = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32) as i64;
    _mm_set_epi64x(pair(words[2], words[3]), pair(words[0], words[1]))
}

/// Transposes four vectors of 2 × 4 words from (vector, half, word) to (word, half, vector).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn transpose_fours([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let (low_cd, high_cd) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    [
        _mm256_shuffle_ps::<0x44>(low, low_cd),
        _mm256_shuffle_ps::<0xee>(low, low_cd),
        _mm256_shuffle_ps::<0x44>(high, high_cd),
        _mm256_shuffle_ps::<0xee>(high, high_cd),
    ]
}

/// Transposes 8 × 8 words of 32 bits.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn transpose_words(rows: [__m256i; 8]) -> [__m256i; 8] {
    let mut twos = rows;
    for i in 0..4 {
        twos[2 * i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        twos[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Columns 0, 1, 2, 3 (and 4, 5, 6, 7 in the upper halves) of rows 0 to 3, then of rows 4 to 7.
    let mut fours = twos;
    for i in 0..2 {
        let [a, b, c, d] = [twos[4 * i], twos[4 * i + 1], twos[4 * i + 2], twos[4 * i + 3]];
        fours[4 * i] = _mm256_unpacklo_epi64(a, c);
        fours[4 * i + 1] = _mm256_unpackhi_epi64(a, c);
        fours[4 * i + 2] = _mm256_unpacklo_epi64(b, d);
        fours[4 * i + 3] = _mm256_unpackhi_epi64(b, d);
    }
    let mut columns = fours;
    for i in 0..4 {
        columns[i] = _mm256_permute2x128_si256::<0x20>(fours[i], fours[4 + i]);
        columns[4 + i] = _mm256_permute2x128_si256::<0x31>(fours[i], fours[4 + i]);
    }
    columns
}
