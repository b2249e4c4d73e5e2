//! Tensors of f32 in row-major order.

use super::error::{BackendError, Result};
use candle_core::{Device, Storage, Tensor as Candle};

/// A tensor. Its values belong to the backend that made it; only that one computes with it.
#[derive(Debug, Clone)]
pub struct Tensor(pub(super) Candle);

impl Tensor {
    /// A tensor of these values on the processor.
    pub(super) fn of(values: Vec<f32>, shape: &[usize]) -> Result<Self> {
        Ok(Self(Candle::from_vec(values, shape, &Device::Cpu)?))
    }

    /// Sizes of the dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.0.dims()
    }

    /// Size of the first dimension: the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape().first().copied().unwrap_or(0)
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.0.elem_count()
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// When their number differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        Ok(Self(self.0.reshape(shape)?))
    }

    /// `len` of a dimension's indices, from `start` on.
    ///
    /// # Errors
    /// When they are out of range.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        Ok(Self(self.0.narrow(dim, start, len)?.contiguous()?))
    }

    /// Some of the rows, in this order.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if rows.len() == self.rows() && rows.iter().enumerate().all(|(i, row)| i == *row) {
            return Ok(self.clone());
        }
        let parts = rows.iter().map(|row| self.0.narrow(0, *row, 1));
        match parts.collect::<candle_core::Result<Vec<_>>>()?.as_slice() {
            [] => Ok(Self(self.0.narrow(0, 0, 0)?)),
            [one] => Ok(Self(one.clone())),
            all => Ok(Self(Candle::cat(all, 0)?)),
        }
    }

    /// Two dimensions exchanged.
    ///
    /// # Errors
    /// When one does not exist.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Self> {
        Ok(Self(self.0.transpose(a, b)?.contiguous()?))
    }

    /// The middle dimension of size 1, repeated: (n, 1, width) → (n, times, width).
    ///
    /// # Errors
    /// When it has another size.
    pub fn repeat_heads(&self, times: usize) -> Result<Self> {
        let (n, _, width) = self.0.dims3()?;
        Ok(Self(self.0.expand((n, times, width))?.contiguous()?))
    }

    /// Tensors joined along a dimension.
    ///
    /// # Errors
    /// When the other dimensions differ.
    pub fn concat(parts: &[&Self], dim: usize) -> Result<Self> {
        let parts: Vec<&Candle> = parts.iter().map(|part| &part.0).collect();
        Ok(Self(Candle::cat(&parts, dim)?))
    }
}

/// Passes the elements of tensors to `f`.
pub(super) fn with<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> R,
) -> Result<R> {
    with_all(&tensors, |slices| f(std::array::from_fn(|i| slices[i])))
}

/// The same for any number of them.
pub(super) fn with_all<R>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> R) -> Result<R> {
    let mut whole = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        whole.push(tensor.0.contiguous()?);
    }
    let guards: Vec<_> = whole.iter().map(Candle::storage_and_layout).collect();
    let mut slices: Vec<&[f32]> = Vec::with_capacity(tensors.len());
    for (storage, layout) in &guards {
        let Storage::Cpu(storage) = &**storage else {
            return Err(BackendError::new("expected a tensor on the processor"));
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(BackendError::new(format!("not contiguous: {layout:?}")));
        };
        slices.push(&storage.as_slice::<f32>()?[start..end]);
    }
    Ok(f(&slices))
}
