//! Products with stored matrices: `x · Wᵀ` for weights of any type.
//!
//! Enters: rows of activations ([`Input`]), matrices. Leaves: rows of f32, one result for each matrix.
//! One or two rows are multiplied with each stored row where it lies; more rows (a prompt) with panels
//! that are unpacked once ([`super::panel`]). All matrices of one call share one division of the work
//! among threads.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

mod division;
mod few;
mod gated;
mod input;
mod panels;
pub(super) mod runs;

pub(super) use division::Divisions;
pub use gated::{Affine, Gated};
pub use input::Input;

use super::blocks::{QuantKind, kind};
use super::disjoint::Disjoint;
use super::isa::by_floats;
use super::{Compute, Matrix, scalar};
use division::Places;
use half::{bf16, f16};
use input::{Levels, PANELS_FROM};
use runs::Runs;
use std::ops::Range;
use tealight_bundle::gguf::DType;

/// Stored bytes below which another thread costs more than it brings.
const TASK_BYTES_MIN: usize = 16 * 1024;
/// Tasks a thread gets, so that an interrupted one does not hold up the rest.
const TASKS_A_THREAD: usize = 4;

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

    /// The products of one input with several matrices, each (n, w.rows).
    ///
    /// # Panics
    /// When a matrix has another number of columns than the input.
    #[must_use]
    pub fn products(&self, weights: &[&Matrix], x: &Input<'_>) -> Vec<Vec<f32>> {
        let mut out = vec![Vec::new(); weights.len()];
        self.products_into(weights, x, &mut out);
        out
    }

    /// As [`Compute::products`], into buffers whose room is used again.
    ///
    /// # Panics
    /// When a matrix has another number of columns than the input, or no buffer.
    pub fn products_into(&self, weights: &[&Matrix], x: &Input<'_>, out: &mut [Vec<f32>]) {
        assert!(weights.iter().all(|w| w.columns == x.columns), "{weights:?} on {}", x.columns);
        assert_eq!(weights.len(), out.len(), "a buffer for each of {weights:?}");
        // What is there already is overwritten, every element by some part.
        out.iter_mut().zip(weights).for_each(|(out, w)| out.resize(x.rows * w.rows, 0.0));
        let shared: Vec<_> = out.iter_mut().map(|out| Disjoint::new(out)).collect();
        if x.rows < PANELS_FROM {
            let division = self.division(weights);
            self.pool.run_shares(&|thread| division.share(thread), &|index| {
                let Places { matrix, rows } = &division.parts[index];
                // SAFETY: no two parts share a row of a matrix.
                unsafe { self.product_few(weights[*matrix], rows, x, &shared[*matrix]) };
            });
            return;
        }
        let tasks = self.tasks(weights, x.rows);
        self.pool.run(tasks.len(), &|index| {
            let task = &tasks[index];
            // SAFETY: no two tasks share a row of a matrix, and each row owns its column of the result.
            unsafe {
                self.product(weights[task.matrix], task.rows.clone(), x, &shared[task.matrix]);
            }
        });
    }

    /// The products of some stored rows with all rows of activations.
    ///
    /// # Safety
    /// Nobody else writes the results of these rows meanwhile.
    unsafe fn product(&self, w: &Matrix, rows: Range<usize>, x: &Input<'_>, out: &Disjoint<'_>) {
        match (&x.levels, kind(w.dtype)) {
            // The scalar level has no panels.
            (Some(Levels::Few(levels)), Some(QuantKind::Levels)) => {
                let row_bytes = w.range.len() / w.rows;
                let runs = Runs { w: w.bytes(), row_bytes, first: [rows.start; 4] };
                for n in 0..x.rows {
                    // SAFETY: as the caller says.
                    let out = unsafe { out.slice(n * w.rows + rows.start..n * w.rows + rows.end) };
                    self.dot_rows(
                        w.dtype,
                        runs,
                        levels.row(n),
                        &mut [out, &mut [], &mut [], &mut []],
                    );
                }
            }
            (Some(Levels::Many(tiles, starts)), Some(QuantKind::Levels)) => {
                // SAFETY: as the caller says.
                unsafe { self.multiply_panels(w, rows, (tiles, starts), out) };
            }
            // SAFETY: as the caller says.
            _ => rows.for_each(|row| unsafe { self.dot_floats(w, row, x, out) }),
        }
    }

    /// The dot products of one stored row of floats with all rows of activations.
    ///
    /// # Safety
    /// Nobody else writes the results of this row meanwhile.
    unsafe fn dot_floats(&self, w: &Matrix, row: usize, x: &Input<'_>, out: &Disjoint<'_>) {
        let x_row = |n: usize| &x.floats[n * x.columns..(n + 1) * x.columns];
        let mut n = 0;
        while n + 4 <= x.rows {
            let values =
                self.dot_float::<4>(w.dtype, w.row(row), std::array::from_fn(|i| x_row(n + i)));
            for (i, value) in values.into_iter().enumerate() {
                // SAFETY: as the caller says.
                unsafe { out.set((n + i) * w.rows + row, value) };
            }
            n += 4;
        }
        for n in n..x.rows {
            let [value] = self.dot_float::<1>(w.dtype, w.row(row), [x_row(n)]);
            // SAFETY: as the caller says.
            unsafe { out.set(n * w.rows + row, value) };
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
