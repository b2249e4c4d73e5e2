//! A mixture of experts: the router, its rule, and the experts.

use super::router::route;
use super::spec::{Experts, Spec};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, ExpertPool, Linear, Result, Tensor};

/// The experts of a layer, and what chooses them for each row.
pub struct Mixture {
    /// d_model → number of experts.
    router: Linear,
    pool: ExpertPool,
    rule: Experts,
    /// Added to the experts' scores when choosing.
    bias: Option<Vec<f32>>,
    /// Multipliers on the experts' outputs.
    scales: Option<Vec<f32>>,
    /// To the narrower rows that the experts read and write, and back, where these are.
    latent: Option<[Linear; 2]>,
}

impl Mixture {
    /// The router and the experts of a layer; `name` builds a tensor's name.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        rule: Experts,
        w: &Weights<'_>,
        name: &dyn Fn(&str) -> String,
    ) -> std::result::Result<Self, WeightsError> {
        let vector = |part: &str| {
            let name = name(part);
            w.has(&name).then(|| w.floats(&name, rule.count)).transpose()
        };
        let d = s.d_model;
        let latent = match w.elements(&name("ffn_latent_down.weight")) {
            Some(elements) => {
                let width = elements / d;
                let down = w.linear(&name("ffn_latent_down"), width, d)?;
                Some([down, w.linear(&name("ffn_latent_up"), d, width)?])
            }
            None => None,
        };
        let width = latent.as_ref().map_or(d, |[down, _]| down.outputs());
        let experts = w.experts(name, rule.count, (width, rule.d_ffn))?;
        Ok(Self {
            router: w.linear(&name("ffn_gate_inp"), rule.count, d)?,
            pool: ExpertPool { experts, weigh: rule.weigh },
            rule,
            bias: vector("exp_probs_b.bias")?,
            scales: vector("ffn_down_exps.scale")?,
            latent,
        })
    }

    /// Whether the router sees what the layer was given.
    #[must_use]
    pub fn early(&self) -> bool {
        self.rule.early
    }

    /// The mixture for `x`, (n, d_model), where the router sees `routed`, (n, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(
        &self,
        s: &Spec,
        b: &dyn Backend,
        routed: &Tensor,
        x: &Tensor,
    ) -> Result<Tensor> {
        let mut scores = Vec::new(); // (n, experts)
        b.read(&b.product(&self.router, routed)?, &mut scores)?;
        let mut choices = route(&self.rule, &scores, self.bias.as_deref());
        if let Some(scales) = &self.scales {
            choices.iter_mut().flatten().for_each(|c| c.weight *= scales[c.expert]);
        }
        let Some([down, up]) = &self.latent else {
            return b.mixture(&self.pool, s.act, x, &choices);
        };
        b.product(up, &b.mixture(&self.pool, s.act, &b.product(down, x)?, &choices)?)
    }
}
