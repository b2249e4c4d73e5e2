//! Attention of new positions over the whole KV cache.
//!
//! Input: queries (positions, heads, head_dim) and the cache. Output: mixed values (positions, heads,
//! head_dim). Query rows that share a key head go over its positions together, block by block, with an
//! online softmax (Dao et al., 2022). Positions outside the windows of all these rows are never read.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

mod lanes;
pub(super) mod layout;
pub(super) mod stored;

pub use layout::{BLOCK, KEYS, ROWS, Weights};
pub use stored::{CacheType, Cached, Element};
pub(super) use {lanes::lanes, stored::by_element};

use super::disjoint::Disjoint;
use super::isa::{Level, by_floats};
use super::prefetch::Soon;
use super::{Compute, scalar};
use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use super::arm;
#[cfg(target_arch = "x86_64")]
use super::x86::{attention as x86, sse};

/// Positions per partial softmax. Partial results are merged in position order, whichever thread computed
/// them, so results depend neither on the number of threads nor on the number of queries.
const SPAN: usize = 4 * BLOCK;
/// Below this many multiply-adds, using more threads costs more than it saves.
const WORK_MIN: usize = 64 * 1024;

/// Shape and parameters of one attention call.
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
    /// Positions that a query can see.
    pub window: Window,
    /// Factor applied to the scores.
    pub scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// Which positions, up to its own, a query can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All.
    All,
    /// The last `n`, including its own.
    Last(usize),
    /// Those in its own chunk of `n` positions.
    Chunk(usize),
}

impl Window {
    /// The first position visible to the query at `position`.
    #[must_use]
    pub fn start(self, position: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Last(n) => (position + 1).saturating_sub(n),
            Self::Chunk(n) => position / n * n,
        }
    }
}

/// One query row: a position and a head. Rows computed together share keys and values.
#[derive(Clone, Copy)]
struct Row {
    position: usize,
    head: usize,
}

/// A row's partial softmax over some positions: values weighted by exp(score − max), and the sum of the weights.
struct Partial<'a> {
    max: &'a mut f32,
    sum: &'a mut f32,
    mixed: &'a mut [f32],
}

/// Causal attention. `q` is (n, heads, key_dim); the cache already holds the n new positions. `sinks` has
/// one score per head, which takes part in the softmax but contributes no value.
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
    let group = h.heads / h.kv_heads;
    // One item is one key head for a chunk of query positions. If there are too few items for the threads,
    // the spans of cached positions are divided as well; the results are the same either way.
    let chunk = (2 * ROWS).div_ceil(group).min(n);
    let items = h.kv_heads * n.div_ceil(chunk);
    let total = h.past + n;
    let spans = total.div_ceil(SPAN);
    let divided = items < 2 * compute.pool.threads();
    let slots = if divided { spans } else { 1 };
    let record = h.value_dim + 2;
    let mut records = vec![0.0; slots * n * h.heads * record]; // (slots, n, heads, record)
    let shared = Disjoint::new(&mut records);
    let run = |index: usize| {
        let (item, slot) = (index / slots, index % slots);
        let (kv_head, first) = (item % h.kv_heads, item / h.kv_heads * chunk);
        let positions = first..(first + chunk).min(n);
        let heads = kv_head * group..(kv_head + 1) * group;
        let rows: Vec<Row> = positions
            .flat_map(|position| heads.clone().map(move |head| Row { position, head }))
            .collect();
        let (k, v) = (k.head(h.kv_heads, kv_head), v.head(h.kv_heads, kv_head));
        let place = |row: &Row| ((slot * n + row.position) * h.heads + row.head) * record;
        if divided {
            for rows in rows.chunks(ROWS) {
                let part = slot * SPAN..((slot + 1) * SPAN).min(total);
                let record = |row: &Row| {
                    // SAFETY: each row has its own record in each slot.
                    Partial::new(unsafe { shared.slice(place(row)..place(row) + record) })
                };
                let mut parts: Vec<Partial<'_>> = rows.iter().map(record).collect();
                compute.attend_rows(&h, rows, q, k, v, part, &mut parts);
            }
            return;
        }
        let mut scratch = vec![0.0; ROWS * record];
        for rows in rows.chunks(ROWS) {
            for span in 0..spans {
                let part = span * SPAN..((span + 1) * SPAN).min(total);
                scratch.fill(0.0);
                let mut parts: Vec<Partial<'_>> =
                    scratch.chunks_exact_mut(record).take(rows.len()).map(Partial::new).collect();
                compute.attend_rows(&h, rows, q, k, v, part, &mut parts);
                for (row, part) in rows.iter().zip(&parts) {
                    // SAFETY: each row has its own record.
                    let own = unsafe { shared.slice(place(row)..place(row) + record) };
                    Partial::new(own).absorb(part);
                }
            }
        }
    };
    if n * h.heads * total * (h.key_dim + h.value_dim) < WORK_MIN {
        (0..items * slots).for_each(run);
    } else {
        compute.pool.run(items * slots, &run);
    }
    let (first, rest) = records.split_at_mut(n * h.heads * record);
    let mut out = Vec::with_capacity(n * h.heads * h.value_dim);
    for (row, record_of_row) in first.chunks_exact_mut(record).enumerate() {
        let mut whole = Partial::new(record_of_row);
        for slot in rest.chunks_exact_mut(n * h.heads * record) {
            whole.absorb(&Partial::new(&mut slot[row * record..(row + 1) * record]));
        }
        let sink = sinks.map_or(0.0, |sinks| libm::expf(sinks[row % h.heads] - *whole.max));
        let factor = 1.0 / (*whole.sum + sink);
        out.extend(whole.mixed.iter().map(|mixed| mixed * factor));
    }
    out
}

impl<'a> Partial<'a> {
    /// Splits a partial-softmax record into mixed values, largest score and sum; all-zero means empty.
    fn new(record: &'a mut [f32]) -> Self {
        let (mixed, rest) = record.split_at_mut(record.len() - 2);
        let [max, sum] = rest else { unreachable!("two elements were split off") };
        Self { max, sum, mixed }
    }

    fn is_empty(&self) -> bool {
        *self.sum == 0.0
    }

    /// Merges the partial result of the next positions, rescaling both to the larger maximum.
    fn absorb(&mut self, next: &Partial<'_>) {
        if next.is_empty() {
            return;
        }
        if self.is_empty() {
            (*self.max, *self.sum) = (*next.max, *next.sum);
            self.mixed.copy_from_slice(next.mixed);
            return;
        }
        let max = self.max.max(*next.max);
        let (old, new) = (libm::expf(*self.max - max), libm::expf(*next.max - max));
        for (mixed, next) in self.mixed.iter_mut().zip(&*next.mixed) {
            *mixed = *mixed * old + next * new;
        }
        *self.sum = *self.sum * old + *next.sum * new;
        *self.max = max;
    }
}

impl Compute {
    /// Attention of up to [`ROWS`] rows over the positions `part`, block by block. A larger score rescales the
    /// weights accumulated so far.
    #[expect(clippy::too_many_arguments, reason = "the operands of attention")]
    fn attend_rows(
        &self,
        h: &Heads,
        rows: &[Row],
        q: &[f32],
        k: Cached<'_>,
        v: Cached<'_>,
        part: Range<usize>,
        states: &mut [Partial<'_>],
    ) {
        let count = rows.len();
        let queries: [&[f32]; ROWS] = std::array::from_fn(|i| {
            let row = rows[i.min(count - 1)];
            &q[(row.position * h.heads + row.head) * h.key_dim..][..h.key_dim]
        });
        let seen: [Range<usize>; ROWS] = std::array::from_fn(|i| {
            let position = h.past + rows[i.min(count - 1)].position;
            h.window.start(position).max(part.start)..(position + 1).min(part.end)
        });
        let start = seen.iter().map(|r| r.start).min().unwrap_or(0) / BLOCK * BLOCK;
        let end = seen.iter().map(|r| r.end).max().unwrap_or(0);
        let mut weights = [[0_f32; BLOCK]; ROWS];
        let weights = &mut weights[..count];
        for block in (start..end).step_by(BLOCK) {
            let positions = block..(block + BLOCK).min(end);
            let next = block + BLOCK..block + 2 * BLOCK;
            // Values are prefetched here, the next keys below: memory serves two streams faster than one.
            let soon = v.soon(&positions, h.value_dim);
            self.scores(&queries[..count], k, positions.clone(), weights, soon);
            let mut factors = [1.0; ROWS];
            for (i, (scores, state)) in weights.iter_mut().zip(states.iter_mut()).enumerate() {
                let visible = seen[i].start.saturating_sub(block).min(positions.len())
                    ..seen[i].end.saturating_sub(block).min(positions.len());
                factors[i] = self.soften(h, scores, visible, state);
            }
            let mut states = states.iter_mut();
            let mut mixed: [&mut [f32]; ROWS] = std::array::from_fn(|_| {
                states.next().map_or(&mut [][..], |state| &mut *state.mixed)
            });
            let soon = k.soon(&next, h.key_dim);
            self.mix(weights, &factors, v, positions, &mut mixed[..count], soon);
        }
    }

    /// Unscaled scores of the rows `q` against `positions`, which start at the beginning of a block.
    fn scores(
        &self,
        q: &[&[f32]],
        k: Cached<'_>,
        positions: Range<usize>,
        out: &mut Weights,
        soon: Soon,
    ) {
        match (self.isa.level(), k) {
            (Level::Scalar, k) => by_element!(k, |k| scalar::scores(q, k, positions, out)),
            // SAFETY: both levels exist only where the processor has AVX-512.
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512 | Level::Avx512Vnni, k) => unsafe {
                x86::avx512::scores(q, k, positions, out, soon);
            },
            // SAFETY: both levels include AVX2.
            #[cfg(target_arch = "x86_64")]
            (Level::AvxVnni | Level::Avx2, k) => unsafe {
                x86::avx2::scores(q, k, positions, out, soon);
            },
            // SAFETY: an `Isa` of this level exists only where the processor has it.
            #[cfg(target_arch = "x86_64")]
            (Level::Sse, k) => unsafe { sse::scores(q, k, positions, out, soon) },
            // SAFETY: every processor of this architecture has NEON.
            #[cfg(target_arch = "aarch64")]
            (Level::Neon | Level::DotProd | Level::I8mm, k) => unsafe {
                arm::neon::scores(q, k, positions, out, soon);
            },
        }
    }

    /// Turns scores into softmax weights relative to the maximum so far; returns the factor that rescales the
    /// earlier ones.
    fn soften(
        &self,
        h: &Heads,
        scores: &mut [f32; BLOCK],
        visible: Range<usize>,
        state: &mut Partial<'_>,
    ) -> f32 {
        if visible.is_empty() {
            scores.fill(0.0);
            return 1.0;
        }
        scores[..visible.start].fill(f32::NEG_INFINITY);
        scores[visible.end..].fill(f32::NEG_INFINITY);
        for score in &mut scores[visible] {
            *score *= h.scale;
            if let Some(cap) = h.softcap {
                *score = cap * libm::tanhf(*score / cap);
            }
        }
        let mut lanes = [f32::NEG_INFINITY; KEYS];
        for scores in scores.as_chunks::<KEYS>().0 {
            for (lane, &score) in lanes.iter_mut().zip(scores) {
                *lane = lane.max(score);
            }
        }
        let old = if state.is_empty() { f32::NEG_INFINITY } else { *state.max };
        let max = lanes.into_iter().fold(old, f32::max);
        let sum = by_floats!(self.isa, scalar: scalar::exp_sum(scores, max), exp_sum(scores, max));
        let factor = libm::expf(old - max);
        *state.sum = *state.sum * factor + sum;
        *state.max = max;
        factor
    }

    /// `mixed[i] = factors[i] · mixed[i] + Σ weights[i][p] · values[p]` over the positions of a block.
    fn mix(
        &self,
        weights: &Weights,
        factors: &[f32; ROWS],
        v: Cached<'_>,
        positions: Range<usize>,
        mixed: &mut [&mut [f32]],
        soon: Soon,
    ) {
        match (self.isa.level(), v) {
            (Level::Scalar, v) => {
                by_element!(v, |v| scalar::mix(weights, factors, v, positions, mixed));
            }
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512 | Level::Avx512Vnni, v) => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { x86::avx512::mix(weights, factors, v, positions, mixed, soon) };
            }
            #[cfg(target_arch = "x86_64")]
            (Level::AvxVnni | Level::Avx2, v) => {
                // SAFETY: both levels include AVX2.
                unsafe { x86::avx2::mix(weights, factors, v, positions, mixed, soon) };
            }
            #[cfg(target_arch = "x86_64")]
            (Level::Sse, v) => {
                // SAFETY: an `Isa` of this level exists only where the processor has it.
                unsafe { sse::mix(weights, factors, v, positions, mixed, soon) };
            }
            #[cfg(target_arch = "aarch64")]
            (Level::Neon | Level::DotProd | Level::I8mm, v) => {
                // SAFETY: every processor of this architecture has NEON.
                unsafe { arm::neon::mix(weights, factors, v, positions, mixed, soon) };
            }
        }
    }
}
