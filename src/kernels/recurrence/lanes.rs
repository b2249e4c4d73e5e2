//! The inner loops of states that are matrices, written once for all vector widths: a column in each lane.

/// Defines `advance` for an instruction set from a module of operations on sixteen floats, `at_once` of which are
/// computed together.
macro_rules! lanes {
    ($features:literal, $operations:path, at_once: $at_once:literal) => {
        use crate::kernels::disjoint::Disjoint;
        use crate::kernels::recurrence::Feed;
        use std::ops::Range;
        use $operations::*;

        /// Vectors of columns computed together.
        const AT_ONCE: usize = $at_once;

        /// Takes some columns of a head's state, (`key_dim`, columns), through some rows.
        ///
        /// # Safety
        /// The processor has the instruction set of this module, and no one else writes these columns of `out`.
        #[target_feature(enable = $features)]
        pub unsafe fn advance(
            feed: &Feed<'_>,
            head: usize,
            columns: Range<usize>,
            rows: Range<usize>,
            state: &mut [f32],
            out: &Disjoint<'_>,
        ) {
            let mut at = 0;
            while at < columns.len() {
                let whole = columns.len() - at >= 16 * AT_ONCE;
                let rows = rows.clone();
                // SAFETY: guaranteed by the caller.
                unsafe {
                    match (whole, feed.corrects) {
                        (true, true) => {
                            of::<AT_ONCE, true>(feed, head, &columns, at, rows, state, out)
                        }
                        (true, false) => {
                            of::<AT_ONCE, false>(feed, head, &columns, at, rows, state, out)
                        }
                        (false, true) => of::<1, true>(feed, head, &columns, at, rows, state, out),
                        (false, false) => {
                            of::<1, false>(feed, head, &columns, at, rows, state, out)
                        }
                    }
                }
                at += if whole { 16 * AT_ONCE } else { 16 };
            }
        }

        /// The same for the columns from the `at`-th on.
        ///
        /// # Safety
        /// As there.
        #[target_feature(enable = $features)]
        unsafe fn of<const N: usize, const CORRECTS: bool>(
            feed: &Feed<'_>,
            head: usize,
            columns: &Range<usize>,
            at: usize,
            rows: Range<usize>,
            state: &mut [f32],
            out: &Disjoint<'_>,
        ) {
            let (key_dim, stride, dim) = (feed.key_dim, columns.len(), feed.value_dim);
            assert!(state.len() == key_dim * stride && at + 16 * N <= stride);
            let first = columns.start + at;
            let filled = (dim - first).min(16 * N);
            let state = state.as_mut_ptr();
            for row in rows {
                let key = feed.keys.at(row, feed.key_of[head]);
                let query = feed.queries.at(row, feed.key_of[head]);
                let values = &feed.values.at(row, head)[first..first + filled];
                assert!(key.len() == key_dim && query.len() == key_dim);
                let (decay, rate) =
                    (feed.decays[row * feed.heads + head], feed.rates[row * feed.heads + head]);
                let (decay, less, rate) = (splat(decay), splat(-decay), splat(rate));
                let values = read::<N>(values);
                let mut written = [zero(); N];
                if CORRECTS {
                    let mut held = [[zero(); N]; 2];
                    let mut i = 0;
                    while i < key_dim {
                        for chain in 0..2 {
                            if i + chain == key_dim {
                                break;
                            }
                            let k = splat(key[i + chain]);
                            for n in 0..N {
                                // SAFETY: sixteen elements of a row of the state, by the assertion.
                                let s = unsafe {
                                    load(&*state.add((i + chain) * stride + at + 16 * n).cast())
                                };
                                held[chain][n] = add_product(held[chain][n], k, s);
                            }
                        }
                        i += 2;
                    }
                    for n in 0..N {
                        let held = add_product(held[0][n], held[1][n], splat(1.0));
                        written[n] = product(add_product(values[n], less, held), rate);
                    }
                } else {
                    for n in 0..N {
                        written[n] = product(values[n], rate);
                    }
                }
                let mut mixed = [[zero(); N]; 2];
                let mut i = 0;
                while i < key_dim {
                    for chain in 0..2 {
                        if i + chain == key_dim {
                            break;
                        }
                        let (k, q) = (splat(key[i + chain]), splat(query[i + chain]));
                        for n in 0..N {
                            // SAFETY: sixteen elements of a row of the state, by the assertion.
                            unsafe {
                                let place = state.add((i + chain) * stride + at + 16 * n).cast();
                                let s = add_product(product(k, written[n]), decay, load(&*place));
                                store(&mut *place, s);
                                mixed[chain][n] = add_product(mixed[chain][n], q, s);
                            }
                        }
                    }
                    i += 2;
                }
                let start = (row * feed.heads + head) * dim + first;
                // SAFETY: guaranteed by the caller.
                let out = unsafe { out.slice(start..start + filled) };
                for (n, out) in out.chunks_mut(16).enumerate() {
                    let mut sum = add_product(mixed[0][n], mixed[1][n], splat(1.0));
                    if let Some(skips) = feed.skips {
                        sum = add_product(sum, splat(skips[head]), values[n]);
                    }
                    if let Ok(out) = out.try_into() {
                        store(out, sum);
                    } else {
                        let mut whole = [0.0; 16];
                        store(&mut whole, sum);
                        out.copy_from_slice(&whole[..out.len()]);
                    }
                }
            }
        }

        /// Up to `16 · N` floats; zeros in place of missing ones.
        #[target_feature(enable = $features)]
        #[inline]
        fn read<const N: usize>(from: &[f32]) -> [Lanes; N] {
            let mut all = [zero(); N];
            for (lanes, from) in all.iter_mut().zip(from.chunks(16)) {
                *lanes = if let Ok(from) = from.try_into() {
                    load(from)
                } else {
                    let mut whole = [0.0; 16];
                    whole[..from.len()].copy_from_slice(from);
                    load(&whole)
                };
            }
            all
        }
    };
}

pub(in crate::kernels) use lanes;
