//! Our kernels behind candle tensors. Weights are read in place from the mapped file.

use super::checks::{check_attend, misfit, same_shape};
use super::error::Result;
use super::linear::{Linear, Weight};
use super::portable::Portable;
use super::recurrence::over;
use super::tensor::{Tensor, with};
use super::{Backend, ExpertPool, Pairs};
use crate::kernels::{
    Act, Affine, Choice, Compute, Finish, Fresh, Gated, Heads, Matrix, Past, Recurrence, Stretch,
    Turn, attend, mixture,
};
use std::sync::Arc;

/// The processor, through the kernels of [`crate::kernels`].
pub struct Cpu {
    compute: Arc<Compute>,
}

impl Cpu {
    /// Computes with these threads and this instruction set.
    #[must_use]
    pub fn new(compute: Arc<Compute>) -> Self {
        Self { compute }
    }

    /// Writes the outputs of layers with mapped weights, (n, out), to `outs`. They share the input's 8-bit conversion
    /// and one division of the work.
    fn products_into(&self, layers: &[&Linear], x: &Tensor, outs: &mut [Vec<f32>]) -> Result<()> {
        let columns = x.shape().last().copied().unwrap_or(0);
        let mut weights = Vec::with_capacity(layers.len());
        for layer in layers {
            let matrix = mapped(layer)?;
            if matrix.columns != columns {
                return misfit(format!("linear: {matrix:?} does not fit rows of {columns}"));
            }
            weights.push(matrix);
        }
        let compute = &self.compute;
        with([x], |[x]| compute.products_into(&weights, &compute.input(x, &weights), outs))?;
        for (out, layer) in outs.iter_mut().zip(layers) {
            layer.finish.apply(out, 0..layer.outputs);
        }
        Ok(())
    }
}

impl Backend for Cpu {
    fn linear(&self, matrix: Matrix, finish: Finish) -> Result<Linear> {
        let outputs = matrix.rows;
        Ok(Linear { weight: Weight::Mapped(matrix), finish, outputs })
    }

    fn tensor(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        Portable.tensor(values, shape)
    }

    fn read(&self, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        with([x], |[x]| {
            out.clear();
            out.extend_from_slice(x);
        })
    }

    fn products(&self, layers: &[&Linear], x: &Tensor) -> Result<Vec<Tensor>> {
        let mut outs = vec![Vec::new(); layers.len()];
        self.products_into(layers, x, &mut outs)?;
        let outs = outs.into_iter().zip(layers);
        outs.map(|(out, layer)| self.tensor(out, &[x.rows(), layer.outputs])).collect()
    }

    fn product_into(&self, layer: &Linear, x: &Tensor, out: &mut Vec<f32>) -> Result<()> {
        // A reused buffer needs no clearing.
        self.products_into(&[layer], x, std::slice::from_mut(out))
    }

    fn feed_forward(&self, act: Act, layers: [&Linear; 3], x: &Tensor) -> Result<Tensor> {
        let [gate, up, down] = layers;
        let (g, u, d) = (mapped(gate)?, mapped(up)?, mapped(down)?);
        let columns = x.shape().last().copied().unwrap_or(0);
        if g.columns != columns || u.columns != columns || g.rows != u.rows || d.columns != g.rows {
            return misfit(format!(
                "feed-forward: {g:?}, {u:?} and {d:?} do not fit rows of {columns}"
            ));
        }
        let layer = Gated {
            gate: Affine { matrix: g, finish: &gate.finish },
            up: Affine { matrix: u, finish: &up.finish },
            down: Affine { matrix: d, finish: &down.finish },
        };
        let out = with([x], |[x]| self.compute.feed_forward(act, layer, x))?;
        self.tensor(out, &[x.rows(), d.rows])
    }

    fn mixture(
        &self,
        pool: &ExpertPool,
        act: Act,
        x: &Tensor,
        choices: &[Vec<Choice>],
    ) -> Result<Tensor> {
        if choices.len() != x.rows() {
            return misfit(format!("experts: {} choices for {} rows", choices.len(), x.rows()));
        }
        let out =
            with([x], |[x]| mixture(&self.compute, &pool.experts, act, pool.weigh, x, choices))?;
        self.tensor(out, x.shape())
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        same_shape("add", a, b)?;
        self.tensor(with([a, b], |[a, b]| self.compute.add(a, b))?, a.shape())
    }

    fn add_each(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Portable.add_each(a, b)
    }

    fn multiply_each(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Portable.multiply_each(a, b)
    }

    fn scale(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        Portable.scale(x, factor)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
        if x.shape().last() != Some(&weight.elements()) {
            return misfit(format!(
                "norm: {} weights do not fit shape {:?}",
                weight.elements(),
                x.shape()
            ));
        }
        let out = with([x, weight], |[x, weight]| self.compute.rms_norm(x, weight, eps))?;
        self.tensor(out, x.shape())
    }

    fn center(&self, x: &Tensor) -> Result<Tensor> {
        Portable.center(x)
    }

    fn rotate(&self, x: &Tensor, angles: [&Tensor; 2], pairs: Pairs) -> Result<Tensor> {
        let [cos, sin] = angles;
        let &[n, heads, head_dim] = x.shape() else {
            return misfit(format!("rope: expected (n, heads, head_dim), found {:?}", x.shape()));
        };
        let count = cos.elements() / n.max(1);
        if [cos, sin].iter().any(|t| t.elements() != n * count) || 2 * count > head_dim {
            return misfit(format!("rope: {count} angles do not fit shape {:?}", x.shape()));
        }
        let adjacent = pairs == Pairs::Adjacent;
        let out = with([x, cos, sin], |[x, cos, sin]| {
            self.compute.rotate(x, Turn { heads, head_dim, pairs: count, cos, sin, adjacent })
        })?;
        self.tensor(out, x.shape())
    }

    fn gate_up(&self, act: Act, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        same_shape("gate-up", gate, up)?;
        let out = with([gate, up], |[gate, up]| self.compute.gate_up(act, gate, up))?;
        self.tensor(out, gate.shape())
    }

    fn sigmoid(&self, x: &Tensor) -> Result<Tensor> {
        Portable.sigmoid(x)
    }

    fn append(&self, k: &Tensor, v: &Tensor, fresh: &mut [Fresh<'_>]) -> Result<()> {
        Portable.append(k, v, fresh)
    }

    fn attend(
        &self,
        h: Heads,
        sinks: Option<&[f32]>,
        q: &Tensor,
        pasts: &[Past<'_>],
    ) -> Result<Tensor> {
        check_attend(h, q, pasts)?;
        let out = with([q], |[q]| attend(&self.compute, h, sinks, q, pasts))?;
        self.tensor(out, &[q.rows(), h.heads * h.value_dim])
    }

    fn recur(
        &self,
        recurrence: Recurrence<'_>,
        inputs: &[&Tensor],
        stretches: &mut [Stretch<'_>],
    ) -> Result<Tensor> {
        over(recurrence, inputs, stretches, |inputs, s| self.compute.recur(recurrence, inputs, s))
    }
}

fn mapped(layer: &Linear) -> Result<&Matrix> {
    match &layer.weight {
        Weight::Mapped(matrix) => Ok(matrix),
        Weight::Candle(_) => misfit("a layer of another backend".to_owned()),
    }
}
