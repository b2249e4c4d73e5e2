//! Several residual streams (AltUp, Baykal et al., 2023), of which each layer computes one and predicts the others; and
//! LAuReL, a short way around a mixer. Both are Gemma 3n's.
//!
//! Streams are tensors (n, streams, d_model); the first is the one that layers compute.

use super::norm::Norm;
use super::per_layer::Mix;
use super::spec::Spec;
use super::weights::{Weights, WeightsError};
use crate::backend::{Backend, Linear, Result, Tensor};

/// From embeddings to streams, and from streams to the output.
pub struct AltUp {
    /// Embeddings to each further stream.
    spread: Vec<Linear>,
    /// Each further stream back.
    gather: Vec<Linear>,
}

impl AltUp {
    /// The tensors `altup_*`, `None` for a model with one stream.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(s: &Spec, w: &Weights<'_>) -> std::result::Result<Option<Self>, WeightsError> {
        if s.streams == 1 {
            return Ok(None);
        }
        let stack = |name| w.linear_stack(name, s.streams - 1, s.d_model, s.d_model);
        let (spread, gather) = (stack("altup_proj")?, stack("altup_unembd_proj")?);
        Ok(Some(Self { spread, gather }))
    }

    /// The streams of embeddings `x`, (n, d_model): the first is x, the others as long as it.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn spread(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        let lengths = lengths(b, x)?;
        let shape = [x.rows(), 1, x.shape()[1]];
        let mut all = vec![x.reshape(&shape)?];
        for layer in &self.spread {
            all.push(as_long(b, &b.product(layer, x)?, &lengths)?.reshape(&shape)?);
        }
        Tensor::concat(&all.iter().collect::<Vec<_>>(), 1)
    }

    /// The mean of the first stream and the others, brought back and made as long as it: (n, d_model).
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn gather(&self, b: &dyn Backend, streams: &Tensor) -> Result<Tensor> {
        let mut sum = stream(streams, 0)?;
        let lengths = lengths(b, &sum)?;
        for (index, layer) in self.gather.iter().enumerate() {
            let own = b.product(layer, &stream(streams, index + 1)?)?;
            sum = b.add(&sum, &as_long(b, &own, &lengths)?)?;
        }
        b.scale(&sum, 1.0 / (self.gather.len() + 1) as f64)
    }
}

/// How a layer predicts the streams, and corrects them by what it computed.
pub struct Prediction {
    norm: Norm,
    /// d_model → a number for each stream.
    router: Linear,
    /// Those → a factor of each stream for each stream.
    predict: Linear,
    /// Those → how much of the error each stream takes.
    correct: Linear,
    /// Multiplies the first stream before its layer's input is mixed in.
    scale: Tensor,
}

impl Prediction {
    /// The tensors `blk.{index}.altup_*`, `None` for a model with one stream.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        if s.streams == 1 {
            return Ok(None);
        }
        let name = |part: &str| format!("blk.{index}.altup_{part}");
        let (d, n) = (s.d_model, s.streams);
        Ok(Some(Self {
            norm: Norm::load(s, w, &name("router_norm"), d)?,
            router: w.linear(&name("router"), n, d)?,
            predict: w.linear(&name("predict_coef"), n * n, n)?,
            correct: w.linear(&name("correct_coef"), n, n)?,
            scale: w.vector(&name("correct_scale.weight"), d)?,
        }))
    }

    /// tanh of the router's numbers for rows `x`, (n, d_model): (n, streams).
    fn modalities(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        let normed = b.scale(&self.norm.forward(b, x)?, 1.0 / x.shape()[1] as f64)?;
        b.tanh(&b.product(&self.router, &normed)?)
    }

    /// The streams as they are expected after the layer.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn predict(&self, b: &dyn Backend, streams: &Tensor) -> Result<Tensor> {
        let (n, count) = (streams.rows(), streams.shape()[1]);
        let factors = b.product(&self.predict, &self.modalities(b, &stream(streams, 0)?)?)?;
        let factors = factors.reshape(&[n, count, count])?; // of each stream: for each of all
        let mut sum = streams.clone();
        for index in 0..count {
            let own = streams.narrow(1, index, 1)?.repeat_heads(count)?;
            sum = b.add(&sum, &b.multiply_each(&own, &factors.narrow(2, index, 1)?)?)?;
        }
        Ok(sum)
    }

    /// The predicted streams, corrected by the error of the first, `computed` (n, d_model), with the layer's `input`
    /// mixed into all but the first.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn correct(
        &self,
        b: &dyn Backend,
        predicted: &Tensor,
        computed: &Tensor,
        mixed: Option<(&Mix, &Tensor)>,
    ) -> Result<Tensor> {
        let &[n, count, d] = predicted.shape() else { unreachable!("streams of rows") };
        let shares = b.product(&self.correct, &self.modalities(b, computed)?)?;
        let shares = b.add_each(&shares, &b.tensor(vec![1.0], &[1])?)?.reshape(&[n, count, 1])?;
        let error = b.add(computed, &b.scale(&stream(predicted, 0)?, -1.0)?)?;
        let error = error.reshape(&[n, 1, d])?.repeat_heads(count)?;
        let corrected = b.add(predicted, &b.multiply_each(&error, &shares)?)?;
        let Some((mix, input)) = mixed else { return Ok(corrected) };
        let first = stream(&corrected, 0)?;
        let added = mix.added(b, &b.multiply_each(&first, &self.scale)?, input)?;
        let added = added.reshape(&[n, 1, d])?.repeat_heads(count - 1)?;
        let others = b.add(&corrected.narrow(1, 1, count - 1)?, &added)?;
        Tensor::concat(&[&first.reshape(&[n, 1, d])?, &others], 1)
    }
}

/// One stream, (n, d_model).
///
/// # Errors
/// When there is no such one.
pub fn stream(streams: &Tensor, index: usize) -> Result<Tensor> {
    let shape = [streams.rows(), streams.shape()[2]];
    streams.narrow(1, index, 1)?.reshape(&shape)
}

/// A way around a mixer, of low rank.
pub struct Laurel {
    down: Linear,
    up: Linear,
    norm: Norm,
}

impl Laurel {
    /// The tensors `blk.{index}.laurel_*`, `None` if there are none.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn load(
        s: &Spec,
        w: &Weights<'_>,
        index: usize,
    ) -> std::result::Result<Option<Self>, WeightsError> {
        let (name, d) = (|part: &str| format!("blk.{index}.laurel_{part}"), s.d_model);
        let Some(elements) = w.elements(&name("l.weight")) else { return Ok(None) };
        Ok(Some(Self {
            down: w.linear(&name("l"), elements / d, d)?,
            up: w.linear(&name("r"), d, elements / d)?,
            norm: Norm::load(s, w, &name("post_norm"), d)?,
        }))
    }

    /// The mean, times √2, of what comes after the mixer and of the way around it from its input `x`, (n, d_model) each.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn join(&self, b: &dyn Backend, x: &Tensor, after: &Tensor) -> Result<Tensor> {
        let around = self.norm.forward(b, &b.product(&self.up, &b.product(&self.down, x)?)?)?;
        b.scale(&b.add(after, &b.add(&around, x)?)?, 0.5_f64.sqrt())
    }
}

/// √(Σ x²) of each row, (n, 1).
fn lengths(b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
    let mut values = Vec::new();
    b.read(x, &mut values)?;
    let rows = values.chunks_exact(x.shape()[1].max(1));
    let lengths = rows.map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt());
    b.tensor(lengths.collect(), &[x.rows(), 1])
}

/// The rows `x`, made as long as told.
fn as_long(b: &dyn Backend, x: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let (mut own, mut factors) = (Vec::new(), Vec::new());
    b.read(&lengths(b, x)?, &mut own)?;
    b.read(wanted, &mut factors)?;
    factors.iter_mut().zip(own).for_each(|(wanted, own)| *wanted /= own);
    b.multiply_each(x, &b.tensor(factors, &[x.rows(), 1])?)
}
