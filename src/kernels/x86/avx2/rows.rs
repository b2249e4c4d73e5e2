//! Multiplies stored rows in place with one, two or four tokens.
//!
//! Rows are read in four streams. Their weights are decoded once for all tokens.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{AT_ONCE, LARGE, QUAD, blocks_of, further, lane, prefetch, tiles};
use super::by_block::ByBlock;
use super::by_row::ByRow;
use super::decode::{Decode, Q4_K, Q5_K};
use super::dot::Dot;
use super::pairs::Pairs;
use super::tile::{LANES, Tile};
use crate::kernels::activations::{Part, group_of};
use crate::kernels::blocks::{Form, form, group_bytes};
use crate::kernels::product::runs::Runs;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::cell::Cell;
use tealight_bundle::gguf::DType;

/// Whether to prefetch in two steps. Blocks of 32 columns have fewer columns per line: prefetching them twice costs more
/// than it saves, unless they certainly come from memory.
const fn in_two_steps(dtype: DType) -> bool {
    matches!(form(dtype), Form::Super)
}

tiles!(features: "avx2,fma,f16c", slot: __m256i, no_slot: _mm256_setzero_si256(), zero: _mm256_setzero_ps(),
    store: store);

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store(sums: __m256) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    // SAFETY: eight floats, by the type; the store needs no alignment.
    unsafe { _mm256_storeu_ps(all.as_mut_ptr(), sums) };
    all
}

/// Dot products of stored rows with `T` rows of activations: as many rows of each run as `out` holds for each.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn rows<P: Dot, const T: usize>(
    dtype: DType,
    runs: Runs<'_>,
    x: [&[Part]; T],
    out: &mut [[&mut [f32]; 4]; T],
) {
    match dtype {
        DType::Q4_K => tiles::<Pairs<Q4_K>, P, T>(runs, x, out),
        DType::Q5_K => tiles::<Pairs<Q5_K>, P, T>(runs, x, out),
        _ => for_type!(
            dtype,
            blocks D => tiles::<ByBlock<D>, P, T>(runs, x, out),
            super_blocks D => tiles::<ByRow<D>, P, T>(runs, x, out)
        ),
    }
}
