//! The attention half of a layer.

use super::batch::Span;
use super::latent::Latent;
use super::norm::Norm;
use super::rope::Rotation;
use super::spec::{KvHeads, QkNorm, Spec, Temperature};
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, BackendError, Linear, Result, Tensor};
use crate::kernels::{Fresh, Heads, Past};

/// Attention with its projections.
pub struct Attention {
    index: usize,
    inputs: Inputs,
    sinks: Option<Vec<f32>>,
    /// To a gate for each head, whose sigmoid multiplies what the head gives.
    head_gate: Option<Linear>,
    /// Of what all heads give.
    norm: Option<Norm>,
    out: Linear,
}

/// How queries, keys and values are computed.
enum Inputs {
    Direct(Direct),
    Latent(Latent),
}

/// Separate projections, and norms.
struct Direct {
    heads: KvHeads,
    q: Linear,
    q_norm: Option<Norm>,
    /// `None` if the layer reuses those of another.
    kv: Option<KeysValues>,
}

/// Queries, keys and values of new rows, (n, heads, dim) each.
struct Projected {
    q: Tensor,
    /// What multiplies the heads' results, (n, heads · dim), before its sigmoid.
    gate: Option<Tensor>,
    /// `None` if the layer uses those of another.
    kv: Option<(Tensor, Tensor)>,
}

struct KeysValues {
    k: Linear,
    k_norm: Option<Norm>,
    /// `None`: the projected keys serve as values.
    v: Option<Linear>,
    v_norm: Option<Norm>,
}

impl Attention {
    /// The tensors `blk.{index}.attn_*`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let (inputs, value_dim) = match s.latent {
            Some(latent) => (Inputs::Latent(Latent::load(s, latent, w, index)?), latent.value_dim),
            None => (Inputs::Direct(Direct::load(s, w, index)?), s.layers[index].heads.value_dim),
        };
        let sinks = format!("blk.{index}.attn_sinks.weight");
        // No family with bidirectional attention has sinks: in such a file the tensor stays unclaimed, which is an
        // error.
        let has_sinks = s.causal && w.has(&sinks);
        let sinks = has_sinks.then(|| w.floats(&sinks, s.n_heads)).transpose()?;
        let gate = format!("blk.{index}.attn_gate");
        let has_gate = w.elements(&format!("{gate}.weight")) == Some(s.n_heads * s.d_model);
        let head_gate = has_gate.then(|| w.linear(&gate, s.n_heads, s.d_model)).transpose()?;
        let out = format!("blk.{index}.attn_output");
        let out = w.linear(&out, s.d_model, s.n_heads * value_dim)?;
        let width = s.n_heads * value_dim;
        let norm = Norm::load_if(s, w, &format!("blk.{index}.attn_sub_norm"), width)?;
        Ok(Self { index, inputs, sinks, head_gate, norm, out })
    }

    /// Attention of `x`, (n, d_model): the new rows of `spans`, each over its own sequence, to whose pages it appends
    /// their keys and values.
    ///
    /// # Errors
    /// When a sequence has no room.
    pub fn forward(
        &self,
        s: &Spec,
        b: &dyn Backend,
        x: &Tensor,
        rotation: Option<&Rotation>,
        spans: &mut [Span<'_>],
    ) -> Result<Tensor> {
        let layer = s.layers[self.index];
        let Projected { q, gate, kv } = match &self.inputs {
            Inputs::Direct(direct) => direct.project(s, b, x, rotation)?,
            Inputs::Latent(latent) => {
                let (q, k, v) = latent.project(s, b, x, rotation)?;
                Projected { q, gate: None, kv: Some((k, v)) }
            }
        };
        let q = match layer.temperature {
            Some(temperature) => warmed(b, &q, temperature, spans)?,
            None => q,
        };
        if let Some((k, v)) = &kv {
            let fresh = |span| fresh(span, self.index);
            b.append(k, v, &mut spans.iter_mut().map(fresh).collect::<Result<Vec<_>>>()?)?;
        }
        // A layer without keys and values of its own uses those of another.
        let owner = if kv.is_some() { self.index } else { layer.shares.unwrap_or(self.index) };
        let pasts = spans.iter().map(|span| past(span, owner)).collect::<Result<Vec<_>>>()?;
        let shape = Heads {
            heads: s.n_heads,
            kv_heads: layer.heads.count,
            key_dim: layer.heads.key_dim,
            value_dim: layer.heads.value_dim,
            window: layer.window,
            scale: s.attention_scale,
            softcap: s.attention_softcap,
            alibi: s.alibi,
        };
        let mixed = b.attend(shape, self.sinks.as_deref(), &q, &pasts)?;
        let mixed = match &self.inputs {
            Inputs::Direct(_) => mixed,
            Inputs::Latent(latent) => latent.values(s, b, mixed)?,
        };
        let mixed = match gate {
            Some(gate) => b.multiply_each(&mixed, &b.sigmoid(&gate)?)?,
            None => mixed,
        };
        let mixed = match &self.head_gate {
            Some(layer) => {
                let (n, gate) = (x.rows(), b.sigmoid(&b.product(layer, x)?)?);
                let width = mixed.shape()[1];
                let by_head = mixed.reshape(&[n, s.n_heads, width / s.n_heads])?;
                let gate = gate.reshape(&[n, s.n_heads, 1])?;
                b.multiply_each(&by_head, &gate)?.reshape(&[n, width])?
            }
            None => mixed,
        };
        let mixed = match &self.norm {
            Some(norm) => norm.forward(b, &mixed)?,
            None => mixed,
        };
        b.product(&self.out, &mixed) // (n, d_model)
    }
}

/// Where a layer's keys and values of a span's positions go.
fn fresh<'s>(span: &'s mut Span<'_>, layer: usize) -> Result<Fresh<'s>> {
    let rows = span.len();
    let room = span.sequence.fresh(layer, rows);
    room.ok_or_else(|| BackendError::new(format!("no room for {rows} positions in layer {layer}")))
}

/// A layer's keys and values of a span's sequence.
fn past<'s>(span: &'s Span<'_>, layer: usize) -> Result<Past<'s>> {
    let past = span.sequence.past(layer, span.len(), span.causal);
    past.ok_or_else(|| BackendError::new(format!("layer {layer} has no cache")))
}

impl Direct {
    /// Queries, keys and values may be fused in one tensor.
    fn load(s: &Spec, w: &Weights<'_>, index: usize) -> std::result::Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let heads = s.layers[index].heads;
        let gates = if s.gated_attention { 2 } else { 1 };
        let (d, q_rows) = (s.d_model, gates * s.n_heads * heads.key_dim);
        let (k_rows, v_rows) = (heads.count * heads.key_dim, heads.count * heads.value_dim);
        let q_norm = head_norm(s, w, &name("attn_q_norm"), (index, s.n_heads))?;
        if s.layers[index].shares.is_some() {
            // Files may still hold unused key and value weights of a layer that shares.
            for unused in ["attn_k.", "attn_k_norm.", "attn_v."] {
                w.pass(&name(unused));
            }
            let q = w.linear(&name("attn_q"), q_rows, d)?;
            return Ok(Self { heads, q, q_norm, kv: None });
        }
        let fused = name("attn_qkv");
        let (q, k, v) = if w.has(&format!("{fused}.weight")) {
            let [q, k, v] = w.linear_parts(&fused, [q_rows, k_rows, v_rows], d)?;
            (q, k, Some(v))
        } else {
            let keys_only = s.normed_values && !w.has(&name("attn_v.weight"));
            let v = if keys_only { None } else { Some(w.linear(&name("attn_v"), v_rows, d)?) };
            (w.linear(&name("attn_q"), q_rows, d)?, w.linear(&name("attn_k"), k_rows, d)?, v)
        };
        let k_norm = head_norm(s, w, &name("attn_k_norm"), (index, heads.count))?;
        let v_norm = s.normed_values.then(|| Norm::bare(s, w, heads.value_dim)).transpose()?;
        Ok(Self { heads, q, q_norm, kv: Some(KeysValues { k, k_norm, v, v_norm }) })
    }

    /// Queries of `x`, and keys and values if the layer has its own.
    fn project(
        &self,
        s: &Spec,
        b: &dyn Backend,
        x: &Tensor,
        rotation: Option<&Rotation>,
    ) -> Result<Projected> {
        let KvHeads { count, key_dim, value_dim } = self.heads;
        let n = x.rows();
        let turned = |x: Tensor, norm: Option<&Norm>| {
            let x = if s.qk_norm == QkNorm::BeforeRope { normed(b, norm, x)? } else { x };
            let x = match rotation {
                Some(rotation) => rotation.apply(b, &x)?,
                None => x,
            };
            if s.qk_norm == QkNorm::BeforeRope { Ok(x) } else { normed(b, norm, x) }
        };
        // Each head's query is followed by its gate, where there are gates.
        let queries = |q: Tensor| {
            let (q, gate) = if s.gated_attention {
                let both = q.reshape(&[n, s.n_heads, 2 * key_dim])?;
                let gate = both.narrow(2, key_dim, key_dim)?;
                let gate = gate.reshape(&[n, s.n_heads * key_dim])?;
                (both.narrow(2, 0, key_dim)?, Some(gate))
            } else {
                (q.reshape(&[n, s.n_heads, key_dim])?, None)
            };
            Ok::<_, BackendError>((turned(q, self.q_norm.as_ref())?, gate))
        };
        let Some(KeysValues { k, k_norm, v, v_norm }) = &self.kv else {
            let (q, gate) = queries(b.product(&self.q, x)?)?;
            return Ok(Projected { q, gate, kv: None });
        };
        let (q, k, v) = if let Some(v) = v {
            let [q, k, v] = b.products_of([&self.q, k, v], x)?;
            match s.clamp {
                Some(most) => (clamped(b, &q, most)?, clamped(b, &k, most)?, clamped(b, &v, most)?),
                None => (q, k, v),
            }
        } else {
            let [q, k] = b.products_of([&self.q, k], x)?;
            (q, k.clone(), k)
        };
        let k = turned(k.reshape(&[n, count, key_dim])?, k_norm.as_ref())?;
        let v = normed(b, v_norm.as_ref(), v.reshape(&[n, count, value_dim])?)?;
        let (q, gate) = queries(q)?;
        Ok(Projected { q, gate, kv: Some((k, v)) })
    }
}

/// `x` with no element further from 0 than `most`.
fn clamped(b: &dyn Backend, x: &Tensor, most: f32) -> Result<Tensor> {
    let mut values = Vec::new();
    b.read(x, &mut values)?;
    values.iter_mut().for_each(|x| *x = x.clamp(-most, most));
    b.tensor(values, x.shape())
}

/// Normalizes `x`, (n, heads, dim): each head separately if the norm is as long as a head, otherwise all heads
/// together.
fn normed(b: &dyn Backend, norm: Option<&Norm>, x: Tensor) -> Result<Tensor> {
    let &[n, heads, dim] = x.shape() else { unreachable!("heads of rows") };
    match norm {
        None => Ok(x),
        Some(norm) if norm.len() == dim => norm.forward(b, &x),
        Some(norm) => norm.forward(b, &x.reshape(&[n, heads * dim])?)?.reshape(&[n, heads, dim]),
    }
}

/// Multiplies queries `q`, (n, heads, key_dim), by the temperatures of their positions.
#[expect(clippy::cast_precision_loss, reason = "positions are below 2^24 in practice")]
fn warmed(b: &dyn Backend, q: &Tensor, t: Temperature, spans: &[Span<'_>]) -> Result<Tensor> {
    let grown = |position: usize| {
        let steps = (position + t.offset) / t.length;
        1.0 + t.scale * libm::logf(1.0 + steps as f32)
    };
    let positions = spans.iter().flat_map(|span| (span.sequence.len()..).take(span.len()));
    let factors: Vec<f32> = positions.map(grown).collect();
    b.multiply_each(q, &b.tensor(factors, &[q.rows(), 1, 1])?)
}

/// A norm for each head (`key_dim` elements), with shared or separate weights, or one over all heads together.
fn head_norm(
    s: &Spec,
    w: &Weights<'_>,
    name: &str,
    (index, heads): (usize, usize),
) -> std::result::Result<Option<Norm>, WeightsError> {
    let key_dim = s.layers[index].heads.key_dim;
    if s.qk_norm == QkNorm::Bare {
        return s.layers[index].rope.map(|_| Norm::bare(s, w, key_dim)).transpose();
    }
    let weight = format!("{name}.weight");
    if w.rank(&weight) == 2 {
        return Norm::load_by_head(s, w, name, heads, key_dim).map(Some);
    }
    let together = w.elements(&weight) == Some(heads * key_dim);
    Norm::load_if(s, w, name, if together { heads * key_dim } else { key_dim })
}
