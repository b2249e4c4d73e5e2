//! Decode: stored rows are multiplied in place.
//!
//! Input: matrices, a few rows of activations. Output: products, written to their place in the result.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::input::{Input, Levels};
use super::runs::Runs;
use crate::kernels::blocks::{QuantKind, kind};
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::by_isa;
use crate::kernels::{Compute, Matrix, activations, scalar};
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
                for n in 0..x.rows {
                    let at = |rows: &Range<usize>| n * w.rows + rows.start..n * w.rows + rows.end;
                    // SAFETY: guaranteed by the caller.
                    let mut out = rows.each_ref().map(|rows| unsafe { out.slice(at(rows)) });
                    self.dot_rows(w.dtype, runs, levels.row(n), &mut out);
                }
            }
            // SAFETY: guaranteed by the caller.
            _ => rows
                .iter()
                .flat_map(Range::clone)
                .for_each(|row| unsafe { self.dot_floats(w, row, x, out) }),
        }
    }

    /// Dot products of stored rows with one row of activations: from each run as many rows as `out` has room for.
    pub(super) fn dot_rows(
        &self,
        dtype: DType,
        runs: Runs<'_>,
        x: activations::Row<'_>,
        out: &mut [&mut [f32]; 4],
    ) {
        let one_by_one = |out: &mut [&mut [f32]; 4]| {
            for (i, out) in out.iter_mut().enumerate() {
                let rows = runs.run(i, out.len());
                for (w, out) in rows.chunks_exact(runs.row_bytes).zip(out.iter_mut()) {
                    *out = scalar::dot(dtype, w, x);
                }
            }
        };
        by_isa!(self.isa, scalar: one_by_one(out), rows(dtype, runs, x, out));
    }
}
