//! Single tokens: stored rows multiplied where they lie.
//!
//! Enters: matrices, one or two rows of activations. Leaves: results, written where they belong.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::input::{Input, Levels};
use crate::kernels::blocks::{Kind, kind};
use crate::kernels::isa::by_isa;
use crate::kernels::{Compute, Matrix, Shared, activations, scalar};
use std::ops::Range;
use tealight_bundle::gguf::DType;

/// Rows of a matrix at four distant places: memory answers several sooner than one, and each goes on where
/// the last part of a thread ended, so that what is fetched ahead is never in vain.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    /// All rows of the matrix.
    pub w: &'a [u8],
    /// Bytes of a row.
    pub row_bytes: usize,
    /// The first row of each run. Rows behind the last of the matrix stand for that one.
    pub first: [usize; 4],
}

impl<'a> Runs<'a> {
    /// The rows of one run of so many.
    pub fn run(&self, index: usize, rows: usize) -> &'a [u8] {
        if rows == 0 {
            return &[];
        }
        &self.w[self.first[index] * self.row_bytes..][..rows * self.row_bytes]
    }
}

impl Compute {
    pub(super) fn product_few(
        &self,
        w: &Matrix,
        rows: &[Range<usize>; 4],
        x: &Input<'_>,
        out: &Shared<'_>,
    ) {
        match (&x.levels, kind(w.dtype)) {
            (Some(Levels::Few(levels)), Some(Kind::Levels)) => {
                let first = rows.each_ref().map(|rows| rows.start.min(w.rows - 1));
                let runs = Runs { w: w.bytes(), row_bytes: w.range.len() / w.rows, first };
                for n in 0..x.rows {
                    let at = |rows: &Range<usize>| n * w.rows + rows.start..n * w.rows + rows.end;
                    let mut out = rows.each_ref().map(|rows| out.slice(at(rows)));
                    self.dot_rows(w.dtype, runs, levels.row(n), &mut out);
                }
            }
            _ => rows.iter().flat_map(Range::clone).for_each(|row| self.dot_floats(w, row, x, out)),
        }
    }

    /// Dot products of some stored rows with one row of activations: as many of each run as `out` has room for.
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
