//! The feed-forward half of a layer: gated, plain, or a mixture of experts.

use super::beside::Beside;
use super::experts::Mixture;
use super::norm::Norm;
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::Act;
use std::f32::consts::FRAC_1_SQRT_2;

/// One feed-forward layer; which tensors exist decides the kind.
pub enum Ffn {
    /// down(act(gate(x)) · up(x)).
    Gated(Gated),
    /// down(act(up(x))).
    Plain {
        /// The activation.
        act: Act,
        /// d_model → d_ffn.
        up: Linear,
        /// d_ffn → d_model.
        down: Linear,
    },
    /// A router chooses some of many gated layers for each token.
    Moe {
        /// The experts and how they are chosen.
        mixture: Box<Mixture>,
        /// The shared expert.
        shared: Option<Shared>,
        /// Multiplier on the sum of both.
        scale: f32,
    },
}

/// An expert that all tokens go through.
pub struct Shared {
    /// Gated or plain.
    layer: Box<Ffn>,
    /// Whose sigmoid multiplies its output, if it has one.
    scale: Option<Linear>,
}

/// A gated feed-forward layer.
pub struct Gated {
    /// As in [`super::spec::LayerSpec`].
    sparsity: Option<f32>,
    gate: Linear,
    up: Linear,
    /// Before the last layer.
    norm: Option<Norm>,
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
        let sparsity = s.layers[index].sparsity;
        let act = s.layers[index].act.unwrap_or(s.act);
        let routed = w.has(&name("ffn_gate_inp.weight")) && !Beside::is_there(w, index);
        if let Some(rule) = s.experts.filter(|_| routed) {
            let mixture = Box::new(Mixture::load(s, rule, w, &name)?);
            // A dense layer beside the experts counts as much as they do (Grok 2).
            if w.has(&name("ffn_up.weight")) {
                let layer = Self::Gated(Gated::load(s, w, &name, (d, ffn))?);
                let shared = Some(Shared { layer: Box::new(layer), scale: None });
                return Ok(Self::Moe { mixture, shared, scale: FRAC_1_SQRT_2 });
            }
            return Ok(Self::Moe { mixture, shared: Self::shared(s, w, &name)?, scale: 1.0 });
        }
        if w.has(&name("ffn_gate.weight")) {
            return Ok(Self::Gated(Gated { sparsity, ..Gated::load(s, w, &name, (d, ffn))? }));
        }
        let down = w.linear(&name("ffn_down"), d, ffn)?;
        // Without a gate tensor, an `up` with twice the rows holds the gate in its first half.
        if w.elements(&name("ffn_up.weight")) == Some(2 * ffn * d) {
            let [gate, up] = w.linear_parts(&name("ffn_up"), [ffn, ffn], d)?;
            return Ok(Self::Gated(Gated { sparsity, gate, up, norm: None, down }));
        }
        Ok(Self::Plain { act, up: w.linear(&name("ffn_up"), ffn, d)?, down })
    }

    fn shared(
        s: &Spec,
        w: &Weights<'_>,
        name: &dyn Fn(&str) -> String,
    ) -> std::result::Result<Option<Shared>, WeightsError> {
        let d = s.d_model;
        let Some(elements) = w.elements(&name("ffn_up_shexp.weight")) else { return Ok(None) };
        let ffn = elements / d;
        let (up, down) =
            (w.linear(&name("ffn_up_shexp"), ffn, d)?, w.linear(&name("ffn_down_shexp"), d, ffn)?);
        let layer = if w.has(&name("ffn_gate_shexp.weight")) {
            let gate = w.linear(&name("ffn_gate_shexp"), ffn, d)?;
            Self::Gated(Gated { sparsity: None, gate, up, norm: None, down })
        } else {
            Self::Plain { act: s.act, up, down }
        };
        let scale = name("ffn_gate_inp_shexp");
        let has_scale = w.has(&format!("{scale}.weight"));
        let scale = if has_scale { Some(w.linear(&scale, 1, d)?) } else { None };
        Ok(Some(Shared { layer: Box::new(layer), scale }))
    }

    /// Applies it to `x`, (n, d_model); `input` is what the layer was given, before its mixer.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, s: &Spec, b: &dyn Backend, x: &Tensor, input: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gated(layer) => layer.forward(s, b, x),
            Self::Plain { act, up, down } => {
                let hidden = b.product(up, x)?; // (n, d_ffn)
                b.product(down, &b.act(*act, &hidden)?)
            }
            Self::Moe { mixture, shared, scale: of_sum } => {
                let mixed = mixture.forward(s, b, if mixture.early() { input } else { x }, x)?;
                let Some(Shared { layer, scale }) = shared else { return Ok(mixed) };
                let all = layer.forward(s, b, x, input)?;
                let all = match scale {
                    Some(scale) => b.multiply_each(&all, &b.sigmoid(&b.product(scale, x)?)?)?,
                    None => all,
                };
                let sum = b.add(&mixed, &all)?;
                let is_one = (of_sum - 1.0).abs() <= f32::EPSILON;
                if is_one { Ok(sum) } else { b.scale(&sum, f64::from(*of_sum)) }
            }
        }
    }
}

/// Cap on hidden activations, in bytes; longer prompts are processed in chunks.
const HIDDEN_BYTES_MAX: usize = 20 << 20;

impl Gated {
    fn load(
        s: &Spec,
        w: &Weights<'_>,
        name: &dyn Fn(&str) -> String,
        (d, ffn): (usize, usize),
    ) -> std::result::Result<Self, WeightsError> {
        Ok(Self {
            sparsity: None,
            gate: w.linear(&name("ffn_gate"), ffn, d)?,
            up: w.linear(&name("ffn_up"), ffn, d)?,
            norm: Norm::load_if(s, w, &name("ffn_sub_norm"), ffn)?,
            down: w.linear(&name("ffn_down"), d, ffn)?,
        })
    }

    fn forward(&self, s: &Spec, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        let n = x.rows();
        let rows = HIDDEN_BYTES_MAX / (size_of::<f32>() * self.gate.outputs());
        let rows = rows.max(64);
        if n <= rows {
            return self.part(s, b, x);
        }
        // Equal parts, so that the last one isn't left with a few rows.
        let rows = n.div_ceil(n.div_ceil(rows));
        let parts = (0..n)
            .step_by(rows)
            .map(|at| self.part(s, b, &x.narrow(0, at, rows.min(n - at))?))
            .collect::<Result<Vec<_>>>()?;
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }

    fn part(&self, s: &Spec, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        if self.sparsity.is_none() && self.norm.is_none() {
            return b.feed_forward(s.act, [&self.gate, &self.up, &self.down], x);
        }
        let [gate, up] = b.products_of([&self.gate, &self.up], x)?;
        let gate = match self.sparsity {
            Some(least) => sparse(b, &gate, least)?,
            None => gate,
        };
        let hidden = b.gate_up(s.act, &gate, &up)?;
        let hidden = match &self.norm {
            Some(norm) => norm.forward(b, &hidden)?,
            None => hidden,
        };
        b.product(&self.down, &hidden)
    }
}

/// What of each element of `x`, (n, d_ffn), lies more than `least` standard deviations above the mean of its row.
#[expect(clippy::cast_precision_loss, reason = "thousands of elements")]
fn sparse(b: &dyn Backend, x: &Tensor, least: f32) -> Result<Tensor> {
    let mut values = Vec::new();
    b.read(x, &mut values)?;
    let width = x.shape()[1];
    for row in values.chunks_exact_mut(width.max(1)) {
        let mean = row.iter().sum::<f32>() / width as f32;
        let squares: f32 = row.iter().map(|x| (x - mean) * (x - mean)).sum();
        let bar = mean + least * (squares / (width as f32 - 1.0)).sqrt();
        row.iter_mut().for_each(|x| *x = (*x - bar).max(0.0));
    }
    b.tensor(values, x.shape())
}
