//! A gated feed-forward layer: (act(x · Gᵀ) · (x · Uᵀ)) · Dᵀ.
//!
//! In prefill with quantized weights, the gate and up products of a group of rows are combined and quantized to eight
//! bits while still in the L2 cache. The hidden activations, the widest there are, never go to memory as floats.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::input::{Input, Levels};
use super::panels::{Task, rows_together};
use crate::kernels::activations::{self, Activations, BLOCK, RowMut};
use crate::kernels::blocks::{QuantKind, kind};
use crate::kernels::disjoint::Disjoint;
use crate::kernels::isa::by_floats;
use crate::kernels::panel::PANEL_ROWS;
use crate::kernels::{Act, Compute, Matrix, add_bias};
use std::borrow::Cow;
use std::ops::Range;

/// A matrix with an optional bias, which has one element per row.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// The matrix.
    pub matrix: &'a Matrix,
    /// Added to the products.
    pub bias: Option<&'a [f32]>,
}

/// The matrices of a gated feed-forward layer.
#[derive(Clone, Copy)]
pub struct Gated<'a> {
    /// d_model → d_ffn; the activation function is applied to its output.
    pub gate: Affine<'a>,
    /// d_model → d_ffn.
    pub up: Affine<'a>,
    /// d_ffn → d_model.
    pub down: Affine<'a>,
}

/// Eight-bit activations that several threads write at once.
struct DisjointLevels<'a> {
    stride: usize,
    quants: Disjoint<'a, i8>,
    scales: Disjoint<'a, f32>,
    sums32: Disjoint<'a, f32>,
    sums16: Disjoint<'a, f32>,
}

impl DisjointLevels<'_> {
    /// Some columns of a row, in whole blocks.
    ///
    /// # Safety
    /// Nothing else takes any of these columns of this row while the result is alive.
    unsafe fn part(&self, row: usize, columns: Range<usize>) -> RowMut<'_> {
        let at = |size: usize| {
            (row * self.stride + columns.start) / size..(row * self.stride + columns.end) / size
        };
        // SAFETY: guaranteed by the caller; blocks are whole, so no other columns share these elements.
        unsafe {
            RowMut {
                quants: self.quants.slice(at(1)),
                scales: self.scales.slice(at(BLOCK)),
                sums32: self.sums32.slice(at(BLOCK)),
                sums16: self.sums16.slice(at(BLOCK / 2)),
            }
        }
    }
}

impl Compute {
    /// The layer's output, (n, d_model), for `x`, (n, d_model).
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    #[must_use]
    pub fn feed_forward(&self, act: Act, layer: Gated<'_>, x: &[f32]) -> Vec<f32> {
        let Gated { gate, up, down } = layer;
        let (g, u, d) = (gate.matrix, up.matrix, down.matrix);
        let fits = (g.rows, g.columns) == (u.rows, u.columns) && d.columns == g.rows;
        assert!(fits, "{g:?}, {u:?} and {d:?}");
        let x = self.input(x, &[g, u]);
        let mut out = self.products(&[d], &self.hidden(act, layer, &x)).pop().unwrap_or_default();
        if let Some(bias) = down.bias {
            add_bias(&mut out, bias);
        }
        out
    }

    /// act(gate) · up, (n, d_ffn), prepared as input of the down matrix.
    fn hidden(&self, act: Act, layer: Gated<'_>, x: &Input<'_>) -> Input<'static> {
        let Gated { gate, up, down } = layer;
        let all_levels =
            [gate, up, down].iter().all(|l| kind(l.matrix.dtype) == Some(QuantKind::Levels));
        if let Some(Levels::Many(tiles, starts)) = &x.levels
            && all_levels
        {
            let mut levels = Activations::zeros(x.rows, gate.matrix.rows);
            let shared = DisjointLevels {
                stride: levels.stride,
                quants: Disjoint::new(&mut levels.quants),
                scales: Disjoint::new(&mut levels.scales),
                sums32: Disjoint::new(&mut levels.sums32),
                sums16: Disjoint::new(&mut levels.sums16),
            };
            let tasks = self.tasks(&[gate.matrix], x.rows);
            self.pool.run(tasks.len(), &|index| {
                let Task { rows, .. } = &tasks[index];
                self.hidden_rows(act, layer, rows.clone(), (tiles, starts), &shared);
            });
            return self.input_of(levels);
        }
        let mut products = self.products(&[gate.matrix, up.matrix], x);
        for (product, layer) in products.iter_mut().zip([gate, up]) {
            if let Some(bias) = layer.bias {
                add_bias(product, bias);
            }
        }
        let hidden = self.gate_up(act, &products[0], &products[1]);
        self.input_from(Cow::Owned(hidden), &[down.matrix])
    }

    /// Computes some columns of the hidden activations (rows of gate and up) and writes them to `out`.
    fn hidden_rows(
        &self,
        act: Act,
        layer: Gated<'_>,
        rows: Range<usize>,
        x: (&activations::Tiles, &[usize]),
        out: &DisjointLevels<'_>,
    ) {
        let n = x.1.last().copied().unwrap_or(0);
        // The results of both matrices are kept, hence twice the rows.
        let together = rows_together(2 * n);
        let mut results = [const { Vec::new() }; 2];
        let mut hidden = [0.0; PANEL_ROWS];
        for first in rows.clone().step_by(together) {
            let rows = first..(first + together).min(rows.end);
            let [gates, ups] = &mut results;
            let (gate, up) = (layer.gate.matrix, layer.up.matrix);
            self.results(gate, rows.clone(), x, gates, (up, rows.start));
            self.results(up, rows.clone(), x, ups, (gate, rows.end));
            for (index, (gate, up)) in gates.iter_mut().zip(ups).enumerate() {
                let first = rows.start + index / n * PANEL_ROWS;
                let columns = first..(first + PANEL_ROWS).min(rows.end);
                let (gate, up) = (&mut gate[..columns.len()], &mut up[..columns.len()]);
                for (row, half) in [(&mut *gate, layer.gate), (&mut *up, layer.up)] {
                    if let Some(bias) = half.bias {
                        add_bias(row, &bias[columns.clone()]);
                    }
                }
                let hidden = &mut hidden[..columns.len()];
                self.gate_up_part(act, gate, up, hidden);
                // SAFETY: no other task has these columns, and the slices are dropped before the next are taken.
                let row = &mut unsafe { out.part(index % n, columns) };
                by_floats!(
                    self.isa,
                    scalar: activations::quantize(hidden, row),
                    quantize(hidden, row)
                );
            }
        }
    }
}
