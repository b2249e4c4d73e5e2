//! The feed-forward half of a layer: gated, plain, or a mixture of experts.

use super::beside::Beside;
use super::experts::Mixture;
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Linear, Result, Tensor};

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
        /// The experts and how they are chosen.
        mixture: Box<Mixture>,
        /// The shared expert.
        shared: Option<Shared>,
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
        let routed = w.has(&name("ffn_gate_inp.weight")) && !Beside::is_there(w, index);
        if let Some(rule) = s.experts.filter(|_| routed) {
            return Ok(Self::Moe {
                mixture: Box::new(Mixture::load(s, rule, w, &name)?),
                shared: Self::shared(w, &name, d)?,
            });
        }
        let down = w.linear(&name("ffn_down"), d, ffn)?;
        if w.has(&name("ffn_gate.weight")) {
            let (gate, up) =
                (w.linear(&name("ffn_gate"), ffn, d)?, w.linear(&name("ffn_up"), ffn, d)?);
            return Ok(Self::Gated(Gated { sparsity, gate, up, down }));
        }
        // Without a gate tensor, an `up` with twice the rows holds the gate in its first half.
        if w.elements(&name("ffn_up.weight")) == Some(2 * ffn * d) {
            let [gate, up] = w.linear_parts(&name("ffn_up"), [ffn, ffn], d)?;
            return Ok(Self::Gated(Gated { sparsity, gate, up, down }));
        }
        Ok(Self::Plain { up: w.linear(&name("ffn_up"), ffn, d)?, down })
    }

    fn shared(
        w: &Weights<'_>,
        name: &dyn Fn(&str) -> String,
        d: usize,
    ) -> std::result::Result<Option<Shared>, WeightsError> {
        let Some(elements) = w.elements(&name("ffn_up_shexp.weight")) else { return Ok(None) };
        let ffn = elements / d;
        let (up, down) =
            (w.linear(&name("ffn_up_shexp"), ffn, d)?, w.linear(&name("ffn_down_shexp"), d, ffn)?);
        let layer = if w.has(&name("ffn_gate_shexp.weight")) {
            let gate = w.linear(&name("ffn_gate_shexp"), ffn, d)?;
            Self::Gated(Gated { sparsity: None, gate, up, down })
        } else {
            Self::Plain { up, down }
        };
        let scale = name("ffn_gate_inp_shexp");
        let has_scale = w.has(&format!("{scale}.weight"));
        let scale = if has_scale { Some(w.linear(&scale, 1, d)?) } else { None };
        Ok(Some(Shared { layer: Box::new(layer), scale }))
    }

    /// Applies the layer to `x`, (n, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, s: &Spec, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gated(layer) => layer.forward(s, b, x),
            Self::Plain { up, down } => {
                let hidden = b.product(up, x)?; // (n, d_ffn)
                b.product(down, &b.act(s.act, &hidden)?)
            }
            Self::Moe { mixture, shared } => {
                let mixed = mixture.forward(s, b, x, x)?;
                let Some(Shared { layer, scale }) = shared else { return Ok(mixed) };
                let all = layer.forward(s, b, x)?;
                let all = match scale {
                    Some(scale) => b.multiply_each(&all, &b.sigmoid(&b.product(scale, x)?)?)?,
                    None => all,
                };
                b.add(&mixed, &all)
            }
        }
    }
}

/// Cap on hidden activations, in bytes; longer prompts are processed in chunks.
const HIDDEN_BYTES_MAX: usize = 20 << 20;

impl Gated {
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
        let Some(least) = self.sparsity else {
            return b.feed_forward(s.act, [&self.gate, &self.up, &self.down], x);
        };
        let [gate, up] = b.products_of([&self.gate, &self.up], x)?;
        b.product(&self.down, &b.gate_up(s.act, &sparse(b, &gate, least)?, &up)?)
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
