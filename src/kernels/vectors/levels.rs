//! Products of stored levels with 8-bit activations, by rows and by panels.

/// Defines the module `levels` of an instruction set from its `operations`, `decode` and `tiles`.
macro_rules! levels {
    ($features:literal) => {
        /// Products of stored levels with activations.
        mod levels {
            use super::decode::*;
            use super::operations::*;
            use super::tiles::{QUADS, arrange, integers, position};
            use crate::kernels::activations::{BLOCK, Row, Tile};
            use crate::kernels::blocks::{GROUP, Group, group_bytes, is_wide, sub_of, unpack};
            use crate::kernels::panel::{PANEL_ROWS, Panel, Place};
            use crate::kernels::product::runs::Runs;
            use crate::kernels::vectors::for_type;
            use tealight_bundle::gguf::DType;

            /// Dot products of stored rows with one row of activations, summed in the order of [`multiply`], so that a
            /// token gets the same result alone and in a prompt.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn rows(
                dtype: DType,
                runs: Runs<'_>,
                x: Row<'_>,
                out: &mut [&mut [f32]; 4],
            ) {
                for (i, out) in out.iter_mut().enumerate() {
                    let w = runs.run(i, out.len());
                    for_type!(dtype, rows_of(w, x, out), rows_of_any(dtype, w, x, out));
                }
            }

            #[target_feature(enable = $features)]
            fn rows_of<D: Decode>(w: &[u8], x: Row<'_>, out: &mut [f32]) {
                let row_bytes = w.len() / out.len().max(1);
                let size = GROUP / D::COLUMNS * D::BYTES;
                let mut factors = Factors::zero();
                for (tile, out) in out.chunks_mut(LANES).enumerate() {
                    let w = &w[tile * LANES * row_bytes..];
                    // A partial tile repeats its last row; the extra results are dropped.
                    let rows: [&[u8]; LANES] = std::array::from_fn(|i| {
                        &w[i.min(out.len() - 1) * row_bytes..][..row_bytes]
                    });
                    let mut sums = zero();
                    for (index, at) in (0..row_bytes).step_by(size).enumerate() {
                        let blocks = size.min(row_bytes - at) / D::BYTES * D::COLUMNS / BLOCK;
                        let rows = rows.map(|row| row[at..].as_ptr());
                        let f = &mut factors;
                        // SAFETY: each row holds `blocks` × 32 columns from `at` on.
                        sums = unsafe { add_group::<D>(rows, blocks, x, index, f, sums) };
                    }
                    put(sums, out);
                }
            }

            /// As [`rows_of`] for any type: rows are unpacked to memory first.
            #[target_feature(enable = $features)]
            fn rows_of_any(dtype: DType, w: &[u8], x: Row<'_>, out: &mut [f32]) {
                let row_bytes = w.len() / out.len().max(1);
                let size = group_bytes(dtype);
                let mut groups = [Group::ZERO; LANES];
                let mut factors = Factors::zero();
                for (tile, out) in out.chunks_mut(LANES).enumerate() {
                    let mut sums = zero();
                    for (index, at) in (0..row_bytes).step_by(size).enumerate() {
                        let len = size.min(row_bytes - at);
                        let blocks = len / dtype.block_bytes() * dtype.block_elements() / BLOCK;
                        for (i, group) in groups.iter_mut().enumerate() {
                            let row = (tile * LANES + i.min(out.len() - 1)) * row_bytes;
                            unpack(dtype, &w[row + at..][..len], group);
                        }
                        let rows = groups.each_ref().map(|group| std::ptr::from_ref(group).cast());
                        // SAFETY: the pointers are those of groups, which `Unpacked` reads.
                        sums = unsafe {
                            if sub_of(dtype) == 32 {
                                add_group::<Unpacked<32>>(
                                    rows,
                                    blocks,
                                    x,
                                    index,
                                    &mut factors,
                                    sums,
                                )
                            } else {
                                add_group::<Unpacked<16>>(
                                    rows,
                                    blocks,
                                    x,
                                    index,
                                    &mut factors,
                                    sums,
                                )
                            }
                        };
                    }
                    put(sums, out);
                }
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
                rows: [*const u8; LANES],
                blocks: usize,
                x: Row<'_>,
                index: usize,
                factors: &mut Factors,
                mut sums: Floats,
            ) -> Floats {
                // SAFETY: guaranteed by the caller.
                unsafe { D::factors(rows, blocks, factors) };
                let quants: &[i8; GROUP] =
                    x.quants[GROUP * index..].first_chunk().expect("whole groups");
                for block in 0..blocks {
                    let quants = quants[BLOCK * block..][..BLOCK].as_chunks().0;
                    let quants = [load_signed(&quants[0]), load_signed(&quants[1])];
                    let mut products = [[no_integers(); LANES]; 2]; // (sub-blocks, rows)
                    for i in 0..LANES {
                        // SAFETY: guaranteed by the caller.
                        let levels = unsafe { D::levels(rows[i], block) };
                        for half in 0..2 {
                            let sum = &mut products[half * 16 / D::SUB][i];
                            *sum = dot(*sum, levels[half], quants[half], D::SIGNED);
                        }
                    }
                    let integers = products.map(|products| sum_each(products));
                    let x_block = GROUP / BLOCK * index + block;
                    let sub = block * BLOCK / D::SUB;
                    let scales = [factors.scales[sub], factors.scales[sub + 1 % (BLOCK / D::SUB)]];
                    let minima = [factors.minima[sub], factors.minima[sub + 1 % (BLOCK / D::SUB)]];
                    let scale = x.scales[x_block];
                    sums = if D::SUB == 32 {
                        let of_x = [x.sums32[x_block]; 2];
                        add_block::<32>(sums, integers, scales, minima, of_x, scale, D::SIGNED)
                    } else {
                        let of_x = [x.sums16[2 * x_block], x.sums16[2 * x_block + 1]];
                        add_block::<16>(sums, integers, scales, minima, of_x, scale, D::SIGNED)
                    };
                }
                sums
            }

            /// Adds a block of 32 columns to the sums of four rows, sub-block by sub-block: sum += (scale · integer +
            /// min · sum of activations) · scale of activations.
            #[target_feature(enable = $features)]
            #[inline]
            fn add_block<const SUB: usize>(
                mut sums: Floats,
                integers: [Integers; 2],
                scales: [Floats; 2],
                minima: [Floats; 2],
                sums_of_x: [f32; 2],
                scale_of_x: f32,
                signed: bool,
            ) -> Floats {
                for part in 0..BLOCK / SUB {
                    let integers = to_floats(integers[part]);
                    let term = if signed {
                        times(integers, scales[part])
                    } else {
                        let minima = times(minima[part], splat(sums_of_x[part]));
                        add_product(minima, integers, scales[part])
                    };
                    sums = add_product(sums, term, splat(scale_of_x));
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
                    unpack_panel_of(row, panel),
                    unpack_panel_of_any(dtype, row, panel)
                );
            }

            #[target_feature(enable = $features)]
            fn unpack_panel_of<'a, D: Decode>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
                let size = GROUP / D::COLUMNS * D::BYTES;
                for quad in 0..PANEL_ROWS / LANES {
                    let rows: [&[u8]; LANES] = std::array::from_fn(|i| row(LANES * quad + i));
                    let len = rows[0].len();
                    assert!(rows.iter().all(|row| row.len() == len));
                    for (index, at) in (0..len).step_by(size).enumerate() {
                        let blocks = size.min(len - at) / D::BYTES * D::COLUMNS / BLOCK;
                        let rows = rows.map(|row| row[at..].as_ptr());
                        // SAFETY: each row holds `blocks` × 32 columns from `at` on.
                        unsafe { put_group::<D>(rows, blocks, GROUP * index, quad, panel) };
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
                    for (index, at) in (0..len).step_by(size).enumerate() {
                        let len = size.min(len - at);
                        let blocks = len / dtype.block_bytes() * dtype.block_elements() / BLOCK;
                        for (row, group) in rows.iter().zip(&mut groups) {
                            unpack(dtype, &row[at..][..len], group);
                        }
                        let rows = groups.each_ref().map(|group| std::ptr::from_ref(group).cast());
                        // SAFETY: the pointers are those of groups, which `Unpacked` reads.
                        unsafe {
                            if sub_of(dtype) == 32 {
                                put_group::<Unpacked<32>>(rows, blocks, GROUP * index, quad, panel);
                            } else {
                                put_group::<Unpacked<16>>(rows, blocks, GROUP * index, quad, panel);
                            }
                        }
                    }
                }
            }

            /// Writes `blocks` × 32 columns of four rows to a panel, from its `column` on.
            ///
            /// # Safety
            /// The contract of [`Decode`], for every row.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn put_group<D: Decode>(
                rows: [*const u8; LANES],
                blocks: usize,
                column: usize,
                quad: usize,
                panel: &mut Panel,
            ) {
                let mut factors = Factors::zero();
                // SAFETY: guaranteed by the caller.
                unsafe { D::factors(rows, blocks, &mut factors) };
                for sub in 0..blocks * BLOCK / D::SUB {
                    let (place, lane) = place(column / D::SUB + sub, quad);
                    let scales = panel.scales_mut(place)[lane..].first_chunk_mut();
                    store(scales.expect("of 16"), factors.scales[sub]);
                    let minima = panel.minima_mut(place)[lane..].first_chunk_mut();
                    store(minima.expect("of 16"), factors.minima[sub]);
                }
                for block in 0..blocks {
                    // SAFETY: guaranteed by the caller.
                    let levels = rows.map(|row| unsafe { D::levels(row, block) });
                    for half in 0..2 {
                        let column = column + BLOCK * block + 16 * half;
                        let arranged = arrange(levels.map(|levels| levels[half]));
                        for (k, levels) in arranged.into_iter().enumerate() {
                            store_bytes(panel.sixteen_mut(position(column, quad, k)), levels);
                        }
                    }
                }
            }

            /// Place of the factors of four rows in a panel: that of their sixteen rows, and the first lane.
            #[inline]
            fn place(sub: usize, quad: usize) -> (Place, usize) {
                let row = LANES * quad;
                (Place { sub, row: row / 16 * 16 }, row % 16)
            }

            /// Adds the products of a panel's `columns` with `T` rows of activations to `out[t][row]`.
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn multiply<const T: usize, const SUB: usize>(
                dtype: DType,
                panel: &Panel,
                columns: usize,
                x: Tile<'_, T>,
                out: &mut [[f32; PANEL_ROWS]; T],
            ) {
                if is_wide(dtype) {
                    multiply_levels::<T, SUB, true>(panel, columns, x, out);
                } else {
                    multiply_levels::<T, SUB, false>(panel, columns, x, out);
                }
            }

            #[target_feature(enable = $features)]
            fn multiply_levels<const T: usize, const SUB: usize, const SIGNED: bool>(
                panel: &Panel,
                columns: usize,
                x: Tile<'_, T>,
                out: &mut [[f32; PANEL_ROWS]; T],
            ) {
                for quad in (0..PANEL_ROWS / LANES).step_by(QUADS) {
                    let mut sums = [[zero(); QUADS]; T];
                    for t in 0..T {
                        for r in 0..QUADS {
                            sums[t][r] = load_floats(&out[t].as_chunks().0[quad + r]);
                        }
                    }
                    for (block, quants) in x.woven().iter().enumerate().take(columns / BLOCK) {
                        let column = BLOCK * block;
                        let quants = quants.each_ref();
                        let integers = integers::<T, SUB, SIGNED>(panel, column, quad, quants);
                        for r in 0..QUADS {
                            let factors = |half: usize| {
                                let sub = (column + half * 16) / SUB;
                                let (place, lane) = place(sub, quad + r);
                                let scales = panel.scales(place)[lane..].first_chunk();
                                let minima = panel.minima(place)[lane..].first_chunk();
                                (
                                    load_floats(scales.expect("of 16")),
                                    load_floats(minima.expect("of 16")),
                                )
                            };
                            let [first, second] = [factors(0), factors(1)];
                            for t in 0..T {
                                sums[t][r] = add_block::<SUB>(
                                    sums[t][r],
                                    integers[t][r],
                                    [first.0, second.0],
                                    [first.1, second.1],
                                    if SUB == 32 {
                                        [x.sums32[block][t]; 2]
                                    } else {
                                        [x.sums16[2 * block][t], x.sums16[2 * block + 1][t]]
                                    },
                                    x.scales[block][t],
                                    SIGNED,
                                );
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
        }
    };
}

pub(in crate::kernels) use levels;
