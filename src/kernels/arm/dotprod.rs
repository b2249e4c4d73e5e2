//! Kernels for ARM processors with products of bytes (`sdot`, since the Cortex-A75 and Apple's A11). What
//! is not a product is as in [`super::neon`].

#![expect(unsafe_code, reason = "an instruction without a stable intrinsic")]

use super::neon::decode;
use crate::kernels::vectors;

vectors::tiles!("neon,dotprod", quads: 2);
vectors::levels!("neon,dotprod");

pub use levels::{multiply, rows, unpack_panel};
pub use tiles::multiply_registers;

/// What this instruction set does with vectors.
pub mod operations {
    pub use crate::kernels::arm::neon::operations::*;
    use std::arch::asm;

    crate::kernels::vectors::operations! { "neon,dotprod"
        /// Adds four products of levels and signed bytes to each lane; levels of either sign are within ±128.
        fn dot(sum: Integers, levels: Bytes, x: Bytes, _signed: bool) -> Integers {
            let mut sum = sum;
            // SAFETY: one instruction on registers, which this function's instruction set has.
            unsafe {
                asm!(
                    "sdot {sum:v}.4s, {levels:v}.16b, {x:v}.16b",
                    sum = inlateout(vreg) sum,
                    levels = in(vreg) levels,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        }

        /// As [`dot`], with four bytes for every lane.
        fn dot_lane<const LANE: i32>(sum: Integers, levels: Bytes, x: Bytes, _signed: bool) -> Integers {
            let mut sum = sum;
            // SAFETY: one instruction on registers, which this function's instruction set has.
            unsafe {
                asm!(
                    "sdot {sum:v}.4s, {levels:v}.16b, {x:v}.4b[{lane}]",
                    sum = inlateout(vreg) sum,
                    levels = in(vreg) levels,
                    x = in(vreg) x,
                    lane = const LANE,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        }
    }
}
