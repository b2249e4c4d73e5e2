//! The inner loops of attention and of recurrences, and their operations: sixteen floats are one AVX-512 register or two
//! AVX2 registers.

#![expect(unsafe_code, reason = "vector loads of arrays whose length the type says")]

macro_rules! module {
    ($module:ident, $features:literal, at_once: $at_once:literal, rows: $rows:tt, Lanes = $lanes:ty,
     { $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)* }) => {
        /// The inner loops of attention and of recurrences.
        pub mod $module {
            pub use attention::{mix, scores};
            pub use recurrence::{advance, advance_keyed};

            mod attention {
                crate::kernels::attention::lanes!(
                    $features, super::operations, at_once: $at_once, rows: $rows
                );
            }

            mod recurrence {
                crate::kernels::recurrence::lanes!($features, super::operations, at_once: 2);
            }

            /// Operations on sixteen floats.
            mod operations {
                use std::arch::x86_64::*;

                /// Sixteen floats.
                pub type Lanes = $lanes;

                $(#[target_feature(enable = $features)]
                #[inline]
                pub fn $name($($argument: $type),*) $(-> $result)? $body)*
            }
        }
    };
}

module!(avx512, "avx512bw,avx512vl,avx512dq", at_once: 2, rows: [8 6 4 3 2 1], Lanes = __m512, {
    fn zero() -> Lanes {
        _mm512_setzero_ps()
    }
    fn splat(x: f32) -> Lanes {
        _mm512_set1_ps(x)
    }
    fn product(a: Lanes, b: Lanes) -> Lanes {
        _mm512_mul_ps(a, b)
    }
    fn add_product(sum: Lanes, a: Lanes, b: Lanes) -> Lanes {
        _mm512_fmadd_ps(a, b, sum)
    }
    fn load(from: &[f32; 16]) -> Lanes {
        // SAFETY: sixteen floats, by the type; the load needs no alignment.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    fn store(to: &mut [f32; 16], x: Lanes) {
        // SAFETY: sixteen floats, by the type; the store needs no alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }
    fn from_f16(x: &[u16; 16]) -> Lanes {
        // SAFETY: sixteen numbers, by the type; the load needs no alignment.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(x.as_ptr().cast()) })
    }
    fn from_bf16(x: &[u16; 16]) -> Lanes {
        // SAFETY: sixteen numbers, by the type; the load needs no alignment.
        let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
    }
    fn from_i8(x: &[i8; 16]) -> Lanes {
        // SAFETY: sixteen numbers, by the type; the load needs no alignment.
        let x = unsafe { _mm_loadu_si128(x.as_ptr().cast()) };
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x))
    }
});

module!(avx2, "avx2,fma,f16c", at_once: 1, rows: [4 3 2 1], Lanes = [__m256; 2], {
    fn zero() -> Lanes {
        [_mm256_setzero_ps(); 2]
    }
    fn splat(x: f32) -> Lanes {
        [_mm256_set1_ps(x); 2]
    }
    fn product(a: Lanes, b: Lanes) -> Lanes {
        [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
    }
    fn add_product(sum: Lanes, a: Lanes, b: Lanes) -> Lanes {
        [_mm256_fmadd_ps(a[0], b[0], sum[0]), _mm256_fmadd_ps(a[1], b[1], sum[1])]
    }
    fn load(from: &[f32; 16]) -> Lanes {
        // SAFETY: sixteen floats, by the type; the loads need no alignment.
        unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
    }
    fn store(to: &mut [f32; 16], x: Lanes) {
        // SAFETY: sixteen floats, by the type; the stores need no alignment.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), x[1]);
        }
    }
    fn from_f16(x: &[u16; 16]) -> Lanes {
        // SAFETY: sixteen numbers, by the type; the loads need no alignment.
        let (a, b) = unsafe {
            (_mm_loadu_si128(x.as_ptr().cast()), _mm_loadu_si128(x.as_ptr().add(8).cast()))
        };
        [_mm256_cvtph_ps(a), _mm256_cvtph_ps(b)]
    }
    fn from_bf16(x: &[u16; 16]) -> Lanes {
        // SAFETY: sixteen numbers, by the type; the loads need no alignment.
        let (a, b) = unsafe {
            (_mm_loadu_si128(x.as_ptr().cast()), _mm_loadu_si128(x.as_ptr().add(8).cast()))
        };
        let (a, b) = (_mm256_cvtepu16_epi32(a), _mm256_cvtepu16_epi32(b));
        [
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)),
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)),
        ]
    }
    fn from_i8(x: &[i8; 16]) -> Lanes {
        // SAFETY: sixteen numbers, by the type; the load needs no alignment.
        let x = unsafe { _mm_loadu_si128(x.as_ptr().cast()) };
        let (a, b) = (_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x)));
        [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)]
    }
});
