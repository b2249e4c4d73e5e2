//! Small operations on 256-bit vectors.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use crate::kernels::x86::read;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// The sums of the four words of each half of four vectors: (half, vector).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn sum_words([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// The sums of both halves of each vector.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn sum_halves([a, b]: [__m256i; 2]) -> __m256i {
    _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(a, b),
        _mm256_permute2x128_si256::<0x31>(a, b),
    )
}

/// The low nibbles of sixteen bytes, then the high ones.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn nibbles_of_block(b: *const u8) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let bytes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(b.cast()) });
    let bytes = _mm256_srlv_epi64(bytes, _mm256_setr_epi64x(0, 0, 4, 4));
    _mm256_and_si256(bytes, _mm256_set1_epi8(15))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn look_up(table: &[u8; 16], nibbles: __m256i) -> __m256i {
    // SAFETY: 16 bytes, by the type.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles)
}

/// Sixteen bytes, two for each block, in the order (half, block).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn by_block(bytes: __m128i) -> __m128i {
    _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15))
}

/// The f16 at `at` of the eight rows of a tile with `T` tokens, which are eight, four or two.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn halves_of_tile<const T: usize>(rows: &[*const u8; 8], at: usize) -> __m256 {
    // SAFETY: guaranteed by the caller.
    let word = |i: usize| i32::from(unsafe { read::<u16>(rows[i].add(at)) });
    match T {
        // SAFETY: as above.
        1 => unsafe { halves_of_rows(rows, at) },
        2 => {
            let words = _mm_cvtsi32_si128(word(0) | word(1) << 16);
            let words = _mm_insert_epi32::<2>(words, word(4) | word(5) << 16);
            _mm256_cvtph_ps(_mm_shuffle_epi32::<0b10_10_00_00>(words))
        }
        _ => {
            let words = _mm_insert_epi16::<4>(_mm_cvtsi32_si128(word(0)), word(4));
            let repeat = _mm_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 8, 9, 8, 9, 8, 9, 8, 9);
            _mm256_cvtph_ps(_mm_shuffle_epi8(words, repeat))
        }
    }
}

/// The f16 at `at` of eight rows.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn halves_of_rows(rows: &[*const u8; 8], at: usize) -> __m256 {
    // SAFETY: guaranteed by the caller.
    let word = |i: usize| i32::from(unsafe { read::<u16>(rows[i].add(at)) });
    let words = _mm_cvtsi32_si128(word(0));
    let words = _mm_insert_epi16::<1>(words, word(1));
    let words = _mm_insert_epi16::<2>(words, word(2));
    let words = _mm_insert_epi16::<3>(words, word(3));
    let words = _mm_insert_epi16::<4>(words, word(4));
    let words = _mm_insert_epi16::<5>(words, word(5));
    let words = _mm_insert_epi16::<6>(words, word(6));
    _mm256_cvtph_ps(_mm_insert_epi16::<7>(words, word(7)))
}

/// The two f16 at `at` of eight rows: all first ones, all second ones.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn words_of_rows(rows: &[*const u8; 8], at: usize) -> (__m256, __m256) {
    // SAFETY: guaranteed by the caller.
    let word = |i: usize| unsafe { read::<i32>(rows[i].add(at)) };
    let four = |i: usize| _mm_setr_epi32(word(i), word(i + 1), word(i + 2), word(i + 3));
    let apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let (first, second) = (_mm_shuffle_epi8(four(0), apart), _mm_shuffle_epi8(four(4), apart));
    (
        _mm256_cvtph_ps(_mm_unpacklo_epi64(first, second)),
        _mm256_cvtph_ps(_mm_unpackhi_epi64(first, second)),
    )
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

/// Sixteen bytes from four words.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn sixteen(words: [u32; 4]) -> __m128i {
    let pair = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32) as i64;
    _mm_set_epi64x(pair(words[2], words[3]), pair(words[0], words[1]))
}

/// Transposes 8 × 8 words of 16 bits.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn transpose_halves(rows: [__m128i; 8]) -> [__m128i; 8] {
    let mut twos = rows;
    for i in 0..4 {
        twos[2 * i] = _mm_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
        twos[2 * i + 1] = _mm_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = twos;
    for i in 0..2 {
        let [a, b, c, d] = [twos[4 * i], twos[4 * i + 1], twos[4 * i + 2], twos[4 * i + 3]];
        fours[4 * i] = _mm_unpacklo_epi32(a, c);
        fours[4 * i + 1] = _mm_unpackhi_epi32(a, c);
        fours[4 * i + 2] = _mm_unpacklo_epi32(b, d);
        fours[4 * i + 3] = _mm_unpackhi_epi32(b, d);
    }
    let mut columns = fours;
    for i in 0..4 {
        columns[2 * i] = _mm_unpacklo_epi64(fours[i], fours[4 + i]);
        columns[2 * i + 1] = _mm_unpackhi_epi64(fours[i], fours[4 + i]);
    }
    columns
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

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn load_signed(bytes: &[i8; 32]) -> __m256i {
    // SAFETY: 32 bytes, by the type; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
