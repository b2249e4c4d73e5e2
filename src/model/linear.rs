//! Linear layers: where stored matrices meet candle tensors.
//!
//! Input: tensors (n, in). Output: tensors (n, out). On the CPU, [`crate::kernels`] computes the products over weights
//! that stay in the mapped file; elsewhere candle does, over a copy.

use super::ops::{floats, gate_up};
use crate::kernels::{Act, Affine, Compute, Gated, Matrix, add_bias};
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Result, Storage, Tensor, bail};
use std::borrow::Cow;
use std::sync::Arc;

/// A linear layer: y = x Wᵀ + b, (n, in) → (n, out).
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    outputs: usize,
}

enum Weight {
    /// Read in place from the mapped file.
    Mapped(Arc<Compute>, Matrix),
    /// Copied to a device by candle.
    Device(QMatMul),
}

impl Linear {
    /// A layer on `device`. On the CPU, the weights are not copied.
    ///
    /// # Errors
    /// When the device rejects the weights.
    pub fn new(
        compute: &Arc<Compute>,
        matrix: Matrix,
        bias: Option<Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let outputs = matrix.rows;
        let weight = if device.is_cpu() {
            Weight::Mapped(Arc::clone(compute), matrix)
        } else {
            Weight::Device(on_device(&matrix, device)?)
        };
        Ok(Self { weight, bias, outputs })
    }

    /// Elements of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [y] = Self::forward_all([self], x)?;
        Ok(y)
    }

    /// Applies several layers to the same input. On the CPU they share its 8-bit conversion and one division of the
    /// work.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward_all<const N: usize>(layers: [&Self; N], x: &Tensor) -> Result<[Tensor; N]> {
        let mut mapped = layers.iter().filter_map(|layer| match &layer.weight {
            Weight::Mapped(compute, _) => Some(compute),
            Weight::Device(_) => None,
        });
        let ys = match mapped.next() {
            Some(compute) => on_cpu(compute, &layers, x)?,
            None => layers.iter().map(|l| l.forward_on_device(x)).collect::<Result<Vec<_>>>()?,
        };
        ys.try_into().or_else(|ys: Vec<_>| bail!("{} results for {N} layers", ys.len()))
    }

    /// Applies the layer and writes the elements to `out`, (n, out), row after row: a final result needs no tensor, and
    /// a reused buffer needs no clearing.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn elements(&self, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        if let Weight::Mapped(compute, _) = &self.weight {
            return products(compute, &[self], x, std::slice::from_mut(out));
        }
        *out = self.forward_on_device(x)?.flatten_all()?.to_vec1()?;
        Ok(())
    }

    /// A gated feed-forward layer, down(act(gate(x)) · up(x)).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn feed_forward(
        compute: &Arc<Compute>,
        act: Act,
        layers: [&Self; 3],
        x: &Tensor,
    ) -> Result<Tensor> {
        let [gate, up, down] = layers;
        let (Weight::Mapped(_, g), Weight::Mapped(_, u), Weight::Mapped(_, d)) =
            (&gate.weight, &up.weight, &down.weight)
        else {
            let [gate, up] = Self::forward_all([gate, up], x)?;
            return down.forward(&gate_up(compute, act, &gate, &up)?);
        };
        let (n, columns) = x.dims2()?;
        if g.columns != columns || u.columns != columns || g.rows != u.rows || d.columns != g.rows {
            bail!("feed-forward: {g:?}, {u:?} and {d:?} do not fit rows of {columns}")
        }
        let [gate_bias, up_bias, down_bias] = [gate.biases()?, up.biases()?, down.biases()?];
        let layer = Gated {
            gate: Affine { matrix: g, bias: gate_bias.as_deref() },
            up: Affine { matrix: u, bias: up_bias.as_deref() },
            down: Affine { matrix: d, bias: down_bias.as_deref() },
        };
        let out = with_floats(x, |x| compute.feed_forward(act, layer, x))?;
        Tensor::from_vec(out, (n, d.rows), &Device::Cpu)
    }

    fn biases(&self) -> Result<Option<Vec<f32>>> {
        self.bias.as_ref().map(Tensor::to_vec1).transpose()
    }

    fn forward_on_device(&self, x: &Tensor) -> Result<Tensor> {
        let Weight::Device(weight) = &self.weight else { bail!("layers on different devices") };
        let y = weight.forward(x)?;
        match &self.bias {
            None => Ok(y),
            Some(bias) => y.broadcast_add(bias),
        }
    }
}

fn on_cpu(compute: &Compute, layers: &[&Linear], x: &Tensor) -> Result<Vec<Tensor>> {
    let n = x.dim(0)?;
    let mut outs = vec![Vec::new(); layers.len()];
    products(compute, layers, x, &mut outs)?;
    let outs = outs.into_iter().zip(layers);
    outs.map(|(out, layer)| Tensor::from_vec(out, (n, layer.outputs), &Device::Cpu)).collect()
}

/// Writes the outputs of layers with mapped weights, (n, out), to `outs`.
fn products(
    compute: &Compute,
    layers: &[&Linear],
    x: &Tensor,
    outs: &mut [Vec<f32>],
) -> Result<()> {
    let (_, columns) = x.dims2()?;
    let mut weights = Vec::with_capacity(layers.len());
    for layer in layers {
        match &layer.weight {
            Weight::Mapped(_, matrix) if matrix.columns == columns => weights.push(matrix),
            Weight::Mapped(_, matrix) => bail!("linear: {matrix:?} does not fit rows of {columns}"),
            Weight::Device(_) => bail!("layers on different devices"),
        }
    }
    with_floats(x, |x| compute.products_into(&weights, &compute.input(x, &weights), outs))?;
    for (out, layer) in outs.iter_mut().zip(layers) {
        if let Some(bias) = &layer.bias {
            with_floats(bias, |bias| add_bias(out, bias))?;
        }
    }
    Ok(())
}

/// Passes the elements of a contiguous CPU tensor to `f`.
fn with_floats<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("expected a tensor on the CPU") };
    Ok(f(floats(storage, layout)?))
}

fn on_device(matrix: &Matrix, device: &Device) -> Result<QMatMul> {
    let dtype = candle_dtype(matrix)?;
    let storage = QStorage::from_data(Cow::Borrowed(matrix.bytes()), device, dtype)?;
    QMatMul::from_qtensor(QTensor::new(storage, (matrix.rows, matrix.columns))?)
}

fn candle_dtype(matrix: &Matrix) -> Result<GgmlDType> {
    use tealight_bundle::gguf::DType as T;
    Ok(match matrix.dtype {
        T::F32 => GgmlDType::F32,
        T::F16 => GgmlDType::F16,
        T::BF16 => GgmlDType::BF16,
        T::Q4_0 => GgmlDType::Q4_0,
        T::Q4_1 => GgmlDType::Q4_1,
        T::Q5_0 => GgmlDType::Q5_0,
        T::Q5_1 => GgmlDType::Q5_1,
        T::Q8_0 => GgmlDType::Q8_0,
        T::Q2_K => GgmlDType::Q2K,
        T::Q3_K => GgmlDType::Q3K,
        T::Q4_K => GgmlDType::Q4K,
        T::Q5_K => GgmlDType::Q5K,
        T::Q6_K => GgmlDType::Q6K,
        other => bail!("type {other} is supported on the CPU only"),
    })
}
