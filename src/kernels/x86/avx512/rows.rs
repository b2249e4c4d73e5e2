//! Stored rows multiplied where they lie, for a single token: a tile of sixteen rows at a time.
//!
//! Four rows are decoded together, so that their scales fill vectors; each is read from its beginning to its end, as
//! memory likes it. What a sub-block adds to its row is kept aside and then added up with a row in each lane, in the
//! order of [`super::panels::multiply`].

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::decode::Decode;
use super::dot::Dot;
use super::quads::Quad;
use super::types::{Q8_0, for_type};
use super::vectors::{four, load_f32, quarters, store, sum_words, swap_quarters};
use crate::kernels::activations::Row;
use crate::kernels::product::runs::Runs;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::cell::Cell;
use std::marker::PhantomData;
use tealight_bundle::gguf::DType;

/// Rows whose sums are in one vector.
const LANES: usize = 16;
/// Bytes of a processor's cache line.
const LINE: usize = 64;
/// How far ahead of its use memory is fetched: past the end of a page soon enough for its address to be found.
const FAR: usize = 1536;
/// How far ahead into the first cache what was fetched into the second, which can wait for more lines. Small blocks
/// have fewer columns a line: fetching them twice takes longer than it saves, unless they surely come from memory.
const NEAR: usize = 1024;
/// Bytes of a matrix that no cache keeps until the next token.
const LARGE: usize = 64 << 20;
/// Vectors of terms that are kept aside: 36 KiB, so that they stay near, and all of a row of 9,216 columns, so that
/// memory is asked for whole rows.
const TERMS: usize = 576;
/// Most bytes of four small blocks.
const SPAN_BYTES_MAX: usize = 4 * Q8_0::BYTES;

/// Dot products of stored rows with one row of activations: as many of each run as `out` has room for.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn rows<P: Dot>(dtype: DType, runs: Runs<'_>, x: Row<'_>, out: &mut [&mut [f32]; 4]) {
    for_type!(dtype, D => tiles::<D, P>(dtype, runs, x, out), unreachable!("{dtype} has no levels"));
}

/// What a call needs for a while. A thread keeps it for its next call: allocating takes as long as some rows.
#[derive(Default)]
struct Scratch {
    /// The row of activations that was prepared, see [`Row::id`], and for what type.
    of: Option<(u64, DType)>,
    /// See [`prepare`].
    prepared: Vec<__m512i>,
    /// What sub-blocks add to their rows, (units, quads).
    terms: Vec<__m512>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// The rows of a matrix where they lie.
struct Rows<'a, D> {
    w: &'a [u8],
    row_bytes: usize,
    /// Spans of a row that are whole.
    whole: usize,
    /// Whether memory is fetched into the second cache first.
    two_steps: bool,
    /// What is left at the end of the matrix, with zeros behind it.
    rest: [[u8; SPAN_BYTES_MAX]; 4],
    decode: PhantomData<D>,
}

impl<'a, D: Quad> Rows<'a, D> {
    const SPAN_BYTES: usize = D::SPAN / D::COLUMNS * D::BYTES;

    fn of(runs: Runs<'a>) -> Self {
        let Runs { w, row_bytes, .. } = runs;
        let whole = row_bytes / Self::SPAN_BYTES;
        let two_steps = D::SPAN > 128 || w.len() > LARGE;
        let rest = [[0; SPAN_BYTES_MAX]; 4];
        Self { w, row_bytes, whole, two_steps, rest, decode: PhantomData }
    }

    fn columns(&self) -> usize {
        self.row_bytes / D::BYTES * D::COLUMNS
    }

    /// Whether the span that the end of a row cuts off reaches beyond the matrix. Elsewhere the next row lies behind it,
    /// from which nothing is added up.
    #[inline]
    fn overruns(&self, rows: [usize; 4]) -> bool {
        let last = rows.into_iter().max().unwrap_or(0);
        last * self.row_bytes + (self.whole + 1) * Self::SPAN_BYTES > self.w.len()
    }

    /// Copies of such spans.
    #[cold]
    fn last_span(&mut self, rows: [usize; 4]) -> [*const u8; 4] {
        for (rest, row) in self.rest.iter_mut().zip(rows) {
            let row = &self.w[row * self.row_bytes..][..self.row_bytes];
            let row = &row[self.whole * Self::SPAN_BYTES..];
            rest[..row.len()].copy_from_slice(row);
        }
        self.rest.each_ref().map(|rest| rest.as_ptr())
    }
}

/// All rows, some of each run at a time.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn tiles<D: Quad, P: Dot>(dtype: DType, runs: Runs<'_>, x: Row<'_>, out: &mut [&mut [f32]; 4]) {
    let mut stored = Rows::<D>::of(runs);
    let spans = stored.columns().div_ceil(D::SPAN);
    let Scratch { of, mut prepared, mut terms } = SCRATCH.take();
    let this = Some((x.id, dtype));
    if of != this {
        prepare::<D>(x, spans, &mut prepared);
    }
    let size = TERMS.min(4 * D::UNITS * spans);
    if terms.len() < size {
        terms.resize(size, _mm512_setzero_ps());
    }
    let last = (runs.w.len() / runs.row_bytes).saturating_sub(1);
    let count = out.iter().map(|out| out.len()).max().unwrap_or(0);
    for at in (0..count).step_by(4) {
        // What a run has no row for is computed of another; those results go nowhere.
        let streams = runs.first.map(|first| (first + at).min(last));
        // SAFETY: the processor has these instructions.
        let sums =
            unsafe { tile::<D, P>(&mut stored, streams, last, &prepared, x.scales, &mut terms) };
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.iter_mut().skip(at).zip(sums) {
                *out = sum;
            }
        }
    }
    SCRATCH.set(Scratch { of: this, prepared, terms });
}

/// The dot products of four times four rows: those from each of `streams` on, none behind `last`.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn tile<D: Quad, P: Dot>(
    stored: &mut Rows<'_, D>,
    streams: [usize; 4],
    last: usize,
    prepared: &[__m512i],
    scales: &[f32],
    terms: &mut [__m512],
) -> [[f32; 4]; 4] {
    let unit_size = D::HALVES + 1;
    let (columns, whole) = (stored.columns(), stored.whole);
    let spans = columns.div_ceil(D::SPAN);
    let at_once = TERMS / (4 * D::UNITS);
    let mut sums = _mm512_setzero_ps();
    for first in (0..spans).step_by(at_once) {
        let end = (first + at_once).min(spans);
        for quad in 0..4 {
            let rows = four!(|i| (streams[i] + quad).min(last));
            let begin = four!(|i| stored.w[rows[i] * stored.row_bytes..].as_ptr());
            for span in first..end {
                let mut spans = four!(|i| begin[i].wrapping_add(span * Rows::<D>::SPAN_BYTES));
                for span in spans {
                    for line in 0..Rows::<D>::SPAN_BYTES.div_ceil(LINE) {
                        let line = span.wrapping_add(LINE * line);
                        if stored.two_steps {
                            _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(FAR).cast());
                            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(NEAR).cast());
                        } else {
                            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(FAR).cast());
                        }
                    }
                }
                if span == whole && stored.overruns(rows) {
                    spans = stored.last_span(rows);
                }
                let at = D::UNITS * unit_size * span;
                let x = &prepared[at..at + D::UNITS * unit_size];
                let out = &mut terms[4 * D::UNITS * (span - first)..][..4 * D::UNITS];
                // SAFETY: said by the caller; whole spans lie in their rows, and `last_span` gives one.
                unsafe { add_terms::<D, P>(spans, x, quad, out) };
            }
        }
        for span in first..end.min(whole) {
            let terms = &terms[4 * D::UNITS * (span - first)..][..4 * D::UNITS];
            sums = sum_terms::<D>(terms, &scales[span * D::SPAN / 32..], D::SPAN / D::SUB, sums);
        }
        if end > whole {
            let terms = &terms[4 * D::UNITS * (whole - first)..][..4 * D::UNITS];
            let subs = columns % D::SPAN / D::SUB;
            sums = sum_terms::<D>(terms, &scales[whole * D::SPAN / 32..], subs, sums);
        }
    }
    // From (quads, streams) to (streams, quads), which are consecutive rows.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut all = [0.0; LANES];
    store(&mut all, _mm512_permutexvar_epi32(order, _mm512_castps_si512(sums)));
    *all.as_chunks().0.first_chunk().expect("four fours")
}

/// Activations in the order of the units: levels, and sums that are the same for four rows.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn prepare<D: Quad>(x: Row<'_>, spans: usize, out: &mut Vec<__m512i>) {
    out.clear();
    out.reserve(spans * D::UNITS * (D::HALVES + 1));
    let sums = if D::SUB == 32 { x.sums32 } else { x.sums16 };
    for span in 0..spans {
        for unit in 0..D::UNITS {
            let subs = four!(|i| span * D::SPAN / D::SUB + D::sub(unit, i));
            for half in 0..D::HALVES {
                let at = four!(|i| x.quants[D::SUB * subs[i] + 16 * half..][..16].as_ptr().cast());
                // SAFETY: sixteen bytes each, by the slices.
                out.push(unsafe { quarters(at) });
            }
            let sums = four!(|i| [D::SUMS * sums[subs[i]]; 4]);
            out.push(_mm512_castps_si512(load_f32(sums.as_flattened().first_chunk().expect("16"))));
        }
    }
}

/// scale · integer + minimum · sum of activations, for each sub-block of a span of four rows.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; a span lies at each pointer.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn add_terms<D: Quad, P: Dot>(
    rows: [*const u8; 4],
    x: &[__m512i],
    quad: usize,
    out: &mut [__m512],
) {
    // SAFETY: said by the caller.
    let factors = unsafe { D::factors::<P>(rows) };
    for unit in 0..D::UNITS {
        let x = &x[unit * (D::HALVES + 1)..][..=D::HALVES];
        // SAFETY: said by the caller; the unit's activations are at `x`.
        let integers = unsafe { four!(|i| D::integers::<P>(rows[i], unit, x.as_ptr())) };
        let integers = _mm512_cvtepi32_ps(sum_words(integers));
        let (scales, minima) = factors[unit];
        let minima = _mm512_mul_ps(minima, _mm512_castsi512_ps(x[D::HALVES]));
        out[4 * unit + quad] = _mm512_fmadd_ps(integers, scales, minima);
    }
}

/// Adds the terms of the first `subs` sub-blocks of a span to the sums of sixteen rows, one after the other.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn sum_terms<D: Quad>(terms: &[__m512], scales: &[f32], subs: usize, mut sums: __m512) -> __m512 {
    let mut units = [[_mm512_setzero_ps(); 4]; 4]; // (sub-blocks, rows)
    for unit in 0..D::UNITS {
        units[unit] = swap_quarters(four!(|quad| terms[4 * unit + quad]));
    }
    for sub in 0..subs {
        let (unit, quarter) = if D::ALTERNATING { (sub % 2, sub / 2) } else { (sub / 4, sub % 4) };
        let scale = _mm512_set1_ps(scales[sub * D::SUB / 32]);
        sums = _mm512_fmadd_ps(units[unit][quarter], scale, sums);
    }
    sums
}
