//! Byte dot products: four products of unsigned and signed bytes, added to each 32-bit lane.

#![expect(unsafe_code, reason = "an instruction that is there only where the processor has it")]

#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// The byte dot product of an instruction set.
pub trait Dot {
    /// Whether levels above 127 are multiplied as fast as others.
    const WIDE: bool;

    /// Adds the products of levels and signed bytes. `WIDE`: levels may exceed 127.
    ///
    /// # Safety
    /// The processor has the extension that the type is named after, and the instruction set of this module.
    unsafe fn dot<const WIDE: bool>(sum: __m512i, levels: __m512i, x: __m512i) -> __m512i;

    /// Adds the products of pairs of 16-bit numbers.
    ///
    /// # Safety
    /// As [`Dot::dot`].
    unsafe fn add_pairs(sum: __m512i, a: __m512i, b: __m512i) -> __m512i;
}

/// One instruction.
pub struct Vnni;
/// AVX-512 without VNNI, as on the first processors that had it.
pub struct Plain;

impl Dot for Vnni {
    const WIDE: bool = true;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn dot<const WIDE: bool>(mut sum: __m512i, levels: __m512i, x: __m512i) -> __m512i {
        // Inline assembly, so that the functions around it need no further target feature.
        // SAFETY: the caller guarantees that the processor has the instruction; it writes only `sum`'s register.
        unsafe {
            std::arch::asm!(
                "vpdpbusd {sum}, {levels}, {x}",
                sum = inout(zmm_reg) sum,
                levels = in(zmm_reg) levels,
                x = in(zmm_reg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn add_pairs(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe {
            std::arch::asm!(
                "vpdpwssd {sum}, {a}, {b}",
                sum = inout(zmm_reg) sum,
                a = in(zmm_reg) a,
                b = in(zmm_reg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }
}

impl Dot for Plain {
    const WIDE: bool = false;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn dot<const WIDE: bool>(sum: __m512i, levels: __m512i, x: __m512i) -> __m512i {
        if WIDE {
            // Pairs of products would overflow 16 bits, so even and odd bytes are multiplied separately.
            let low = _mm512_and_si512(levels, _mm512_set1_epi16(255));
            let even = _mm512_madd_epi16(low, _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x)));
            let odd = _mm512_madd_epi16(_mm512_srli_epi16::<8>(levels), _mm512_srai_epi16::<8>(x));
            return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
        }
        // Pairs of products fit in 16 bits: at most 2 · 127 · 127.
        let pairs = _mm512_maddubs_epi16(levels, x);
        _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
    }
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn add_pairs(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
    }
}
