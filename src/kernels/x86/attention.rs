//! The two inner loops of attention, scores and mixing, written once for two widths of vectors.
//!
//! A `Lanes` is sixteen floats: one register of AVX-512, two of AVX2. Sixteen positions are scored at once,
//! one in each lane, so that nothing has to be summed across lanes.

#![expect(unsafe_code, reason = "vector loads from slices whose lengths are asserted first")]

macro_rules! kernels {
    ($module:ident, $features:literal, at once: $at_once:literal, rows: [$($rows:literal)*],
     $Lanes:ident = $lanes:ty, $operations:tt) => {
        /// For the instruction set of the same name.
        pub mod $module {
            use crate::kernels::attention::{BLOCK, Cached, KEYS, ROWS, Weights};
            use half::{bf16, f16};
            use std::arch::x86_64::*;
            use std::ops::Range;

            /// Sixteen floats.
            type $Lanes = $lanes;
            /// Vectors of positions, or of value elements, that are worked on together.
            const AT_ONCE: usize = $at_once;

            operations! { $features $operations }

            /// Scores of a block of positions for some rows, without factor.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn scores(q: &[&[f32]], k: Cached<'_>, block: usize, out: &mut Weights) {
                let mut at = 0;
                while at < q.len() {
                    let left = q.len() - at;
                    at += $(if left >= $rows {
                        let q: [&[f32]; $rows] = std::array::from_fn(|i| q[at + i]);
                        let out = out[at..].first_chunk_mut().expect("as many rows");
                        match k {
                            Cached::F16(k) => scores_of::<f16, $rows>(q, k, block, out),
                            Cached::Bf16(k) => scores_of::<bf16, $rows>(q, k, block, out),
                            Cached::F32(k) => scores_of::<f32, $rows>(q, k, block, out),
                        }
                        $rows
                    } else)* {
                        unreachable!("one row is always left")
                    };
                }
            }

            #[target_feature(enable = $features)]
            fn scores_of<T: Element, const R: usize>(
                q: [&[f32]; R],
                k: &[T],
                block: usize,
                out: &mut [[f32; BLOCK]; R],
            ) {
                let dim = q[0].len();
                assert!(q.iter().all(|q| q.len() == dim) && k.len() >= (block + BLOCK) * dim);
                for first in (0..BLOCK).step_by(KEYS * AT_ONCE) {
                    let mut sums = [[zero(); AT_ONCE]; R];
                    for d in 0..dim {
                        let mut keys = [zero(); AT_ONCE];
                        for i in 0..AT_ONCE {
                            let at = (block + first + KEYS * i) * dim + d * KEYS;
                            // SAFETY: sixteen elements of the block's keys, by the assertion.
                            keys[i] = unsafe { T::load(k.as_ptr().add(at)) };
                        }
                        for r in 0..R {
                            // SAFETY: d < dim, the length of each.
                            let q = splat(unsafe { *q[r].get_unchecked(d) });
                            for i in 0..AT_ONCE {
                                sums[r][i] = add_product(sums[r][i], q, keys[i]);
                            }
                        }
                    }
                    for r in 0..R {
                        for i in 0..AT_ONCE {
                            let out = out[r][first + KEYS * i..].first_chunk_mut();
                            store(out.expect("within the block"), sums[r][i]);
                        }
                    }
                }
            }

            /// `mixed[i] = factors[i] · mixed[i] + Σ weights[i][p] · values[p]`.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn mix(
                weights: &Weights,
                factors: &[f32; ROWS],
                v: Cached<'_>,
                positions: Range<usize>,
                mixed: &mut [&mut [f32]],
            ) {
                let mut at = 0;
                while at < mixed.len() {
                    let left = mixed.len() - at;
                    at += $(if left >= $rows {
                        let weights = weights[at..].first_chunk().expect("as many rows");
                        let factors = factors[at..].first_chunk().expect("as many rows");
                        let mixed = mixed[at..].first_chunk_mut().expect("as many rows");
                        let positions = positions.clone();
                        match v {
                            Cached::F16(v) => mix_of::<f16, $rows>(weights, factors, v, positions, mixed),
                            Cached::Bf16(v) => mix_of::<bf16, $rows>(weights, factors, v, positions, mixed),
                            Cached::F32(v) => mix_of::<f32, $rows>(weights, factors, v, positions, mixed),
                        }
                        $rows
                    } else)* {
                        unreachable!("one row is always left")
                    };
                }
            }

            #[target_feature(enable = $features)]
            fn mix_of<T: Element, const R: usize>(
                weights: &[[f32; BLOCK]; R],
                factors: &[f32; R],
                v: &[T],
                positions: Range<usize>,
                mixed: &mut [&mut [f32]; R],
            ) {
                let dim = mixed[0].len();
                assert!(mixed.iter().all(|m| m.len() == dim) && v.len() >= positions.end * dim);
                assert!(positions.len() <= BLOCK);
                let wide = dim - dim % (16 * AT_ONCE);
                for first in (0..wide).step_by(16 * AT_ONCE) {
                    let mut sums = [[zero(); AT_ONCE]; R];
                    for r in 0..R {
                        for i in 0..AT_ONCE {
                            let old = mixed[r][first + 16 * i..].first_chunk().expect("of `wide`");
                            sums[r][i] = product(load(old), splat(factors[r]));
                        }
                    }
                    for (p, position) in positions.clone().enumerate() {
                        let mut values = [zero(); AT_ONCE];
                        for i in 0..AT_ONCE {
                            let at = position * dim + first + 16 * i;
                            // SAFETY: sixteen elements of the position's values, by the assertion.
                            values[i] = unsafe { T::load(v.as_ptr().add(at)) };
                        }
                        for r in 0..R {
                            // SAFETY: p is below BLOCK, by the assertion.
                            let weight = splat(unsafe { *weights[r].get_unchecked(p) });
                            for i in 0..AT_ONCE {
                                sums[r][i] = add_product(sums[r][i], weight, values[i]);
                            }
                        }
                    }
                    for r in 0..R {
                        for i in 0..AT_ONCE {
                            let out = mixed[r][first + 16 * i..].first_chunk_mut().expect("of `wide`");
                            store(out, sums[r][i]);
                        }
                    }
                }
                for d in wide..dim {
                    for r in 0..R {
                        let sum: f32 = positions
                            .clone()
                            .zip(&weights[r])
                            .map(|(position, weight)| weight * v[position * dim + d].to_f32())
                            .sum();
                        mixed[r][d] = factors[r] * mixed[r][d] + sum;
                    }
                }
            }

            /// An element type of the cache.
            trait Element: crate::kernels::float::ToF32 {
                /// Sixteen elements as floats.
                ///
                /// # Safety
                /// The processor has the instruction set of this module; sixteen elements can be read.
                unsafe fn load(from: *const Self) -> $Lanes;
            }

            impl Element for f32 {
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn load(from: *const Self) -> $Lanes {
                    // SAFETY: said by the caller.
                    load(unsafe { &*from.cast() })
                }
            }

            impl Element for f16 {
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn load(from: *const Self) -> $Lanes {
                    // SAFETY: said by the caller; the load needs no alignment.
                    from_f16(unsafe { _mm256_loadu_si256(from.cast()) })
                }
            }

            impl Element for bf16 {
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn load(from: *const Self) -> $Lanes {
                    // SAFETY: said by the caller; the load needs no alignment.
                    from_bf16(unsafe { _mm256_loadu_si256(from.cast()) })
                }
            }
        }
    };
}

/// Puts the instruction set on small functions.
macro_rules! operations {
    ($features:literal { $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)* }) => {
        $(#[target_feature(enable = $features)]
        #[inline]
        fn $name($($argument: $type),*) $(-> $result)? $body)*
    };
}

kernels!(avx512, "avx512bw,avx512vl,avx512dq", at once: 2, rows: [8 6 4 3 2 1], Lanes = __m512, {
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
    fn from_f16(x: __m256i) -> Lanes {
        _mm512_cvtph_ps(x)
    }
    fn from_bf16(x: __m256i) -> Lanes {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
    }
});

kernels!(avx2, "avx2,fma,f16c", at once: 1, rows: [4 3 2 1], Lanes = [__m256; 2], {
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
    fn from_f16(x: __m256i) -> Lanes {
        [
            _mm256_cvtph_ps(_mm256_castsi256_si128(x)),
            _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(x)),
        ]
    }
    fn from_bf16(x: __m256i) -> Lanes {
        [_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x)]
            .map(|x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x))))
    }
});
