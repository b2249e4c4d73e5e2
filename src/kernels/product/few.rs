//! Decode: stored rows are multiplied in place.
//!
//! Input: matrices, a few rows of activations. Output: products, written to their place in the result.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::input::{Input, Levels};
use super::runs::Runs;
use crate::kernels::activations::{Activations, Part};
use crate::kernels::blocks::{QuantKind, kind};
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::by_isa;
use crate::kernels::{Compute, Matrix, scalar};
use std::ops::Range;
use tealight_bundle::gguf::DType;

impl Compute {
    /// The products of some stored rows with all rows of activations.
    ///
    /// # Safety
    /// Nothing else writes the results of these rows during the call, and the four ranges do not overlap.
    pub(super) unsafe fn product_few(
        &self,
        w: &Matrix,
        rows: &[Range<usize>; 4],
        x: &Input<'_>,
        out: &Disjoint<'_>,
    ) {
        match (&x.levels, kind(w.dtype)) {
            (Some(Levels::Few(levels)), Some(QuantKind::Levels)) => {
                let first = rows.each_ref().map(|rows| rows.start.min(w.rows - 1));
                let runs = Runs { w: w.bytes(), row_bytes: w.range.len() / w.rows, first };
                let (mut n, most) = (0, self.isa.rows_in_place(w.dtype));
                while n < x.rows {
                    // SAFETY: guaranteed by the caller.
                    n += unsafe {
                        match most.min(x.rows - n) {
                            4.. => self.dot_tokens::<4>(w, runs, (levels, n), rows, out),
                            2.. => self.dot_tokens::<2>(w, runs, (levels, n), rows, out),
                            _ => self.dot_tokens::<1>(w, runs, (levels, n), rows, out),
                        }
                    };
                }
            }
            // SAFETY: guaranteed by the caller.
            _ => rows
                .iter()
                .flat_map(Range::clone)
                .for_each(|row| unsafe { self.dot_floats(w, row, x, out) }),
        }
    }

    /// The products of some stored rows with `T` rows of activations, from the one at `n` on; returns their number.
    ///
    /// # Safety
    /// As [`Compute::product_few`].
    unsafe fn dot_tokens<const T: usize>(
        &self,
        w: &Matrix,
        runs: Runs<'_>,
        (x, n): (&Activations, usize),
        rows: &[Range<usize>; 4],
        out: &Disjoint<'_>,
    ) -> usize {
        let mut out: [[&mut [f32]; 4]; T] = std::array::from_fn(|t| {
            let first = (n + t) * w.rows;
            let at = |rows: &Range<usize>| first + rows.start..first + rows.end;
            // SAFETY: guaranteed by the caller; each row of activations has its own results.
            rows.each_ref().map(|rows| unsafe { out.slice(at(rows)) })
        });
        self.dot_rows(w.dtype, runs, std::array::from_fn(|t| x.row(n + t)), &mut out);
        T
    }

    /// Dot products of stored rows with `T` rows of activations: from each run as many rows as `out` has room for.
    pub(super) fn dot_rows<const T: usize>(
        &self,
        dtype: DType,
        runs: Runs<'_>,
        x: [&[Part]; T],
        out: &mut [[&mut [f32]; 4]; T],
    ) {
        let one_by_one = |out: &mut [[&mut [f32]; 4]; T]| {
            for (x, out) in x.into_iter().zip(out) {
                for (i, out) in out.iter_mut().enumerate() {
                    let rows = runs.run(i, out.len());
                    for (w, out) in rows.chunks_exact(runs.row_bytes).zip(out.iter_mut()) {
                        *out = scalar::dot(dtype, w, x);
                    }
                }
            }
        };
        by_isa!(self.isa, scalar: one_by_one(out), rows::<T>(dtype, runs, x, out));
    }
}
