//! Four products of unsigned and signed bytes, added to each lane of 32 bits.

#![expect(unsafe_code, reason = "an instruction that is there only where the processor has it")]

#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// How bytes are multiplied.
pub trait Dot {
    /// Whether levels above 127 are multiplied as they are; else they are taken 128 lower, which is what their minima
    /// say, so those are left out.
    const WIDE: bool;

    /// Adds the products of levels and signed bytes. `SIGNED`: levels reach above 127 and are taken 128 lower.
    ///
    /// # Safety
    /// The processor has what the type is named after, and the instruction set of this module.
    unsafe fn dot<const SIGNED: bool>(sum: __m256i, levels: __m256i, x: __m256i) -> __m256i;

    /// The products of two vectors of levels up to 31.
    ///
    /// # Safety
    /// As [`Dot::dot`]; two vectors lie at `x`.
    unsafe fn dot_small(levels: [__m256i; 2], x: *const __m256i) -> __m256i;
}

/// Three instructions.
pub struct Avx2;
/// One instruction.
pub struct AvxVnni;

impl Dot for Avx2 {
    const WIDE: bool = false;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot<const SIGNED: bool>(sum: __m256i, levels: __m256i, x: __m256i) -> __m256i {
        // Pairs of products fit 16 bits: magnitudes are at most 128 × 127, twice.
        let pairs = if SIGNED {
            let levels = _mm256_xor_si256(levels, _mm256_set1_epi8(-128));
            // Signs go to the activations, which reach -127 only: those of levels would overflow.
            _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels))
        } else {
            _mm256_maddubs_epi16(levels, x)
        };
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot_small(levels: [__m256i; 2], x: *const __m256i) -> __m256i {
        // SAFETY: said by the caller.
        let (first, second) = unsafe { (*x, *x.add(1)) };
        // Four products of 31 × 127 fit 16 bits.
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
        // Written out, so that the functions around it are compiled for processors with and without it.
        // SAFETY: the processor has the instruction, by the caller; it changes nothing but the register of the sum.
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
        // SAFETY: said by the caller.
        unsafe {
            let sum = Self::dot::<false>(_mm256_setzero_si256(), levels[0], *x);
            Self::dot::<false>(sum, levels[1], *x.add(1))
        }
    }
}
