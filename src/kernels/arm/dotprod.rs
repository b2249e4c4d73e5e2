//! Kernels for ARM processors with byte dot products (`sdot`, since the Cortex-A75 and Apple's A13). Everything else is
//! as in [`super::neon`].

#![expect(unsafe_code, reason = "an instruction without a stable intrinsic")]

use super::neon::decode;
use crate::kernels::vectors;

vectors::tiles!("neon,dotprod", quads: 2);
vectors::levels!("neon,dotprod");

pub use levels::{multiply, rows, unpack_panel};
pub use tiles::multiply_registers;

/// Vector operations of this instruction set.
pub mod operations {
    pub use crate::kernels::arm::neon::operations::*;
    use std::arch::asm;

    crate::kernels::vectors::operations! { "neon,dotprod"
        /// Adds four products of levels and signed bytes to each lane; levels fit in an `i8`.
        fn dot(sum: Integers, levels: Bytes, x: Bytes, _signed: bool) -> Integers {
            let mut sum = sum;
            // SAFETY: one instruction of this function's instruction set, on registers only.
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

        /// As [`dot`], with the four bytes of lane `LANE` of `x` in every lane.
        fn dot_lane<const LANE: i32>(sum: Integers, levels: Bytes, x: Bytes, _signed: bool) -> Integers {
            let mut sum = sum;
            // SAFETY: one instruction of this function's instruction set, on registers only.
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
