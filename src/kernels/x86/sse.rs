//! Kernels for processors without AVX2 (SSSE3 and SSE4.1, every x86-64 processor since about 2008).

#![expect(unsafe_code, reason = "vector loads of arrays whose length the type says")]

use crate::kernels::vectors;

vectors::decode!("ssse3,sse4.1");
vectors::tiles!("ssse3,sse4.1", quads: 1);
vectors::levels!("ssse3,sse4.1");
vectors::floats!("ssse3,sse4.1");
vectors::lanes!("ssse3,sse4.1", rows: [2 1], columns: 1);

pub use attention::{mix, scores};
pub use floats::{
    add_weighted, channels, dot_bf16, dot_f16, dot_f32, exp_sum, gate_up, quantize, rms_norm,
    silu_all,
};
pub use levels::{multiply, rows, unpack_panel};
pub use recurrence::{advance, advance_keyed};
pub use tiles::multiply_registers;

/// Vector operations of this instruction set.
mod operations {
    #[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
    use std::arch::x86_64::*;

    /// Sixteen bytes.
    pub type Bytes = __m128i;
    /// Four integers.
    pub type Integers = __m128i;
    /// Two numbers in each of four lanes.
    pub type Pairs = __m128i;
    /// Eight integers of 16 bits.
    pub type Words = __m128i;
    /// Four floats.
    pub type Floats = __m128;

    crate::kernels::vectors::operations! { "ssse3,sse4.1"
        fn load(from: &[u8; 16]) -> Bytes {
            // SAFETY: 16 bytes, by the type; the load needs no alignment.
            unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
        }

        fn load_signed(from: &[i8; 16]) -> Bytes {
            // SAFETY: 16 bytes, by the type; the load needs no alignment.
            unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
        }

        fn store_bytes(to: &mut [u8; 16], x: Bytes) {
            // SAFETY: 16 bytes, by the type; the store needs no alignment.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), x) }
        }

        fn store_signed(to: &mut [i8; 16], x: Bytes) {
            // SAFETY: 16 bytes, by the type; the store needs no alignment.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), x) }
        }

        fn splat_bytes(x: u8) -> Bytes {
            _mm_set1_epi8(x as i8)
        }

        fn and(a: Bytes, b: Bytes) -> Bytes {
            _mm_and_si128(a, b)
        }

        fn or(a: Bytes, b: Bytes) -> Bytes {
            _mm_or_si128(a, b)
        }

        /// `x >> by & mask`, byte by byte.
        fn bits(x: Bytes, by: usize, mask: u8) -> Bytes {
            // Bits shifted in from the next byte are masked off: no caller asks for bits above the byte's own.
            and(_mm_srl_epi16(x, _mm_cvtsi32_si128(by as i32)), splat_bytes(mask))
        }

        /// Shifts each byte left; no set bit may leave its byte.
        fn shift_left<const BY: i32>(x: Bytes) -> Bytes {
            _mm_slli_epi16::<BY>(x)
        }

        fn look_up(table: &[u8; 16], index: Bytes) -> Bytes {
            shuffle(load(table), index)
        }

        /// The bytes at these places; zero where that is 128.
        fn shuffle(x: Bytes, index: Bytes) -> Bytes {
            _mm_shuffle_epi8(x, index)
        }

        /// Expands each bit to a byte, lowest first: 255 or 0.
        fn spread(bits: u16) -> Bytes {
            let byte = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            let bit = _mm_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let bytes = _mm_shuffle_epi8(_mm_set1_epi16(bits as i16), byte);
            _mm_cmpeq_epi8(_mm_and_si128(bytes, bit), bit)
        }

        /// Transposes 4 × 4 words of 32 bits.
        fn transpose_words(rows: [Bytes; 4]) -> [Bytes; 4] {
            let [a, b, c, d] = rows;
            let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
            let (high_ab, high_cd) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
            [
                _mm_unpacklo_epi64(ab, cd),
                _mm_unpackhi_epi64(ab, cd),
                _mm_unpacklo_epi64(high_ab, high_cd),
                _mm_unpackhi_epi64(high_ab, high_cd),
            ]
        }

        /// Adds four products of levels and signed bytes to each lane. Unless `signed`, levels are at most 127.
        fn dot(sum: Integers, levels: Bytes, x: Bytes, signed: bool) -> Integers {
            // Pairs of products fit in 16 bits: magnitudes are at most 2 · 128 · 127. The levels' signs move to the
            // activations: those are at least -127, while negating a level of -128 would overflow.
            let pairs = if signed {
                _mm_maddubs_epi16(_mm_abs_epi8(levels), _mm_sign_epi8(x, levels))
            } else {
                _mm_maddubs_epi16(levels, x)
            };
            _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1)))
        }

        /// As [`dot`], with the four bytes of lane `LANE` of `x` in every lane.
        fn dot_lane<const LANE: i32>(sum: Integers, levels: Bytes, x: Bytes, signed: bool) -> Integers {
            dot(sum, levels, lane::<LANE>(x), signed)
        }

        fn no_integers() -> Integers {
            _mm_setzero_si128()
        }

        /// `sum + x · by`.
        fn multiply_add(sum: Integers, x: Integers, by: i32) -> Integers {
            _mm_add_epi32(sum, _mm_mullo_epi32(x, _mm_set1_epi32(by)))
        }

        /// `sum + x · by`, where lane `LANE` of `by` counts.
        fn multiply_add_lane<const LANE: i32>(sum: Integers, x: Integers, by: Integers) -> Integers {
            _mm_add_epi32(sum, _mm_mullo_epi32(x, lane::<LANE>(by)))
        }

        /// Lane `LANE` in every lane.
        fn lane<const LANE: i32>(x: Integers) -> Integers {
            match LANE {
                0 => _mm_shuffle_epi32::<0x00>(x),
                1 => _mm_shuffle_epi32::<0x55>(x),
                2 => _mm_shuffle_epi32::<0xaa>(x),
                _ => _mm_shuffle_epi32::<0xff>(x),
            }
        }

        fn splat_integers(x: i32) -> Integers {
            _mm_set1_epi32(x)
        }

        fn load_words(from: &[i16; 8]) -> Words {
            // SAFETY: sixteen bytes, by the type; the load needs no alignment.
            unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
        }

        fn times_words(a: Words, b: Words) -> Words {
            _mm_mullo_epi16(a, b)
        }

        /// Sixteen unsigned bytes, in 16 bits each.
        fn widen_bytes(x: Bytes) -> [Words; 2] {
            [_mm_cvtepu8_epi16(x), _mm_unpackhi_epi8(x, _mm_setzero_si128())]
        }

        /// Signed bytes 0, 2, 4 and so on, then the others.
        fn even_and_odd(x: Bytes) -> [Words; 2] {
            [_mm_srai_epi16::<8>(_mm_slli_epi16::<8>(x)), _mm_srai_epi16::<8>(x)]
        }

        /// As it is.
        fn kept(x: Integers) -> Integers {
            x
        }

        fn widen(x: Words) -> [Integers; 2] {
            [_mm_cvtepi16_epi32(x), _mm_cvtepi16_epi32(_mm_srli_si128::<8>(x))]
        }

        /// Adds the products of eight pairs of numbers, in four parts.
        fn add_words(sum: Integers, a: Words, b: Words) -> Integers {
            _mm_add_epi32(sum, _mm_madd_epi16(a, b))
        }

        /// Scales that are there twice, for [`add_scaled`].
        fn load_scales(scales: &[[i16; 2]; 4]) -> Integers {
            // SAFETY: sixteen bytes, by the type; the load needs no alignment.
            unsafe { _mm_loadu_si128(scales.as_ptr().cast()) }
        }

        /// `sum + x · scale · by`.
        fn add_scaled(sum: Integers, x: Integers, scales: Integers, by: i16) -> Integers {
            // The second one is multiplied by zero.
            let scales = _mm_madd_epi16(scales, _mm_set1_epi32(i32::from(by) & 0xffff));
            _mm_add_epi32(sum, _mm_mullo_epi32(x, scales))
        }

        /// Two numbers of each lane, for [`add_pairs`].
        fn load_pairs(pairs: &[[i16; 2]; 4]) -> Pairs {
            // SAFETY: sixteen bytes, by the type; the load needs no alignment.
            unsafe { _mm_loadu_si128(pairs.as_ptr().cast()) }
        }

        /// Adds their products with two numbers.
        fn add_pairs(sum: Integers, pairs: Pairs, by: [i16; 2]) -> Integers {
            let by = i32::from(by[0]) & 0xffff | i32::from(by[1]) << 16;
            _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi32(by)))
        }

        fn minus(a: Integers, b: Integers) -> Integers {
            _mm_sub_epi32(a, b)
        }

        /// The sum of each vector, one per lane.
        fn sum_each(x: [Integers; 4]) -> Integers {
            _mm_hadd_epi32(_mm_hadd_epi32(x[0], x[1]), _mm_hadd_epi32(x[2], x[3]))
        }

        fn to_floats(x: Integers) -> Floats {
            _mm_cvtepi32_ps(x)
        }

        /// Sixteen signed bytes as floats.
        fn signed(x: Bytes) -> [Floats; 4] {
            [
                _mm_cvtepi32_ps(_mm_cvtepi8_epi32(x)),
                _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128::<4>(x))),
                _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128::<8>(x))),
                _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_srli_si128::<12>(x))),
            ]
        }

        /// Four f16 as floats, converted as the blocks' `half_at` does.
        fn halves(x: [u16; 4]) -> Floats {
            let [a, b, c, d] = x.map(i32::from);
            let x = _mm_setr_epi32(a, b, c, d);
            let rebias = _mm_castsi128_ps(_mm_set1_epi32((127 + 112) << 23));
            let magnitude = _mm_slli_epi32::<13>(_mm_and_si128(x, _mm_set1_epi32(0x7fff)));
            let magnitude = _mm_mul_ps(_mm_castsi128_ps(magnitude), rebias);
            let largest = _mm_set1_epi32(0x7c00);
            let special = _mm_cmpeq_epi32(_mm_and_si128(x, largest), largest);
            let special = _mm_and_si128(special, _mm_set1_epi32(0xff << 23));
            let sign = _mm_slli_epi32::<16>(_mm_and_si128(x, _mm_set1_epi32(0x8000)));
            _mm_or_ps(magnitude, _mm_castsi128_ps(_mm_or_si128(special, sign)))
        }

        /// As [`halves`], of numbers from four places.
        fn gathered_halves(x: [u16; 4]) -> Floats {
            halves(x)
        }

        /// Four bf16 as floats.
        fn upper_halves(x: [u16; 4]) -> Floats {
            let [a, b, c, d] = x.map(|x| i32::from(x) << 16);
            _mm_castsi128_ps(_mm_setr_epi32(a, b, c, d))
        }

        fn zero() -> Floats {
            _mm_setzero_ps()
        }

        fn splat(x: f32) -> Floats {
            _mm_set1_ps(x)
        }

        fn load_floats(from: &[f32; 4]) -> Floats {
            // SAFETY: four floats, by the type; the load needs no alignment.
            unsafe { _mm_loadu_ps(from.as_ptr()) }
        }

        fn store(to: &mut [f32; 4], x: Floats) {
            // SAFETY: four floats, by the type; the store needs no alignment.
            unsafe { _mm_storeu_ps(to.as_mut_ptr(), x) }
        }

        fn plus(a: Floats, b: Floats) -> Floats {
            _mm_add_ps(a, b)
        }

        fn times(a: Floats, b: Floats) -> Floats {
            _mm_mul_ps(a, b)
        }

        fn add_product(sum: Floats, a: Floats, b: Floats) -> Floats {
            _mm_add_ps(sum, _mm_mul_ps(a, b))
        }

        /// Rounds sixteen floats to signed bytes, as the activations' `quantize` does.
        fn rounded(x: [Floats; 4]) -> Bytes {
            // Adding 1.5 × 2²³ leaves the integer in the low bits of the sum.
            let [a, b, c, d] = x;
            _mm_packus_epi16(
                _mm_packus_epi32(low_byte(a), low_byte(b)),
                _mm_packus_epi32(low_byte(c), low_byte(d)),
            )
        }

        fn low_byte(x: Floats) -> Integers {
            let sum = _mm_castps_si128(_mm_add_ps(x, _mm_set1_ps(12_582_912.0)));
            _mm_and_si128(sum, _mm_set1_epi32(0xff))
        }

        /// The sum of sixteen signed bytes.
        fn sum_signed(x: Bytes) -> i32 {
            let unsigned = _mm_xor_si128(x, _mm_set1_epi8(-128));
            let eights = _mm_sad_epu8(unsigned, _mm_setzero_si128());
            let sum = _mm_add_epi64(eights, _mm_unpackhi_epi64(eights, eights));
            _mm_cvtsi128_si32(sum) - 128 * 16
        }
    }
}
