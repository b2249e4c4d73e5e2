//! Candle's own operations: slower on a processor, and what the kernels are tested against.

use super::checks::{check_append, check_attend};
use super::error::{BackendError, Result};
use super::linear::{Linear, Weight};
use super::recurrence::{self, over};
use super::tensor::{Tensor, with};
use super::{Backend, ExpertPool, Pairs};
use crate::kernels::{
    Act, Choice, Expert, Finish, Fresh, Heads, Matrix, Past, Recurrence, Stretch, Weigh, append,
    dequantize,
};
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{D, Device, Module as _, Tensor as Candle};
use std::borrow::Cow;
use tealight_bundle::gguf::DType;

/// Candle's operations on the processor.
pub struct Portable;

const DEVICE: Device = Device::Cpu;

impl Backend for Portable {
    fn linear(&self, matrix: Matrix, finish: Finish) -> Result<Linear> {
        let weight = Weight::Candle(copied(&matrix)?);
        Ok(Linear { weight, finish, outputs: matrix.rows })
    }

    fn tensor(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        Tensor::of(values, shape)
    }

    fn read(&self, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        *out = x.0.flatten_all()?.to_vec1()?;
        Ok(())
    }

    fn products(&self, layers: &[&Linear], x: &Tensor) -> Result<Vec<Tensor>> {
        layers.iter().map(|layer| product(layer, &x.0).map(Tensor)).collect()
    }

    fn product_into(&self, layer: &Linear, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        self.read(&Tensor(product(layer, &x.0)?), out)
    }

    fn feed_forward(&self, act: Act, layers: [&Linear; 3], x: &Tensor) -> Result<Tensor> {
        let [gate, up, down] = layers;
        let hidden = gate_up(act, &product(gate, &x.0)?, &product(up, &x.0)?)?;
        Ok(Tensor(product(down, &hidden)?))
    }

    fn mixture(
        &self,
        pool: &ExpertPool,
        act: Act,
        x: &Tensor,
        choices: &[Vec<Choice>],
    ) -> Result<Tensor> {
        let mut rows = Vec::with_capacity(choices.len());
        for (row, choices) in choices.iter().enumerate() {
            let x = x.0.narrow(0, row, 1)?;
            let mut sum = x.zeros_like()?;
            for choice in choices {
                let weight = f64::from(choice.weight);
                let expert = &pool.experts[choice.expert];
                sum = (sum
                    + match pool.weigh {
                        Weigh::Inputs => one_expert(expert, act, &(&x * weight)?)?,
                        Weigh::Outputs => (one_expert(expert, act, &x)? * weight)?,
                    })?;
            }
            rows.push(sum);
        }
        Ok(Tensor(Candle::cat(&rows, 0)?))
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(Tensor(a.0.add(&b.0)?))
    }

    fn add_each(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(Tensor(a.0.broadcast_add(&b.0)?))
    }

    fn multiply_each(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(Tensor(a.0.broadcast_mul(&b.0)?))
    }

    fn scale(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        Ok(Tensor((&x.0 * factor)?))
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
        Ok(Tensor(candle_nn::ops::rms_norm(&x.0.contiguous()?, &weight.0, eps)?))
    }

    fn center(&self, x: &Tensor) -> Result<Tensor> {
        Ok(Tensor(x.0.broadcast_sub(&x.0.mean_keepdim(D::Minus1)?)?))
    }

    fn rotate(&self, x: &Tensor, angles: [&Tensor; 2], pairs: Pairs) -> Result<Tensor> {
        let [cos, sin] = angles.map(|angles| &angles.0);
        let (head_dim, dims) = (x.0.dim(D::Minus1)?, 2 * cos.dim(1)?);
        let turned = x.0.narrow(D::Minus1, 0, dims)?.transpose(0, 1)?.unsqueeze(0)?.contiguous()?;
        let turned = match pairs {
            Pairs::Adjacent => candle_nn::rotary_emb::rope_i(&turned, cos, sin)?,
            Pairs::Halves => candle_nn::rotary_emb::rope(&turned, cos, sin)?,
        };
        let turned = turned.squeeze(0)?.transpose(0, 1)?.contiguous()?;
        if dims == head_dim {
            return Ok(Tensor(turned));
        }
        let rest = x.0.narrow(D::Minus1, dims, head_dim - dims)?;
        Ok(Tensor(Candle::cat(&[&turned, &rest], D::Minus1)?))
    }

    fn gate_up(&self, act: Act, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        Ok(Tensor(gate_up(act, &gate.0, &up.0)?))
    }

    fn sigmoid(&self, x: &Tensor) -> Result<Tensor> {
        Ok(Tensor(candle_nn::ops::sigmoid(&x.0)?))
    }

    fn append(&self, k: &Tensor, v: &Tensor, fresh: &mut [Fresh<'_>]) -> Result<()> {
        check_append(k, v, fresh)?;
        with([k, v], |[k_rows, v_rows]| append(k.shape()[1], k_rows, v_rows, fresh))
    }

    fn attend(
        &self,
        h: Heads,
        sinks: Option<&[f32]>,
        q: &Tensor,
        pasts: &[Past<'_>],
    ) -> Result<Tensor> {
        check_attend(h, q, pasts)?;
        let mut first = 0;
        let mut mixed = Vec::with_capacity(pasts.len());
        for past in pasts {
            mixed.push(attend(h, sinks, &q.0.narrow(0, first, past.rows)?, past)?);
            first += past.rows;
        }
        Ok(Tensor(Candle::cat(&mixed, 0)?))
    }

    fn recur(
        &self,
        recurrence: Recurrence<'_>,
        inputs: &[&Tensor],
        stretches: &mut [Stretch<'_>],
    ) -> Result<Tensor> {
        over(recurrence, inputs, stretches, |inputs, s| recurrence::recur(recurrence, inputs, s))
    }
}

fn product(layer: &Linear, x: &Candle) -> Result<Candle> {
    let Weight::Candle(weight) = &layer.weight else {
        return Err(BackendError::new("a layer of another backend"));
    };
    let y = weight.forward(&x.contiguous()?)?;
    let y = match layer.finish.scale {
        None => y,
        Some(scale) => (y * f64::from(scale))?,
    };
    Ok(match &layer.finish.bias {
        None => y,
        Some(bias) => y.broadcast_add(&Candle::from_slice(bias, bias.len(), &DEVICE)?)?,
    })
}

fn one_expert(expert: &Expert, act: Act, x: &Candle) -> Result<Candle> {
    let product = |part: &crate::kernels::Finished, x: &Candle| -> Result<Candle> {
        product(&Portable.linear(part.matrix.clone(), part.finish.clone())?, x)
    };
    let up = product(&expert.up, x)?;
    let hidden = match &expert.gate {
        Some(gate) => gate_up(act, &product(gate, x)?, &up)?,
        None => gate_up(act, &up, &up.ones_like()?)?,
    };
    product(&expert.down, &hidden)
}

fn gate_up(act: Act, gate: &Candle, up: &Candle) -> Result<Candle> {
    Ok(match act {
        Act::Silu => candle_nn::ops::silu(gate)?.mul(up)?,
        Act::GeluTanh => gate.gelu()?.mul(up)?,
        Act::Relu => gate.relu()?.mul(up)?,
        Act::Xielu(xielu) => {
            let all: Vec<f32> = gate.flatten_all()?.to_vec1()?;
            let all = all.into_iter().map(|x| xielu.of(x)).collect();
            Candle::from_vec(all, gate.shape(), &DEVICE)?.mul(up)?
        }
        Act::ReluSquared => gate.relu()?.sqr()?.mul(up)?,
        Act::SwigluOai => {
            let gate = gate.minimum(7.0)?;
            let sigmoid = candle_nn::ops::sigmoid(&(&gate * 1.702)?)?;
            gate.mul(&sigmoid)?.mul(&(up.clamp(-7.0, 7.0)? + 1.0)?)?
        }
    })
}

/// Attention of the rows of one sequence, `q` (n, heads, key_dim).
fn attend(h: Heads, sinks: Option<&[f32]>, q: &Candle, past: &Past<'_>) -> Result<Candle> {
    let n = past.rows;
    let total = past.len + n;
    let group = h.heads / h.kv_heads;
    let (keys, values) = past.read(&h);
    let spread = |x: Vec<f32>, dim: usize| {
        Candle::from_vec(x, (h.kv_heads, 1, total, dim), &DEVICE)?
            .expand((h.kv_heads, group, total, dim))?
            .reshape((h.heads, total, dim))
    };
    let q = q.transpose(0, 1)?.contiguous()?;
    let scores = (q.matmul(&spread(keys, h.key_dim)?.t()?)? * f64::from(h.scale))?;
    let scores = match h.softcap {
        Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
        None => scores,
    };
    let mut mask = Vec::with_capacity(h.heads * n * total);
    for slope in (0..h.heads).map(|head| h.slope(head)) {
        for i in 0..n {
            let seen = past.seen(i, h.window);
            let bias = |j: usize| -slope * (past.len + i).abs_diff(j) as f32;
            mask.extend(
                (0..total).map(|j| if seen.contains(&j) { bias(j) } else { f32::NEG_INFINITY }),
            );
        }
    }
    let mask = Candle::from_vec(mask, (h.heads, n, total), &DEVICE)?;
    let scores = scores.broadcast_add(&mask)?; // (heads, n, total)
    let weights = match sinks {
        None => candle_nn::ops::softmax_last_dim(&scores)?,
        Some(sinks) => {
            // The sinks are one more column, dropped after the softmax.
            let column = Candle::from_slice(sinks, (h.heads, 1, 1), &DEVICE)?;
            let column = column.expand((h.heads, n, 1))?.contiguous()?;
            let all = candle_nn::ops::softmax_last_dim(&Candle::cat(&[&scores, &column], 2)?)?;
            all.narrow(2, 0, total)?.contiguous()?
        }
    };
    let out = weights.matmul(&spread(values, h.value_dim)?)?;
    Ok(out.transpose(0, 1)?.reshape((n, h.heads * h.value_dim))?)
}

/// The weights for candle: in their own type where it has that, else in f32.
fn copied(matrix: &Matrix) -> Result<QMatMul> {
    let shape = (matrix.rows, matrix.columns);
    let Some(dtype) = candle_dtype(matrix.dtype) else {
        let mut values = vec![0.0; matrix.rows * matrix.columns];
        dequantize(matrix.dtype, matrix.bytes(), &mut values);
        return Ok(QMatMul::Tensor(Candle::from_vec(values, shape, &DEVICE)?));
    };
    let storage = QStorage::from_data(Cow::Borrowed(matrix.bytes()), &DEVICE, dtype)?;
    Ok(QMatMul::from_qtensor(QTensor::new(storage, shape)?)?)
}

fn candle_dtype(dtype: DType) -> Option<GgmlDType> {
    Some(match dtype {
        DType::F32 => GgmlDType::F32,
        DType::F16 => GgmlDType::F16,
        DType::BF16 => GgmlDType::BF16,
        DType::Q4_0 => GgmlDType::Q4_0,
        DType::Q4_1 => GgmlDType::Q4_1,
        DType::Q5_0 => GgmlDType::Q5_0,
        DType::Q5_1 => GgmlDType::Q5_1,
        DType::Q8_0 => GgmlDType::Q8_0,
        DType::Q2_K => GgmlDType::Q2K,
        DType::Q3_K => GgmlDType::Q3K,
        DType::Q4_K => GgmlDType::Q4K,
        DType::Q5_K => GgmlDType::Q5K,
        DType::Q6_K => GgmlDType::Q6K,
        _ => return None,
    })
}
