//! Mixture of experts: each token goes through a few of many feed-forward layers.
//!
//! Input: rows, and for each row the chosen experts with their weights. Output: the weighted sums.
//! Rows are gathered by expert, so that an expert's matrices are read once for all its rows.

use super::{Act, Affine, Compute, Finish, Gated, Matrix};
use std::ops::Range;

/// The three layers of one expert.
#[derive(Debug, Clone)]
pub struct Expert {
    /// d_model → d_ffn; `None`: down(act(up(x))).
    pub gate: Option<Finished>,
    /// d_model → d_ffn.
    pub up: Finished,
    /// d_ffn → d_model.
    pub down: Finished,
}

/// A matrix and what becomes of its products.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The matrix.
    pub matrix: Matrix,
    /// What becomes of them.
    pub finish: Finish,
}

/// An expert chosen for a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Index of the expert.
    pub expert: usize,
    /// The expert's weight for this row.
    pub weight: f32,
}

/// Where a choice's weight is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weigh {
    /// To the expert's input.
    Inputs,
    /// To the expert's output.
    Outputs,
}

/// The weighted sums of the chosen experts' outputs: (n, d_model) → (n, d_model). `choices` has one list
/// per row.
#[must_use]
pub fn mixture(
    compute: &Compute,
    experts: &[Expert],
    act: Act,
    weigh: Weigh,
    x: &[f32],
    choices: &[Vec<Choice>],
) -> Vec<f32> {
    let d = x.len() / choices.len().max(1);
    let mut out = vec![0.0; x.len()];
    for (index, expert) in experts.iter().enumerate() {
        let rows: Vec<(usize, f32)> = choices
            .iter()
            .enumerate()
            .flat_map(|(row, all)| {
                all.iter().filter(|c| c.expert == index).map(move |c| (row, c.weight))
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let gathered: Vec<f32> = match weigh {
            Weigh::Outputs => {
                rows.iter().flat_map(|&(row, _)| &x[row * d..(row + 1) * d]).copied().collect()
            }
            Weigh::Inputs => rows
                .iter()
                .flat_map(|&(row, weight)| {
                    x[row * d..(row + 1) * d].iter().map(move |x| x * weight)
                })
                .collect(),
        };
        let result = expert.forward(compute, act, &gathered);
        for (&(row, weight), result) in rows.iter().zip(result.chunks_exact(d)) {
            let out = &mut out[row * d..(row + 1) * d];
            let weight = if weigh == Weigh::Outputs { weight } else { 1.0 };
            out.iter_mut().zip(result).for_each(|(o, r)| *o += weight * r);
        }
    }
    out
}

impl Finished {
    /// Some of the rows.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        Self { matrix: self.matrix.part(rows.clone()), finish: self.finish.part(rows) }
    }

    fn affine(&self) -> Affine<'_> {
        Affine { matrix: &self.matrix, finish: &self.finish }
    }
}

impl Expert {
    fn forward(&self, compute: &Compute, act: Act, x: &[f32]) -> Vec<f32> {
        let (up, down) = (self.up.affine(), self.down.affine());
        let Some(gate) = &self.gate else {
            let hidden = product(compute, up, x);
            let hidden = compute.gate_up(act, &hidden, &vec![1.0; hidden.len()]);
            return product(compute, down, &hidden);
        };
        compute.feed_forward(act, Gated { gate: gate.affine(), up, down }, x)
    }
}

fn product(compute: &Compute, layer: Affine<'_>, x: &[f32]) -> Vec<f32> {
    let weights = [layer.matrix];
    let mut out = compute.products(&weights, &compute.input(x, &weights)).pop().unwrap_or_default();
    layer.finish.apply(&mut out, 0..layer.matrix.rows);
    out
}
