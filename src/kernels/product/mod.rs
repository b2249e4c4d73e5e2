//! Products with stored matrices: `x · Wᵀ` for weights of any type.
//!
//! Input: rows of activations ([`Input`]) and matrices. Output: rows of f32, one result per matrix.
//! A few rows (decode) are multiplied with the stored rows in place; more rows (prefill) with panels
//! that are unpacked once ([`super::panel`]). The work of all matrices in a call is divided among threads
//! together.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

mod division;
mod few;
mod gated;
mod input;
mod panels;
pub(super) mod runs;

pub(super) use division::Divisions;
pub use gated::{Affine, Finish, Gated};
pub use input::Input;

use super::blocks::{QuantKind, dequantize, kind};
use super::disjoint::Disjoint;
use super::isa::by_floats;
use super::panel::PANEL_ROWS;
use super::{Compute, Matrix, scalar};
use division::Places;
use half::{bf16, f16};
use input::Levels;
use runs::Runs;
use std::ops::Range;
use tealight_bundle::gguf::DType;

/// Below this many stored bytes, another thread costs more than it saves.
const TASK_BYTES_MIN: usize = 16 * 1024;
/// Tasks per thread, so that an interrupted thread does not hold up the rest.
const TASKS_A_THREAD: usize = 4;

impl Compute {
    /// `x · Wᵀ` for `x` of shape (n, w.columns): the result is (n, w.rows).
    ///
    /// # Panics
    /// When `x` is not whole rows of `w.columns` elements.
    #[must_use]
    pub fn matmul(&self, w: &Matrix, x: &[f32]) -> Vec<f32> {
        let input = self.input(x, &[w]);
        self.products(&[w], &input).pop().unwrap_or_default()
    }

    /// The products of one input with several matrices, each (n, w.rows).
    ///
    /// # Panics
    /// When the numbers of columns of a matrix and of the input differ.
    #[must_use]
    pub fn products(&self, weights: &[&Matrix], x: &Input<'_>) -> Vec<Vec<f32>> {
        let mut out = vec![Vec::new(); weights.len()];
        self.products_into(weights, x, &mut out);
        out
    }

    /// Like [`Compute::products`], writing into buffers that are reused.
    ///
    /// # Panics
    /// When the numbers of columns of a matrix and of the input differ, or those of matrices and buffers.
    pub fn products_into(&self, weights: &[&Matrix], x: &Input<'_>, out: &mut [Vec<f32>]) {
        assert!(weights.iter().all(|w| w.columns == x.columns), "{weights:?} on {}", x.columns);
        assert_eq!(weights.len(), out.len(), "a buffer for each of {weights:?}");
        // No need to clear old contents: the parts overwrite every element.
        out.iter_mut().zip(weights).for_each(|(out, w)| out.resize(x.rows * w.rows, 0.0));
        let shared: Vec<_> = out.iter_mut().map(|out| Disjoint::new(out)).collect();
        if x.few {
            let division = self.division(weights);
            self.pool.run_shares(&|thread| division.share(thread), &|index| {
                let Places { matrix, rows } = &division.parts[index];
                // SAFETY: no two parts share a row of a matrix.
                unsafe { self.product_few(weights[*matrix], rows, x, &shared[*matrix]) };
            });
            return;
        }
        let tasks = self.tasks(weights, x.rows, PANEL_ROWS);
        self.pool.run(tasks.len(), &|index| {
            let task = &tasks[index];
            // SAFETY: no two tasks share a row of a matrix, and each row has its own column of the result.
            unsafe {
                self.product(weights[task.matrix], task.rows.clone(), x, &shared[task.matrix]);
            }
        });
    }

    /// The products of some stored rows with all rows of activations.
    ///
    /// # Safety
    /// Nothing else writes the results of these rows during the call.
    unsafe fn product(&self, w: &Matrix, rows: Range<usize>, x: &Input<'_>, out: &Disjoint<'_>) {
        match (&x.levels, kind(w.dtype)) {
            // The scalar level has no panels.
            (Some(Levels::Few(levels)), Some(QuantKind::Levels)) => {
                let row_bytes = w.range.len() / w.rows;
                let runs = Runs { w: w.bytes(), row_bytes, first: [rows.start; 4] };
                for n in 0..x.rows {
                    // SAFETY: guaranteed by the caller.
                    let out = unsafe { out.slice(n * w.rows + rows.start..n * w.rows + rows.end) };
                    let out = &mut [[out, &mut [], &mut [], &mut []]];
                    self.dot_rows(w.dtype, runs, [levels.row(n)], out);
                }
            }
            (Some(Levels::Many(x)), Some(QuantKind::Levels)) => {
                // SAFETY: guaranteed by the caller.
                unsafe { self.multiply_panels(w, rows, x, out) };
            }
            // SAFETY: guaranteed by the caller.
            _ => rows.for_each(|row| unsafe { self.dot_floats(w, row, x, out) }),
        }
    }

    /// The dot products of one stored row of floats with all rows of activations.
    ///
    /// # Safety
    /// Nothing else writes the results of this row during the call.
    unsafe fn dot_floats(&self, w: &Matrix, row: usize, x: &Input<'_>, out: &Disjoint<'_>) {
        let x_row = |n: usize| &x.floats[n * x.columns..(n + 1) * x.columns];
        let (mut dtype, mut stored, mut values) = (w.dtype, w.row(row), Vec::new());
        if dtype == DType::NVFP4 {
            values.resize(w.columns, 0.0_f32);
            dequantize(dtype, stored, &mut values);
            (dtype, stored) = (DType::F32, bytemuck::cast_slice(&values));
        }
        let mut n = 0;
        while n + 4 <= x.rows {
            let values = self.dot_float::<4>(dtype, stored, std::array::from_fn(|i| x_row(n + i)));
            for (i, value) in values.into_iter().enumerate() {
                // SAFETY: guaranteed by the caller.
                unsafe { out.set((n + i) * w.rows + row, value) };
            }
            n += 4;
        }
        for n in n..x.rows {
            let [value] = self.dot_float::<1>(dtype, stored, [x_row(n)]);
            // SAFETY: guaranteed by the caller.
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
