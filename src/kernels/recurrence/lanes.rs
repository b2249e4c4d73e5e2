//! The inner loops of states that are matrices, written once for all vector widths: a column in each lane.

/// Defines `advance` for an instruction set from a module of operations on sixteen floats, `at_once` of which are
/// computed together.
macro_rules! lanes {
    ($features:literal, $operations:path, at_once: $at_once:literal) => {
        use crate::kernels::disjoint::Disjoint;
        use crate::kernels::recurrence::{Feed, KeyedFeed, Part, Shape};
        use $operations::*;

        /// Vectors of columns computed together.
        const AT_ONCE: usize = $at_once;

        /// Takes some columns of a head's state, (`key_dim`, columns), through some rows.
        ///
        /// # Safety
        /// The processor has the instruction set of this module, and no one else writes these columns of `out`.
        #[target_feature(enable = $features)]
        pub unsafe fn advance(feed: &Feed<'_>, part: &Part, state: &mut [f32], out: &Disjoint<'_>) {
            let mut at = 0;
            while at < part.columns.len() {
                let whole = part.columns.len() - at >= 16 * AT_ONCE;
                // SAFETY: guaranteed by the caller.
                unsafe {
                    match (whole, feed.corrects) {
                        (true, true) => of::<AT_ONCE, true>(feed, part, at, state, out),
                        (true, false) => of::<AT_ONCE, false>(feed, part, at, state, out),
                        (false, true) => of::<1, true>(feed, part, at, state, out),
                        (false, false) => of::<1, false>(feed, part, at, state, out),
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
            part: &Part,
            at: usize,
            state: &mut [f32],
            out: &Disjoint<'_>,
        ) {
            let Shape { heads, key_dim, value_dim: dim } = feed.shape;
            let (Part { columns, rows, .. }, head) = (part, part.head);
            let stride = columns.len();
            assert!(state.len() == key_dim * stride && at + 16 * N <= stride);
            let first = columns.start + at;
            let filled = (dim - first).min(16 * N);
            let state = state.as_mut_ptr();
            for row in rows.clone() {
                let key = feed.keys.at(row, feed.key_of[head]);
                let query = feed.queries.at(row, feed.key_of[head]);
                let values = &feed.values.at(row, head)[first..first + filled];
                assert!(key.len() == key_dim && query.len() == key_dim);
                let (decay, rate) =
                    (feed.decays[row * heads + head], feed.rates[row * heads + head]);
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
                let start = (row * heads + head) * dim + first;
                // SAFETY: guaranteed by the caller.
                let out = unsafe { out.slice(start..start + filled) };
                let skip = feed.skips.map(|skips| skips[head]);
                write(mixed, values, skip, out);
            }
        }

        /// Takes some columns of a head's state through some rows, where each element of a key forgets at a rate of its
        /// own.
        ///
        /// # Safety
        /// As for `advance`.
        #[target_feature(enable = $features)]
        pub unsafe fn advance_keyed(
            feed: &KeyedFeed<'_>,
            part: &Part,
            state: &mut [f32],
            out: &Disjoint<'_>,
        ) {
            let mut at = 0;
            while at < part.columns.len() {
                let whole = part.columns.len() - at >= 16 * AT_ONCE;
                // SAFETY: guaranteed by the caller.
                unsafe {
                    match (whole, feed.correction.is_some()) {
                        (true, true) => keyed::<AT_ONCE, true>(feed, part, at, state, out),
                        (true, false) => keyed::<AT_ONCE, false>(feed, part, at, state, out),
                        (false, true) => keyed::<1, true>(feed, part, at, state, out),
                        (false, false) => keyed::<1, false>(feed, part, at, state, out),
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
        unsafe fn keyed<const N: usize, const CORRECTS: bool>(
            feed: &KeyedFeed<'_>,
            part: &Part,
            at: usize,
            state: &mut [f32],
            out: &Disjoint<'_>,
        ) {
            let Shape { heads, key_dim, value_dim: dim } = feed.shape;
            let (Part { columns, rows, .. }, head) = (part, part.head);
            let stride = columns.len();
            assert!(state.len() == key_dim * stride && at + 16 * N <= stride);
            let first = columns.start + at;
            let filled = (dim - first).min(16 * N);
            let state = state.as_mut_ptr();
            for row in rows.clone() {
                let (key, query) = (feed.keys.at(row, head), feed.queries.at(row, head));
                let decay = feed.decays.at(row, head);
                let none = [key; 2];
                let [probe, back] =
                    feed.correction.map_or(none, |both| both.map(|vectors| vectors.at(row, head)));
                for vector in [key, query, decay, probe, back] {
                    assert!(vector.len() == key_dim);
                }
                let values = read::<N>(&feed.values.at(row, head)[first..first + filled]);
                let mut held = [[zero(); N]; 2];
                if CORRECTS {
                    for i in 0..key_dim {
                        let p = splat(probe[i]);
                        for n in 0..N {
                            // SAFETY: sixteen elements of a row of the state, by the assertion.
                            let s = unsafe { load(&*state.add(i * stride + at + 16 * n).cast()) };
                            held[i % 2][n] = add_product(held[i % 2][n], p, s);
                        }
                    }
                    for n in 0..N {
                        held[0][n] = add_product(held[0][n], held[1][n], splat(1.0));
                    }
                }
                let mut mixed = [[zero(); N]; 2];
                for i in 0..key_dim {
                    let (k, q, g) = (splat(key[i]), splat(query[i]), splat(decay[i]));
                    for n in 0..N {
                        // SAFETY: sixteen elements of a row of the state, by the assertion.
                        unsafe {
                            let place = state.add(i * stride + at + 16 * n).cast();
                            let old = load(&*place);
                            let mut new = add_product(product(k, values[n]), g, old);
                            if CORRECTS {
                                new = add_product(new, splat(back[i]), held[0][n]);
                            }
                            store(&mut *place, new);
                            let read = if feed.before { old } else { new };
                            mixed[i % 2][n] = add_product(mixed[i % 2][n], q, read);
                        }
                    }
                }
                let start = (row * heads + head) * dim + first;
                // SAFETY: guaranteed by the caller.
                let out = unsafe { out.slice(start..start + filled) };
                let skip = feed.skips.map(|skips| skips[row * heads + head]);
                write(mixed, values, skip, out);
            }
        }

        /// Writes the sums of two halves, and `skip` times the values.
        #[target_feature(enable = $features)]
        #[inline]
        fn write<const N: usize>(
            mixed: [[Lanes; N]; 2],
            values: [Lanes; N],
            skip: Option<f32>,
            out: &mut [f32],
        ) {
            for (n, out) in out.chunks_mut(16).enumerate() {
                let mut sum = add_product(mixed[0][n], mixed[1][n], splat(1.0));
                if let Some(skip) = skip {
                    sum = add_product(sum, splat(skip), values[n]);
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
