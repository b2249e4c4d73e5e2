//! Small operations on 512-bit vectors: bits of bytes, loads, sums, transpositions.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// The sums of the four words of each quarter of four vectors: (quarter, vector).
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn sum_words([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
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

/// Two bits of 32 bytes, as a mask of 2 × 32 columns.
///
/// # Safety
/// 32 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn bit_planes(b: *const u8, [first, second]: [usize; 2]) -> __mmask64 {
    // SAFETY: guaranteed by the caller.
    let both = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(b.cast()) });
    let bits = _mm512_inserti64x4::<1>(
        _mm512_set1_epi8((1_u8 << first) as i8),
        _mm256_set1_epi8((1_u8 << second) as i8),
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

/// The sums of neighbouring quarters: those of the halves of `a`, then of `b`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn sum_pairs(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn load_signed(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: 64 bytes, by the type; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Transposes the quarters of four vectors: quarter `j` of vector `i` becomes quarter `i` of vector `j`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn swap_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let low = [_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d)];
    let high = [_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d)];
    [
        _mm512_shuffle_i32x4::<0x88>(low[0], low[1]),
        _mm512_shuffle_i32x4::<0xdd>(low[0], low[1]),
        _mm512_shuffle_i32x4::<0x88>(high[0], high[1]),
        _mm512_shuffle_i32x4::<0xdd>(high[0], high[1]),
    ]
}
