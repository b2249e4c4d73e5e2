//! Kernels for x86-64. Each file holds what one instruction set computes faster than [`super::scalar`], which defines
//! the results.

/// Defines the functions that `by_isa!` calls, for one byte dot product.
macro_rules! level {
    ($module:ident, $dot:ident) => {
        pub mod $module {
            #![expect(unsafe_code, reason = "passes on what its caller promises")]

            use super::dot::$dot;
            use super::{panels, rows};
            use crate::kernels::activations::{Row, Tile};
            use crate::kernels::panel::{PANEL_ROWS, Panel};
            use crate::kernels::product::runs::Runs;
            use tealight_bundle::gguf::DType;

            /// See [`rows::rows`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn rows(dtype: DType, w: Runs<'_>, x: Row<'_>, out: &mut [&mut [f32]; 4]) {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::rows::<$dot>(dtype, w, x, out) }
            }

            /// See [`panels::unpack_panel`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn unpack_panel<'a>(
                dtype: DType,
                row: &dyn Fn(usize) -> &'a [u8],
                panel: &mut Panel,
            ) {
                // SAFETY: guaranteed by the caller.
                unsafe { panels::unpack_panel(dtype, row, panel) }
            }

            /// See [`panels::multiply`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn multiply<const T: usize, const SUB: usize>(
                dtype: DType,
                panel: &Panel,
                columns: usize,
                x: Tile<'_, T>,
                out: &mut [[f32; PANEL_ROWS]; T],
            ) {
                // SAFETY: guaranteed by the caller.
                unsafe { panels::multiply::<$dot, T, SUB>(dtype, panel, columns, x, out) }
            }

            /// See [`panels::multiply_registers`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn multiply_registers(rounds: usize) -> usize {
                // SAFETY: guaranteed by the caller.
                unsafe { panels::multiply_registers::<$dot>(rounds) }
            }
        }
    };
}

pub mod attention;
pub mod avx2;
pub mod avx512;
pub mod float;
mod frame;
pub mod sse;

/// Unaligned load of plain data.
///
/// # Safety
/// `size_of::<T>()` bytes can be read at `b`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
#[expect(unsafe_code, reason = "a load through a pointer, argued where it is called")]
pub unsafe fn read<T: bytemuck::AnyBitPattern>(b: *const u8) -> T {
    // SAFETY: guaranteed by the caller; every bit pattern is a valid `T`, by the bound.
    unsafe { b.cast::<T>().read_unaligned() }
}

/// The 16-bit words at `at` of four rows, packed into 64 bits.
///
/// # Safety
/// They can be read.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
#[expect(unsafe_code, reason = "loads through pointers, argued where it is called")]
unsafe fn half_words(rows: [*const u8; 4], at: usize) -> i64 {
    // SAFETY: guaranteed by the caller.
    let word = |i: usize| u64::from(unsafe { read::<u16>(rows[i].add(at)) });
    (alone(word(0) | word(1) << 16) | alone(word(2) | word(3) << 16) << 32) as i64
}

/// Optimization barrier: keeps the compiler from collecting four words in vectors, which takes three times as long.
#[inline(always)]
#[expect(clippy::inline_always, reason = "nothing but a word to the compiler")]
#[expect(unsafe_code, reason = "how that word is said")]
fn alone(mut x: u64) -> u64 {
    // SAFETY: emits no instruction.
    unsafe {
        std::arch::asm!("/* {x} */", x = inout(reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}
