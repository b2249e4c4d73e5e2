//! Products of stored levels with 8-bit activations, by rows and by panels.

/// Defines the module `levels` of an instruction set from its `operations`, `decode` and `tiles`.
macro_rules! levels {
    ($features:literal) => {
        /// Products of stored levels with activations.
        mod levels {
            use super::decode::*;
            use super::operations::*;
            use super::tiles::{QUADS, arrange, integers, position};
            use crate::kernels::activations::{Part, Tile, group_of};
            use crate::kernels::blocks::{
                BLOCK, BLOCKS, Factors, Form, GROUP, Group, form, group_bytes, has_mins, is_wide,
                offset, sub_of, unpack,
            };
            use crate::kernels::panel::{PANEL_ROWS, Panel};
            use crate::kernels::product::runs::Runs;
            use crate::kernels::vectors::{each_lane, for_type};
            use tealight_bundle::gguf::DType;

            // Loops, not closures given to `array::map`: that is not compiled for the instruction set, so what it is
            // given would be called, not inlined.

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
                for i in 0..4 {
                    let w = runs.run(i, out[0][i].len());
                    let out = out.each_mut().map(|out| &mut *out[i]);
                    for_type!(dtype, D => rows_of::<D, T>(dtype, w, x, out), rows_of_any(dtype, w, x, out));
                }
            }

            #[target_feature(enable = $features)]
            fn rows_of<D: Decode, const T: usize>(
                dtype: DType,
                w: &[u8],
                x: [&[Part]; T],
                mut out: [&mut [f32]; T],
            ) {
                let count = out[0].len();
                let row_bytes = w.len() / count.max(1);
                let size = group_bytes(dtype);
                for first in (0..count).step_by(LANES) {
                    let rows = pointers(w, row_bytes, first, count);
                    let mut sums = [zero(); T];
                    for (group, at) in (0..row_bytes).step_by(size).enumerate() {
                        let blocks = blocks_of(dtype, size.min(row_bytes - at));
                        let mut own = rows;
                        for row in &mut own {
                            *row = row.wrapping_add(at);
                        }
                        let parts = group_of(&x, group);
                        // SAFETY: each row holds `blocks` × 32 columns from `at` on.
                        unsafe { add_group::<D, T>(dtype, own, blocks, parts, &mut sums) };
                    }
                    put(sums, first, &mut out);
                }
            }

            /// As [`rows_of`] for any type: rows are unpacked to memory first.
            #[target_feature(enable = $features)]
            fn rows_of_any<const T: usize>(
                dtype: DType,
                w: &[u8],
                x: [&[Part]; T],
                mut out: [&mut [f32]; T],
            ) {
                let count = out[0].len();
                let row_bytes = w.len() / count.max(1);
                let size = group_bytes(dtype);
                let mut groups = [Group::ZERO; LANES];
                for first in (0..count).step_by(LANES) {
                    let mut sums = [zero(); T];
                    for (index, at) in (0..row_bytes).step_by(size).enumerate() {
                        let len = size.min(row_bytes - at);
                        for (i, group) in groups.iter_mut().enumerate() {
                            let row = (first + i).min(count - 1) * row_bytes;
                            unpack(dtype, &w[row + at..][..len], group);
                        }
                        let rows = pointers_of(&groups);
                        let (blocks, parts) = (blocks_of(dtype, len), group_of(&x, index));
                        // SAFETY: the pointers are those of groups, which `Unpacked` reads.
                        unsafe {
                            if sub_of(dtype) == 32 {
                                add_group::<Unpacked<32>, T>(dtype, rows, blocks, parts, &mut sums);
                            } else {
                                add_group::<Unpacked<16>, T>(dtype, rows, blocks, parts, &mut sums);
                            }
                        }
                    }
                    put(sums, first, &mut out);
                }
            }

            /// The beginnings of four rows; a partial tile repeats the last one, and the extra results are dropped.
            #[inline]
            fn pointers(
                w: &[u8],
                row_bytes: usize,
                first: usize,
                count: usize,
            ) -> [*const u8; LANES] {
                let mut rows = [w.as_ptr(); LANES];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = row.wrapping_add((first + i).min(count - 1) * row_bytes);
                }
                rows
            }

            #[inline]
            fn pointers_of(groups: &[Group; LANES]) -> [*const u8; LANES] {
                let mut rows = [std::ptr::null(); LANES];
                for (row, group) in rows.iter_mut().zip(groups) {
                    *row = std::ptr::from_ref(group).cast();
                }
                rows
            }

            /// Blocks of 32 columns in some bytes of a type.
            fn blocks_of(dtype: DType, bytes: usize) -> usize {
                bytes / dtype.block_bytes() * dtype.block_elements() / BLOCK
            }

            /// What is still to be subtracted from the levels of a decoder.
            fn offset_of<D: Decode>(dtype: DType) -> i32 {
                if D::SIGNED { 0 } else { offset(dtype) }
            }

            /// Writes the results of the rows from `first` on, as many as there are.
            #[target_feature(enable = $features)]
            #[inline]
            fn put<const T: usize>(sums: [Floats; T], first: usize, out: &mut [&mut [f32]; T]) {
                for t in 0..T {
                    let out = &mut out[t][first..];
                    let mut all = [0.0; LANES];
                    store(&mut all, sums[t]);
                    let count = out.len().min(LANES);
                    out[..count].copy_from_slice(&all[..count]);
                }
            }

            /// Adds one group, `blocks` × 32 columns, of four rows to their sums with each token, one row per lane.
            ///
            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn add_group<D: Decode, const T: usize>(
                dtype: DType,
                rows: [*const u8; LANES],
                blocks: usize,
                x: [&Part; T],
                sums: &mut [Floats; T],
            ) {
                // SAFETY: guaranteed by the caller.
                unsafe {
                    if form(dtype) == Form::Super {
                        add_super_blocks::<D, T>(dtype, rows, x, sums);
                    } else {
                        add_blocks::<D, T>(dtype, rows, blocks, x, sums);
                    }
                }
            }

            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn add_super_blocks<D: Decode, const T: usize>(
                dtype: DType,
                rows: [*const u8; LANES],
                x: [&Part; T],
                sums: &mut [Floats; T],
            ) {
                let (mut totals, mut minima) =
                    ([[no_integers(); LANES]; T], [[no_integers(); LANES]; T]);
                let (offset, mins) = (offset_of::<D>(dtype), has_mins(dtype));
                for i in 0..LANES {
                    // SAFETY: guaranteed by the caller.
                    let (scales, own_mins) = unsafe { (D::scales(rows[i]), D::mins(rows[i])) };
                    // Scale · multiple of each block of each half: (token, half, four blocks).
                    let mut scaled = [[[no_integers(); 2]; 2]; T];
                    for t in 0..T {
                        let mut by_offset = no_integers();
                        for half in 0..2 {
                            let multiples = load_words(&x[t].multiples[half]);
                            let words = times_words(scales[half], multiples);
                            let [first, second] = widen(words);
                            scaled[t][half] = [kept(first), kept(second)];
                            if offset != 0 {
                                by_offset =
                                    add_words(by_offset, words, load_words(&x[t].sums[half]));
                            }
                            if mins {
                                let weighted = load_words(&x[t].weighted[half]);
                                minima[t][i] = add_words(minima[t][i], own_mins[half], weighted);
                            }
                        }
                        if offset != 0 {
                            totals[t][i] = multiply_add(totals[t][i], by_offset, -offset);
                        }
                    }
                    for four in 0..2 {
                        each_lane!(LANE, {
                            let block = 4 * four + LANE as usize;
                            // SAFETY: guaranteed by the caller.
                            let levels = unsafe { D::levels(rows[i], block) };
                            for t in 0..T {
                                let quants = &x[t].quants.as_chunks::<BLOCK>().0[block];
                                let (first, second) = halves_of(quants);
                                let product = dot(no_integers(), levels[0], first, D::SIGNED);
                                let by = scaled[t];
                                totals[t][i] = if D::SUB == 32 {
                                    let product = dot(product, levels[1], second, D::SIGNED);
                                    multiply_add_lane::<LANE>(totals[t][i], product, by[0][four])
                                } else {
                                    let total = multiply_add_lane::<LANE>(
                                        totals[t][i],
                                        product,
                                        by[0][four],
                                    );
                                    let product = dot(no_integers(), levels[1], second, D::SIGNED);
                                    multiply_add_lane::<LANE>(total, product, by[1][four])
                                };
                            }
                        });
                    }
                }
                // SAFETY: guaranteed by the caller.
                let [d, dmin] = unsafe { D::units(rows) };
                for t in 0..T {
                    let total = to_floats(sum_each(totals[t]));
                    sums[t] = add_product(sums[t], total, times(d, splat(x[t].scale)));
                    if mins {
                        let total = to_floats(sum_each(minima[t]));
                        let scale = times(dmin, splat(-x[t].weighted_scale));
                        sums[t] = add_product(sums[t], total, scale);
                    }
                }
            }

            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn add_blocks<D: Decode, const T: usize>(
                dtype: DType,
                rows: [*const u8; LANES],
                blocks: usize,
                x: [&Part; T],
                sums: &mut [Floats; T],
            ) {
                let (offset, mins) = (offset_of::<D>(dtype), has_mins(dtype));
                for block in 0..blocks {
                    // SAFETY: guaranteed by the caller.
                    let [scales, minima] = unsafe { D::of_block(rows, block) };
                    let mut products = [[no_integers(); LANES]; T];
                    for i in 0..LANES {
                        // SAFETY: guaranteed by the caller.
                        let levels = unsafe { D::levels(rows[i], block) };
                        for t in 0..T {
                            let quants = &x[t].quants.as_chunks::<BLOCK>().0[block];
                            let (first, second) = halves_of(quants);
                            let product = dot(no_integers(), levels[0], first, D::SIGNED);
                            products[t][i] = dot(product, levels[1], second, D::SIGNED);
                        }
                    }
                    for t in 0..T {
                        let part = x[t];
                        let mut total = sum_each(products[t]);
                        if offset != 0 {
                            let sum =
                                i32::from(part.sums[0][block]) + i32::from(part.sums[1][block]);
                            total = minus(total, splat_integers(offset * sum));
                        }
                        let scale = times(scales, splat(part.scales[block]));
                        sums[t] = add_product(sums[t], to_floats(total), scale);
                        if mins {
                            sums[t] = add_product(sums[t], minima, splat(part.totals[block]));
                        }
                    }
                }
            }

            /// The halves of a block of activations.
            #[target_feature(enable = $features)]
            #[inline]
            fn halves_of(quants: &[i8; BLOCK]) -> (Bytes, Bytes) {
                let halves = quants.as_chunks().0;
                (load_signed(&halves[0]), load_signed(&halves[1]))
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
                for_type!(dtype, D => unpack_panel_of::<D>(dtype, row, panel),
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
                    let rows = rows.map(<[u8]>::as_ptr);
                    for (group, at) in (0..len).step_by(size).enumerate() {
                        let blocks = blocks_of(dtype, size.min(len - at));
                        let mut own = rows;
                        for row in &mut own {
                            *row = row.wrapping_add(at);
                        }
                        // SAFETY: each row holds `blocks` × 32 columns from `at` on.
                        unsafe { put_group::<D>(dtype, own, blocks, group, quad, panel) };
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
                        let (rows, blocks) = (pointers_of(&groups), blocks_of(dtype, len));
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
                if form(dtype) == Form::Super {
                    let mut factors = Factors::ZERO;
                    for (i, &row) in rows.iter().enumerate() {
                        // SAFETY: guaranteed by the caller.
                        unsafe { D::factors(row, &mut factors) };
                        put_factors::<D>(&factors, group, LANES * quad + i, panel);
                    }
                }
                for block in 0..blocks {
                    if form(dtype) == Form::Blocks {
                        // SAFETY: guaranteed by the caller.
                        let [scales, minima] = unsafe { D::of_block(rows, block) };
                        let [to_scales, to_minima] =
                            panel.factors_mut(BLOCKS * group + block, LANES * quad);
                        store(to_scales, scales);
                        store(to_minima, minima);
                    }
                    let mut levels = [[splat_bytes(0); LANES]; 2];
                    for i in 0..LANES {
                        // SAFETY: guaranteed by the caller.
                        [levels[0][i], levels[1][i]] = unsafe { D::levels(rows[i], block) };
                    }
                    for (half, levels) in levels.into_iter().enumerate() {
                        let column = GROUP * group + BLOCK * block + 16 * half;
                        for (k, levels) in arrange(levels).into_iter().enumerate() {
                            store_bytes(panel.levels_mut(16 * position(column, quad, k)), levels);
                        }
                    }
                }
            }

            /// Writes what scales one row of a super-block.
            fn put_factors<D: Decode>(
                factors: &Factors,
                group: usize,
                row: usize,
                panel: &mut Panel,
            ) {
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
                let (mins, supers) = (has_mins(dtype), form(dtype) == Form::Super);
                for quad in (0..PANEL_ROWS / LANES).step_by(QUADS) {
                    let mut sums = [[zero(); QUADS]; T];
                    for t in 0..T {
                        for r in 0..QUADS {
                            sums[t][r] = load_floats(&out[t].as_chunks().0[quad + r]);
                        }
                    }
                    for group in 0..columns.div_ceil(GROUP) {
                        let parts = group_of(&x.parts, group);
                        let mut totals = [[no_integers(); QUADS]; T];
                        let blocks = BLOCKS.min(columns / BLOCK - BLOCKS * group);
                        for block in 0..blocks {
                            let column = GROUP * group + BLOCK * block;
                            let quants = &x.quants()[T * column..][..T * BLOCK];
                            let integers = integers::<T, SUB, SIGNED>(panel, column, quad, quants);
                            // What the offset takes away: (half, token).
                            let mut by = [[no_integers(); T]; 2];
                            if offset != 0 {
                                for t in 0..T {
                                    let [first, second] = &parts[t].sums;
                                    let (first, second) =
                                        (i32::from(first[block]), i32::from(second[block]));
                                    if SUB == 32 {
                                        by[0][t] = splat_integers(offset * (first + second));
                                    } else {
                                        by[0][t] = splat_integers(offset * first);
                                        by[1][t] = splat_integers(offset * second);
                                    }
                                }
                            }
                            for r in 0..QUADS {
                                let row = LANES * (quad + r);
                                if supers {
                                    for half in 0..BLOCK / SUB {
                                        let scales =
                                            load_scales(panel.scales(column / SUB + half, row));
                                        for t in 0..T {
                                            let mut integers = integers[t][r][half];
                                            if offset != 0 {
                                                integers = minus(integers, by[half][t]);
                                            }
                                            let multiple = parts[t].multiples[0][block];
                                            totals[t][r] = add_scaled(
                                                totals[t][r],
                                                integers,
                                                scales,
                                                multiple,
                                            );
                                        }
                                    }
                                    continue;
                                }
                                let [d, min] = panel.factors(BLOCKS * group + block, row);
                                let (d, min) = (load_floats(d), load_floats(min));
                                for t in 0..T {
                                    let mut integers = integers[t][r][0];
                                    if offset != 0 {
                                        integers = minus(integers, by[0][t]);
                                    }
                                    let scale = times(d, splat(parts[t].scales[block]));
                                    sums[t][r] =
                                        add_product(sums[t][r], to_floats(integers), scale);
                                    if mins {
                                        let total = splat(parts[t].totals[block]);
                                        sums[t][r] = add_product(sums[t][r], min, total);
                                    }
                                }
                            }
                        }
                        if !supers {
                            continue;
                        }
                        for r in 0..QUADS {
                            let row = LANES * (quad + r);
                            let [d, dmin] = panel.factors(group, row);
                            let (d, dmin) = (load_floats(d), load_floats(dmin));
                            let mut minima = [no_integers(); T];
                            if mins {
                                add_minima::<T, SUB>(panel, parts, group, row, &mut minima);
                            }
                            for t in 0..T {
                                let scale = times(d, splat(parts[t].scale));
                                let total = to_floats(totals[t][r]);
                                sums[t][r] = add_product(sums[t][r], total, scale);
                                if mins {
                                    let scale = times(dmin, splat(-parts[t].weighted_scale));
                                    let total = to_floats(minima[t]);
                                    sums[t][r] = add_product(sums[t][r], total, scale);
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

            /// Adds Σ min · weighted sum over a group of four rows, for each token.
            #[target_feature(enable = $features)]
            #[inline]
            fn add_minima<const T: usize, const SUB: usize>(
                panel: &Panel,
                parts: [&Part; T],
                group: usize,
                row: usize,
                to: &mut [Integers; T],
            ) {
                for i in 0..GROUP / SUB / 2 {
                    let mins = load_pairs(panel.mins(GROUP / SUB / 2 * group + i, row));
                    for t in 0..T {
                        let [first, second] = &parts[t].weighted;
                        let weighted = if SUB == 32 {
                            [first[2 * i] + second[2 * i], first[2 * i + 1] + second[2 * i + 1]]
                        } else {
                            [first[i], second[i]]
                        };
                        to[t] = add_pairs(to[t], mins, weighted);
                    }
                }
            }
        }
    };
}

pub(in crate::kernels) use levels;
