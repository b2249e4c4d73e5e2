//! Byte dot products: four products of unsigned and signed bytes, added to each 32-bit lane.

#![expect(unsafe_code, reason = "an instruction that is there only where the processor has it")]

#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// The byte dot product of an instruction set.
pub trait Dot {
    /// Whether the product is one instruction.
    const ONE: bool;

    /// Adds the products of levels up to 128 and signed bytes above -128.
    ///
    /// # Safety
    /// The processor has the extension that the type is named after, and the instruction set of this module.
    unsafe fn dot(sum: __m256i, levels: __m256i, x: __m256i) -> __m256i;
}

/// Three instructions per product.
pub struct Avx2;
/// One instruction per product.
pub struct AvxVnni;

impl Dot for Avx2 {
    const ONE: bool = false;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot(sum: __m256i, levels: __m256i, x: __m256i) -> __m256i {
        // Pairs of products fit in 16 bits: magnitudes are at most 2 · 128 · 127.
        let pairs = _mm256_maddubs_epi16(levels, x);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

impl Dot for AvxVnni {
    const ONE: bool = true;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn dot(mut sum: __m256i, levels: __m256i, x: __m256i) -> __m256i {
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
}

/// Moves the signs of signed levels to what they are multiplied with: unsigned levels, signed bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn unsigned<const SIGNED: bool>(levels: __m256i, x: __m256i) -> (__m256i, __m256i) {
    if !SIGNED {
        return (levels, x);
    }
    // Activations are at least -127, while negating a level of -128 would overflow.
    (_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels))
}
