//! The performance-critical arithmetic, behind safe functions.
//!
//! Input: weights as the bytes of a mapped file ([`Matrix`]), activations as f32 slices.
//! Output: f32 vectors. Knows nothing of tensors, layers or models.
//!
//! [`scalar`] is the definition; the other files compute the same, faster. The instruction set is
//! chosen once ([`Isa`]) and is passed around with the thread pool in [`Compute`].

mod activations;
#[cfg(target_arch = "aarch64")]
mod arm;
mod attention;
mod blocks;
mod cores;
mod disjoint;
mod elementwise;
mod float;
mod isa;
mod limits;
mod matrix;
mod memory;
mod moe;
mod panel;
mod patience;
mod pool;
mod prefetch;
mod product;
mod recurrence;
mod scalar;
mod ticket;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attention::{
    BLOCK as CACHE_BLOCK, CacheType, Cached, CachedMut, Element, Fresh, Heads, KEYS, Past, Window,
    append, attend,
};
pub use blocks::dequantize;
pub use cores::default_threads;
pub use elementwise::{Act, Xielu};
pub use float::{Turn, gelu_tanh, silu, swiglu_oai};
pub use isa::Isa;
pub use limits::Limits;
pub use matrix::{Matrix, MatrixError};
pub use memory::keep_freed_memory;
pub use moe::{Choice, Expert, Finished, Weigh, mixture};
pub use pool::Pool;
pub use product::{Affine, Finish, Gated, Input};
pub use recurrence::{
    Convolution, DeltaNet, Forgetting, Gates, Kda, KeyOrder, Lightning, Mamba1, Mamba2, MambaRows,
    Recurrence, Rwkv6, Shape, Stretch, sigmoid, softplus, state_len,
};
pub use ticket::TicketLock;

use std::ops::Range;

/// Below this many multiply-adds, a second thread costs more than it saves.
const PART_MULTIPLY_ADDS_MIN: usize = 16 * 1024;
/// Maximum parts per thread of a large operation, so that an interrupted thread does not hold up the rest.
const PARTS_A_THREAD: usize = 4;

/// Everything a kernel needs besides its operands: the instruction set and the threads.
pub struct Compute {
    /// The instruction set in use.
    pub isa: Isa,
    /// The threads in use.
    pub pool: Pool,
    /// Held by whoever computes, where several models share the threads.
    pub lock: TicketLock,
    divisions: product::Divisions,
}

impl Compute {
    /// Computes with the given instruction set on `threads` threads.
    #[must_use]
    pub fn new(isa: Isa, threads: usize) -> Self {
        let (pool, divisions) = (Pool::new(threads), product::Divisions::default());
        Self { isa, pool, lock: TicketLock::default(), divisions }
    }

    /// Splits `0..n` among the threads; `cost` is the number of multiply-adds per index.
    fn for_ranges(&self, n: usize, cost: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        let most = if self.pool.threads() == 1 { 1 } else { self.pool.threads() * PARTS_A_THREAD };
        let parts = (n * cost / PART_MULTIPLY_ADDS_MIN).clamp(1, most);
        self.pool.run(parts, &|part| job(part * n / parts..(part + 1) * n / parts));
    }
}

#[cfg(test)]
mod tests;
