//! Kimi's delta attention with its projections: three convolutions, the recurrence, a norm and a gate.

use super::super::norm::Norm;
use super::super::spec::{KdaSpec, Spec};
use super::super::weights::{Weights, WeightsError};
use super::{Pasts, StateMixer, convolution};
use crate::backend::{Backend, Linear, Result, Tensor};
use crate::kernels::{Convolution, Kda, Recurrence};

/// Kimi's delta attention with its projections.
pub struct DeltaAttention {
    kda: Kda,
    qkv: Inputs,
    convolution: Convolution,
    alpha: Narrow,
    beta: Linear,
    gate: Narrow,
    norm: Norm,
    out: Linear,
}

/// Queries, keys and values.
enum Inputs {
    Together(Linear),
    Apart([Linear; 3]),
}

/// One layer, or two with a short vector between them.
struct Narrow {
    first: Linear,
    second: Option<Linear>,
}

impl DeltaAttention {
    /// The tensors `blk.{index}.ssm_*` and `attn_*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
        spec: KdaSpec,
    ) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (d, KdaSpec { taps, heads, dim, forgetting }) = (s.d_model, spec);
        let inner = heads * dim;
        let mut taps_of = Vec::new();
        for part in ["q", "k", "v"] {
            let of = name(&format!("ssm_conv1d_{part}"));
            taps_of.push(convolution(w, &of, (inner, taps), true)?.taps);
        }
        // One convolution for the three: its taps are (positions, channels).
        let by_position = |position: usize| {
            let own = position * inner..(position + 1) * inner;
            taps_of.iter().flat_map(move |taps| taps[own.clone()].to_vec())
        };
        let convolution = Convolution {
            channels: 3 * inner,
            taps: (0..taps).flat_map(by_position).collect(),
            bias: None,
            silu: true,
        };
        let qkv = if w.has(&name("attn_qkv.weight")) {
            Inputs::Together(w.linear(&name("attn_qkv"), 3 * inner, d)?)
        } else {
            let part = |part: &str| w.linear(&name(&format!("attn_{part}")), inner, d);
            Inputs::Apart([part("q")?, part("k")?, part("v")?])
        };
        let narrow = |part: &str| {
            let (first, second) = (name(&format!("ssm_{part}_a")), name(&format!("ssm_{part}_b")));
            if !w.has(&format!("{second}.weight")) {
                return Ok(Narrow { first: w.linear(&first, inner, d)?, second: None });
            }
            let rank = w.elements(&format!("{first}.weight")).unwrap_or(0) / d;
            let second = Some(w.linear(&second, inner, rank)?);
            Ok::<_, WeightsError>(Narrow { first: w.linear(&first, rank, d)?, second })
        };
        Ok(Self {
            kda: Kda {
                heads,
                dim,
                bias: w.floats(&name("ssm_dt.bias"), inner)?,
                rates: w.numbers(&name("ssm_a"), heads, 1)?,
                forgetting,
                eps: s.norm_eps,
            },
            qkv,
            convolution,
            alpha: narrow("f")?,
            beta: w.linear(&name("ssm_beta"), heads, d)?,
            gate: narrow("g")?,
            norm: Norm::load(s, w, &name("ssm_norm"), dim)?,
            out: w.linear(&name("attn_output"), d, inner)?,
        })
    }
}

impl StateMixer for DeltaAttention {
    fn forward(&self, b: &dyn Backend, x: &Tensor, pasts: &mut Pasts<'_, '_>) -> Result<Tensor> {
        let (n, heads, dim) = (x.rows(), self.kda.heads, self.kda.dim);
        let qkv = match &self.qkv {
            Inputs::Together(qkv) => b.product(qkv, x)?,
            Inputs::Apart(parts) => {
                let [q, k, v] = b.products_of(parts.each_ref(), x)?;
                Tensor::concat(&[&q, &k, &v], 1)?
            }
        };
        let layers = [&self.alpha.first, &self.beta, &self.gate.first];
        let [alpha, beta, gate] = b.products_of(layers, x)?;
        let second = |layer: &Narrow, x: Tensor| match &layer.second {
            Some(layer) => b.product(layer, &x),
            None => Ok(x),
        };
        let (alpha, gate) = (second(&self.alpha, alpha)?, second(&self.gate, gate)?);
        let qkv = pasts.recur(b, 0, Recurrence::Convolution(&self.convolution), &[&qkv])?;
        let first = self.convolution.state_len();
        let rows = [&qkv, &alpha, &beta];
        let mixed = pasts.recur(b, first, Recurrence::Kda(&self.kda), &rows)?;
        let mixed = self.norm.forward(b, &mixed.reshape(&[n, heads, dim])?)?;
        let mixed = mixed.reshape(&[n, heads * dim])?;
        b.product(&self.out, &b.multiply_each(&mixed, &b.sigmoid(&gate)?)?)
    }
}
