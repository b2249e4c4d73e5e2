//! The arithmetic that takes the time, behind safe functions.
//!
//! Enters: weights as the bytes of a mapped file ([`Matrix`]), activations as f32 slices.
//! Leaves: f32 vectors. Knows nothing of tensors, layers or models.
//!
//! [`scalar`] is the definition; the other files compute the same faster. The instruction set is
//! chosen once ([`Isa`]) and travels with the thread pool in [`Compute`].

mod activations;
#[cfg(target_arch = "aarch64")]
mod arm;
mod attention;
mod blocks;
mod cores;
mod float;
mod isa;
mod limits;
mod memory;
mod moe;
mod panel;
mod pool;
mod product;
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attention::{
    BLOCK as CACHE_BLOCK, CacheType, Cached, Element, Heads, KEYS, Window, attend,
};
pub use blocks::dequantize;
pub use cores::default_threads;
pub use float::{add_bias, gelu_tanh, silu, swiglu_oai};
pub use isa::Isa;
pub use limits::Limits;
pub use memory::keep_freed_memory;
pub use moe::{Biased, Choice, Expert, Weigh, mixture};
pub use pool::Pool;
pub use product::{Affine, Gated, Input};

use isa::by_floats;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use tealight_bundle::gguf::DType;
use tealight_bundle::mapped::Mapped;

/// Multiply-adds below which a second thread costs more than it brings.
const PART_MULTIPLY_ADDS_MIN: usize = 16 * 1024;
/// Parts a thread gets of a large product, so that an interrupted one does not hold up the rest.
const PARTS_A_THREAD: usize = 4;

/// What every kernel needs besides its operands: the instruction set and the threads.
pub struct Compute {
    /// The instruction set in use.
    pub isa: Isa,
    /// The threads in use.
    pub pool: Pool,
    divisions: product::Divisions,
}

/// A stored matrix that stays where the file was mapped: `rows` × `columns`, row after row.
#[derive(Clone)]
pub struct Matrix {
    file: Arc<Mapped>,
    range: Range<usize>,
    /// Storage type.
    pub dtype: DType,
    /// Number of rows: outputs of a linear layer, words of an embedding.
    pub rows: usize,
    /// Elements of a row: inputs of a linear layer.
    pub columns: usize,
}

/// A matrix that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// There is no kernel for the storage type.
    #[error("has type {0}, which has no kernel here yet")]
    Type(DType),
    /// The bytes do not hold the shape.
    #[error("its {found} bytes do not hold {rows} × {columns} elements of {dtype}")]
    Size {
        /// Storage type.
        dtype: DType,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
        /// Bytes there are.
        found: usize,
    },
}

impl Matrix {
    /// A matrix in `range` of a mapped file.
    ///
    /// # Errors
    /// When the type has no kernel or the range does not hold exactly that shape.
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

    /// Some of the rows, as a matrix of their own over the same bytes.
    ///
    /// # Panics
    /// When there are no such rows.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows {rows:?} of {self:?}");
        let size = self.range.len() / self.rows;
        let start = self.range.start;
        let range = start + rows.start * size..start + rows.end * size;
        Self { file: Arc::clone(&self.file), range, rows: rows.len(), ..*self }
    }

    /// All bytes, row after row.
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

impl Compute {
    /// The given instruction set on `threads` threads.
    #[must_use]
    pub fn new(isa: Isa, threads: usize) -> Self {
        Self { isa, pool: Pool::new(threads), divisions: product::Divisions::default() }
    }

    /// `act(gate) · up`, element by element ([`swiglu_oai`] changes `up` as well).
    #[must_use]
    pub fn gate_up(&self, act: Act, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; gate.len().min(up.len())];
        let shared = Shared::new(&mut out);
        self.for_ranges(out_len(gate, up), 16, &|range| {
            let (gate, up) = (&gate[range.clone()], &up[range.clone()]);
            // Ranges of different parts do not overlap.
            let out = shared.slice(range);
            self.gate_up_part(act, gate, up, out);
        });
        out
    }

    /// `act(gate) · up` on the calling thread.
    fn gate_up_part(&self, act: Act, gate: &[f32], up: &[f32], out: &mut [f32]) {
        match act {
            Act::Silu => self.gate_up_by(|g, u| silu(g) * u, gate, up, out),
            Act::GeluTanh => self.gate_up_by(|g, u| gelu_tanh(g) * u, gate, up, out),
            Act::ReluSquared => {
                self.gate_up_by(|g, u| g.max(0.0) * g.max(0.0) * u, gate, up, out);
            }
            Act::SwigluOai => self.gate_up_by(swiglu_oai, gate, up, out),
        }
    }

    /// a + b, element by element.
    #[must_use]
    pub fn add(&self, a: &[f32], b: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; out_len(a, b)];
        let shared = Shared::new(&mut out);
        self.for_ranges(out_len(a, b), 1, &|range| {
            let (a, b) = (&a[range.clone()], &b[range.clone()]);
            // Ranges of different parts do not overlap.
            let out = shared.slice(range);
            out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a + b);
        });
        out
    }

    /// Turns pairs of elements of every head of `x`, (n, heads, head_dim), by the angles of its position.
    #[must_use]
    pub fn rotate(&self, x: &[f32], turn: Turn<'_>) -> Vec<f32> {
        let mut out = x.to_vec();
        let shared = Shared::new(&mut out);
        let positions = x.len() / (turn.heads * turn.head_dim);
        self.for_ranges(positions, turn.heads * turn.head_dim, &|range| {
            for position in range {
                let size = turn.heads * turn.head_dim;
                // Each position owns its heads.
                let heads = shared.slice(position * size..(position + 1) * size);
                float::rotate(heads, position, &turn);
            }
        });
        out
    }

    /// x / sqrt(mean(x²) + eps) · weight for each row of `weight.len()` elements.
    #[must_use]
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
        let columns = weight.len();
        let mut out = vec![0.0; x.len()];
        let shared = Shared::new(&mut out);
        self.for_ranges(x.len() / columns, 2 * columns, &|range| {
            let elements = range.start * columns..range.end * columns;
            let x = &x[elements.clone()];
            // Ranges of different parts do not overlap.
            let out = shared.slice(elements);
            for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
                self.rms_norm_row(x, weight, eps, out);
            }
        });
        out
    }

    #[expect(unsafe_code, reason = "calls into the instruction set that was detected")]
    fn rms_norm_row(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        by_floats!(
            self.isa,
            scalar: float::rms_norm(x, weight, eps, out),
            rms_norm(x, weight, eps, out)
        );
    }

    /// Splits `0..n` among the threads; `cost` is the multiply-adds of one index.
    fn for_ranges(&self, n: usize, cost: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        let most = if self.pool.threads() == 1 { 1 } else { self.pool.threads() * PARTS_A_THREAD };
        let parts = (n * cost / PART_MULTIPLY_ADDS_MIN).clamp(1, most);
        self.pool.run(parts, &|part| job(part * n / parts..(part + 1) * n / parts));
    }

    #[expect(unsafe_code, reason = "calls into the instruction set that was detected")]
    fn gate_up_by(&self, act: impl Fn(f32, f32) -> f32, gate: &[f32], up: &[f32], out: &mut [f32]) {
        by_floats!(
            self.isa,
            scalar: float::gate_up(act, gate, up, out),
            gate_up(act, gate, up, out)
        );
    }
}

/// How heads are turned.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Heads of a position.
    pub heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Pairs of a head.
    pub pairs: usize,
    /// Cosines, (positions, pairs). What lies beyond the pairs of a head stays as it is.
    pub cos: &'a [f32],
    /// Sines, (positions, pairs).
    pub sin: &'a [f32],
    /// Whether neighbours form a pair, or elements of the first and the second half.
    pub adjacent: bool,
}

/// The activation between the two halves of a gated feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// x · sigmoid(x).
    Silu,
    /// GELU, tanh form.
    GeluTanh,
    /// max(x, 0)².
    ReluSquared,
    /// gpt-oss's clamped variant of SwiGLU.
    SwigluOai,
}

fn out_len(a: &[f32], b: &[f32]) -> usize {
    a.len().min(b.len())
}

/// A result buffer that several parts of one [`Pool::run`] write at disjoint places.
struct Shared<'a, T = f32> {
    start: *mut T,
    len: usize,
    buffer: PhantomData<&'a mut [T]>,
}

#[expect(unsafe_code, reason = "disjoint writes into one buffer")]
mod shared {
    use super::{PhantomData, Range, Shared};

    // SAFETY: only used within one `Pool::run`, which ends before the buffer is touched again, and
    // each part writes indices that no other part writes (said at each use).
    unsafe impl<T: Send> Sync for Shared<'_, T> {}

    impl<'a, T> Shared<'a, T> {
        pub(super) fn new(buffer: &'a mut [T]) -> Self {
            Self { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
        }

        #[inline]
        pub(super) fn set(&self, index: usize, value: T) {
            assert!(index < self.len, "index {index} of {}", self.len);
            // SAFETY: in bounds by the assertion; no other part writes this index.
            unsafe { self.start.add(index).write(value) }
        }

        #[expect(clippy::mut_from_ref, reason = "parts ask for disjoint ranges")]
        pub(super) fn slice(&self, range: Range<usize>) -> &mut [T] {
            assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
            // SAFETY: in bounds by the assertion; no other part asks for an overlapping range.
            unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
        }
    }
}

#[cfg(test)]
mod tests;
