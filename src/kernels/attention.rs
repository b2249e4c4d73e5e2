//! Attention of some new positions over everything in the KV cache.
//!
//! Enters: queries (positions, heads, head_dim), the cache (kv_heads, capacity, head_dim).
//! Leaves: mixed values (positions, heads, head_dim). One pass over the keys, a softmax, one pass over
//! the values for each query and head; scores of positions outside the window are never computed.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

use super::isa::Level;
use super::{Compute, Shared, scalar};
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::x86::float as x86_float;

/// Cached keys or values in the cache's element type, (kv_heads, capacity, head_dim).
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the variants are the element types")]
pub enum Cached<'a> {
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    F32(&'a [f32]),
}

/// The numbers that shape one attention.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a query or key head.
    pub key_dim: usize,
    /// Elements of a value head.
    pub value_dim: usize,
    /// Positions the cache has room for.
    pub capacity: usize,
    /// Positions in the cache before these queries.
    pub past: usize,
    /// Which positions a query sees.
    pub window: Window,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// Which of the positions up to its own a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All.
    All,
    /// The last so many, its own included.
    Last(usize),
    /// Those in its own chunk of so many.
    Chunk(usize),
}

impl Window {
    /// The first position that the query at `position` sees.
    #[must_use]
    pub fn start(self, position: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Last(n) => (position + 1).saturating_sub(n),
            Self::Chunk(n) => position / n * n,
        }
    }
}

/// Causal attention. `q` is (n, heads, key_dim); the cache already holds the n new positions. `sinks`
/// are a score for each head that takes weight and mixes nothing in.
#[must_use]
pub fn attend(
    compute: &Compute,
    h: Heads,
    sinks: Option<&[f32]>,
    q: &[f32],
    k: Cached<'_>,
    v: Cached<'_>,
) -> Vec<f32> {
    let n = q.len() / (h.heads * h.key_dim);
    let mut out = vec![0.0; n * h.heads * h.value_dim];
    let shared = Shared::new(&mut out);
    // One part is one head of one query, in an order that gives each thread long and short ones.
    let cost = (h.past + n) * (h.key_dim + h.value_dim);
    compute.for_ranges(n * h.heads, cost, &|range| {
        let mut scores = Vec::new();
        for index in range {
            let (position, head) = (index / h.heads, index % h.heads);
            let end = h.past + position + 1;
            let start = h.window.start(h.past + position);
            let kv_head = head * h.kv_heads / h.heads;
            let keys = kv_head * h.capacity + start..kv_head * h.capacity + end;
            let q = &q[index * h.key_dim..(index + 1) * h.key_dim];
            scores.clear();
            scores.resize(end - start, 0.0);
            let elements = keys.start * h.key_dim..keys.end * h.key_dim;
            compute.scores(q, k.slice(elements), h.scale, &mut scores);
            let sink = sinks.map(|sinks| sinks[head]);
            let weights = compute.softmax(&mut scores, h.softcap, sink);
            let elements = keys.start * h.value_dim..keys.end * h.value_dim;
            // Each query head owns its slice of the result.
            let out = shared.slice(index * h.value_dim..(index + 1) * h.value_dim);
            compute.mix(weights, v.slice(elements), out);
        }
    });
    out
}

impl Cached<'_> {
    fn slice(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F16(x) => Self::F16(&x[range]),
            Self::Bf16(x) => Self::Bf16(&x[range]),
            Self::F32(x) => Self::F32(&x[range]),
        }
    }
}

impl Compute {
    fn scores(&self, q: &[f32], keys: Cached<'_>, scale: f32, out: &mut [f32]) {
        fn portable<T: super::float::ToF32>(q: &[f32], keys: &[T], scale: f32, out: &mut [f32]) {
            for (out, k) in out.iter_mut().zip(keys.chunks_exact(q.len())) {
                *out = scalar::dot_cached(q, k) * scale;
            }
        }
        match (keys, self.isa.level()) {
            (Cached::F16(k), Level::Scalar) => portable(q, k, scale, out),
            // SAFETY: every other level includes AVX2, and exists only where the processor has it.
            #[cfg(target_arch = "x86_64")]
            (Cached::F16(k), _) => unsafe { x86_float::scores(q, k, scale, out) },
            (Cached::Bf16(k), _) => portable(q, k, scale, out),
            (Cached::F32(k), _) => portable(q, k, scale, out),
        }
    }

    /// Softmax in place; returns the weights.
    fn softmax<'s>(
        &self,
        scores: &'s mut [f32],
        softcap: Option<f32>,
        sink: Option<f32>,
    ) -> &'s [f32] {
        if let Some(cap) = softcap {
            scores.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
        }
        let max = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
        let sum = match self.isa.level() {
            Level::Scalar => scalar::exp_sum(scores, max),
            // SAFETY: every other level includes AVX2, and exists only where the processor has it.
            #[cfg(target_arch = "x86_64")]
            _ => unsafe { x86_float::exp_sum(scores, max) },
        };
        let factor = 1.0 / (sum + sink.map_or(0.0, |sink| (sink - max).exp()));
        scores.iter_mut().for_each(|s| *s *= factor);
        scores
    }

    fn mix(&self, weights: &[f32], values: Cached<'_>, out: &mut [f32]) {
        fn portable<T: super::float::ToF32>(weights: &[f32], values: &[T], out: &mut [f32]) {
            out.fill(0.0);
            for (&weight, v) in weights.iter().zip(values.chunks_exact(out.len())) {
                scalar::add_cached(out, weight, v);
            }
        }
        match (values, self.isa.level()) {
            (Cached::F16(v), Level::Scalar) => portable(weights, v, out),
            // SAFETY: every other level includes AVX2, and exists only where the processor has it.
            #[cfg(target_arch = "x86_64")]
            (Cached::F16(v), _) => unsafe { x86_float::mix(weights, v, out) },
            (Cached::Bf16(v), _) => portable(weights, v, out),
            (Cached::F32(v), _) => portable(weights, v, out),
        }
    }
}
