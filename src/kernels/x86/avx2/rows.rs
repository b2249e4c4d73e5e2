//! Multiplies stored rows in place, for a single token: a tile of eight rows at a time.
//!
//! As with 512 bits ([`super::super::avx512`]): four rows are decoded together, each is read as one sequential stream,
//! and the terms of sub-blocks are buffered until they are summed with one row per lane.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{frame, prefetch};
use super::dot::Dot;
use super::quads::{
    IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0,
    Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, Quad, TQ1_0, TQ2_0,
};
use super::vectors::{halves, load_f32, sum_words};
use crate::kernels::activations::Row;
use crate::kernels::product::runs::Runs;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::cell::Cell;
use std::marker::PhantomData;
use tealight_bundle::gguf::DType;

/// Rows per vector of sums.
const LANES: usize = 8;
/// Vectors in the buffer of terms: 18 KiB, so that they stay in cache, and enough for a row of 9,216 columns, so that
/// whole rows are read in sequence.
const TERMS: usize = 576;
/// Dot products of stored rows with one row of activations: as many rows of each run as its `out` holds.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn rows<P: Dot>(dtype: DType, runs: Runs<'_>, x: Row<'_>, out: &mut [&mut [f32]; 4]) {
    match dtype {
        DType::Q4_0 => tiles::<Q4_0, P>(dtype, runs, x, out),
        DType::Q4_1 => tiles::<Q4_1, P>(dtype, runs, x, out),
        DType::Q5_0 => tiles::<Q5_0, P>(dtype, runs, x, out),
        DType::Q5_1 => tiles::<Q5_1, P>(dtype, runs, x, out),
        DType::Q8_0 => tiles::<Q8_0, P>(dtype, runs, x, out),
        DType::IQ4_NL => tiles::<IQ4_NL, P>(dtype, runs, x, out),
        DType::MXFP4 => tiles::<MXFP4, P>(dtype, runs, x, out),
        DType::IQ4_XS => tiles::<IQ4_XS, P>(dtype, runs, x, out),
        DType::Q2_K => tiles::<Q2_K, P>(dtype, runs, x, out),
        DType::Q3_K => tiles::<Q3_K, P>(dtype, runs, x, out),
        DType::Q4_K => tiles::<Q4_K, P>(dtype, runs, x, out),
        DType::Q5_K => tiles::<Q5_K, P>(dtype, runs, x, out),
        DType::Q6_K => tiles::<Q6_K, P>(dtype, runs, x, out),
        DType::IQ2_XXS => tiles::<IQ2_XXS, P>(dtype, runs, x, out),
        DType::IQ2_XS => tiles::<IQ2_XS, P>(dtype, runs, x, out),
        DType::IQ2_S => tiles::<IQ2_S, P>(dtype, runs, x, out),
        DType::IQ3_XXS => tiles::<IQ3_XXS, P>(dtype, runs, x, out),
        DType::IQ3_S => tiles::<IQ3_S, P>(dtype, runs, x, out),
        DType::IQ1_S => tiles::<IQ1_S, P>(dtype, runs, x, out),
        DType::IQ1_M => tiles::<IQ1_M, P>(dtype, runs, x, out),
        DType::TQ1_0 => tiles::<TQ1_0, P>(dtype, runs, x, out),
        DType::TQ2_0 => tiles::<TQ2_0, P>(dtype, runs, x, out),
        _ => unreachable!("{dtype} has no levels"),
    }
}

frame! {
    features: "avx2,fma,f16c", vectors: __m256i, __m256, _mm256_setzero_ps, quads: 2,
    span_bytes: D::BYTES, small_span: 64, span_bytes_max: 2 * 34
}

/// Dot products of 4 × 2 rows: two from each of `streams` on, but none after `last`.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn tile<D: Quad, P: Dot>(
    stored: &mut Rows<'_, D>,
    streams: [usize; 4],
    last: usize,
    prepared: &[__m256i],
    scales: &[f32],
    terms: &mut [__m256],
) -> [[f32; 2]; 4] {
    let unit_size = D::HALVES + 1;
    let (columns, whole) = (stored.columns(), stored.whole);
    let spans = columns.div_ceil(D::SPAN);
    let at_once = TERMS / (2 * D::UNITS);
    let mut sums = _mm256_setzero_ps();
    let mut read = [D::Read::default(); 4];
    for first in (0..spans).step_by(at_once) {
        let end = (first + at_once).min(spans);
        for quad in 0..2 {
            let mut rows = streams;
            for row in &mut rows {
                *row = (*row + quad).min(last);
            }
            let begin = rows.map(|row| stored.w[row * stored.row_bytes..].as_ptr());
            for span in first..end {
                let mut spans = begin;
                for begin in &mut spans {
                    *begin = begin.wrapping_add(span * D::BYTES);
                    prefetch!(begin, D::BYTES, stored.two_steps);
                }
                if span == whole && stored.overruns(rows) {
                    spans = stored.last_span(rows);
                }
                let at = D::UNITS * unit_size * span;
                let x = &prepared[at..at + D::UNITS * unit_size];
                let out = &mut terms[2 * D::UNITS * (span - first)..][..2 * D::UNITS];
                // SAFETY: guaranteed by the caller; whole spans lie within their rows, `last_span` pads the others.
                unsafe { add_terms::<D, P>(spans, &mut read, x, quad, out) };
            }
        }
        for span in first..end.min(whole) {
            let terms = &terms[2 * D::UNITS * (span - first)..][..2 * D::UNITS];
            sums = sum_terms::<D>(terms, &scales[span * D::SPAN / 32..], D::SPAN / D::SUB, sums);
        }
        if end > whole {
            let terms = &terms[2 * D::UNITS * (whole - first)..][..2 * D::UNITS];
            let subs = columns % D::SPAN / D::SUB;
            sums = sum_terms::<D>(terms, &scales[whole * D::SPAN / 32..], subs, sums);
        }
    }
    // From (quads, streams) to (streams, quads): the quads of a stream are consecutive rows.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let mut all = [0.0; LANES];
    // SAFETY: 8 floats, by the type; the store needs no alignment.
    unsafe { _mm256_storeu_ps(all.as_mut_ptr(), _mm256_permutevar8x32_ps(sums, order)) };
    *all.as_chunks().0.first_chunk().expect("four twos")
}

/// Lays out activations in the order of the units: quants, then their sums, repeated for four rows.
#[target_feature(enable = "avx2,fma,f16c")]
fn prepare<D: Quad>(x: Row<'_>, spans: usize, out: &mut Vec<__m256i>) {
    out.clear();
    out.reserve(spans * D::UNITS * (D::HALVES + 1));
    let sums = if D::SUB == 32 { x.sums32 } else { x.sums16 };
    for span in 0..spans {
        for unit in 0..D::UNITS {
            let sub = span * D::SPAN / D::SUB;
            let subs = [sub + D::sub(unit, 0), sub + D::sub(unit, 1)];
            for half in 0..D::HALVES {
                let at = |i: usize| &x.quants[D::SUB * subs[i] + 16 * half..][..16];
                // SAFETY: sixteen bytes each, by the slices.
                out.push(unsafe { halves(at(0).as_ptr().cast(), at(1).as_ptr().cast()) });
            }
            let sums = [[D::SUMS * sums[subs[0]]; 4], [D::SUMS * sums[subs[1]]; 4]];
            let sums = load_f32(sums.as_flattened().first_chunk().expect("two fours"));
            out.push(_mm256_castps_si256(sums));
        }
    }
}

/// Computes scale · integer + min · sum of activations for each sub-block of a span of four rows.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; each pointer is that of a span.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn add_terms<D: Quad, P: Dot>(
    rows: [*const u8; 4],
    read: &mut [D::Read; 4],
    x: &[__m256i],
    quad: usize,
    out: &mut [__m256],
) {
    // SAFETY: guaranteed by the caller.
    let factors = unsafe { D::factors(rows) };
    for i in 0..4 {
        // SAFETY: guaranteed by the caller.
        unsafe { D::read(rows[i], &mut read[i]) };
    }
    for pair in (0..D::UNITS).step_by(2) {
        let units = pair..D::UNITS.min(pair + 2);
        let x = &x[pair * D::UNIT_VECTORS..][..units.len() * D::UNIT_VECTORS];
        let mut integers = [[_mm256_setzero_si256(); 4]; 2];
        for i in 0..4 {
            // SAFETY: guaranteed by the caller; `x` holds the units' activations.
            [integers[0][i], integers[1][i]] =
                unsafe { D::integers::<P>(rows[i], &read[i], pair, x.as_ptr()) };
        }
        for unit in units {
            let integers = _mm256_cvtepi32_ps(sum_words(integers[unit - pair]));
            let (scales, minima) = factors[unit];
            out[2 * unit + quad] = if D::WIDE && !P::WIDE {
                _mm256_mul_ps(integers, scales)
            } else {
                let sums = x[(unit - pair) * D::UNIT_VECTORS + D::HALVES];
                let minima = _mm256_mul_ps(minima, _mm256_castsi256_ps(sums));
                _mm256_fmadd_ps(integers, scales, minima)
            };
        }
    }
}

/// Adds the terms of the first `subs` sub-blocks of a span to the sums of eight rows, in order.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sum_terms<D: Quad>(terms: &[__m256], scales: &[f32], subs: usize, mut sums: __m256) -> __m256 {
    for sub in 0..subs {
        let (unit, half) =
            if D::ALTERNATING { (sub / 4 * 2 + sub % 2, sub / 2 % 2) } else { (sub / 2, sub % 2) };
        let quads = (terms[2 * unit], terms[2 * unit + 1]);
        let term = if half == 0 {
            _mm256_permute2f128_ps::<0x20>(quads.0, quads.1)
        } else {
            _mm256_permute2f128_ps::<0x31>(quads.0, quads.1)
        };
        let scale = _mm256_set1_ps(scales[sub * D::SUB / 32]);
        sums = _mm256_fmadd_ps(term, scale, sums);
    }
    sums
}
