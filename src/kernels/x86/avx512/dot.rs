//! Four products of unsigned and signed bytes, added to each lane of 32 bits.

#![expect(unsafe_code, reason = "an instruction that is there only where the processor has it")]

#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// How bytes are multiplied.
pub trait Dot {
    /// Whether levels above 127 are multiplied as fast as others.
    const WIDE: bool;

    /// Adds the products of levels and signed bytes. `WIDE`: levels may reach above 127.
    ///
    /// # Safety
    /// The processor has what the type is named after, and the instruction set of this module.
    unsafe fn dot<const WIDE: bool>(sum: __m512i, levels: __m512i, x: __m512i) -> __m512i;
}

/// One instruction.
pub struct Vnni;
/// AVX-512 as the first processors had it.
pub struct Plain;

impl Dot for Vnni {
    const WIDE: bool = true;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn dot<const WIDE: bool>(mut sum: __m512i, levels: __m512i, x: __m512i) -> __m512i {
        // Written out, so that the functions around it are compiled for processors with and without it.
        // SAFETY: the processor has the instruction, by the caller; it changes nothing but the register of the sum.
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
}

impl Dot for Plain {
    const WIDE: bool = false;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn dot<const WIDE: bool>(sum: __m512i, levels: __m512i, x: __m512i) -> __m512i {
        if WIDE {
            // Pairs of products would not fit 16 bits: even and odd bytes each on their own.
            let low = _mm512_and_si512(levels, _mm512_set1_epi16(255));
            let even = _mm512_madd_epi16(low, _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x)));
            let odd = _mm512_madd_epi16(_mm512_srli_epi16::<8>(levels), _mm512_srai_epi16::<8>(x));
            return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
        }
        // Pairs of products fit 16 bits: at most 127 · 127, twice.
        let pairs = _mm512_maddubs_epi16(levels, x);
        _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
    }
}
