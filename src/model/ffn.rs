//! The feed-forward half of a layer: gated, plain, or a mixture of experts.

use super::beside::Beside;
use super::experts;
use super::linear::Linear;
use super::ops::{self, ExpertPool};
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::kernels::Compute;
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// One feed-forward layer; which tensors exist decides the kind.
pub enum Ffn {
    /// down(act(gate(x)) · up(x)).
    Gated(Gated),
    /// down(act(up(x))).
    Plain {
        /// d_model → d_ffn.
        up: Linear,
        /// d_ffn → d_model.
        down: Linear,
    },
    /// A router chooses some of many gated layers for each token.
    Moe {
        /// d_model → number of experts.
        router: Linear,
        /// The experts and how they are chosen.
        pool: Arc<ExpertPool>,
        /// The shared expert, and its gate if it has one.
        shared: Option<(Gated, Option<Linear>)>,
    },
}

/// A gated feed-forward layer.
pub struct Gated {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Ffn {
    /// The tensors `blk.{index}.ffn_*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (d, ffn) = (s.d_model, s.layers[index].d_ffn);
        let routed = w.has(&name("ffn_gate_inp.weight")) && !Beside::is_there(w, index);
        if let Some(rule) = s.experts.filter(|_| routed) {
            return Ok(Self::Moe {
                router: w.linear(&name("ffn_gate_inp"), rule.count, d)?,
                pool: experts::load(s, rule, w, &name)?,
                shared: Self::shared(w, &name, d)?,
            });
        }
        let down = w.linear(&name("ffn_down"), d, ffn)?;
        if w.has(&name("ffn_gate.weight")) {
            let (gate, up) =
                (w.linear(&name("ffn_gate"), ffn, d)?, w.linear(&name("ffn_up"), ffn, d)?);
            return Ok(Self::Gated(Gated { gate, up, down }));
        }
        // Without a gate tensor, an `up` with twice the rows holds the gate in its first half.
        if w.elements(&name("ffn_up.weight")) == Some(2 * ffn * d) {
            let [gate, up] = w.linear_parts(&name("ffn_up"), [ffn, ffn], d)?;
            return Ok(Self::Gated(Gated { gate, up, down }));
        }
        Ok(Self::Plain { up: w.linear(&name("ffn_up"), ffn, d)?, down })
    }

    fn shared(
        w: &Weights<'_>,
        name: &dyn Fn(&str) -> String,
        d: usize,
    ) -> std::result::Result<Option<(Gated, Option<Linear>)>, WeightsError> {
        let Some(elements) = w.elements(&name("ffn_up_shexp.weight")) else { return Ok(None) };
        let ffn = elements / d;
        let layer = Gated {
            gate: w.linear(&name("ffn_gate_shexp"), ffn, d)?,
            up: w.linear(&name("ffn_up_shexp"), ffn, d)?,
            down: w.linear(&name("ffn_down_shexp"), d, ffn)?,
        };
        let scale = name("ffn_gate_inp_shexp");
        let has_scale = w.has(&format!("{scale}.weight"));
        let scale = if has_scale { Some(w.linear(&scale, 1, d)?) } else { None };
        Ok(Some((layer, scale)))
    }

    /// Applies the layer to `x`, (n, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, s: &Spec, compute: &Arc<Compute>, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gated(layer) => layer.forward(s, compute, x),
            Self::Plain { up, down } => {
                let hidden = up.forward(x)?; // (n, d_ffn)
                let ones = hidden.ones_like()?;
                down.forward(&ops::gate_up(compute, s.act, &hidden, &ones)?)
            }
            Self::Moe { router, pool, shared } => {
                let scores = router.forward(x)?; // (n, experts)
                let mixed = ops::mixture(compute, pool, s.act, x, &scores)?;
                let Some((layer, scale)) = shared else { return Ok(mixed) };
                let all = layer.forward(s, compute, x)?;
                let all = match scale {
                    Some(scale) => {
                        all.broadcast_mul(&candle_nn::ops::sigmoid(&scale.forward(x)?)?)?
                    }
                    None => all,
                };
                ops::add(compute, &mixed, &all)
            }
        }
    }
}

/// Cap on hidden activations, in bytes; longer prompts are processed in chunks.
const HIDDEN_BYTES_MAX: usize = 20 << 20;

impl Gated {
    fn forward(&self, s: &Spec, compute: &Arc<Compute>, x: &Tensor) -> Result<Tensor> {
        let n = x.dim(0)?;
        let rows = HIDDEN_BYTES_MAX / (size_of::<f32>() * self.gate.outputs());
        let rows = rows.max(64);
        if n <= rows || !x.device().is_cpu() {
            return self.part(s, compute, x);
        }
        // Equal parts, so that the last one isn't left with a few rows.
        let rows = n.div_ceil(n.div_ceil(rows));
        let parts = (0..n)
            .step_by(rows)
            .map(|at| self.part(s, compute, &x.narrow(0, at, rows.min(n - at))?));
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
    }

    fn part(&self, s: &Spec, compute: &Arc<Compute>, x: &Tensor) -> Result<Tensor> {
        Linear::feed_forward(compute, s.act, [&self.gate, &self.up, &self.down], x)
    }
}
