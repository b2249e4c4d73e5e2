//! What operations check before they compute.

use super::error::{BackendError, Result};
use super::tensor::Tensor;
use crate::kernels::{Fresh, Heads, Past};

/// Checks that there is a row of keys and values for each new position, and a page.
pub fn check_append(k: &Tensor, v: &Tensor, fresh: &[Fresh<'_>]) -> Result<()> {
    let rows: usize = fresh.iter().map(|fresh| fresh.rows).sum();
    let fits = k.shape().len() == 3 && v.shape().len() == 3 && k.shape()[1] == v.shape()[1];
    if !fits || k.rows() != rows || v.rows() != rows || !fresh.iter().all(Fresh::fits) {
        return misfit(format!(
            "cache: keys {:?} and values {:?} do not fit {rows} positions",
            k.shape(),
            v.shape()
        ));
    }
    Ok(())
}

/// Checks that the queries fit the heads and the sequences.
pub fn check_attend(h: Heads, q: &Tensor, pasts: &[Past<'_>]) -> Result<()> {
    let rows: usize = pasts.iter().map(|past| past.rows).sum();
    if q.shape() != [rows, h.heads, h.key_dim] || !pasts.iter().all(|past| past.fits(&h)) {
        return misfit(format!(
            "attention: shape {:?} does not fit {rows} rows of {h:?}",
            q.shape()
        ));
    }
    Ok(())
}

/// Checks that two tensors have the same shape.
pub fn same_shape(what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.shape() == b.shape() {
        return Ok(());
    }
    misfit(format!("{what}: shapes {:?} and {:?} differ", a.shape(), b.shape()))
}

/// An error with this message.
pub fn misfit<T>(message: String) -> Result<T> {
    Err(BackendError::new(message))
}
