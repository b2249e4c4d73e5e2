//! Products of levels with 512-bit vectors, with the dot product of bytes that VNNI brings and without.
//!
//! Enters: stored rows, eight-bit activations. Leaves: dot products, unpacked panels, products of panels. [`decode`]
//! says how each type becomes vectors, [`rows`] multiplies single tokens, [`panels`] prompts. Both add up the same
//! terms in the same order, so that a token gets the same result alone and in a prompt: for one sub-block after the
//! other, sum += (scale · integer + minimum · sum of activations) · scale of activations.

mod decode;
mod dot;
mod panels;
mod rows;
mod vectors;

/// What `by_isa!` calls, for one way to multiply bytes.
macro_rules! level {
    ($module:ident, $dot:ident) => {
        pub mod $module {
            #![expect(unsafe_code, reason = "passes on what its caller promises")]

            use super::dot::$dot;
            use super::{panels, rows};
            use crate::kernels::activations::Row;
            use crate::kernels::panel::{PANEL_ROWS, Panel};
            use tealight_bundle::gguf::DType;

            /// See [`rows::rows`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn rows(dtype: DType, w: &[u8], x: Row<'_>, out: &mut [f32]) {
                // SAFETY: said by the caller.
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
                // SAFETY: said by the caller.
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
                x: [Row<'_>; T],
                at: usize,
                out: [&mut [f32; PANEL_ROWS]; T],
            ) {
                // SAFETY: said by the caller.
                unsafe { panels::multiply::<$dot, T, SUB>(dtype, panel, columns, x, at, out) }
            }

            /// See [`panels::multiply_registers`].
            ///
            /// # Safety
            /// The processor has the instruction set of this module.
            pub unsafe fn multiply_registers(rounds: usize) -> usize {
                // SAFETY: said by the caller.
                unsafe { panels::multiply_registers::<$dot>(rounds) }
            }
        }
    };
}

level!(vnni, Vnni);
level!(plain, Plain);
