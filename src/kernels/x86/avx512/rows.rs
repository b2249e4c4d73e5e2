//! Multiplies stored rows in place with one, two or four tokens.
//!
//! Rows are read in four streams. Their weights are decoded once for all tokens.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{AT_ONCE, LARGE, QUAD, blocks_of, further, lane, prefetch, tiles};
use super::by_super::BySuper;
use super::dot::Dot;
use super::fours::ByFour;
use super::heads::ByHeads;
use super::tile::{LANES, Tile};
use super::twos::ByTwo;
use crate::kernels::activations::{Part, group_of};
use crate::kernels::blocks::group_bytes;
use crate::kernels::product::runs::Runs;
use crate::kernels::x86::avx2::decode::{Decode, IQ4_NL, MXFP4, Q4_0, Q4_1, Q4_K, Q5_K};
use crate::kernels::x86::avx2::for_type;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::cell::Cell;
use tealight_bundle::gguf::DType;

/// Whether to prefetch in two steps: nothing here waits for instructions.
const fn in_two_steps(_: DType) -> bool {
    true
}

tiles!(features: "avx512bw,avx512vl,avx512dq", slot: __m512i, no_slot: _mm512_setzero_si512(),
    zero: _mm512_setzero_ps(), store: store);

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn store(sums: __m512) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    // SAFETY: sixteen floats, by the type; the store needs no alignment.
    unsafe { _mm512_storeu_ps(all.as_mut_ptr(), sums) };
    all
}

/// Dot products of stored rows with `T` rows of activations: as many rows of each run as `out` holds for each.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn rows<P: Dot, const T: usize>(
    dtype: DType,
    runs: Runs<'_>,
    x: [&[Part]; T],
    out: &mut [[&mut [f32]; 4]; T],
) {
    match dtype {
        DType::Q4_0 => tiles::<ByFour<Q4_0>, P, T>(runs, x, out),
        DType::Q4_1 => tiles::<ByFour<Q4_1>, P, T>(runs, x, out),
        DType::IQ4_NL => tiles::<ByFour<IQ4_NL>, P, T>(runs, x, out),
        DType::MXFP4 => tiles::<ByFour<MXFP4>, P, T>(runs, x, out),
        DType::Q4_K => tiles::<ByHeads<Q4_K>, P, T>(runs, x, out),
        DType::Q5_K => tiles::<ByHeads<Q5_K>, P, T>(runs, x, out),
        _ => for_type!(
            dtype,
            blocks D => tiles::<ByTwo<D>, P, T>(runs, x, out),
            super_blocks D => tiles::<BySuper<D>, P, T>(runs, x, out)
        ),
    }
}
