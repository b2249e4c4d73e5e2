//! Multiplies stored rows in place, for a single token: a tile of sixteen rows at a time.
//!
//! Four rows are decoded together, so that their scales fill vectors; each is read sequentially, which suits memory.
//! The terms of sub-blocks are buffered and then summed with one row per lane, in the order of
//! [`super::panels::multiply`].

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{frame, prefetch};
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

/// Rows per vector of sums.
const LANES: usize = 16;
/// Vectors in the buffer of terms: 36 KiB, so that they stay in cache, and enough for a row of 9,216 columns, so that
/// whole rows are read in sequence.
const TERMS: usize = 576;
/// Dot products of stored rows with one row of activations: as many rows of each run as its `out` holds.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn rows<P: Dot>(dtype: DType, runs: Runs<'_>, x: Row<'_>, out: &mut [&mut [f32]; 4]) {
    for_type!(dtype, D => tiles::<D, P>(dtype, runs, x, out), unreachable!("{dtype} has no levels"));
}

frame! {
    features: "avx512bw,avx512vl,avx512dq", vectors: __m512i, __m512, _mm512_setzero_ps, quads: 4,
    span_bytes: D::SPAN / D::COLUMNS * D::BYTES, small_span: 128, span_bytes_max: 4 * Q8_0::BYTES
}

/// Dot products of 4 × 4 rows: four from each of `streams` on, but none after `last`.
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
                    prefetch!(span, Rows::<D>::SPAN_BYTES, stored.two_steps);
                }
                if span == whole && stored.overruns(rows) {
                    spans = stored.last_span(rows);
                }
                let at = D::UNITS * unit_size * span;
                let x = &prepared[at..at + D::UNITS * unit_size];
                let out = &mut terms[4 * D::UNITS * (span - first)..][..4 * D::UNITS];
                // SAFETY: guaranteed by the caller; whole spans lie within their rows, `last_span` pads the others.
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
    // From (quads, streams) to (streams, quads): the quads of a stream are consecutive rows.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let mut all = [0.0; LANES];
    store(&mut all, _mm512_permutexvar_epi32(order, _mm512_castps_si512(sums)));
    *all.as_chunks().0.first_chunk().expect("four fours")
}

/// Lays out activations in the order of the units: quants, then their sums, repeated for four rows.
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

/// Computes scale · integer + min · sum of activations for each sub-block of a span of four rows.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; each pointer is that of a span.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn add_terms<D: Quad, P: Dot>(
    rows: [*const u8; 4],
    x: &[__m512i],
    quad: usize,
    out: &mut [__m512],
) {
    // SAFETY: guaranteed by the caller.
    let factors = unsafe { D::factors::<P>(rows) };
    for unit in 0..D::UNITS {
        let x = &x[unit * (D::HALVES + 1)..][..=D::HALVES];
        // SAFETY: guaranteed by the caller; `x` holds the unit's activations.
        let integers = unsafe { four!(|i| D::integers::<P>(rows[i], unit, x.as_ptr())) };
        let integers = _mm512_cvtepi32_ps(sum_words(integers));
        let (scales, minima) = factors[unit];
        let minima = _mm512_mul_ps(minima, _mm512_castsi512_ps(x[D::HALVES]));
        out[4 * unit + quad] = _mm512_fmadd_ps(integers, scales, minima);
    }
}

/// Adds the terms of the first `subs` sub-blocks of a span to the sums of sixteen rows, in order.
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
