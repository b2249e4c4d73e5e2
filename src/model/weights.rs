//! Claims tensors of a file by name, and finds out at the end which ones nobody claimed.
//!
//! Ignoring a tensor gives fluent nonsense, so [`Weights::finish`] makes it an error.

use super::file::{FileError, ModelFile};
use crate::backend::{Backend, BackendError, Linear, Tensor};
use crate::kernels::{Expert, Finish, Finished, Matrix, dequantize};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

/// A model file from which tensors are claimed.
pub struct Weights<'a> {
    file: &'a ModelFile,
    backend: Arc<dyn Backend>,
    /// The file's number of what is called layer 0 here.
    first: usize,
    claimed: RefCell<HashSet<String>>,
}

/// Weights that do not form a model.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A tensor is missing or unusable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Tensors that the architecture does not use.
    #[error(
        "tensor `{first}` (and {others} more) is unknown in architecture `{architecture}`\nhint: ignoring it would give wrong answers; a newer tealight may support it"
    )]
    Unclaimed {
        /// The first of them.
        first: String,
        /// How many others there are.
        others: usize,
        /// The architecture.
        architecture: String,
    },
    /// The backend rejected a tensor.
    #[error("cannot load the weights: {0}")]
    Backend(#[from] BackendError),
}

impl<'a> Weights<'a> {
    /// Starts with nothing claimed. What is claimed goes to `backend`.
    #[must_use]
    pub fn new(file: &'a ModelFile, backend: Arc<dyn Backend>) -> Self {
        Self::from_layer(file, backend, 0)
    }

    /// The same, where the file's layer `first` is called layer 0, and so on.
    #[must_use]
    pub fn from_layer(file: &'a ModelFile, backend: Arc<dyn Backend>, first: usize) -> Self {
        Self { file, backend, first, claimed: RefCell::default() }
    }

    /// What the file calls a tensor.
    fn own<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let layer = layer.and_then(|(layer, rest)| Some((layer.parse::<usize>().ok()?, rest)));
        match layer {
            Some((layer, rest)) if self.first > 0 => {
                Cow::Owned(format!("blk.{}.{rest}", self.first + layer))
            }
            _ => Cow::Borrowed(name),
        }
    }

    fn claim(&self, name: &str) {
        self.claimed.borrow_mut().insert(name.to_owned());
    }

    /// What computes with them.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Whether a tensor exists (does not claim it).
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.file.has(&self.own(name))
    }

    /// A matrix over the mapped bytes.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, WeightsError> {
        let name = self.own(name);
        self.claim(&name);
        Ok(self.file.matrix(&name, rows, columns)?)
    }

    /// A linear layer `{name}.weight`, with `{name}.bias` if it exists.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn linear(&self, name: &str, out: usize, input: usize) -> Result<Linear, WeightsError> {
        let matrix = self.matrix(&format!("{name}.weight"), out, input)?;
        Ok(self.backend.linear(matrix, self.finish_of(name, out)?)?)
    }

    /// What becomes of the products of `{name}.weight`: `{name}.scale` and `{name}.bias`, where they exist.
    fn finish_of(&self, name: &str, rows: usize) -> Result<Finish, WeightsError> {
        self.pass_input_scale(name);
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.floats(&bias, rows)?) } else { None };
        // Of routers, a vector has this name.
        let scale = format!("{name}.scale");
        let scale = if self.elements(&scale) == Some(1) { self.scalar_if(&scale)? } else { None };
        Ok(Finish { scale, bias })
    }

    /// A linear layer whose rows are split into several layers.
    ///
    /// # Errors
    /// When it is missing or its number of rows differs from the sum.
    pub fn linear_parts<const N: usize>(
        &self,
        name: &str,
        rows: [usize; N],
        input: usize,
    ) -> Result<[Linear; N], WeightsError> {
        let total = rows.iter().sum();
        let whole = self.matrix(&format!("{name}.weight"), total, input)?;
        let finish = self.finish_of(name, total)?;
        let mut start = 0;
        let mut parts = Vec::with_capacity(N);
        for count in rows {
            let own = start..start + count;
            parts.push(self.backend.linear(whole.part(own.clone()), finish.part(own))?);
            start += count;
        }
        parts.try_into().map_err(|_| BackendError::new("not a layer for each part").into())
    }

    /// `count` linear layers without biases, stored in one tensor.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn linear_stack(
        &self,
        name: &str,
        count: usize,
        out: usize,
        input: usize,
    ) -> Result<Vec<Linear>, WeightsError> {
        let name = format!("{name}.weight");
        let name = self.own(&name);
        let matrices = self.file.matrices(&name, count, out, input)?;
        self.claim(&name);
        let linear = |matrix| Ok(self.backend.linear(matrix, Finish::default())?);
        matrices.into_iter().map(linear).collect()
    }

    /// Claims the scale by which others round a layer's inputs to four bits: ours keep eight.
    fn pass_input_scale(&self, name: &str) {
        self.claim(&self.own(&format!("{name}.input_scale")));
    }

    /// Claims all tensors with this prefix: known, but not used.
    pub fn pass(&self, prefix: &str) {
        let names = self.file.tensors().map(|t| &t.name).filter(|n| n.starts_with(prefix));
        self.claimed.borrow_mut().extend(names.cloned());
    }

    /// The experts `{gate,up,down}_exps` of a layer, each (input, output, count); gate and up may be fused, and the gate
    /// may be missing. `name` builds a tensor's name.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn experts(
        &self,
        name: &dyn Fn(&str) -> String,
        count: usize,
        (d_model, d_ffn): (usize, usize),
    ) -> Result<Vec<Expert>, WeightsError> {
        let fused = name("ffn_gate_up_exps");
        let (gates, ups): (Vec<_>, Vec<_>) = if self.has(&format!("{fused}.weight")) {
            let both = self.stack(&fused, count, 2 * d_ffn, d_model)?;
            both.iter().map(|b| (Some(b.part(0..d_ffn)), b.part(d_ffn..2 * d_ffn))).unzip()
        } else {
            let gates = name("ffn_gate_exps");
            let gates = if self.has(&format!("{gates}.weight")) {
                self.stack(&gates, count, d_ffn, d_model)?.into_iter().map(Some).collect()
            } else {
                vec![None; count]
            };
            (gates, self.stack(&name("ffn_up_exps"), count, d_ffn, d_model)?)
        };
        let downs = self.stack(&name("ffn_down_exps"), count, d_model, d_ffn)?;
        let all = gates.into_iter().zip(ups).zip(downs);
        Ok(all.map(|((gate, up), down)| Expert { gate, up, down }).collect())
    }

    /// `count` matrices stored in one tensor `{name}.weight`, with their biases if they exist.
    fn stack(
        &self,
        name: &str,
        count: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<Finished>, WeightsError> {
        let weight = format!("{name}.weight");
        let weight = self.own(&weight);
        let matrices = self.file.matrices(&weight, count, rows, columns)?;
        self.claim(&weight);
        let bias = format!("{name}.bias");
        let biases = self.has(&bias).then(|| self.matrix(&bias, count, rows)).transpose()?;
        let bias = |index: usize| biases.as_ref().map(|all| values(&all.part(index..index + 1)));
        self.pass_input_scale(name);
        let scales = format!("{name}.scale");
        // Those of the last matrices multiply what experts give, which is the same.
        let has_scales = self.has(&scales) && !name.ends_with("ffn_down_exps");
        let scales = has_scales.then(|| self.floats(&scales, count)).transpose()?;
        let scale = |index: usize| scales.as_ref().map(|all| all[index]);
        let finished = |(index, matrix)| Finished {
            matrix,
            finish: Finish { scale: scale(index), bias: bias(index) },
        };
        Ok(matrices.into_iter().enumerate().map(finished).collect())
    }

    /// Number of elements of a tensor, `None` when it is missing (does not claim it).
    #[must_use]
    pub fn elements(&self, name: &str) -> Option<usize> {
        self.file.tensor(&self.own(name)).map(tealight_bundle::gguf::TensorInfo::elements)
    }

    /// A vector, copied to f32: vectors are small.
    ///
    /// # Errors
    /// When it is missing or has another length.
    pub fn vector(&self, name: &str, len: usize) -> Result<Tensor, WeightsError> {
        Ok(self.backend.tensor(self.floats(name, len)?, &[len])?)
    }

    /// An optional vector.
    ///
    /// # Errors
    /// When it exists with another length.
    pub fn vector_if(&self, name: &str, len: usize) -> Result<Option<Tensor>, WeightsError> {
        if self.has(name) { self.vector(name, len).map(Some) } else { Ok(None) }
    }

    /// The elements of a vector.
    ///
    /// # Errors
    /// When it is missing or has another length.
    pub fn floats(&self, name: &str, len: usize) -> Result<Vec<f32>, WeightsError> {
        Ok(values(&self.matrix(name, 1, len)?))
    }

    /// The elements of a small matrix, row after row.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn numbers(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<f32>, WeightsError> {
        Ok(values(&self.matrix(name, rows, columns)?))
    }

    /// An optional single number.
    ///
    /// # Errors
    /// When it exists and is not a single number.
    pub fn scalar_if(&self, name: &str) -> Result<Option<f32>, WeightsError> {
        let values = self.has(name).then(|| self.floats(name, 1)).transpose()?;
        Ok(values.and_then(|values| values.first().copied()))
    }

    /// A small matrix in f32, (rows, columns).
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn table(&self, name: &str, rows: usize, columns: usize) -> Result<Tensor, WeightsError> {
        let values = values(&self.matrix(name, rows, columns)?);
        Ok(self.backend.tensor(values, &[rows, columns])?)
    }

    /// Number of dimensions of a tensor, 0 when it is missing (does not claim it).
    #[must_use]
    pub fn rank(&self, name: &str) -> usize {
        self.file.tensor(&self.own(name)).map_or(0, |t| t.dims.len())
    }

    /// Finishes loading.
    ///
    /// # Errors
    /// When the file holds a tensor that was not claimed.
    pub fn finish(self, architecture: &str) -> Result<(), WeightsError> {
        let claimed = self.claimed.into_inner();
        let mut left = self.file.tensors().filter(|t| !claimed.contains(&t.name));
        match left.next() {
            None => Ok(()),
            Some(first) => Err(WeightsError::Unclaimed {
                first: first.name.clone(),
                others: left.count(),
                architecture: architecture.to_owned(),
            }),
        }
    }
}

fn values(matrix: &Matrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows * matrix.columns];
    dequantize(matrix.dtype, matrix.bytes(), &mut values);
    values
}
