//! Products with stored matrices: `x · Wᵀ` for weights of any type.
//!
//! Enters: rows of activations ([`Input`]), matrices. Leaves: rows of f32, one result for each matrix.
//! One or two rows are multiplied with each stored row where it lies; more rows (a prompt) with panels
//! that are unpacked once ([`super::panel`]). All matrices of one call share one division of the work
//! among threads.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::activations::{self, Activations, Tiles};
use super::blocks::{Kind, kind, sub_of};
use super::isa::{Level, by_floats, by_isa};
use super::memory::fetch;
use super::panel::{PANEL_COLUMNS, PANEL_ROWS, Panel};
use super::{Compute, Matrix, Shared, scalar};
use half::{bf16, f16};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use tealight_bundle::gguf::DType;

/// Rows of activations from which on unpacking panels pays.
const PANELS_FROM: usize = 3;
/// Stored bytes below which another thread costs more than it brings.
const TASK_BYTES_MIN: usize = 16 * 1024;
/// Rows that are multiplied together, in all runs.
const TILE_ROWS: usize = 16;
/// The smallest parts of a thread's share for single tokens are so many of a share: others take them when they are done.
const PARTS_A_SHARE: usize = 8;
/// Stored bytes of such a part at least.
const PART_BYTES_MIN: usize = 8 * 1024;
/// Tasks a thread gets, so that an interrupted one does not hold up the rest.
const TASKS_A_THREAD: usize = 4;

/// Results of panels that are kept together until all columns are multiplied: a share of the second cache.
const RESULTS_BYTES: usize = 512 * 1024;

/// Rows of activations, prepared for the types of the matrices they meet.
pub struct Input<'a> {
    rows: usize,
    columns: usize,
    floats: &'a [f32],
    levels: Option<Levels>,
}

/// Eight-bit activations in the order in which they are taken.
enum Levels {
    /// Row by row.
    Few(Activations),
    /// For panels: tiles that begin at these rows, and the number of rows.
    Many(Tiles, Vec<usize>),
}

/// Some rows of one of the matrices.
struct Task {
    matrix: usize,
    rows: Range<usize>,
}

/// Some rows at four distant places of one of the matrices.
struct Places {
    matrix: usize,
    rows: [Range<usize>; 4],
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
    /// `x · Wᵀ` for `x` of shape (n, w.columns): the result is (n, w.rows).
    ///
    /// # Panics
    /// When `x` is not whole rows of that many elements.
    #[must_use]
    pub fn matmul(&self, w: &Matrix, x: &[f32]) -> Vec<f32> {
        let input = self.input(x, &[w]);
        self.products(&[w], &input).pop().unwrap_or_default()
    }

    /// Prepares `x`, rows of as many elements as the matrices have columns.
    ///
    /// # Panics
    /// When it is not whole rows of that many elements.
    #[must_use]
    pub fn input<'a>(&self, x: &'a [f32], weights: &[&Matrix]) -> Input<'a> {
        let columns = weights.first().map_or(1, |w| w.columns);
        assert!(x.len().is_multiple_of(columns), "{} elements in rows of {columns}", x.len());
        let quantized = weights.iter().any(|w| kind(w.dtype) == Some(Kind::Levels));
        let levels = quantized.then(|| self.levels(x, columns));
        Input { rows: x.len() / columns, columns, floats: x, levels }
    }

    /// The products of one input with several matrices, each (n, w.rows).
    ///
    /// # Panics
    /// When a matrix has another number of columns than the input.
    #[must_use]
    pub fn products(&self, weights: &[&Matrix], x: &Input<'_>) -> Vec<Vec<f32>> {
        assert!(weights.iter().all(|w| w.columns == x.columns), "{weights:?} on {}", x.columns);
        let mut out: Vec<_> = weights.iter().map(|w| vec![0.0; x.rows * w.rows]).collect();
        let shared: Vec<_> = out.iter_mut().map(|out| Shared::new(out)).collect();
        if x.rows < PANELS_FROM {
            let (places, shares) = self.places(weights);
            self.pool.run_shares(&|thread| shares[thread]..shares[thread + 1], &|index| {
                let Places { matrix, rows } = &places[index];
                // As below.
                self.product_few(weights[*matrix], rows, x, &shared[*matrix]);
            });
            return out;
        }
        let tasks = self.tasks(weights, x.rows);
        self.pool.run(tasks.len(), &|index| {
            let task = &tasks[index];
            // No two tasks share a row of a matrix, and each row owns its column of the result.
            self.product(weights[task.matrix], task.rows.clone(), x, &shared[task.matrix]);
        });
        out
    }

    /// The rows of some matrices in parts for single tokens, and where those of each thread begin and end. A
    /// thread's rows lie together, in four runs, which its parts go along.
    fn places(&self, weights: &[&Matrix]) -> (Vec<Places>, Vec<usize>) {
        let total: usize = weights.iter().map(|w| w.range.len()).sum();
        let threads = self.pool.threads();
        let busy = threads.min(total / TASK_BYTES_MIN).max(1);
        let part_bytes = (total / busy / PARTS_A_SHARE).max(PART_BYTES_MIN);
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

    fn product_few(&self, w: &Matrix, rows: &[Range<usize>; 4], x: &Input<'_>, out: &Shared) {
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

    fn levels(&self, x: &[f32], columns: usize) -> Levels {
        let levels = self.quantize(x, columns);
        if levels.rows < PANELS_FROM || self.isa.level() == Level::Scalar {
            return Levels::Few(levels);
        }
        let mut starts = vec![0];
        while let Some(&at) = starts.last()
            && at < levels.rows
        {
            let widest = self.isa.widest_tile();
            let tile = [6, 4, 2, 1].into_iter().find(|&t| t <= widest && t <= levels.rows - at);
            starts.push(at + tile.unwrap_or(1));
        }
        let mut tiles = Tiles::of(&levels, self.isa.columns_together());
        let parts: Vec<_> = tiles.parts_mut(&starts).into_iter().map(Mutex::new).collect();
        self.pool.run(parts.len(), &|part| {
            parts[part].lock().unwrap_or_else(PoisonError::into_inner).fill(&levels);
        });
        drop(parts);
        Levels::Many(tiles, starts)
    }

    pub(super) fn quantize(&self, x: &[f32], columns: usize) -> Activations {
        let mut levels = Activations::zeros(x.len() / columns, columns);
        let quantize = |x: &[f32], row: &mut activations::RowMut<'_>| {
            by_floats!(self.isa, scalar: activations::quantize(x, row), quantize(x, row));
        };
        let mut rows: Vec<_> = levels.rows_mut().zip(x.chunks_exact(columns)).collect();
        if rows.len() < 2 * self.pool.threads() {
            rows.iter_mut().for_each(|(row, x)| quantize(x, row));
        } else {
            let size = rows.len().div_ceil(self.pool.threads() * TASKS_A_THREAD);
            let parts: Vec<_> = rows.chunks_mut(size).map(Mutex::new).collect();
            self.pool.run(parts.len(), &|part| {
                let mut rows = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
                rows.iter_mut().for_each(|(row, x)| quantize(x, row));
            });
        }
        levels
    }

    /// Parts of about the same number of stored bytes, whole panels: kernels repeat rows of one that is not
    /// full.
    fn tasks(&self, weights: &[&Matrix], rows: usize) -> Vec<Task> {
        let total: usize = weights.iter().map(|w| w.range.len()).sum();
        let threads = self.pool.threads();
        let most = if threads == 1 { weights.len() } else { threads * TASKS_A_THREAD };
        // More rows of activations are more work for each stored byte.
        let bytes = (total / most).max(TASK_BYTES_MIN / rows.max(1));
        let mut tasks = Vec::with_capacity(most + weights.len());
        for (matrix, w) in weights.iter().enumerate() {
            let size = (w.range.len() / w.rows).max(1);
            let step = (bytes / size).max(1).next_multiple_of(PANEL_ROWS);
            let ranges = (0..w.rows).step_by(step).map(|at| at..(at + step).min(w.rows));
            tasks.extend(ranges.map(|rows| Task { matrix, rows }));
        }
        tasks
    }

    fn product(&self, w: &Matrix, rows: Range<usize>, x: &Input<'_>, out: &Shared) {
        match (&x.levels, kind(w.dtype)) {
            // The scalar level has no panels.
            (Some(Levels::Few(levels)), Some(Kind::Levels)) => {
                let row_bytes = w.range.len() / w.rows;
                let runs = Runs { w: w.bytes(), row_bytes, first: [rows.start; 4] };
                for n in 0..x.rows {
                    let out = out.slice(n * w.rows + rows.start..n * w.rows + rows.end);
                    self.dot_rows(
                        w.dtype,
                        runs,
                        levels.row(n),
                        &mut [out, &mut [], &mut [], &mut []],
                    );
                }
            }
            (Some(Levels::Many(tiles, starts)), Some(Kind::Levels)) => {
                self.multiply_panels(w, rows, tiles, starts, out);
            }
            _ => rows.for_each(|row| self.dot_floats(w, row, x, out)),
        }
    }

    /// Dot products of some stored rows with one row of activations: as many of each run as `out` has room for.
    fn dot_rows(
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

    /// The products of stored rows with all rows of activations. Of as many panels as leave their results in the second
    /// cache, some columns after the other: the activations of those columns then stay there as well.
    fn multiply_panels(
        &self,
        w: &Matrix,
        rows: Range<usize>,
        x: &Tiles,
        starts: &[usize],
        out: &Shared,
    ) {
        let n = starts.last().copied().unwrap_or(0);
        let panels = (RESULTS_BYTES / (size_of::<f32>() * PANEL_ROWS * n.max(1))).max(1);
        let mut panel = Panel::ZERO;
        let mut results = Vec::new(); // (panels, n, PANEL_ROWS)
        for first in rows.clone().step_by(panels * PANEL_ROWS) {
            let rows = first..(first + panels * PANEL_ROWS).min(rows.end);
            results.clear();
            results.resize(rows.len().div_ceil(PANEL_ROWS) * n, [0.0; PANEL_ROWS]);
            for start in (0..w.columns).step_by(PANEL_COLUMNS) {
                let columns = start..(start + PANEL_COLUMNS).min(w.columns);
                let at = |column: usize| column / w.dtype.block_elements() * w.dtype.block_bytes();
                let bytes = at(columns.start)..at(columns.end);
                for (index, results) in results.chunks_exact_mut(n).enumerate() {
                    let first = rows.start + index * PANEL_ROWS;
                    // A panel that is not full repeats its last row; those results go nowhere.
                    let row = |i: usize| &w.row((first + i).min(rows.end - 1))[bytes.clone()];
                    self.unpack_panel(w.dtype, &row, &mut panel);
                    for (number, tile) in starts.windows(2).enumerate() {
                        if number < PANEL_ROWS {
                            // The next panel's rows come while this one is multiplied.
                            fetch(row(PANEL_ROWS + number));
                        }
                        let (at, results) = (tile[0], &mut results[tile[0]..tile[1]]);
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
            for (index, results) in results.chunks_exact(n).enumerate() {
                let first = rows.start + index * PANEL_ROWS;
                let count = PANEL_ROWS.min(rows.end - first);
                for (t, results) in results.iter().enumerate() {
                    // No other task has these rows.
                    let out = out.slice(t * w.rows + first..t * w.rows + first + count);
                    out.copy_from_slice(&results[..count]);
                }
            }
        }
    }

    fn unpack_panel<'a>(&self, dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
        by_isa!(self.isa, scalar: panel.unpack(dtype, row), unpack_panel(dtype, row, panel));
    }

    /// Adds the products of a panel with `T` rows of activations from row `at` on.
    fn multiply<const T: usize>(
        &self,
        dtype: DType,
        panel: &Panel,
        columns: Range<usize>,
        x: &Tiles,
        at: usize,
        out: &mut [[f32; PANEL_ROWS]],
    ) {
        let n = columns.len();
        let x = x.tile::<T>(at, columns);
        let out: &mut [_; T] = out.try_into().expect("as many as the tile has");
        let none = || unreachable!("the scalar level has no panels");
        if sub_of(dtype) == 32 {
            by_isa!(self.isa, scalar: none(), multiply::<T, 32>(dtype, panel, n, x, out));
        } else {
            by_isa!(self.isa, scalar: none(), multiply::<T, 16>(dtype, panel, n, x, out));
        }
    }

    /// The dot products of one stored row of floats with all rows of activations.
    fn dot_floats(&self, w: &Matrix, row: usize, x: &Input<'_>, out: &Shared) {
        let x_row = |n: usize| &x.floats[n * x.columns..(n + 1) * x.columns];
        let mut n = 0;
        while n + 4 <= x.rows {
            let values =
                self.dot_float::<4>(w.dtype, w.row(row), std::array::from_fn(|i| x_row(n + i)));
            for (i, value) in values.into_iter().enumerate() {
                out.set((n + i) * w.rows + row, value);
            }
            n += 4;
        }
        for n in n..x.rows {
            let [value] = self.dot_float::<1>(w.dtype, w.row(row), [x_row(n)]);
            out.set(n * w.rows + row, value);
        }
    }

    fn dot_float<const M: usize>(&self, dtype: DType, w: &[u8], x: [&[f32]; M]) -> [f32; M] {
        let isa = self.isa;
        match dtype {
            DType::F16 => {
                let value = |b| f16::from_le_bytes(b).to_f32();
                by_floats!(isa, scalar: x.map(|x| scalar::dot_float(w, x, value)), dot_f16(w, x))
            }
            DType::BF16 => {
                let value = |b| bf16::from_le_bytes(b).to_f32();
                by_floats!(isa, scalar: x.map(|x| scalar::dot_float(w, x, value)), dot_bf16(w, x))
            }
            _ => {
                let value = f32::from_le_bytes;
                by_floats!(isa, scalar: x.map(|x| scalar::dot_float(w, x, value)), dot_f32(w, x))
            }
        }
    }
}
