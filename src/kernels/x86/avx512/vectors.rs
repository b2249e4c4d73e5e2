//! Small operations on 512-bit vectors: bits of bytes, scales, loads, transpositions.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use crate::kernels::blocks::k4_scales;
use crate::kernels::x86::half_words;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// Four values of an expression, unrolled: a closure would not be inlined into its caller, which is compiled without
/// these instructions.
macro_rules! four {
    (|$i:ident| $value:expr) => {
        [
            {
                let $i = 0_usize;
                $value
            },
            {
                let $i = 1_usize;
                $value
            },
            {
                let $i = 2_usize;
                $value
            },
            {
                let $i = 3_usize;
                $value
            },
        ]
    };
}
pub(super) use four;

/// Transposes four vectors of 4 × 4 words from (vector, quarter, word) to (quarter, word, vector).
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn transpose_quarters(v: [__m512; 4]) -> [__m512; 4] {
    let [a, b, c, d] = four!(|i| _mm512_castps_si512(v[i]));
    let low = [_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d)];
    let high = [_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d)];
    let words = [
        _mm512_unpacklo_epi64(low[0], low[1]),
        _mm512_unpackhi_epi64(low[0], low[1]),
        _mm512_unpacklo_epi64(high[0], high[1]),
        _mm512_unpackhi_epi64(high[0], high[1]),
    ];
    swap_quarters(four!(|i| _mm512_castsi512_ps(words[i])))
}

/// Transposes the quarters of four vectors: quarter `j` of vector `i` becomes quarter `i` of vector `j`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn swap_quarters([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    let low = [_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(c, d)];
    let high = [_mm512_shuffle_f32x4::<0xee>(a, b), _mm512_shuffle_f32x4::<0xee>(c, d)];
    [
        _mm512_shuffle_f32x4::<0x88>(low[0], low[1]),
        _mm512_shuffle_f32x4::<0xdd>(low[0], low[1]),
        _mm512_shuffle_f32x4::<0x88>(high[0], high[1]),
        _mm512_shuffle_f32x4::<0xdd>(high[0], high[1]),
    ]
}

/// The sums of the four words of each quarter of four vectors: (quarter, vector).
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn sum_words([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}

/// 16 bytes from each pointer as quarters of a vector.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn quarters(at: [*const u8; 4]) -> __m512i {
    // SAFETY: guaranteed by the caller.
    let [a, b, c, d] = unsafe { four!(|i| _mm_loadu_si128(at[i].cast())) };
    let v = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(v, c), d)
}

/// Transposes words from (row, word), one row per quarter, to (word, row). Inline assembly: the compiler turns the
/// intrinsic into ten instructions.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn swap_words(mut rows: __m512i) -> __m512i {
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    // SAFETY: one instruction of this set, on registers only.
    unsafe {
        std::arch::asm!(
            "vpermd {rows}, {order}, {rows}",
            rows = inout(zmm_reg) rows,
            order = in(zmm_reg) order,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    rows
}

/// Transposes bytes from (row, byte, quarter), one row per quarter, to (quarter, row, byte).
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn bytes_of_rows(rows: __m512i) -> __m512i {
    let bytes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    swap_words(_mm512_shuffle_epi8(rows, _mm512_broadcast_i32x4(bytes)))
}

/// The f16 at index `at` of each quarter; all four are repeated in every quarter.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn halves_of_rows(mut rows: __m512i, at: i16) -> __m512 {
    let order = _mm512_set1_epi64(0x0018_0010_0008_0000 + 0x0001_0001_0001_0001 * i64::from(at));
    // SAFETY: one instruction of this set, on registers only.
    unsafe {
        std::arch::asm!(
            "vpermw {rows}, {order}, {rows}",
            rows = inout(zmm_reg) rows,
            order = in(zmm_reg) order,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    _mm512_cvtph_ps(_mm512_castsi512_si256(rows))
}

/// The f16 at `at` of four rows, repeated in every quarter.
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn halves(rows: [*const u8; 4], at: usize) -> __m512 {
    // SAFETY: guaranteed by the caller.
    let four = unsafe { half_words(rows, at) };
    _mm512_broadcast_f32x4(_mm_cvtph_ps(_mm_cvtsi64_si128(four)))
}

/// The f16 at `at` of four consecutive blocks of four rows: (block, row).
///
/// # Safety
/// They can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn halves_of_blocks(rows: [*const u8; 4], stride: usize, at: usize) -> __m512 {
    // SAFETY: guaranteed by the caller.
    let [a, b, c, d] = unsafe { four!(|i| _mm_cvtsi64_si128(half_words(rows, stride * i + at))) };
    let (low, high) = (_mm_unpacklo_epi64(a, b), _mm_unpacklo_epi64(c, d));
    _mm512_cvtph_ps(_mm256_set_m128i(high, low))
}

/// Transposes 16 × 16 words of 32 bits.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
#[expect(clippy::large_types_passed_by_value, reason = "sixteen registers, inlined")]
pub fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = rows;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut eights = fours;
    for i in (0..16).step_by(8) {
        for j in 0..4 {
            eights[i + j] = _mm512_shuffle_i32x4::<0x88>(fours[i + j], fours[i + j + 4]);
            eights[i + j + 4] = _mm512_shuffle_i32x4::<0xdd>(fours[i + j], fours[i + j + 4]);
        }
    }
    let mut out = eights;
    for j in 0..8 {
        out[j] = _mm512_shuffle_i32x4::<0x88>(eights[j], eights[j + 8]);
        out[j + 8] = _mm512_shuffle_i32x4::<0xdd>(eights[j], eights[j + 8]);
    }
    out
}

/// Two times 16 bytes: low nibbles in one quarter, high nibbles shifted down in the next, with other bits above them.
///
/// # Safety
/// 16 bytes can be read at both.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn two_nibbles(first: *const u8, second: *const u8) -> __m512i {
    // SAFETY: guaranteed by the caller.
    let (first, second) =
        unsafe { (_mm_loadu_si128(first.cast()), _mm_loadu_si128(second.cast())) };
    let both = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(first), 0xff00, second);
    let shifts = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    _mm512_srlv_epi32(both, shifts)
}

/// 32 bytes, then the same shifted down by four bits: nibbles with other bits above them.
///
/// # Safety
/// 32 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn halves_of_bytes(b: *const u8) -> __m512i {
    // SAFETY: guaranteed by the caller.
    let both = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(b.cast()) });
    _mm512_srlv_epi16(both, by_half(0, 4))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn low_bits(v: __m512i) -> __m512i {
    _mm512_and_si512(v, _mm512_set1_epi8(15))
}

/// Pairs of bits `2 · step` and `2 · step + 1` (modulo 4) of 32 bytes, for 2 × 32 columns.
///
/// # Safety
/// 32 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn pairs_of_bits(b: *const u8, step: usize) -> __m512i {
    // SAFETY: guaranteed by the caller.
    let both = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(b.cast()) });
    let shifts = if step.is_multiple_of(2) { by_half(0, 2) } else { by_half(4, 6) };
    _mm512_and_si512(_mm512_srlv_epi16(both, shifts), _mm512_set1_epi8(3))
}

/// Bits `2 · step` and `2 · step + 1` of 32 bytes, as a mask of 2 × 32 columns.
///
/// # Safety
/// 32 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn bit_planes(b: *const u8, step: usize) -> __mmask64 {
    // SAFETY: guaranteed by the caller.
    let both = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(b.cast()) });
    let bits = _mm512_inserti64x4::<1>(
        _mm512_set1_epi8((1_u8 << (2 * step)) as i8),
        _mm256_set1_epi8((2_u8 << (2 * step)) as i8),
    );
    _mm512_test_epi8_mask(both, bits)
}

/// Two times 32 bits as one mask.
///
/// # Safety
/// Four bytes can be read at both.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn two_masks(first: *const u8, second: *const u8) -> __mmask64 {
    // SAFETY: guaranteed by the caller.
    let (first, second) =
        unsafe { (first.cast::<u32>().read_unaligned(), second.cast::<u32>().read_unaligned()) };
    u64::from(first) | u64::from(second) << 32
}

/// Adds `bit` to the levels selected by the mask. Inline assembly: the compiler turns the intrinsic into two
/// instructions.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn with_bit(mut levels: __m512i, mask: __mmask64, bit: i8) -> __m512i {
    // SAFETY: one instruction of this set, on registers only.
    unsafe {
        std::arch::asm!(
            "vpaddb {levels}{{{mask}}}, {levels}, {bit}",
            levels = inout(zmm_reg) levels,
            mask = in(kreg) mask,
            bit = in(zmm_reg) _mm512_set1_epi8(bit),
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    levels
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn look_up(table: &[u8; 16], nibbles: __m512i) -> __m512i {
    // SAFETY: 16 bytes, by the type.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles)
}

/// 16-bit words: `low` in the lower 256 bits, `high` in the upper.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn by_half(low: i16, high: i16) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_set1_epi16(low), _mm256_set1_epi16(high))
}

/// The eight 16-bit words `which` from `b + at` on, zero beyond `len`; they lie within the first 192 bytes.
///
/// # Safety
/// `len` bytes can be read at `b`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn words(b: *const u8, len: usize, at: usize, which: [u16; 8]) -> __m128i {
    // SAFETY: only bytes below `len` are read.
    let part = |at: usize| unsafe {
        if at + 64 <= len {
            _mm512_loadu_si512(b.add(at).cast())
        } else {
            let mask = (1_u64 << len.saturating_sub(at)) - 1;
            _mm512_maskz_loadu_epi8(mask, b.wrapping_add(at).cast())
        }
    };
    let first = which.map(|w| if w < 64 { w } else { 0 });
    let found = _mm512_permutex2var_epi16(part(at), index(first), part(at + 64));
    if which.iter().all(|&w| w < 64) {
        return _mm512_castsi512_si128(found);
    }
    let mut lane = 0;
    let second = which.map(|w| {
        lane += 1;
        if w < 64 { lane - 1 } else { w - 64 + 32 }
    });
    _mm512_castsi512_si128(_mm512_permutex2var_epi16(found, index(second), part(at + 128)))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn index(which: [u16; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = which.map(|w| w as i16);
    _mm512_castsi128_si512(_mm_setr_epi16(a, b, c, d, e, f, g, h))
}

/// Eight scales, and the mins that undo the levels' offset: scale · `by`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn shifted(halves: __m128i, by: f32) -> (__m512, __m512) {
    (twice_scaled(_mm256_cvtph_ps(halves), by), _mm512_setzero_ps())
}

/// `v`, then `v · by`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn twice_scaled(v: __m256, by: f32) -> __m512 {
    let times = _mm512_insertf32x8::<1>(_mm512_set1_ps(1.0), _mm256_set1_ps(by));
    _mm512_mul_ps(_mm512_broadcast_f32x8(v), times)
}

/// Eight scales and eight mins, from f16.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn with_minima(scales: __m128i, minima: __m128i) -> (__m512, __m512) {
    (_mm512_cvtph_ps(_mm256_set_m128i(minima, scales)), _mm512_setzero_ps())
}

/// Eight scales and eight mins of a `Q4_K` or `Q5_K` super-block.
///
/// # Safety
/// 16 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn k4_scales_and_minima(b: *const u8) -> __m512 {
    // SAFETY: guaranteed by the caller.
    let (packed, d) = unsafe {
        (
            std::slice::from_raw_parts(b.add(4), 12),
            _mm_cvtsi32_si128(b.cast::<i32>().read_unaligned()),
        )
    };
    let d = _mm_cvtph_ps(d); // d and dmin
    let negated = _mm_sub_ps(_mm_setzero_ps(), _mm_movehdup_ps(d));
    let d = _mm512_insertf32x8::<1>(_mm512_broadcastss_ps(d), _mm256_broadcastss_ps(negated));
    _mm512_mul_ps(bytes_to_f32(four_words(k4_scales(packed))), d)
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn four_words(words: [u32; 4]) -> __m128i {
    let pair = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32) as i64;
    _mm_set_epi64x(pair(words[2], words[3]), pair(words[0], words[1]))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn bytes_to_f32(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
}

/// An f16 as f32 in every lane.
///
/// # Safety
/// Two bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn half(b: *const u8) -> __m512 {
    // SAFETY: guaranteed by the caller.
    let bits = unsafe { b.cast::<u16>().read_unaligned() };
    _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes, by the type; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn load_f32(x: &[f32; 16]) -> __m512 {
    // SAFETY: 16 floats, by the type; the load needs no alignment.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn store(out: &mut [f32; 16], v: __m512i) {
    // SAFETY: 16 floats, by the type; the store needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(v)) }
}
