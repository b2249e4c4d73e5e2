//! The tensors of a mixture of experts.

use super::ops::ExpertPool;
use super::spec::{Experts, Spec};
use super::weights::{Weights, WeightsError};
use std::sync::Arc;

/// The experts of a layer; `name` builds a tensor's name.
///
/// # Errors
/// When a tensor is missing or has the wrong shape.
pub fn load(
    s: &Spec,
    rule: Experts,
    w: &Weights<'_>,
    name: &dyn Fn(&str) -> String,
) -> Result<Arc<ExpertPool>, WeightsError> {
    let vector = |part: &str| {
        let name = name(part);
        w.has(&name).then(|| w.floats(&name, rule.count)).transpose()
    };
    let experts = w.experts(name, rule.count, (s.d_model, rule.d_ffn))?;
    let (bias, scales) = (vector("exp_probs_b.bias")?, vector("ffn_down_exps.scale")?);
    Ok(Arc::new(ExpertPool { experts, rule, bias, scales }))
}
