//! Attention of new positions of several sequences, each over its own cached pages.
//!
//! Input: queries (rows, heads, head_dim) and pages of keys and values. Output: mixed values (rows, heads, head_dim).
//! Query rows of a sequence that share a key head go over its positions together, page by page, with an online softmax
//! (Dao et al., 2022). Positions outside the windows of all these rows are never read.

#![expect(unsafe_code, reason = "calls into the instruction set that was detected")]

mod lanes;
pub(super) mod layout;
mod pages;
pub(super) mod stored;

pub use layout::{BLOCK, KEYS, ROWS, Weights};
pub use pages::{CachedMut, Fresh, Past, append};
pub use stored::{CacheType, Cached, Element};
pub(super) use {lanes::lanes, stored::by_element};

use super::disjoint::Disjoint;
use super::isa::{Level, by_floats};
use super::prefetch::Soon;
use super::{Compute, float, scalar};
use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use super::arm;
#[cfg(target_arch = "x86_64")]
use super::x86::{lanes as x86, sse};

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
    /// Positions that a query can see.
    pub window: Window,
    /// Factor applied to the scores.
    pub scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// ALiBi's largest bias: scores fall with the distance, in each head at another slope.
    pub alibi: Option<f32>,
}

impl Heads {
    /// By how much the scores of a head fall with each position of distance ([ALiBi](https://arxiv.org/abs/2108.12409)).
    #[must_use]
    pub fn slope(&self, head: usize) -> f32 {
        let Some(largest) = self.alibi else { return 0.0 };
        let whole = 1 << self.heads.max(1).ilog2();
        let power = |bias: f32, n: usize| libm::exp2f(-bias * n as f32 / whole as f32);
        if head < whole {
            power(largest, head + 1)
        } else {
            power(largest / 2.0, 2 * (head - whole) + 1)
        }
    }
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
    /// Those up to `n` before it and, where attention looks both ways, after it.
    Around(usize),
}

impl Window {
    /// The first position visible to the query at `position`.
    #[must_use]
    pub fn start(self, position: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Last(n) => (position + 1).saturating_sub(n),
            Self::Chunk(n) => position / n * n,
            Self::Around(n) => position.saturating_sub(n),
        }
    }
}

/// One query row: a position and a head. Rows computed together share keys and values.
#[derive(Clone, Copy)]
struct Row {
    position: usize,
    head: usize,
}

/// By how much the scores of a row fall with the distance, in a block of positions.
#[derive(Clone, Copy)]
struct Tilt {
    slope: f32,
    /// The row's own position.
    own: usize,
    /// The first position of the block.
    first: usize,
}

/// A row's partial softmax over some positions: values weighted by exp(score − max), and the sum of the weights.
struct Partial<'a> {
    max: &'a mut f32,
    sum: &'a mut f32,
    mixed: &'a mut [f32],
}

/// The rows of one sequence in one call.
struct Span<'p, 'a> {
    past: &'p Past<'a>,
    /// Index of its first row in the call.
    first: usize,
    /// Partial results of a row: one for all positions, or one for each [`SPAN`] of them.
    slots: usize,
    /// Offset of its first record.
    records: usize,
}

/// A piece of the work: a chunk of rows of a span, for one key head, over all positions or one [`SPAN`] of them.
struct Item {
    span: usize,
    kv_head: usize,
    rows: Range<usize>,
    slot: usize,
}

/// Attention of the rows of several sequences. `q` is (rows of all, heads, key_dim), in the order of `pasts`, whose
/// pages already hold the new positions. `sinks` has one score per head, which takes part in the softmax but
/// contributes no value.
#[must_use]
pub fn attend(
    compute: &Compute,
    h: Heads,
    sinks: Option<&[f32]>,
    q: &[f32],
    pasts: &[Past<'_>],
) -> Vec<f32> {
    let group = h.heads / h.kv_heads;
    let record = h.value_dim + 2;
    let chunk = |past: &Past<'_>| (2 * ROWS).div_ceil(group).min(past.rows.max(1));
    // If there are too few items for the threads, the positions are divided as well; the results are the same either
    // way.
    let items: usize = pasts.iter().map(|past| h.kv_heads * past.rows.div_ceil(chunk(past))).sum();
    let divided = items < 2 * compute.pool.threads();
    let (mut spans, mut items) = (Vec::with_capacity(pasts.len()), Vec::with_capacity(items));
    let (mut first, mut records, mut work) = (0, 0, 0);
    for past in pasts {
        let (chunk, slots) = (chunk(past), if divided { past.total().div_ceil(SPAN) } else { 1 });
        for start in (0..past.rows).step_by(chunk) {
            for kv_head in 0..h.kv_heads {
                let rows = start..(start + chunk).min(past.rows);
                items.extend((0..slots).map(|slot| Item {
                    span: spans.len(),
                    kv_head,
                    rows: rows.clone(),
                    slot,
                }));
            }
        }
        spans.push(Span { past, first, slots, records });
        first += past.rows;
        records += slots * past.rows * h.heads * record;
        work += past.rows * past.total();
    }
    let mut records = vec![0.0; records]; // of each span: (slots, rows, heads, record)
    let shared = Disjoint::new(&mut records);
    let run = |index: usize| {
        let Item { span, kv_head, rows, slot } = &items[index];
        let span = &spans[*span];
        let heads = kv_head * group..(kv_head + 1) * group;
        let rows: Vec<Row> = rows
            .clone()
            .flat_map(|position| heads.clone().map(move |head| Row { position, head }))
            .collect();
        let q = &q[span.first * h.heads * h.key_dim..];
        let place = |row: &Row| {
            span.records + ((slot * span.past.rows + row.position) * h.heads + row.head) * record
        };
        let total = span.past.total();
        if divided {
            for rows in rows.chunks(ROWS) {
                let part = slot * SPAN..((slot + 1) * SPAN).min(total);
                let record = |row: &Row| {
                    // SAFETY: each row has its own record in each slot.
                    Partial::new(unsafe { shared.slice(place(row)..place(row) + record) })
                };
                let mut parts: Vec<Partial<'_>> = rows.iter().map(record).collect();
                compute.attend_rows(&h, rows, q, (span.past, *kv_head), part, &mut parts);
            }
            return;
        }
        let mut scratch = vec![0.0; ROWS * record];
        for rows in rows.chunks(ROWS) {
            for start in (0..total).step_by(SPAN) {
                let part = start..(start + SPAN).min(total);
                scratch.fill(0.0);
                let mut parts: Vec<Partial<'_>> =
                    scratch.chunks_exact_mut(record).take(rows.len()).map(Partial::new).collect();
                compute.attend_rows(&h, rows, q, (span.past, *kv_head), part, &mut parts);
                for (row, part) in rows.iter().zip(&parts) {
                    // SAFETY: each row has its own record.
                    let own = unsafe { shared.slice(place(row)..place(row) + record) };
                    Partial::new(own).absorb(part);
                }
            }
        }
    };
    if work * h.heads * (h.key_dim + h.value_dim) < WORK_MIN {
        (0..items.len()).for_each(run);
    } else {
        compute.pool.run(items.len(), &run);
    }
    let mut out = Vec::with_capacity(first * h.heads * h.value_dim);
    for span in &spans {
        let size = span.past.rows * h.heads * record;
        let own = &mut records[span.records..span.records + span.slots * size];
        let (whole, rest) = own.split_at_mut(size);
        for (row, record_of_row) in whole.chunks_exact_mut(record).enumerate() {
            let mut whole = Partial::new(record_of_row);
            for slot in rest.chunks_exact_mut(size) {
                whole.absorb(&Partial::new(&mut slot[row * record..(row + 1) * record]));
            }
            let sink = sinks.map_or(0.0, |sinks| libm::expf(sinks[row % h.heads] - *whole.max));
            let factor = 1.0 / (*whole.sum + sink);
            out.extend(whole.mixed.iter().map(|mixed| mixed * factor));
        }
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
    fn attend_rows<'a>(
        &self,
        h: &Heads,
        rows: &[Row],
        q: &[f32],
        (past, kv_head): (&Past<'a>, usize),
        part: Range<usize>,
        states: &mut [Partial<'_>],
    ) {
        let count = rows.len();
        let queries: [&[f32]; ROWS] = std::array::from_fn(|i| {
            let row = rows[i.min(count - 1)];
            &q[(row.position * h.heads + row.head) * h.key_dim..][..h.key_dim]
        });
        let seen: [Range<usize>; ROWS] = std::array::from_fn(|i| {
            let seen = past.seen(rows[i.min(count - 1)].position, h.window);
            seen.start.max(part.start)..seen.end.min(part.end)
        });
        let start = seen.iter().map(|r| r.start).min().unwrap_or(0) / BLOCK * BLOCK;
        let end = seen.iter().map(|r| r.end).max().unwrap_or(0);
        let mut weights = [[0_f32; BLOCK]; ROWS];
        let weights = &mut weights[..count];
        let page = |block: usize| past.pages.get(block / BLOCK);
        let head = |cached: Cached<'a>| cached.head(h.kv_heads, kv_head);
        for block in (start..end).step_by(BLOCK) {
            let Some([k, v]) = page(block).map(|page| page.map(head)) else {
                unreachable!("a page for each {BLOCK} of {} positions", past.total())
            };
            let positions = 0..BLOCK.min(end - block);
            // Values are prefetched here, the next keys below: memory serves two streams faster than one.
            let soon = v.soon(&positions, h.value_dim);
            self.scores(&queries[..count], k, positions.clone(), weights, soon);
            let mut factors = [1.0; ROWS];
            for (i, (scores, state)) in weights.iter_mut().zip(states.iter_mut()).enumerate() {
                let visible = seen[i].start.saturating_sub(block).min(positions.len())
                    ..seen[i].end.saturating_sub(block).min(positions.len());
                let row = rows[i];
                let tilt = h.alibi.map(|_| Tilt {
                    slope: h.slope(row.head),
                    own: past.len + row.position,
                    first: block,
                });
                factors[i] = self.soften(h, scores, (visible, tilt), state);
            }
            let mut states = states.iter_mut();
            let mut mixed: [&mut [f32]; ROWS] = std::array::from_fn(|_| {
                states.next().map_or(&mut [][..], |state| &mut *state.mixed)
            });
            let next = page(block + BLOCK).filter(|_| block + BLOCK < end);
            let soon = next.map(|[k, _]| head(*k).soon(&(0..BLOCK), h.key_dim)).unwrap_or_default();
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
        (visible, tilt): (Range<usize>, Option<Tilt>),
        state: &mut Partial<'_>,
    ) -> f32 {
        if visible.is_empty() {
            scores.fill(0.0);
            return 1.0;
        }
        scores[..visible.start].fill(f32::NEG_INFINITY);
        scores[visible.end..].fill(f32::NEG_INFINITY);
        for score in &mut scores[visible.clone()] {
            *score *= h.scale;
            if let Some(cap) = h.softcap {
                *score = cap * libm::tanhf(*score / cap);
            }
        }
        if let Some(Tilt { slope, own, first }) = tilt {
            for (position, score) in (first + visible.start..).zip(&mut scores[visible]) {
                *score -= slope * own.abs_diff(position) as f32;
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
        let sum = by_floats!(self.isa, scalar: float::exp_sum(scores, max), exp_sum(scores, max));
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

#[cfg(test)]
mod tests;
