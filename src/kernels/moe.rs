//! A mixture of experts: for each token a few of many gated feed-forward layers.
//!
//! Enters: rows, and for each row the chosen experts with their weights. Leaves: the weighted sums.
//! Rows are gathered by expert, so that an expert's weights are read once for all its rows.

use super::{Act, Affine, Compute, Gated, Matrix};
use std::ops::Range;

/// The three layers of one expert.
#[derive(Debug, Clone)]
pub struct Expert {
    /// d_model → d_ffn.
    pub gate: Biased,
    /// d_model → d_ffn.
    pub up: Biased,
    /// d_ffn → d_model.
    pub down: Biased,
}

/// A matrix, and what is added to its products.
#[derive(Debug, Clone)]
pub struct Biased {
    /// The matrix.
    pub matrix: Matrix,
    /// One element for each of its rows.
    pub bias: Option<Vec<f32>>,
}

/// A row's choice of an expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Which expert.
    pub expert: usize,
    /// How much its output counts.
    pub weight: f32,
}

/// Where a choice's weight enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weigh {
    /// It is a factor of what the expert gets.
    Inputs,
    /// It is a factor of what the expert gives.
    Outputs,
}

/// The weighted sums of the chosen experts' outputs: (n, d_model) → (n, d_model). `choices` holds as
/// many for each row.
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
        let result = compute.feed_forward(act, expert.layer(), &gathered);
        for (&(row, weight), result) in rows.iter().zip(result.chunks_exact(d)) {
            let out = &mut out[row * d..(row + 1) * d];
            let weight = if weigh == Weigh::Outputs { weight } else { 1.0 };
            out.iter_mut().zip(result).for_each(|(o, r)| *o += weight * r);
        }
    }
    out
}

impl Biased {
    /// Some of the rows.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        let bias = self.bias.as_ref().map(|bias| bias[rows.clone()].to_vec());
        Self { matrix: self.matrix.part(rows), bias }
    }

    fn affine(&self) -> Affine<'_> {
        Affine { matrix: &self.matrix, bias: self.bias.as_deref() }
    }
}

impl Expert {
    fn layer(&self) -> Gated<'_> {
        Gated { gate: self.gate.affine(), up: self.up.affine(), down: self.down.affine() }
    }
}
