//! Single tokens: stored rows multiplied where they lie.
//!
//! Enters: matrices, one or two rows of activations. Leaves: results, written where they belong.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::TASK_BYTES_MIN;
use super::input::{Input, Levels};
use crate::kernels::blocks::{Kind, kind};
use crate::kernels::isa::by_isa;
use crate::kernels::{Compute, Matrix, Shared, activations, scalar};
use std::ops::Range;
use tealight_bundle::gguf::DType;

/// Rows that are multiplied together, in all runs.
const TILE_ROWS: usize = 16;
/// The smallest parts of a thread's share for single tokens are so many of a share: others take them when they are done.
const PARTS_A_SHARE: usize = 8;
/// Stored bytes of such a part at least.
const PART_BYTES_MIN: usize = 8 * 1024;
/// And at most: some ten microseconds, so that threads of unequal speed end together in a large matrix too.
const PART_BYTES_MAX: usize = 128 * 1024;

/// Some rows at four distant places of one of the matrices.
pub struct Places {
    pub(super) matrix: usize,
    pub(super) rows: [Range<usize>; 4],
}

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
    /// The rows of some matrices in parts for single tokens, and where those of each thread begin and end. A
    /// thread's rows lie together, in four runs, which its parts go along.
    pub(super) fn places(&self, weights: &[&Matrix]) -> (Vec<Places>, Vec<usize>) {
        let total: usize = weights.iter().map(|w| w.range.len()).sum();
        let threads = self.pool.threads();
        let busy = threads.min(total / TASK_BYTES_MIN).max(1);
        let part_bytes = (total / busy / PARTS_A_SHARE).clamp(PART_BYTES_MIN, PART_BYTES_MAX);
        let mut places = Vec::with_capacity(2 * threads * PARTS_A_SHARE);
        let mut shares = vec![0];
        for thread in 0..threads {
            let mut before = 0;
            for (matrix, w) in weights.iter().enumerate() {
                let row_bytes = (w.range.len() / w.rows).max(1);
                // Where the first bytes of a thread's share lie, in whole tiles of rows.
                let cut = |thread: usize| {
                    let bytes = (total * thread.min(busy) / busy).saturating_sub(before);
                    let end = thread >= busy || bytes >= w.range.len();
                    if end { w.rows } else { bytes / row_bytes / TILE_ROWS * TILE_ROWS }
                };
                let rows = cut(thread)..cut(thread + 1);
                let run = rows.len() / TILE_ROWS * (TILE_ROWS / 4);
                let least = (part_bytes / row_bytes / TILE_ROWS).max(1) * (TILE_ROWS / 4);
                let mut at = 0;
                while at < run {
                    // Half of what is left, so that the last parts, which others may take, are small.
                    let half = ((run - at) / 2).next_multiple_of(TILE_ROWS / 4);
                    let end = (at + half.max(least)).min(run);
                    let part = |i: usize| rows.start + i * run + at..rows.start + i * run + end;
                    places.push(Places { matrix, rows: [part(0), part(1), part(2), part(3)] });
                    at = end;
                }
                let rest = rows.start + 4 * run;
                if rest < rows.end {
                    let quarter = |i: usize| (rest + i * TILE_ROWS / 4).min(rows.end);
                    places.push(Places {
                        matrix,
                        rows: [0, 1, 2, 3].map(|i| quarter(i)..quarter(i + 1)),
                    });
                }
                before += w.range.len();
            }
            shares.push(places.len());
        }
        (places, shares)
    }

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
