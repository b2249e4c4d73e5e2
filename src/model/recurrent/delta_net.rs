//! Gated delta nets (Qwen 3 Next, 3.5): projections, a convolution, the recurrence, a gated norm.

use super::super::norm::Norm;
use super::super::spec::{DeltaNetSpec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::{Pasts, StateMixer, convolution};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Act, Convolution, DeltaNet, Recurrence};

/// A gated delta net with its projections.
pub struct GatedDeltaNet {
    net: DeltaNet,
    inputs: Inputs,
    gates: Gates,
    convolution: Convolution,
    /// Over the values of each head.
    norm: Norm,
    out: Linear,
}

/// Queries, keys, values, and the gate z of the output.
enum Inputs {
    Apart {
        qkv: Linear,
        z: Linear,
    },
    /// For each key head its query, its key, the values and gates of its heads: files of the first converters.
    ByKey(Linear),
}

/// What decays (alpha) and rates (beta) are made of.
enum Gates {
    Apart {
        alpha: Linear,
        beta: Linear,
    },
    /// For each key head the betas and then the alphas of its heads.
    ByKey(Linear),
}

impl GatedDeltaNet {
    /// The tensors `blk.{index}.ssm_*`, `attn_qkv` and `attn_gate`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        spec: DeltaNetSpec,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let DeltaNetSpec { taps, heads, key_heads, key_dim, value_dim, order } = spec;
        let (d, values) = (s.d_model, heads * value_dim);
        let net = DeltaNet {
            heads,
            key_heads,
            order,
            key_dim,
            value_dim,
            bias: w.floats(&name("ssm_dt.bias"), heads)?,
            rates: w.floats(&name("ssm_a"), heads)?,
            eps: s.norm_eps,
        };
        let width = net.width();
        let inputs = if w.has(&name("ssm_in.weight")) {
            Inputs::ByKey(w.linear(&name("ssm_in"), width + values, d)?)
        } else {
            Inputs::Apart {
                qkv: w.linear(&name("attn_qkv"), width, d)?,
                z: w.linear(&name("attn_gate"), values, d)?,
            }
        };
        let gates = if w.has(&name("ssm_ba.weight")) {
            Gates::ByKey(w.linear(&name("ssm_ba"), 2 * heads, d)?)
        } else {
            Gates::Apart {
                alpha: w.linear(&name("ssm_alpha"), heads, d)?,
                beta: w.linear(&name("ssm_beta"), heads, d)?,
            }
        };
        Ok(Self {
            net,
            inputs,
            gates,
            convolution: convolution(w, &name("ssm_conv1d"), (width, taps), true)?,
            norm: Norm::load(s, w, &name("ssm_norm"), value_dim)?,
            out: w.linear(&name("ssm_out"), d, values)?,
        })
    }
}

impl StateMixer for GatedDeltaNet {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let (n, heads, dim) = (x.rows(), self.net.heads, self.net.value_dim);
        let (qkv, z, alpha, beta) = self.project(b, x)?;
        let kept = self.convolution.state_len();
        let qkv = pasts.recur(b, 0, Recurrence::Convolution(&self.convolution), &[&qkv])?;
        let net = Recurrence::DeltaNet(&self.net);
        let mixed = pasts.recur(b, kept, net, &[&qkv, &alpha, &beta])?;
        let mixed = self.norm.forward(b, &mixed.reshape(&[n, heads, dim])?)?;
        let mixed = b.gate_up(Act::Silu, &z, &mixed.reshape(&[n, heads * dim])?)?;
        b.product(&self.out, &mixed)
    }
}

impl GatedDeltaNet {
    /// Queries, keys and values together; z; alphas; betas.
    fn project(&self, b: &dyn Backend, x: &Tensor) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
        let (n, net) = (x.rows(), &self.net);
        let (keys, each) = (net.key_heads, net.heads / net.key_heads);
        // One product for all, so that they share the input's 8-bit conversion.
        let mut layers = Vec::with_capacity(4);
        match &self.inputs {
            Inputs::Apart { qkv, z } => layers.extend([qkv, z]),
            Inputs::ByKey(all) => layers.push(all),
        }
        match &self.gates {
            Gates::Apart { alpha, beta } => layers.extend([alpha, beta]),
            Gates::ByKey(all) => layers.push(all),
        }
        let mut all = b.products(&layers, x)?.into_iter();
        let mut next = || all.next().unwrap_or_else(|| unreachable!("a product of each layer"));
        let (qkv, z) = match &self.inputs {
            Inputs::Apart { .. } => (next(), next()),
            Inputs::ByKey(_) => {
                let values = each * net.value_dim;
                let woven = next().reshape(&[n, keys, 2 * net.key_dim + 2 * values])?;
                let part = |first, len| {
                    woven.narrow(2, first, len).and_then(|part| part.reshape(&[n, keys * len]))
                };
                let (q, k) = (part(0, net.key_dim)?, part(net.key_dim, net.key_dim)?);
                let v = part(2 * net.key_dim, values)?;
                (Tensor::concat(&[&q, &k, &v], 1)?, part(2 * net.key_dim + values, values)?)
            }
        };
        let (alpha, beta) = match &self.gates {
            Gates::Apart { .. } => (next(), next()),
            Gates::ByKey(_) => {
                let woven = next().reshape(&[n, keys, 2 * each])?;
                let part = |first| {
                    woven.narrow(2, first, each).and_then(|part| part.reshape(&[n, net.heads]))
                };
                (part(each)?, part(0)?)
            }
        };
        Ok((qkv, z, alpha, beta))
    }
}
