//! A gated feed-forward layer: (act(x · Gᵀ) · (x · Uᵀ)) · Dᵀ.
//!
//! In prefill with quantized weights, the gate and up products of a group of rows are combined and quantized to eight
//! bits while still in cache. The hidden activations, the widest there are, never go to memory as floats.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::input::{Input, Levels, Tiled};
use super::panels::rows_together;
use crate::kernels::activations::{Activations, Part};
use crate::kernels::blocks::{GROUP, QuantKind, kind};
use crate::kernels::disjoint::Disjoint;
use crate::kernels::float::add_bias;
use crate::kernels::panel::PANEL_ROWS;
use crate::kernels::{Act, Compute, Matrix};
use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A matrix and what becomes of its products.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// The matrix.
    pub matrix: &'a Matrix,
    /// What becomes of them.
    pub finish: &'a Finish,
}

/// What becomes of a matrix's products: product · scale + bias.
#[derive(Debug, Clone, Default)]
pub struct Finish {
    /// Multiplier on them.
    pub scale: Option<f32>,
    /// Added to them: one element per row of the matrix.
    pub bias: Option<Vec<f32>>,
}

impl Finish {
    /// Only a bias.
    #[must_use]
    pub fn bias(bias: Option<Vec<f32>>) -> Self {
        Self { scale: None, bias }
    }

    /// For some of the matrix's rows.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        Self { scale: self.scale, bias: self.bias.as_ref().map(|bias| bias[rows].to_vec()) }
    }

    /// Finishes the products of some of the matrix's rows, (n, rows).
    pub fn apply(&self, products: &mut [f32], rows: Range<usize>) {
        if let Some(scale) = self.scale {
            products.iter_mut().for_each(|x| *x *= scale);
        }
        if let Some(bias) = &self.bias {
            add_bias(products, &bias[rows]);
        }
    }
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

/// Groups of hidden columns per thread below which these are no good unit of work: some threads would wait for others.
const GROUPS_A_THREAD: usize = 3;

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
        down.finish.apply(&mut out, 0..d.rows);
        out
    }

    /// act(gate) · up, (n, d_ffn), prepared as input of the down matrix.
    fn hidden(&self, act: Act, layer: Gated<'_>, x: &Input<'_>) -> Input<'static> {
        let Gated { gate, up, down } = layer;
        let all_levels =
            [gate, up, down].iter().all(|l| kind(l.matrix.dtype) == Some(QuantKind::Levels));
        let groups = gate.matrix.rows.div_ceil(GROUP);
        if let Some(Levels::Many(x)) = &x.levels
            && all_levels
            && groups >= GROUPS_A_THREAD * self.pool.threads()
        {
            let (n, columns) = (x.rows.rows, gate.matrix.rows);
            // SAFETY: each part of the run initializes a group of all rows.
            let levels = unsafe {
                Activations::filled(n, columns, |parts| {
                    let parts = Disjoint::new(parts);
                    self.pool.run(groups, &|group| self.hidden_group(act, layer, group, x, &parts));
                })
            };
            return self.input_of(levels, layer.down.matrix.dtype);
        }
        let mut products = self.products(&[gate.matrix, up.matrix], x);
        for (product, layer) in products.iter_mut().zip([gate, up]) {
            layer.finish.apply(product, 0..layer.matrix.rows);
        }
        let hidden = self.gate_up(act, &products[0], &products[1]);
        self.input_from(Cow::Owned(hidden), &[down.matrix])
    }

    /// Computes a group of the hidden activations (rows of gate and up) and writes it to `out`, (n, groups).
    fn hidden_group(
        &self,
        act: Act,
        layer: Gated<'_>,
        group: usize,
        x: &Tiled,
        out: &Disjoint<'_, MaybeUninit<Part>>,
    ) {
        let n = x.rows.rows;
        let (gate, up) = (layer.gate.matrix, layer.up.matrix);
        let groups = gate.rows.div_ceil(GROUP);
        // The results of both matrices are kept, hence twice the rows.
        let together = rows_together(2 * n).min(GROUP);
        let mut results = [const { Vec::new() }; 2];
        let mut hidden = vec![[0.0; GROUP]; n];
        let columns = GROUP * group..(GROUP * (group + 1)).min(gate.rows);
        for first in columns.clone().step_by(together) {
            let rows = first..(first + together).min(columns.end);
            let [gates, ups] = &mut results;
            self.results(gate, rows.clone(), x, gates, (up, rows.start));
            self.results(up, rows.clone(), x, ups, (gate, rows.end));
            for (index, (gate, up)) in gates.iter_mut().zip(ups).enumerate() {
                let first = rows.start + index / n * PANEL_ROWS;
                let own = first..(first + PANEL_ROWS).min(rows.end);
                let (gate, up) = (&mut gate[..own.len()], &mut up[..own.len()]);
                for (row, half) in [(&mut *gate, layer.gate), (&mut *up, layer.up)] {
                    half.finish.apply(row, own.clone());
                }
                let to = own.start - columns.start..own.end - columns.start;
                self.gate_up_part(act, gate, up, &mut hidden[index % n][to]);
            }
        }
        for (row, hidden) in hidden.iter().enumerate() {
            let at = row * groups + group;
            // SAFETY: no other part of the run has this group, and the slice is dropped before the next is taken.
            let part = unsafe { out.slice(at..at + 1) };
            self.quantize_row(&hidden[..columns.len()], part);
        }
    }
}
