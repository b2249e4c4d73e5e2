//! The two inner loops of attention, scores and mixing. Sixteen positions are scored at once, one in each
//! lane of four vectors, so that nothing has to be summed across lanes.

/// The module `attention` of an instruction set, made of the `operations` beside it, with as many rows at a
/// time as its registers hold.
macro_rules! attention {
    ($features:literal, rows: [$($rows:literal)*]) => {
        /// The two inner loops of attention.
        mod attention {
            use super::operations::*;
            use crate::kernels::attention::{BLOCK, Cached, KEYS, ROWS, Weights};
            use half::{bf16, f16};
            use std::ops::Range;

            /// Vectors of sixteen elements.
            const FOUR: usize = 4;

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
                assert!(q.iter().all(|q| q.len() == dim));
                for first in (0..BLOCK).step_by(KEYS) {
                    let keys = &k[(block + first) * dim..][..KEYS * dim];
                    let mut sums = [[zero(); FOUR]; R];
                    for (d, keys) in keys.as_chunks::<KEYS>().0.iter().enumerate() {
                        // SAFETY: said by the caller of `scores`.
                        let keys = unsafe { T::load(keys) };
                        for r in 0..R {
                            let q = splat(q[r][d]);
                            for i in 0..FOUR {
                                sums[r][i] = add_product(sums[r][i], q, keys[i]);
                            }
                        }
                    }
                    for r in 0..R {
                        for (out, sum) in out[r][first..][..KEYS].as_chunks_mut().0.iter_mut().zip(sums[r]) {
                            store(out, sum);
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
                assert!(mixed.iter().all(|m| m.len() == dim));
                let wide = dim - dim % 16;
                for first in (0..wide).step_by(16) {
                    let mut sums = [[zero(); FOUR]; R];
                    for r in 0..R {
                        for (sum, old) in sums[r].iter_mut().zip(mixed[r][first..][..16].as_chunks().0) {
                            *sum = times(load_floats(old), splat(factors[r]));
                        }
                    }
                    for (p, position) in positions.clone().enumerate() {
                        let values = v[position * dim + first..].first_chunk().expect("of the position");
                        // SAFETY: said by the caller of `mix`.
                        let values = unsafe { T::load(values) };
                        for r in 0..R {
                            let weight = splat(weights[r][p]);
                            for i in 0..FOUR {
                                sums[r][i] = add_product(sums[r][i], weight, values[i]);
                            }
                        }
                    }
                    for r in 0..R {
                        for (out, sum) in mixed[r][first..][..16].as_chunks_mut().0.iter_mut().zip(sums[r]) {
                            store(out, sum);
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
                /// The processor has the instruction set of this module.
                unsafe fn load(from: &[Self; 16]) -> [Floats; FOUR];
            }

            impl Element for f32 {
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn load(from: &[Self; 16]) -> [Floats; FOUR] {
                    let from = from.as_chunks().0;
                    [0, 1, 2, 3].map(|i| load_floats(&from[i]))
                }
            }

            impl Element for f16 {
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn load(from: &[Self; 16]) -> [Floats; FOUR] {
                    let from = from.as_chunks::<4>().0;
                    [0, 1, 2, 3].map(|i| halves(from[i].map(f16::to_bits)))
                }
            }

            impl Element for bf16 {
                #[target_feature(enable = $features)]
                #[inline]
                unsafe fn load(from: &[Self; 16]) -> [Floats; FOUR] {
                    let from = from.as_chunks::<4>().0;
                    [0, 1, 2, 3].map(|i| upper_halves(from[i].map(bf16::to_bits)))
                }
            }
        }
    };
}

pub(in crate::kernels) use attention;
