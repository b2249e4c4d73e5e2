//! The two inner loops of attention, scoring and mixing, written once for all vector widths.
//!
//! Sixteen positions are scored at once, one per lane, so no horizontal sums are needed.

/// Defines `scores` and `mix` for an instruction set from a module of operations: a type `Lanes` of sixteen
/// floats, and functions on it. `at_once` is the number of `Lanes` processed together, one or two. `rows` lists
/// the numbers of query rows processed together, largest first, as far as registers allow.
macro_rules! lanes {
    ($features:literal, $operations:path, at_once: $at_once:literal, rows: [$($rows:literal)*]) => {
        use $operations::*;
        use crate::kernels::attention::{BLOCK, Cached, Element, KEYS, ROWS, Weights, by_element};
        use crate::kernels::prefetch::Soon;
        use crate::kernels::scalar::mix_rest;
        use half::{bf16, f16};
        use std::ops::Range;

        /// Vectors of positions, or of value elements, processed together.
        const AT_ONCE: usize = $at_once;

        /// Unscaled scores of the rows `q` against `positions`, which start at the beginning of a block.
        /// Prefetches `soon` along the way.
        ///
        /// # Safety
        /// The processor has the instruction set of this module.
        #[target_feature(enable = $features)]
        pub unsafe fn scores(
            q: &[&[f32]],
            k: Cached<'_>,
            positions: Range<usize>,
            out: &mut Weights,
            mut soon: Soon,
        ) {
            let mut at = 0;
            while at < q.len() {
                let left = q.len() - at;
                at += $(if left >= $rows {
                    let q: [&[f32]; $rows] = std::array::from_fn(|i| q[at + i]);
                    let out = out[at..].first_chunk_mut().expect("as many rows");
                    let positions = positions.clone();
                    by_element!(k, |k| scores_of::<_, $rows>(q, k, positions, out, soon));
                    soon = Soon::default();
                    $rows
                } else)* {
                    unreachable!("one row is always left")
                };
            }
        }

        #[target_feature(enable = $features)]
        fn scores_of<T: Load, const R: usize>(
            q: [&[f32]; R],
            k: &[T],
            positions: Range<usize>,
            out: &mut [[f32; BLOCK]; R],
            mut soon: Soon,
        ) {
            let dim = q[0].len();
            assert!(q.iter().all(|q| q.len() == dim));
            let block = positions.start;
            assert!(k.len() >= (block + BLOCK) * T::units(dim) && block % KEYS == 0);
            assert!(positions.len() <= BLOCK);
            for first in (0..positions.len()).step_by(KEYS * AT_ONCE) {
                let mut sums = [[zero(); AT_ONCE]; R];
                let mut start = 0;
                while start < dim {
                    let end = dim.min(start.saturating_add(T::GROUP));
                    let mut group = [[zero(); AT_ONCE]; R];
                    for d in start..end {
                        soon.fetch_line();
                        let mut keys = [zero(); AT_ONCE];
                        for i in 0..AT_ONCE {
                            let at = T::key_at(block + first + KEYS * i, dim, start) + (d - start) * KEYS;
                            // SAFETY: sixteen elements of the block's keys, by the assertion.
                            keys[i] = unsafe { T::load(k.as_ptr().add(at)) };
                        }
                        for r in 0..R {
                            // SAFETY: d < dim, the length of each.
                            let q = splat(unsafe { *q[r].get_unchecked(d) });
                            for i in 0..AT_ONCE {
                                group[r][i] = add_product(group[r][i], q, keys[i]);
                            }
                        }
                    }
                    if T::SCALED {
                        for i in 0..AT_ONCE {
                            let at = T::key_scales_at(block + first + KEYS * i, dim, start);
                            // SAFETY: the scales of the block's keys, by the assertion.
                            let scales = unsafe { T::load_scales(k.as_ptr().add(at)) };
                            for r in 0..R {
                                sums[r][i] = add_product(sums[r][i], group[r][i], scales);
                            }
                        }
                    } else {
                        // Without scales there is only this one group.
                        sums = group;
                    }
                    start = end;
                }
                for r in 0..R {
                    for i in 0..AT_ONCE {
                        let out = out[r][first + KEYS * i..].first_chunk_mut();
                        store(out.expect("within the block"), sums[r][i]);
                    }
                }
            }
        }

        /// `mixed[i] = factors[i] · mixed[i] + Σ weights[i][p] · values[p]`. Prefetches `soon` along the way.
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
            mut soon: Soon,
        ) {
            let mut at = 0;
            while at < mixed.len() {
                let left = mixed.len() - at;
                at += $(if left >= $rows {
                    let weights = weights[at..].first_chunk().expect("as many rows");
                    let factors = factors[at..].first_chunk().expect("as many rows");
                    let mixed = mixed[at..].first_chunk_mut().expect("as many rows");
                    let positions = positions.clone();
                    by_element!(v, |v| mix_of::<_, $rows>(weights, factors, v, positions, mixed, soon));
                    soon = Soon::default();
                    $rows
                } else)* {
                    unreachable!("one row is always left")
                };
            }
        }

        #[target_feature(enable = $features)]
        fn mix_of<T: Load, const R: usize>(
            weights: &[[f32; BLOCK]; R],
            factors: &[f32; R],
            v: &[T],
            positions: Range<usize>,
            mixed: &mut [&mut [f32]; R],
            mut soon: Soon,
        ) {
            // Elements processed together share a scale.
            const { assert!(T::GROUP % (16 * AT_ONCE) == 0 || !T::SCALED) };
            let dim = mixed[0].len();
            assert!(mixed.iter().all(|m| m.len() == dim));
            assert!(v.len() >= positions.end * T::units(dim) && positions.len() <= BLOCK);
            let (wide, whole) = (dim - dim % (16 * AT_ONCE), dim - dim % 16);
            for first in (0..wide).step_by(16 * AT_ONCE) {
                mix_at::<T, R, AT_ONCE>(weights, factors, v, positions.clone(), mixed, first, &mut soon);
            }
            for first in (wide..whole).step_by(16) {
                mix_at::<T, R, 1>(weights, factors, v, positions.clone(), mixed, first, &mut soon);
            }
            for r in 0..R {
                let rest = &mut mixed[r][whole..];
                mix_rest(&weights[r], factors[r], v, positions.clone(), dim, rest);
            }
        }

        /// Mixes `16 · N` elements from `first` on.
        #[target_feature(enable = $features)]
        #[inline]
        fn mix_at<T: Load, const R: usize, const N: usize>(
            weights: &[[f32; BLOCK]; R],
            factors: &[f32; R],
            v: &[T],
            positions: Range<usize>,
            mixed: &mut [&mut [f32]; R],
            first: usize,
            soon: &mut Soon,
        ) {
            let dim = mixed[0].len();
            assert!(first + 16 * N <= dim);
            assert!(v.len() >= positions.end * T::units(dim) && positions.len() <= BLOCK);
            let mut sums = [[zero(); N]; R];
            for r in 0..R {
                for i in 0..N {
                    let old = mixed[r][first + 16 * i..].first_chunk().expect("of the whole ones");
                    sums[r][i] = product(load(old), splat(factors[r]));
                }
            }
            for (p, position) in positions.enumerate() {
                soon.fetch_line();
                let mut values = [zero(); N];
                let at = T::value_at(position, dim, first);
                for i in 0..N {
                    // SAFETY: sixteen elements of the position's values, by the assertions.
                    values[i] = unsafe { T::load(v.as_ptr().add(at + 16 * i)) };
                    if T::SCALED {
                        values[i] = product(values[i], splat(T::value_scale(v, position, dim, first)));
                    }
                }
                for r in 0..R {
                    // SAFETY: p is below BLOCK, by the assertion.
                    let weight = splat(unsafe { *weights[r].get_unchecked(p) });
                    for i in 0..N {
                        sums[r][i] = add_product(sums[r][i], weight, values[i]);
                    }
                }
            }
            for r in 0..R {
                for i in 0..N {
                    let out = mixed[r][first + 16 * i..].first_chunk_mut();
                    store(out.expect("of the whole ones"), sums[r][i]);
                }
            }
        }

        /// Loads elements from the cache.
        trait Load: Element {
            /// Sixteen elements as floats, before scaling.
            ///
            /// # Safety
            /// The processor has the instruction set of this module; sixteen units are readable.
            unsafe fn load(from: *const Self) -> Lanes;

            /// Sixteen scales; all 1 for types without scales.
            ///
            /// # Safety
            /// The processor has the instruction set of this module; the scales are readable.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn load_scales(_: *const Self) -> Lanes {
                splat(1.0)
            }
        }

        impl Load for f32 {
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn load(from: *const Self) -> Lanes {
                // SAFETY: guaranteed by the caller.
                load(unsafe { &*from.cast() })
            }
        }

        impl Load for f16 {
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn load(from: *const Self) -> Lanes {
                // SAFETY: guaranteed by the caller.
                from_f16(unsafe { &*from.cast() })
            }
        }

        impl Load for bf16 {
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn load(from: *const Self) -> Lanes {
                // SAFETY: guaranteed by the caller.
                from_bf16(unsafe { &*from.cast() })
            }
        }

        impl Load for u8 {
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn load(from: *const Self) -> Lanes {
                // SAFETY: guaranteed by the caller.
                from_i8(unsafe { &*from.cast() })
            }

            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn load_scales(from: *const Self) -> Lanes {
                // SAFETY: guaranteed by the caller.
                from_f16(unsafe { &*from.cast() })
            }
        }
    };
}

pub(in crate::kernels) use lanes;
