//! Byte dot products: four products of unsigned and signed bytes, added to each 32-bit lane.

#![expect(unsafe_code, reason = "an instruction that is there only where the processor has it")]

#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// The byte dot product of an instruction set.
pub trait Dot {
    /// Whether levels above 127 are multiplied as they are. If not, 128 is subtracted first; the mins of wide types do
    /// no more than that, so they are left out.
    const WIDE: bool;

    /// Adds the products of levels and signed bytes. `SIGNED`: levels exceed 127, and 128 is subtracted from them.
    ///
    /// # Safety
    /// The processor has the extension that the type is named after, and the instruction set of this module.
    unsafe fn dot<const SIGNED: bool>(sum: __m256i, levels: __m256i, x: __m256i) -> __m256i;

    /// The products of two vectors of levels up to 31.
    ///
    /// # Safety
    /// As [`Dot::dot`]; `x` points to two vectors.
    unsafe fn dot_small(levels: [__m256i; 2], x: *const __m256i) -> __m256i;
}

/// Three instructions per product.
pub struct Avx2;
/// One instruction per product.
pub struct AvxVnni;

impl Dot for Avx2 {
    const WIDE: bool = false;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const SIGNED: bool>(sum: __m256i, levels: __m256i, x: __m256i) -> __m256i {
        // Pairs of products fit in 16 bits: magnitudes are at most 2 · 128 · 127.
        let pairs = if SIGNED {
            let levels = _mm256_xor_si256(levels, _mm256_set1_epi8(-128));
            // The levels' signs move to the activations: those are at least -127, while negating a level of -128 would
            // overflow.
            _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels))
        } else {
            _mm256_maddubs_epi16(levels, x)
        };
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot_small(levels: [__m256i; 2], x: *const __m256i) -> __m256i {
        // SAFETY: guaranteed by the caller.
        let (first, second) = unsafe { (*x, *x.add(1)) };
        // Four products of 31 · 127 fit in 16 bits.
        let first = _mm256_maddubs_epi16(levels[0], first);
        let fours = _mm256_add_epi16(first, _mm256_maddubs_epi16(levels[1], second));
        _mm256_madd_epi16(fours, _mm256_set1_epi16(1))
    }
}

impl Dot for AvxVnni {
    const WIDE: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const SIGNED: bool>(mut sum: __m256i, levels: __m256i, x: __m256i) -> __m256i {
        // Inline assembly, so that the functions around it need no further target feature.
        // SAFETY: the caller guarantees that the processor has the instruction; it writes only `sum`'s register.
        unsafe {
            std::arch::asm!(
                "{{vex}} vpdpbusd {sum}, {levels}, {x}",
                sum = inout(ymm_reg) sum,
                levels = in(ymm_reg) levels,
                x = in(ymm_reg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot_small(levels: [__m256i; 2], x: *const __m256i) -> __m256i {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let sum = Self::dot::<false>(_mm256_setzero_si256(), levels[0], *x);
            Self::dot::<false>(sum, levels[1], *x.add(1))
        }
    }
}
