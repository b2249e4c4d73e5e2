//! Kernels for ARM processors with byte matrix products (`smmla`, since the Neoverse V1 and Apple's M2), for prompts; a
//! single token has no second row to fill the matrix.

#![expect(unsafe_code, reason = "an instruction without a stable intrinsic")]

use super::dotprod::operations;
use super::neon::decode;
use crate::kernels::vectors;

vectors::levels!("neon,dotprod,i8mm");

pub use levels::{multiply, rows, unpack_panel};
pub use tiles::multiply_registers;

/// The order of levels in a panel, and their products.
mod tiles {
    use super::operations::{Bytes, Integers, load, no_integers};
    use crate::kernels::activations::BLOCK;
    use crate::kernels::panel::{PANEL_ROWS, Panel};
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// Groups of four rows that are multiplied together.
    pub const QUADS: usize = 2;
    /// Maximum number of rows of activations at once, multiplied in pairs.
    const ROWS_MAX: usize = 6;

    crate::kernels::vectors::operations! { "neon,dotprod,i8mm"
        /// Sixteen columns of four rows in panel order: each vector holds eight columns of two rows.
        fn arrange(rows: [Bytes; 4]) -> [Bytes; 4] {
            let [a, b, c, d] = rows;
            let (a, b) = (vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b));
            let (c, d) = (vreinterpretq_u64_u8(c), vreinterpretq_u64_u8(d));
            [
                vreinterpretq_u8_u64(vzip1q_u64(a, b)),
                vreinterpretq_u8_u64(vzip1q_u64(c, d)),
                vreinterpretq_u8_u64(vzip2q_u64(a, b)),
                vreinterpretq_u8_u64(vzip2q_u64(c, d)),
            ]
        }

        /// Adds the products of two rows of levels with two rows of activations, eight columns of each:
        /// (rows of levels, rows of activations).
        fn multiply_two(sums: Integers, levels: Bytes, x: Bytes) -> Integers {
            let mut sums = sums;
            // SAFETY: one instruction of this function's instruction set, on registers only.
            unsafe {
                asm!(
                    "smmla {sums:v}.4s, {levels:v}.16b, {x:v}.16b",
                    sums = inlateout(vreg) sums,
                    levels = in(vreg) levels,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sums
        }

        /// Eight columns of two rows of activations.
        fn two_rows(first: &[i8; 8], second: &[i8; 8]) -> Bytes {
            // SAFETY: eight bytes each, by the type; the loads need no alignment.
            unsafe { vcombine_u8(vld1_u8(first.as_ptr().cast()), vld1_u8(second.as_ptr().cast())) }
        }
    }

    /// Index in a panel of vector `k` of [`arrange`], for columns from `column` on.
    #[inline]
    pub fn position(column: usize, quad: usize, k: usize) -> usize {
        (column / 8 + k / 2) * (PANEL_ROWS / 2) + 2 * quad + k % 2
    }

    /// Products of 32 columns from `column` on, of rows `4 · quad ..`, with `T` rows of activations: one sum for each
    /// 16 columns; with scales of 32, the first covers both.
    #[target_feature(enable = "neon,dotprod,i8mm")]
    #[inline]
    pub fn integers<const T: usize, const SUB: usize, const SIGNED: bool>(
        panel: &Panel,
        column: usize,
        quad: usize,
        x: &[i8],
    ) -> [[[Integers; 2]; QUADS]; T] {
        const { assert!(T <= ROWS_MAX) };
        // (eights of columns, rows of activations, columns)
        let x: &[[[i8; 8]; T]] = x.as_chunks().0.as_chunks().0;
        // (eights of columns, pairs of rows, bytes)
        let block: &[u8; BLOCK * PANEL_ROWS] = panel.levels(PANEL_ROWS * column);
        let block: &[[[u8; 16]; PANEL_ROWS / 2]] = block.as_chunks().0.as_chunks().0;
        // (halves of the block, pairs of rows of activations, pairs of rows of levels)
        let mut sums = [[[no_integers(); 2 * QUADS]; ROWS_MAX / 2]; 2];
        for eight in 0..BLOCK / 8 {
            let sums = &mut sums[eight / 2 * 16 / SUB];
            let pairs = &block[eight][2 * quad..][..2 * QUADS];
            let mut levels = [vdupq_n_u8(0); 2 * QUADS];
            for pair in 0..2 * QUADS {
                levels[pair] = load(&pairs[pair]);
            }
            for t in 0..T.div_ceil(2) {
                // An odd last row is paired with itself.
                let x = two_rows(&x[eight][2 * t], &x[eight][(2 * t + 1).min(T - 1)]);
                for pair in 0..2 * QUADS {
                    sums[t][pair] = multiply_two(sums[t][pair], levels[pair], x);
                }
            }
        }
        let mut out = [[[no_integers(); 2]; QUADS]; T];
        for t in 0..T {
            for r in 0..QUADS {
                for half in 0..BLOCK / SUB {
                    let (low, high) = (sums[half][t / 2][2 * r], sums[half][t / 2][2 * r + 1]);
                    out[t][r][half] =
                        if t % 2 == 0 { vuzp1q_s32(low, high) } else { vuzp2q_s32(low, high) };
                }
            }
        }
        out
    }

    /// See [`crate::kernels::Limits`].
    ///
    /// # Safety
    /// The processor has the instruction set of this module.
    #[target_feature(enable = "neon,dotprod,i8mm")]
    pub unsafe fn multiply_registers(rounds: usize) -> usize {
        let x = std::hint::black_box(vdupq_n_u8(1));
        let (mut levels, mut sums) = ([x; 8], [no_integers(); 8]);
        for _ in 0..rounds {
            // The compiler must assume that `levels` changed, so it computes the products again.
            std::hint::black_box(&mut levels);
            for (sum, level) in sums.iter_mut().zip(&levels) {
                *sum = multiply_two(*sum, *level, x);
            }
        }
        std::hint::black_box(sums);
        rounds * sums.len() * 32
    }
}
