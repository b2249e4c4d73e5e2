//! Products of four columns at a time: each lane holds the levels of one row.

/// Defines the module `tiles` of an instruction set without matrix products: the order of levels in a panel, and their
/// products, for `quads` groups of four rows at a time.
macro_rules! tiles {
    ($features:literal, quads: $quads:literal) => {
        /// The order of levels in a panel, and their products.
        pub mod tiles {
            use super::operations::*;
            use crate::kernels::activations::BLOCK;
            use crate::kernels::panel::{PANEL_ROWS, Panel};

            /// Groups of four rows that are multiplied together.
            pub const QUADS: usize = $quads;

            /// Sixteen columns of four rows in panel order.
            #[target_feature(enable = $features)]
            #[inline]
            pub fn arrange(rows: [Bytes; 4]) -> [Bytes; 4] {
                transpose_words(rows)
            }

            /// Index in a panel of vector `k` of [`arrange`], for columns from `column` on.
            #[inline]
            pub fn position(column: usize, quad: usize, k: usize) -> usize {
                (column / 4 + k) * (PANEL_ROWS / 4) + quad
            }

            /// Products of 32 columns from `column` on, of rows `4 · quad ..`, with `T` rows of activations: one sum
            /// for each 16 columns; with scales of 32, the first covers both.
            #[target_feature(enable = $features)]
            #[inline]
            pub fn integers<const T: usize, const SUB: usize, const SIGNED: bool>(
                panel: &Panel,
                column: usize,
                quad: usize,
                x: &[i8],
            ) -> [[[Integers; 2]; QUADS]; T] {
                let x: &[[i8; BLOCK]; T] = x.as_chunks().0.first_chunk().expect("a block of each");
                // (fours of columns, quads, bytes)
                let block: &[u8; BLOCK * PANEL_ROWS] = panel.levels(PANEL_ROWS * column);
                let block: &[[[u8; 16]; PANEL_ROWS / 4]] = block.as_chunks().0.as_chunks().0;
                let mut sums = [[[no_integers(); 2]; QUADS]; T];
                for half in 0..2 {
                    let to = half * 16 / SUB;
                    let mut own = [splat_bytes(0); T];
                    for t in 0..T {
                        own[t] = load_signed(&x[t].as_chunks().0[half]);
                    }
                    for r in 0..QUADS {
                        let at = 4 * half;
                        let first = load(&block[at][quad + r]);
                        let second = load(&block[at + 1][quad + r]);
                        let third = load(&block[at + 2][quad + r]);
                        let fourth = load(&block[at + 3][quad + r]);
                        for t in 0..T {
                            let sum = sums[t][r][to];
                            let sum = dot_lane::<0>(sum, first, own[t], SIGNED);
                            let sum = dot_lane::<1>(sum, second, own[t], SIGNED);
                            let sum = dot_lane::<2>(sum, third, own[t], SIGNED);
                            sums[t][r][to] = dot_lane::<3>(sum, fourth, own[t], SIGNED);
                        }
                    }
                }
                sums
            }

            /// See [`crate::kernels::Limits`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            #[target_feature(enable = $features)]
            pub unsafe fn multiply_registers(rounds: usize) -> usize {
                let x = std::hint::black_box(splat_bytes(1));
                let (mut levels, mut sums) = ([x; 8], [no_integers(); 8]);
                for _ in 0..rounds {
                    // The compiler must assume that `levels` changed, so it computes the products again.
                    std::hint::black_box(&mut levels);
                    for (sum, level) in sums.iter_mut().zip(&levels) {
                        *sum = dot(*sum, *level, x, false);
                    }
                }
                std::hint::black_box(sums);
                rounds * sums.len() * 16
            }
        }
    };
}

pub(in crate::kernels) use tiles;
