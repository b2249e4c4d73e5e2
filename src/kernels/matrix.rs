//! Stored matrices.

use super::blocks;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use tealight_bundle::gguf::DType;
use tealight_bundle::mapped::Mapped;

/// A stored matrix, used in place from the mapped file: `rows` × `columns`, row-major.
#[derive(Clone)]
pub struct Matrix {
    file: Arc<Mapped>,
    /// Byte range in the file.
    pub(super) range: Range<usize>,
    /// Storage type.
    pub dtype: DType,
    /// Number of rows: outputs of a linear layer, tokens of an embedding.
    pub rows: usize,
    /// Elements per row: inputs of a linear layer.
    pub columns: usize,
}

/// A matrix that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// The storage type has no kernel.
    #[error("has type {0}, which is not supported")]
    Type(DType),
    /// The number of bytes does not match the shape.
    #[error("has {found} bytes, which is not the size of {rows} × {columns} elements of {dtype}")]
    Size {
        /// Storage type.
        dtype: DType,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
        /// Bytes found.
        found: usize,
    },
}

impl Matrix {
    /// A matrix in `range` of a mapped file.
    ///
    /// # Errors
    /// When the type has no kernel, or the range doesn't have exactly the size of the shape or lies outside the file.
    pub fn new(
        file: Arc<Mapped>,
        range: Range<usize>,
        dtype: DType,
        rows: usize,
        columns: usize,
    ) -> Result<Self, MatrixError> {
        if blocks::kind(dtype).is_none() {
            return Err(MatrixError::Type(dtype));
        }
        let fits = dtype.bytes_of(&[columns, rows]) == Some(range.len() as u64);
        if !fits || file.bytes().get(range.clone()).is_none() {
            return Err(MatrixError::Size { dtype, rows, columns, found: range.len() });
        }
        Ok(Self { file, range, dtype, rows, columns })
    }

    /// Some of the rows, as a matrix over the same bytes.
    ///
    /// # Panics
    /// When `rows` is empty or out of bounds.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows {rows:?} of {self:?}");
        let size = self.range.len() / self.rows;
        let start = self.range.start;
        let range = start + rows.start * size..start + rows.end * size;
        Self { file: Arc::clone(&self.file), range, rows: rows.len(), ..*self }
    }

    /// All bytes, row-major.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }

    /// The bytes of some rows.
    #[must_use]
    pub fn rows_bytes(&self, rows: Range<usize>) -> &[u8] {
        let size = self.range.len() / self.rows;
        &self.bytes()[rows.start * size..rows.end * size]
    }

    /// The bytes of one row.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> &[u8] {
        let size = self.range.len() / self.rows;
        &self.bytes()[index * size..(index + 1) * size]
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}, {}]", self.dtype, self.rows, self.columns)
    }
}
