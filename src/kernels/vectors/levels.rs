//! Products of stored levels with 8-bit activations, by rows and by panels.

/// Defines the module `levels` of an instruction set from its `operations`, `decode` and `tiles`.
macro_rules! levels {
    ($features:literal) => {
        /// Products of stored levels with activations.
        mod levels {
            use super::decode::*;
            use super::operations::*;
            use super::tiles::{QUADS, arrange, integers, position};
            use crate::kernels::activations::{Part, Tile};
            use crate::kernels::blocks::{
                BLOCK, BLOCKS, Factors, Form, GROUP, Group, Halves, form, group_bytes, has_mins,
                is_wide, offset, sub_of, unpack,
            };
            use crate::kernels::panel::{PANEL_ROWS, Panel};
            use crate::kernels::product::runs::Runs;
            use crate::kernels::vectors::for_type;
            use tealight_bundle::gguf::DType;

            /// Dot products of stored rows with `T` rows of activations.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn rows<const T: usize>(
                dtype: DType,
                runs: Runs<'_>,
                x: [&[Part]; T],
                out: &mut [[&mut [f32]; 4]; T],
            ) {
                for (x, out) in x.into_iter().zip(out) {
                    for (i, out) in out.iter_mut().enumerate() {
                        let w = runs.run(i, out.len());
                        for_type!(dtype, rows_of(dtype, w, x, out), rows_of_any(dtype, w, x, out));
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn rows_of<D: Decode>(dtype: DType, w: &[u8], x: &[Part], out: &mut [f32]) {
                let row_bytes = w.len() / out.len().max(1);
                let size = group_bytes(dtype);
                for (tile, out) in out.chunks_mut(LANES).enumerate() {
                    let w = &w[tile * LANES * row_bytes..];
                    // A partial tile repeats its last row; the extra results are dropped.
                    let rows: [&[u8]; LANES] = std::array::from_fn(|i| {
                        &w[i.min(out.len() - 1) * row_bytes..][..row_bytes]
                    });
                    let mut sums = zero();
                    for (at, x) in (0..row_bytes).step_by(size).zip(x) {
                        let blocks = blocks_of(dtype, size.min(row_bytes - at));
                        let rows = rows.map(|row| row[at..].as_ptr());
                        // SAFETY: each row holds `blocks` × 32 columns from `at` on.
                        sums = unsafe { add_group::<D>(dtype, rows, blocks, x, sums) };
                    }
                    put(sums, out);
                }
            }

            /// As [`rows_of`] for any type: rows are unpacked to memory first.
            #[target_feature(enable = $features)]
            fn rows_of_any(dtype: DType, w: &[u8], x: &[Part], out: &mut [f32]) {
                let row_bytes = w.len() / out.len().max(1);
                let size = group_bytes(dtype);
                let mut groups = [Group::ZERO; LANES];
                for (tile, out) in out.chunks_mut(LANES).enumerate() {
                    let mut sums = zero();
                    for (at, x) in (0..row_bytes).step_by(size).zip(x) {
                        let len = size.min(row_bytes - at);
                        for (i, group) in groups.iter_mut().enumerate() {
                            let row = (tile * LANES + i.min(out.len() - 1)) * row_bytes;
                            unpack(dtype, &w[row + at..][..len], group);
                        }
                        let rows = groups.each_ref().map(|group| std::ptr::from_ref(group).cast());
                        let blocks = blocks_of(dtype, len);
                        // SAFETY: the pointers are those of groups, which `Unpacked` reads.
                        sums = unsafe {
                            if sub_of(dtype) == 32 {
                                add_group::<Unpacked<32>>(dtype, rows, blocks, x, sums)
                            } else {
                                add_group::<Unpacked<16>>(dtype, rows, blocks, x, sums)
                            }
                        };
                    }
                    put(sums, out);
                }
            }

            /// Blocks of 32 columns in some bytes of a type.
            fn blocks_of(dtype: DType, bytes: usize) -> usize {
                bytes / dtype.block_bytes() * dtype.block_elements() / BLOCK
            }

            /// What is still to be subtracted from the levels of a decoder.
            fn offset_of<D: Decode>(dtype: DType) -> i32 {
                if D::SIGNED { 0 } else { offset(dtype) }
            }

            /// Writes as many results as `out` holds.
            #[target_feature(enable = $features)]
            #[inline]
            fn put(sums: Floats, out: &mut [f32]) {
                let mut all = [0.0; LANES];
                store(&mut all, sums);
                out.copy_from_slice(&all[..out.len()]);
            }

            /// Adds one group, `blocks` × 32 columns, of four rows to their sums, one row per lane.
            ///
            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn add_group<D: Decode>(
                dtype: DType,
                rows: [*const u8; LANES],
                blocks: usize,
                x: &Part,
                sums: Floats,
            ) -> Floats {
                // SAFETY: guaranteed by the caller.
                unsafe {
                    if form(dtype) == Form::Super {
                        add_super_blocks::<D>(dtype, rows, x, sums)
                    } else {
                        add_blocks::<D>(dtype, rows, blocks, x, sums)
                    }
                }
            }

            /// Σ of the products of two sets of numbers.
            #[target_feature(enable = $features)]
            #[inline]
            fn weighed(a: &Halves, b: &Halves) -> i32 {
                let (a, b) = (a.as_flattened(), b.as_flattened());
                a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
            }

            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn add_super_blocks<D: Decode>(
                dtype: DType,
                rows: [*const u8; LANES],
                x: &Part,
                mut sums: Floats,
            ) -> Floats {
                let mut totals = [no_integers(); LANES];
                let (mut offsets, mut minima) = ([0; LANES], [0; LANES]);
                let (mut d, mut dmin) = ([0.0; LANES], [0.0; LANES]);
                let mut factors = Factors::ZERO;
                for i in 0..LANES {
                    // SAFETY: guaranteed by the caller.
                    unsafe { D::factors(rows[i], BLOCKS, &mut factors) };
                    let mut scaled = factors.scales;
                    for half in 0..2 {
                        for block in 0..BLOCKS {
                            scaled[half][block] *= x.multiples[half][block];
                        }
                    }
                    for (block, quants) in x.quants.as_chunks::<BLOCK>().0.iter().enumerate() {
                        // SAFETY: guaranteed by the caller.
                        let levels = unsafe { D::levels(rows[i], block) };
                        let quants = quants.as_chunks().0;
                        let product = |sum, half: usize| {
                            dot(sum, levels[half], load_signed(&quants[half]), D::SIGNED)
                        };
                        let first = product(no_integers(), 0);
                        let total = totals[i];
                        totals[i] = if D::SUB == 32 {
                            multiply_add(total, product(first, 1), i32::from(scaled[0][block]))
                        } else {
                            let total = multiply_add(total, first, i32::from(scaled[0][block]));
                            let second = product(no_integers(), 1);
                            multiply_add(total, second, i32::from(scaled[1][block]))
                        };
                    }
                    offsets[i] = offset_of::<D>(dtype).wrapping_mul(weighed(&scaled, &x.sums));
                    minima[i] = weighed(&factors.mins, &x.weighted);
                    d[i] = factors.d * x.scale;
                    dmin[i] = -(factors.dmin * x.weighted_scale);
                }
                let totals = minus(sum_each(totals), of_array(offsets));
                sums = add_product(sums, to_floats(totals), load_floats(&d));
                if has_mins(dtype) {
                    sums = add_product(sums, to_floats(of_array(minima)), load_floats(&dmin));
                }
                sums
            }

            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn add_blocks<D: Decode>(
                dtype: DType,
                rows: [*const u8; LANES],
                blocks: usize,
                x: &Part,
                mut sums: Floats,
            ) -> Floats {
                let mut factors = [const { Factors::ZERO }; LANES];
                for i in 0..LANES {
                    // SAFETY: guaranteed by the caller.
                    unsafe { D::factors(rows[i], blocks, &mut factors[i]) };
                }
                for block in 0..blocks {
                    let quants = x.quants[BLOCK * block..][..BLOCK].as_chunks().0;
                    let quants = [load_signed(&quants[0]), load_signed(&quants[1])];
                    let mut products = [no_integers(); LANES];
                    let (mut scales, mut minima) = ([0.0; LANES], [0.0; LANES]);
                    for i in 0..LANES {
                        // SAFETY: guaranteed by the caller.
                        let levels = unsafe { D::levels(rows[i], block) };
                        let first = dot(no_integers(), levels[0], quants[0], D::SIGNED);
                        products[i] = dot(first, levels[1], quants[1], D::SIGNED);
                        let (d, min) = factors[i].blocks[block];
                        (scales[i], minima[i]) = (d * x.scales[block], min);
                    }
                    let sum = i32::from(x.sums[0][block]) + i32::from(x.sums[1][block]);
                    let offset = of_array([offset_of::<D>(dtype) * sum; LANES]);
                    let totals = to_floats(minus(sum_each(products), offset));
                    sums = add_product(sums, totals, load_floats(&scales));
                    if has_mins(dtype) {
                        sums = add_product(sums, load_floats(&minima), splat(x.totals[block]));
                    }
                }
                sums
            }

            /// Unpacks some columns of rows `row(0)` to `row(PANEL_ROWS - 1)` into a panel.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn unpack_panel<'a>(
                dtype: DType,
                row: &dyn Fn(usize) -> &'a [u8],
                panel: &mut Panel,
            ) {
                for_type!(
                    dtype,
                    unpack_panel_of(dtype, row, panel),
                    unpack_panel_of_any(dtype, row, panel)
                );
            }

            #[target_feature(enable = $features)]
            fn unpack_panel_of<'a, D: Decode>(
                dtype: DType,
                row: &dyn Fn(usize) -> &'a [u8],
                panel: &mut Panel,
            ) {
                let size = group_bytes(dtype);
                for quad in 0..PANEL_ROWS / LANES {
                    let rows: [&[u8]; LANES] = std::array::from_fn(|i| row(LANES * quad + i));
                    let len = rows[0].len();
                    assert!(rows.iter().all(|row| row.len() == len));
                    for (group, at) in (0..len).step_by(size).enumerate() {
                        let blocks = blocks_of(dtype, size.min(len - at));
                        let rows = rows.map(|row| row[at..].as_ptr());
                        // SAFETY: each row holds `blocks` × 32 columns from `at` on.
                        unsafe { put_group::<D>(dtype, rows, blocks, group, quad, panel) };
                    }
                }
            }

            /// As [`unpack_panel_of`] for any type: rows are unpacked to memory first.
            #[target_feature(enable = $features)]
            fn unpack_panel_of_any<'a>(
                dtype: DType,
                row: &dyn Fn(usize) -> &'a [u8],
                panel: &mut Panel,
            ) {
                let size = group_bytes(dtype);
                let mut groups = [Group::ZERO; LANES];
                for quad in 0..PANEL_ROWS / LANES {
                    let rows: [&[u8]; LANES] = std::array::from_fn(|i| row(LANES * quad + i));
                    let len = rows[0].len();
                    for (group, at) in (0..len).step_by(size).enumerate() {
                        let len = size.min(len - at);
                        for (row, group) in rows.iter().zip(&mut groups) {
                            unpack(dtype, &row[at..][..len], group);
                        }
                        let rows = groups.each_ref().map(|group| std::ptr::from_ref(group).cast());
                        let blocks = blocks_of(dtype, len);
                        // SAFETY: the pointers are those of groups, which `Unpacked` reads.
                        unsafe {
                            if sub_of(dtype) == 32 {
                                put_group::<Unpacked<32>>(dtype, rows, blocks, group, quad, panel);
                            } else {
                                put_group::<Unpacked<16>>(dtype, rows, blocks, group, quad, panel);
                            }
                        }
                    }
                }
            }

            /// Writes `blocks` × 32 columns of four rows to a group of a panel.
            ///
            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn put_group<D: Decode>(
                dtype: DType,
                rows: [*const u8; LANES],
                blocks: usize,
                group: usize,
                quad: usize,
                panel: &mut Panel,
            ) {
                let mut factors = Factors::ZERO;
                for (i, &row) in rows.iter().enumerate() {
                    // SAFETY: guaranteed by the caller.
                    unsafe { D::factors(row, blocks, &mut factors) };
                    put_factors::<D>(dtype, &factors, blocks, group, LANES * quad + i, panel);
                }
                for block in 0..blocks {
                    // SAFETY: guaranteed by the caller.
                    let levels = rows.map(|row| unsafe { D::levels(row, block) });
                    for half in 0..2 {
                        let column = GROUP * group + BLOCK * block + 16 * half;
                        let arranged = arrange(levels.map(|levels| levels[half]));
                        for (k, levels) in arranged.into_iter().enumerate() {
                            store_bytes(panel.levels_mut(16 * position(column, quad, k)), levels);
                        }
                    }
                }
            }

            /// Writes what scales one row of a group.
            fn put_factors<D: Decode>(
                dtype: DType,
                factors: &Factors,
                blocks: usize,
                group: usize,
                row: usize,
                panel: &mut Panel,
            ) {
                if form(dtype) == Form::Blocks {
                    for (block, (d, min)) in factors.blocks.iter().enumerate().take(blocks) {
                        let [[to_d], [to_min]] =
                            panel.factors_mut::<1>(BLOCKS * group + block, row);
                        (*to_d, *to_min) = (*d, *min);
                    }
                    return;
                }
                let [[d], [dmin]] = panel.factors_mut::<1>(group, row);
                (*d, *dmin) = (factors.d, factors.dmin);
                for block in 0..BLOCKS {
                    for half in 0..BLOCK / D::SUB {
                        let index = (BLOCKS * group + block) * (BLOCK / D::SUB) + half;
                        panel.scales_mut::<1>(index, row)[0] = [factors.scales[half][block]; 2];
                    }
                    if D::SUB == 16 {
                        panel.mins_mut::<1>(BLOCKS * group + block, row)[0] =
                            [factors.mins[0][block], factors.mins[1][block]];
                    } else {
                        let two = (BLOCKS * group + block) / 2;
                        panel.mins_mut::<1>(two, row)[0][block % 2] = factors.mins[0][block];
                    }
                }
            }

            /// Adds the products of a panel's `columns` with `T` rows of activations to `out[t][row]`.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn multiply<const T: usize>(
                dtype: DType,
                panel: &Panel,
                columns: usize,
                x: Tile<'_, T>,
                out: &mut [[f32; PANEL_ROWS]; T],
            ) {
                match (sub_of(dtype), is_wide(dtype)) {
                    (32, true) => multiply_levels::<T, 32, true>(dtype, panel, columns, x, out),
                    (32, false) => multiply_levels::<T, 32, false>(dtype, panel, columns, x, out),
                    _ => multiply_levels::<T, 16, false>(dtype, panel, columns, x, out),
                }
            }

            #[target_feature(enable = $features)]
            fn multiply_levels<const T: usize, const SUB: usize, const SIGNED: bool>(
                dtype: DType,
                panel: &Panel,
                columns: usize,
                x: Tile<'_, T>,
                out: &mut [[f32; PANEL_ROWS]; T],
            ) {
                let offset = if SIGNED { 0 } else { offset(dtype) };
                for quad in (0..PANEL_ROWS / LANES).step_by(QUADS) {
                    let mut sums = [[zero(); QUADS]; T];
                    for t in 0..T {
                        for r in 0..QUADS {
                            sums[t][r] = load_floats(&out[t].as_chunks().0[quad + r]);
                        }
                    }
                    for (group, quants) in x.woven().as_chunks::<BLOCKS>().0.iter().enumerate() {
                        let parts: [&Part; T] = std::array::from_fn(|t| &x.parts[t][group]);
                        let mut totals = [[no_integers(); QUADS]; T];
                        let blocks = BLOCKS.min(columns / BLOCK - BLOCKS * group);
                        for (block, quants) in quants.iter().enumerate().take(blocks) {
                            let column = GROUP * group + BLOCK * block;
                            let quants = quants.each_ref();
                            let integers = integers::<T, SUB, SIGNED>(panel, column, quad, quants);
                            for t in 0..T {
                                let sum = parts[t].sums.map(|sums| i32::from(sums[block]));
                                let by = if SUB == 32 { [sum[0] + sum[1]; 2] } else { sum };
                                let by = by.map(|by| of_array([offset * by; LANES]));
                                let multiple = parts[t].multiples[0][block];
                                for r in 0..QUADS {
                                    let row = LANES * (quad + r);
                                    if form(dtype) == Form::Super {
                                        for half in 0..BLOCK / SUB {
                                            let index = column / SUB + half;
                                            totals[t][r] = add_scaled(
                                                totals[t][r],
                                                minus(integers[t][r][half], by[half]),
                                                panel.scales(index, row),
                                                multiple,
                                            );
                                        }
                                        continue;
                                    }
                                    let [d, min] = panel.factors(BLOCKS * group + block, row);
                                    let scale =
                                        times(load_floats(d), splat(parts[t].scales[block]));
                                    let integers = to_floats(minus(integers[t][r][0], by[0]));
                                    sums[t][r] = add_product(sums[t][r], integers, scale);
                                    if has_mins(dtype) {
                                        let total = splat(parts[t].totals[block]);
                                        sums[t][r] =
                                            add_product(sums[t][r], load_floats(min), total);
                                    }
                                }
                            }
                        }
                        if form(dtype) == Form::Blocks {
                            continue;
                        }
                        for t in 0..T {
                            for r in 0..QUADS {
                                let row = LANES * (quad + r);
                                let [d, dmin] = panel.factors(group, row);
                                let scale = times(load_floats(d), splat(parts[t].scale));
                                let total = to_floats(totals[t][r]);
                                sums[t][r] = add_product(sums[t][r], total, scale);
                                if has_mins(dtype) {
                                    let total = minima::<SUB>(panel, parts[t], group, row);
                                    let unit = splat(-parts[t].weighted_scale);
                                    let scale = times(load_floats(dmin), unit);
                                    sums[t][r] = add_product(sums[t][r], to_floats(total), scale);
                                }
                            }
                        }
                    }
                    for (out, sums) in out.iter_mut().zip(sums) {
                        for r in 0..QUADS {
                            store(&mut out.as_chunks_mut().0[quad + r], sums[r]);
                        }
                    }
                }
            }

            /// Σ min · weighted sum over a group of four rows.
            #[target_feature(enable = $features)]
            #[inline]
            fn minima<const SUB: usize>(
                panel: &Panel,
                part: &Part,
                group: usize,
                row: usize,
            ) -> Integers {
                let both = |block: usize| part.weighted[0][block] + part.weighted[1][block];
                let mut total = no_integers();
                for i in 0..GROUP / SUB / 2 {
                    let weighted = if SUB == 32 {
                        [both(2 * i), both(2 * i + 1)]
                    } else {
                        [part.weighted[0][i], part.weighted[1][i]]
                    };
                    total =
                        add_pairs(total, panel.mins(GROUP / SUB / 2 * group + i, row), weighted);
                }
                total
            }
        }
    };
}

pub(in crate::kernels) use levels;
