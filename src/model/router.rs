//! Which experts of a mixture a token goes to, and how much each counts.
//!
//! Input: the router's scores. Output: choices, for [`crate::kernels::mixture`]. Knows nothing of what experts compute.

use super::spec::{Experts, Gating};
use crate::kernels::Choice;

/// Lower bound on the divisor that makes weights sum to 1: the smallest normal f16, as in the reference.
const TOTAL_MIN: f32 = 6.103_515_6e-5;

/// The choices for each row of `scores`, (n, experts). `bias` affects only the choice, not the weights. Ties go to the
/// lower index.
#[must_use]
pub fn route(rule: &Experts, scores: &[f32], bias: Option<&[f32]>) -> Vec<Vec<Choice>> {
    scores.chunks_exact(rule.count).map(|scores| row(rule, scores, bias)).collect()
}

fn row(rule: &Experts, scores: &[f32], bias: Option<&[f32]>) -> Vec<Choice> {
    let weights = match rule.gating {
        Gating::Softmax => softmax(scores),
        Gating::Sigmoid => scores.iter().map(|s| 1.0 / (1.0 + libm::expf(-s))).collect(),
    };
    let mut merits = weights.clone();
    if let Some(bias) = bias {
        merits.iter_mut().zip(bias).for_each(|(merit, bias)| *merit += bias);
    }
    if let Some(groups) = rule.groups {
        leave_groups(&mut merits, groups.count, groups.used);
    }
    let chosen = best(&merits, rule.used);
    let total: f32 = chosen.iter().map(|&i| weights[i]).sum();
    let factor = if rule.normed { rule.scale / total.max(TOTAL_MIN) } else { rule.scale };
    chosen.into_iter().map(|i| Choice { expert: i, weight: factor * weights[i] }).collect()
}

/// Excludes all but the best groups; a group's score is the sum of its two best experts'.
fn leave_groups(merits: &mut [f32], count: usize, used: usize) {
    let size = merits.len() / count;
    let merit = |group: &[f32]| best(group, 2).into_iter().map(|i| group[i]).sum();
    let groups: Vec<f32> = merits.chunks_exact(size).map(merit).collect();
    let kept = best(&groups, used);
    for (index, group) in merits.chunks_exact_mut(size).enumerate() {
        if !kept.contains(&index) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

/// Indices of the `count` largest, largest first.
fn best(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

fn softmax(scores: &[f32]) -> Vec<f32> {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|s| libm::expf(s - max)).collect();
    let total: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Weigh;
    use crate::model::spec::Groups;

    const RULE: Experts = Experts {
        count: 4,
        used: 2,
        d_ffn: 1,
        gating: Gating::Softmax,
        groups: None,
        normed: false,
        scale: 1.0,
        weigh: Weigh::Outputs,
        early: false,
    };

    fn chosen(rule: &Experts, scores: &[f32], bias: Option<&[f32]>) -> Vec<(usize, f32)> {
        route(rule, scores, bias)[0].iter().map(|c| (c.expert, c.weight)).collect()
    }

    fn close(found: &[(usize, f32)], expected: &[(usize, f32)]) {
        let same = |(a, b): (&(usize, f32), &(usize, f32))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
        assert!(found.iter().zip(expected).all(same), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn weights_are_normalized_over_all_or_over_the_chosen() {
        let scores = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln(), 2.0_f32.ln()];
        close(&chosen(&RULE, &scores, None), &[(2, 0.5), (1, 0.2)]);
        let rule = Experts { normed: true, scale: 2.0, ..RULE };
        close(&chosen(&rule, &scores, None), &[(2, 10.0 / 7.0), (1, 4.0 / 7.0)]);
    }

    #[test]
    fn a_bias_affects_the_choice_but_not_the_weights() {
        let rule = Experts { gating: Gating::Sigmoid, ..RULE };
        let bias = [0.0, 0.0, -1.0, 1.0];
        close(&chosen(&rule, &[0.0, -1.0, 3.0, -2.0], Some(&bias)), &[(3, 0.119_202_9), (0, 0.5)]);
    }

    #[test]
    fn an_expert_of_a_weak_group_is_left_out() {
        let groups = Some(Groups { count: 2, used: 1 });
        let rule = Experts { gating: Gating::Sigmoid, groups, ..RULE };
        // The best expert alone does not lift its group above two good ones.
        let found = chosen(&rule, &[3.0, -9.0, 2.0, 1.0], None);
        assert_eq!(found.iter().map(|c| c.0).collect::<Vec<_>>(), [2, 3]);
    }
}
