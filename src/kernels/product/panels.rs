//! Prefill: stored rows are unpacked into panels, each multiplied with all rows of activations.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::input::Tiled;
use super::{TASK_BYTES_MIN, TASKS_A_THREAD};
use crate::kernels::blocks::GROUP;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::by_isa;
use crate::kernels::panel::{PANEL_COLUMNS, PANEL_ROWS, Panel};
use crate::kernels::prefetch::fetch;
use crate::kernels::{Compute, Matrix};
use std::ops::Range;
use tealight_bundle::gguf::DType;

/// Bytes of panel results that are kept until all columns are multiplied: part of the L2 cache.
const RESULTS_BYTES: usize = 512 * 1024;

/// A range of rows of one of the matrices.
pub struct Task {
    pub(super) matrix: usize,
    pub(super) rows: Range<usize>,
}

/// The products of some panels with all rows of activations, (panels, n).
pub type Results = Vec<[f32; PANEL_ROWS]>;

/// Number of matrix rows whose results are kept together, for `n` rows of activations.
pub fn rows_together(n: usize) -> usize {
    (RESULTS_BYTES / (size_of::<f32>() * PANEL_ROWS * n.max(1))).max(1) * PANEL_ROWS
}

/// The parts of rows that belong to one panel. Found once for all rows: it takes divisions.
struct Parts<'w> {
    bytes: &'w [u8],
    row: usize,
    part: Range<usize>,
}

impl<'w> Parts<'w> {
    /// Those whose columns begin at `start`.
    fn new(w: &'w Matrix, start: usize) -> Self {
        let at = |column: usize| column / w.dtype.block_elements() * w.dtype.block_bytes();
        let part = at(start)..at((start + PANEL_COLUMNS).min(w.columns));
        Self { bytes: w.bytes(), row: w.range.len() / w.rows, part }
    }

    fn of(&self, row: usize) -> &'w [u8] {
        &self.bytes[row * self.row..][self.part.clone()]
    }
}

impl Compute {
    /// Divides the matrices into tasks of about the same number of stored bytes, in whole multiples of `unit` rows. A
    /// partial panel is filled by repeating rows.
    pub(super) fn tasks(&self, weights: &[&Matrix], rows: usize, unit: usize) -> Vec<Task> {
        let total: usize = weights.iter().map(|w| w.range.len()).sum();
        let threads = self.pool.threads();
        let most = if threads == 1 { weights.len() } else { threads * TASKS_A_THREAD };
        // More rows of activations mean more work per stored byte.
        let bytes = (total / most).max(TASK_BYTES_MIN / rows.max(1));
        let mut tasks = Vec::with_capacity(most + weights.len());
        for (matrix, w) in weights.iter().enumerate() {
            let size = (w.range.len() / w.rows).max(1);
            let step = (bytes / size).max(1).next_multiple_of(unit);
            let ranges = (0..w.rows).step_by(step).map(|at| at..(at + step).min(w.rows));
            tasks.extend(ranges.map(|rows| Task { matrix, rows }));
        }
        tasks
    }

    /// The products of stored rows with all rows of activations.
    ///
    /// # Safety
    /// Nothing else writes the results of these rows during the call.
    pub(super) unsafe fn multiply_panels(
        &self,
        w: &Matrix,
        rows: Range<usize>,
        x: &Tiled,
        out: &Disjoint<'_>,
    ) {
        let n = x.rows.rows;
        let together = rows_together(n);
        let mut results = Vec::new();
        for first in rows.clone().step_by(together) {
            let rows = first..(first + together).min(rows.end);
            self.results(w, rows.clone(), x, &mut results, (w, rows.end));
            for (index, results) in results.chunks_exact(n).enumerate() {
                let first = rows.start + index * PANEL_ROWS;
                let count = PANEL_ROWS.min(rows.end - first);
                for (t, results) in results.iter().enumerate() {
                    // SAFETY: guaranteed by the caller.
                    let out = unsafe { out.slice(t * w.rows + first..t * w.rows + first + count) };
                    out.copy_from_slice(&results[..count]);
                }
            }
        }
    }

    /// Computes the results of rows that are kept together. Works through one range of columns after the other, so that
    /// the activations of those columns stay in the L2 cache too. `then` is the matrix and row that follow, for
    /// prefetching.
    pub(super) fn results(
        &self,
        w: &Matrix,
        rows: Range<usize>,
        x: &Tiled,
        results: &mut Results,
        then: (&Matrix, usize),
    ) {
        let (n, starts) = (x.rows.rows, &x.starts);
        let panels = rows.len().div_ceil(PANEL_ROWS);
        let mut panel = Panel::ZERO;
        results.resize(panels * n, [0.0; PANEL_ROWS]);
        for start in (0..w.columns).step_by(PANEL_COLUMNS) {
            let columns = start..(start + PANEL_COLUMNS).min(w.columns);
            let (parts, beside) = (Parts::new(w, start), Parts::new(w, columns.end % w.columns));
            let after = Parts::new(then.0, 0);
            for (index, results) in results.chunks_exact_mut(n).enumerate() {
                let first = rows.start + index * PANEL_ROWS;
                // A partial panel repeats its last row; the extra results are dropped.
                let row = |i: usize| parts.of((first + i).min(rows.end - 1));
                self.unpack_panel(w.dtype, &row, &mut panel);
                let (next, next_row, most) = if index + 1 < panels {
                    (&parts, first + PANEL_ROWS, w.rows)
                } else if columns.end < w.columns {
                    (&beside, rows.start, w.rows)
                } else {
                    (&after, then.1, then.0.rows)
                };
                // The next panel's rows are prefetched while this one is multiplied, some with each tile.
                let ahead = PANEL_ROWS.div_ceil(starts.len() - 1);
                for (number, tile) in starts.windows(2).enumerate() {
                    let soon = number * ahead..PANEL_ROWS.min((number + 1) * ahead);
                    let soon = soon.map(|row| next_row + row).take_while(|row| *row < most);
                    soon.for_each(|row| fetch(next.of(row)));
                    let (at, results) = (tile[0], &mut results[tile[0]..tile[1]]);
                    if start == 0 {
                        results.fill([0.0; PANEL_ROWS]);
                    }
                    let (dtype, columns) = (w.dtype, columns.clone());
                    match results.len() {
                        6 => self.multiply::<6>(dtype, &panel, columns, x, at, results),
                        4 => self.multiply::<4>(dtype, &panel, columns, x, at, results),
                        2 => self.multiply::<2>(dtype, &panel, columns, x, at, results),
                        _ => self.multiply::<1>(dtype, &panel, columns, x, at, results),
                    }
                }
            }
        }
    }

    fn unpack_panel<'a>(&self, dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
        let none = || unreachable!("the scalar level has no panels");
        by_isa!(self.isa, scalar: none(), unpack_panel(dtype, row, panel));
    }

    /// Adds the products of a panel with the `T` rows of activations starting at row `at`.
    fn multiply<const T: usize>(
        &self,
        dtype: DType,
        panel: &Panel,
        columns: Range<usize>,
        x: &Tiled,
        at: usize,
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        let n = columns.len();
        let groups = columns.start / GROUP..columns.end.div_ceil(GROUP);
        let x = x.tiles.tile::<T>(&x.rows, at, groups);
        let out: &mut [_; T] = out.try_into().expect("as many as the tile has");
        let none = || unreachable!("the scalar level has no panels");
        by_isa!(self.isa, scalar: none(), multiply::<T>(dtype, panel, n, x, out));
    }
}
