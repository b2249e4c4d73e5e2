//! Kernels for x86-64. Each file holds what one instruction set computes faster than [`super::scalar`], which defines
//! the results.

/// Defines the functions that `by_isa!` calls, for one byte dot product.
macro_rules! level {
    ($module:ident, $dot:ident) => {
        pub mod $module {
            #![expect(unsafe_code, reason = "passes on what its caller promises")]

            use super::dot::$dot;
            use super::{panels, rows, unpack};
            use crate::kernels::activations::{Part, Tile};
            use crate::kernels::panel::{PANEL_ROWS, Panel};
            use crate::kernels::product::runs::Runs;
            use tealight_bundle::gguf::DType;

            /// See [`rows::rows`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn rows<const T: usize>(
                dtype: DType,
                w: Runs<'_>,
                x: [&[Part]; T],
                out: &mut [[&mut [f32]; 4]; T],
            ) {
                // SAFETY: guaranteed by the caller.
                unsafe { rows::rows::<$dot, T>(dtype, w, x, out) }
            }

            /// See [`unpack::unpack_panel`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn unpack_panel<'a>(
                dtype: DType,
                row: &dyn Fn(usize) -> &'a [u8],
                panel: &mut Panel,
            ) {
                // SAFETY: guaranteed by the caller.
                unsafe { unpack::unpack_panel(dtype, row, panel) }
            }

            /// See [`panels::multiply`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn multiply<const T: usize>(
                dtype: DType,
                panel: &Panel,
                columns: usize,
                x: Tile<'_, T>,
                out: &mut [[f32; PANEL_ROWS]; T],
            ) {
                // SAFETY: guaranteed by the caller.
                unsafe { panels::multiply::<$dot, T>(dtype, panel, columns, x, out) }
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

pub mod avx2;
pub mod avx512;
pub mod float;
mod frame;
pub mod lanes;
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
