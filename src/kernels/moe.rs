//! A mixture of experts: for each token a few of many gated feed-forward layers.
//!
//! Enters: rows, and for each row the chosen experts with their weights. Leaves: the weighted sums.
//! Rows are gathered by expert, so that an expert's weights are read once for all its rows.

use super::{Act, Compute, Matrix};

/// The three matrices of one expert.
#[derive(Debug, Clone)]
pub struct Expert {
    /// d_model → d_ffn.
    pub gate: Matrix,
    /// d_model → d_ffn.
    pub up: Matrix,
    /// d_ffn → d_model.
    pub down: Matrix,
}

/// A row's choice of an expert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Which expert.
    pub expert: usize,
    /// How much its output counts.
    pub weight: f32,
}

/// The weighted sums of the chosen experts' outputs: (n, d_model) → (n, d_model). `choices` holds as
/// many for each row.
#[must_use]
pub fn mixture(
    compute: &Compute,
    experts: &[Expert],
    act: Act,
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
        let gathered: Vec<f32> =
            rows.iter().flat_map(|&(row, _)| &x[row * d..(row + 1) * d]).copied().collect();
        let gate = compute.matmul(&expert.gate, &gathered);
        let up = compute.matmul(&expert.up, &gathered);
        let result = compute.matmul(&expert.down, &compute.gate_up(act, &gate, &up));
        for (&(row, weight), result) in rows.iter().zip(result.chunks_exact(d)) {
            let out = &mut out[row * d..(row + 1) * d];
            out.iter_mut().zip(result).for_each(|(o, r)| *o += weight * r);
        }
    }
    out
}

/// The `count` best experts of each row of `scores`, (n, experts), weighed by the softmax over all;
/// `normed`: over the chosen only. Equal scores choose the lower index.
#[must_use]
pub fn route(
    scores: &[f32],
    experts: usize,
    count: usize,
    normed: bool,
    scale: f32,
) -> Vec<Vec<Choice>> {
    let row = |scores: &[f32]| {
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|s| (s - max).exp()).collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        order.truncate(count);
        let total: f32 =
            if normed { order.iter().map(|&i| weights[i]).sum() } else { weights.iter().sum() };
        order.iter().map(|&i| Choice { expert: i, weight: scale * weights[i] / total }).collect()
    };
    scores.chunks_exact(experts).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_of_all_or_of_the_chosen() {
        let scores = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln(), 2.0_f32.ln()];
        let all = &route(&scores, 4, 2, false, 1.0)[0];
        assert_eq!((all[0].expert, all[1].expert), (2, 1));
        assert!((all[0].weight - 0.5).abs() < 1e-6 && (all[1].weight - 0.2).abs() < 1e-6);
        let chosen = &route(&scores, 4, 2, true, 2.0)[0];
        assert!((chosen[0].weight - 10.0 / 7.0).abs() < 1e-6);
    }
}
