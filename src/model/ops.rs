//! Where candle tensors and our kernels meet.
//!
//! Each operation has two implementations: a candle custom op over [`crate::kernels`] on the CPU, candle's own tensor
//! ops elsewhere. The latter are slower on a CPU, so only the tests run them there.

use super::rope::Rotation;
use super::router::route;
use super::spec::{Experts, Pairs};
use crate::kernels::{
    Act, CACHE_BLOCK, Cached, Compute, Expert, Heads, KEYS, Turn, attend, mixture as mix,
};
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail,
};
use std::sync::Arc;

/// a + b, of the same shape.
///
/// # Errors
/// When the shapes differ.
pub fn add(compute: &Arc<Compute>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device().is_cpu() {
        return a.apply_op2_no_bwd(b, &Add { compute: Arc::clone(compute) });
    }
    a.add(b)
}

struct Add {
    compute: Arc<Compute>,
}

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if a_layout.shape() != b_layout.shape() {
            bail!("add: shapes {:?} and {:?} differ", a_layout.shape(), b_layout.shape())
        }
        let out = self.compute.add(floats(a, a_layout)?, floats(b, b_layout)?);
        Ok((CpuStorage::F32(out), a_layout.shape().clone()))
    }
}

/// RMS norm over the last dimension of any shape.
///
/// # Errors
/// When the last dimension differs from the weight's length.
pub fn rms_norm(compute: &Arc<Compute>, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.apply_op2_no_bwd(weight, &RmsNorm { compute: Arc::clone(compute), eps });
    }
    candle_nn::ops::rms_norm(&x.contiguous()?, weight, eps)
}

struct RmsNorm {
    compute: Arc<Compute>,
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (floats(x, x_layout)?, floats(weight, weight_layout)?);
        if x_layout.shape().dims().last() != Some(&weight.len()) {
            bail!("rms-norm: {} weights do not fit shape {:?}", weight.len(), x_layout.shape())
        }
        let out = self.compute.rms_norm(x, weight, self.eps);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

/// Rotates the first elements of every head of `x`, (n, heads, head_dim), as many as there are angles for.
///
/// # Errors
/// When the shapes do not fit.
pub fn rotate(
    compute: &Arc<Compute>,
    x: &Tensor,
    rotation: &Rotation,
    pairs: Pairs,
) -> Result<Tensor> {
    if x.device().is_cpu() {
        let op = Rotate { compute: Arc::clone(compute), pairs };
        return x.apply_op3_no_bwd(&rotation.cos, &rotation.sin, &op);
    }
    rotate_portable(x, rotation, pairs)
}

fn rotate_portable(x: &Tensor, rotation: &Rotation, pairs: Pairs) -> Result<Tensor> {
    let (head_dim, dims) = (x.dim(D::Minus1)?, rotation.dims()?);
    let turned = x.narrow(D::Minus1, 0, dims)?.transpose(0, 1)?.unsqueeze(0)?.contiguous()?;
    let turned = match pairs {
        Pairs::Adjacent => candle_nn::rotary_emb::rope_i(&turned, &rotation.cos, &rotation.sin)?,
        Pairs::Halves => candle_nn::rotary_emb::rope(&turned, &rotation.cos, &rotation.sin)?,
    };
    let turned = turned.squeeze(0)?.transpose(0, 1)?.contiguous()?;
    if dims == head_dim {
        return Ok(turned);
    }
    let rest = x.narrow(D::Minus1, dims, head_dim - dims)?;
    Tensor::cat(&[&turned, &rest], D::Minus1)
}

struct Rotate {
    compute: Arc<Compute>,
    pairs: Pairs,
}

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = floats(x, x_layout)?;
        let (cos, sin) = (floats(cos, cos_layout)?, floats(sin, sin_layout)?);
        let (n, heads, head_dim) = x_layout.shape().dims3()?;
        let pairs = cos.len() / n.max(1);
        if cos.len() != n * pairs || sin.len() != n * pairs || 2 * pairs > head_dim {
            bail!("rope: {} angles do not fit shape {:?}", cos.len(), x_layout.shape())
        }
        let adjacent = self.pairs == Pairs::Adjacent;
        let turn = Turn { heads, head_dim, pairs, cos, sin, adjacent };
        Ok((CpuStorage::F32(self.compute.rotate(x, turn)), x_layout.shape().clone()))
    }
}

/// act(gate) · up.
///
/// # Errors
/// When the shapes differ.
pub fn gate_up(compute: &Arc<Compute>, act: Act, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.device().is_cpu() {
        return gate.apply_op2_no_bwd(up, &GateUp { compute: Arc::clone(compute), act });
    }
    gate_up_portable(act, gate, up)
}

fn gate_up_portable(act: Act, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match act {
        Act::Silu => candle_nn::ops::silu(gate)?.mul(up),
        Act::GeluTanh => gate.gelu()?.mul(up),
        Act::ReluSquared => gate.relu()?.sqr()?.mul(up),
        Act::SwigluOai => {
            let gate = gate.minimum(7.0)?;
            let sigmoid = candle_nn::ops::sigmoid(&(&gate * 1.702)?)?;
            gate.mul(&sigmoid)?.mul(&(up.clamp(-7.0, 7.0)? + 1.0)?)
        }
    }
}

struct GateUp {
    compute: Arc<Compute>,
    act: Act,
}

impl CustomOp2 for GateUp {
    fn name(&self) -> &'static str {
        "gate-up"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if gate_layout.shape() != up_layout.shape() {
            bail!("gate-up: shapes {:?} and {:?} differ", gate_layout.shape(), up_layout.shape())
        }
        let (gate, up) = (floats(gate, gate_layout)?, floats(up, up_layout)?);
        let out = self.compute.gate_up(self.act, gate, up);
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }
}

/// A mixture of experts: `x` (n, d_model) and the router's scores (n, experts) to (n, d_model). CPU only: candle has no
/// op over quantized experts that covers all types.
///
/// # Errors
/// When the shapes do not fit, or the tensors are not on the CPU.
pub fn mixture(
    compute: &Arc<Compute>,
    pool: &Arc<ExpertPool>,
    act: Act,
    x: &Tensor,
    scores: &Tensor,
) -> Result<Tensor> {
    let (compute, pool) = (Arc::clone(compute), Arc::clone(pool));
    x.apply_op2_no_bwd(scores, &Mixture { compute, pool, act })
}

/// The experts of a layer and how they are chosen.
pub struct ExpertPool {
    /// The experts.
    pub experts: Vec<Expert>,
    /// How they are chosen and weighed.
    pub rule: Experts,
    /// Added to their scores when choosing.
    pub bias: Option<Vec<f32>>,
    /// Multipliers on the experts' outputs.
    pub scales: Option<Vec<f32>>,
}

struct Mixture {
    compute: Arc<Compute>,
    pool: Arc<ExpertPool>,
    act: Act,
}

impl CustomOp2 for Mixture {
    fn name(&self) -> &'static str {
        "mixture-of-experts"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scores: &CpuStorage,
        scores_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, scores) = (floats(x, x_layout)?, floats(scores, scores_layout)?);
        let ExpertPool { experts, rule, bias, scales } = &*self.pool;
        let n = x_layout.shape().dim(0)?;
        if scores.len() != n * rule.count {
            bail!("experts: {} scores do not fit {n} rows and {} experts", scores.len(), rule.count)
        }
        let mut choices = route(rule, scores, bias.as_deref());
        if let Some(scales) = scales {
            choices.iter_mut().flatten().for_each(|c| c.weight *= scales[c.expert]);
        }
        let out = mix(&self.compute, experts, self.act, rule.weigh, x, &choices);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

/// Attention of `q`, (n, heads, key_dim), over the cache as [`super::cache`] lays it out: (n, heads · value_dim).
/// `sinks` holds one score per head that takes softmax weight but adds no value.
///
/// # Errors
/// When the shapes do not fit.
pub fn attention(
    compute: &Arc<Compute>,
    heads: Heads,
    sinks: Option<&Arc<Vec<f32>>>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
) -> Result<Tensor> {
    if q.device().is_cpu() {
        let (compute, sinks) = (Arc::clone(compute), sinks.cloned());
        return q.apply_op3_no_bwd(k, v, &Attention { compute, heads, sinks });
    }
    attention_portable(heads, sinks.map(|sinks| sinks.as_slice()), q, k, v)
}

fn attention_portable(
    h: Heads,
    sinks: Option<&[f32]>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
) -> Result<Tensor> {
    let n = q.dim(0)?;
    let total = h.past + n;
    let group = h.heads / h.kv_heads;
    let spread = |x: &Tensor, dim: usize| -> Result<Tensor> {
        x.narrow(1, 0, total)?
            .to_dtype(DType::F32)?
            .unsqueeze(1)?
            .expand((h.kv_heads, group, total, dim))?
            .reshape((h.heads, total, dim))
    };
    let q = q.transpose(0, 1)?.contiguous()?;
    let scores = (q.matmul(&spread(k, h.key_dim)?.t()?)? * f64::from(h.scale))?;
    let scores = match h.softcap {
        Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
        None => scores,
    };
    let visible = |i: usize, j: usize| (h.window.start(h.past + i)..=h.past + i).contains(&j);
    let mask: Vec<f32> = (0..n)
        .flat_map(|i| (0..total).map(move |j| if visible(i, j) { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    let mask = Tensor::from_vec(mask, (1, n, total), q.device())?;
    let scores = scores.broadcast_add(&mask)?; // (heads, n, total)
    let weights = match sinks {
        None => candle_nn::ops::softmax_last_dim(&scores)?,
        Some(sinks) => {
            // The sinks are one more column, dropped after the softmax.
            let column = Tensor::from_slice(sinks, (h.heads, 1, 1), q.device())?;
            let column = column.expand((h.heads, n, 1))?.contiguous()?;
            let all = candle_nn::ops::softmax_last_dim(&Tensor::cat(&[&scores, &column], 2)?)?;
            all.narrow(2, 0, total)?.contiguous()?
        }
    };
    let out = weights.matmul(&spread(v, h.value_dim)?)?;
    out.transpose(0, 1)?.reshape((n, h.heads * h.value_dim))
}

struct Attention {
    compute: Arc<Compute>,
    heads: Heads,
    sinks: Option<Arc<Vec<f32>>>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let h = self.heads;
        let (n, heads, key_dim) = q_layout.shape().dims3()?;
        let (k, v) = (cached(k, k_layout)?, cached(v, v_layout)?);
        let (k_units, v_units) =
            (k.cache_type().units(h.key_dim), v.cache_type().units(h.value_dim));
        let fits = (heads, key_dim) == (h.heads, h.key_dim)
            && h.past + n <= h.capacity
            && h.capacity.is_multiple_of(CACHE_BLOCK)
            && k_layout.shape().dims() == [h.kv_heads, h.capacity / KEYS, k_units, KEYS]
            && v_layout.shape().dims() == [h.kv_heads, h.capacity, v_units];
        if !fits {
            bail!(
                "attention: shapes {:?} and {:?} do not fit {h:?}",
                q_layout.shape(),
                k_layout.shape()
            )
        }
        let q = floats(q, q_layout)?;
        let sinks = self.sinks.as_ref().map(|sinks| sinks.as_slice());
        let out = attend(&self.compute, h, sinks, q, k, v);
        Ok((CpuStorage::F32(out), (n, h.heads * h.value_dim).into()))
    }
}

/// The f32 elements of a contiguous tensor.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = contiguous(layout)?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn cached<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cached<'a>> {
    let (start, end) = contiguous(layout)?;
    Ok(match storage {
        CpuStorage::F16(x) => Cached::F16(&x[start..end]),
        CpuStorage::BF16(x) => Cached::Bf16(&x[start..end]),
        CpuStorage::F32(x) => Cached::F32(&x[start..end]),
        CpuStorage::U8(x) => Cached::Q8_0(&x[start..end]),
        _ => bail!("unsupported cache type, expected f16, bf16, f32 or q8_0"),
    })
}

fn contiguous(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(range) => Ok(range),
        None => bail!("expected a contiguous tensor, found {layout:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, Window};
    use crate::model::spec::{Frequencies, Rope};
    use candle_core::Device;

    fn tensor(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..n).map(|i| ((i * 37 % 251) as f32 - 125.0) / 90.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn close(a: &Tensor, b: &Tensor) {
        let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        let difference = difference.to_scalar::<f32>().unwrap();
        assert!(difference < 1e-5, "largest difference {difference}");
    }

    #[test]
    fn cpu_rope_matches_candle_for_both_pair_layouts_and_partial_heads() {
        let compute = Arc::new(Compute::new(Isa::detect(), 2));
        let x = tensor(&[5, 3, 16]);
        for pairs in [Pairs::Adjacent, Pairs::Halves] {
            for dims in [16, 8] {
                let rope = Rope { pairs, original_context: 64 };
                let frequencies = Frequencies {
                    dims,
                    base: 10_000.0,
                    scale: 0.5,
                    yarn: None,
                    magnitude: 1.5,
                    divided: false,
                };
                let r = Rotation::new(7, 5, rope, frequencies, None, &Device::Cpu).unwrap();
                close(
                    &rotate(&compute, &x, &r, pairs).unwrap(),
                    &rotate_portable(&x, &r, pairs).unwrap(),
                );
            }
        }
    }

    #[test]
    fn cpu_activations_match_tensor_operations() {
        let compute = Arc::new(Compute::new(Isa::detect(), 2));
        let (gate, up) = ((tensor(&[4, 60]) * 7.0).unwrap(), (tensor(&[4, 60]) * 8.0).unwrap());
        for act in [Act::Silu, Act::GeluTanh, Act::ReluSquared, Act::SwigluOai] {
            let portable = gate_up_portable(act, &gate, &up).unwrap();
            close(&gate_up(&compute, act, &gate, &up).unwrap(), &portable);
        }
    }

    #[test]
    fn cpu_attention_matches_tensor_operations() {
        let compute = Arc::new(Compute::new(Isa::detect(), 2));
        let h = Heads {
            heads: 4,
            kv_heads: 2,
            key_dim: 16,
            value_dim: 16,
            capacity: 64,
            past: 9,
            window: Window::All,
            scale: 0.25,
            softcap: None,
        };
        let (q, k, v) = (tensor(&[6, 4, 16]), tensor(&[2, 64, 16]), tensor(&[2, 64, 16]));
        let interleaved = k.reshape((2, 64 / KEYS, KEYS, 16)).unwrap().transpose(2, 3).unwrap();
        let interleaved = interleaved.contiguous().unwrap();
        let sinks = Arc::new(vec![0.5, 3.0, -3.0, 1.0]);
        for (window, softcap) in
            [(Window::All, None), (Window::Last(4), None), (Window::Chunk(4), Some(2.0))]
        {
            for sinks in [None, Some(&sinks)] {
                let h = Heads { window, softcap, ..h };
                let portable = attention_portable(h, sinks.map(|s| s.as_slice()), &q, &k, &v);
                let ours = attention(&compute, h, sinks, &q, &interleaved, &v);
                close(&ours.unwrap(), &portable.unwrap());
            }
        }
    }
}
