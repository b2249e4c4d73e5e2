//! What multiplying stored rows in place is made of: sixteen products of a row and a token at a time.
//!
//! [`super::by_super`], [`super::heads`], [`super::fours`] and [`super::twos`] have the [`Tile`]s; [`super::rows`] reads rows for them.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{
    QUAD, by_row, offsets_of, scales, scales_of, totals_of, weighted_scales,
};
use super::dot::Dot;
use super::levels::Levels;
use super::vectors::sum_pairs;
use crate::kernels::activations::Part;
use crate::kernels::blocks::is_wide;
use crate::kernels::x86::avx2::decode::{Blocks, Decode, Super};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// Products at a time, one per lane: those of four quads.
pub const LANES: usize = 16;

/// Multiplies 256 columns of sixteen products.
pub trait Tile {
    /// The type.
    type Type: Decode;
    /// Vectors of whole numbers that are kept of a group of a quad.
    const SLOTS: usize;
    /// What is made of the tokens of a group once for all rows, if there are several tokens.
    type Prepared: Default;

    /// Prepares a group of `T` tokens.
    fn prepare<const T: usize>(_: [&Part; T]) -> Self::Prepared {
        Self::Prepared::default()
    }

    /// The products of the whole numbers of a quad, in four parts each: of a super-block, or of `blocks` blocks.
    ///
    /// # Safety
    /// The processor has the instruction set of this module and of `P`; each of the first `4 / T` pointers is that of
    /// a super-block, or of as many blocks.
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        blocks: usize,
        x: [&Part; T],
        out: &mut [__m512i],
    );

    /// Scales what was kept of all quads and adds it to `sums`. That of each quad begins `next` slots further on.
    ///
    /// # Safety
    /// As [`Tile::products`]; the pointers are those of all rows.
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        blocks: usize,
        x: ([&Part; T], &Self::Prepared),
        kept: &[__m512i],
        next: usize,
        sums: __m512,
    ) -> __m512;
}

/// Numbers of a quad, in all quarters.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn quarters<const T: usize>(four: [f32; QUAD]) -> __m512 {
    if T == 1 {
        return _mm512_set1_ps(four[0]);
    }
    _mm512_broadcast_f32x4(_mm_setr_ps(four[0], four[1], four[2], four[3]))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn joined(first: __m256, second: __m256) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(first), second)
}

/// Adds the products of super-blocks, given their sums in whole numbers.
///
/// # Safety
/// The processor has the instruction set of this module; the pointers are those of super-blocks.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn add_super_blocks<D: Super, const T: usize>(
    totals: __m512i,
    minima: __m512i,
    rows: &[*const u8; LANES],
    x: [&Part; T],
    mut sums: __m512,
) -> __m512 {
    // SAFETY: guaranteed by the caller.
    let (first, second) = unsafe {
        (D::units(&by_row::<T, LANES, 8>(rows, 0), 0), D::units(&by_row::<T, LANES, 8>(rows, 8), 0))
    };
    let scale = _mm512_mul_ps(joined(first.0, second.0), quarters::<T>(scales(x)));
    sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals), scale, sums);
    if D::MINS {
        let scale = joined(first.1, second.1);
        let scale = _mm512_mul_ps(scale, quarters::<T>(weighted_scales(x)));
        sums = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(minima), scale, sums);
    }
    sums
}

/// The sums of the first two and of the last two quarters of what was kept of each quad, quad after quad.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn halves_of_quads(kept: &[__m512i], next: usize, slot: usize) -> [__m512i; 2] {
    let ab = sum_pairs(kept[slot], kept[next + slot]);
    let cd = sum_pairs(kept[2 * next + slot], kept[3 * next + slot]);
    [_mm512_shuffle_i32x4::<0x88>(ab, cd), _mm512_shuffle_i32x4::<0xdd>(ab, cd)]
}

/// Adds the products of sixteen rows with a block, given their sums in whole numbers.
///
/// # Safety
/// The processor has the instruction set of this module; each row has the block.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn add_block<D: Blocks + Levels, const T: usize>(
    rows: [&[*const u8; 8]; 2],
    block: usize,
    x: [&Part; T],
    totals: __m512i,
    sums: __m512,
) -> __m512 {
    // SAFETY: guaranteed by the caller.
    let (first, second) = unsafe {
        let at = block / D::PARTS * D::BYTES;
        (D::factors::<1>(rows[0], at), D::factors::<1>(rows[1], at))
    };
    let (scales, minima) = (joined(first.0, second.0), joined(first.1, second.1));
    add_scaled::<D, T>(block, x, totals, scales, minima, sums)
}

/// As [`add_block`], given the scales and the mins of the rows' blocks.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub fn add_scaled<D: Blocks + Levels, const T: usize>(
    block: usize,
    x: [&Part; T],
    mut totals: __m512i,
    scales: __m512,
    minima: __m512,
    mut sums: __m512,
) -> __m512 {
    if D::SHIFT != 0 {
        let offset = quarters::<T>(offsets_of(x, block, D::SHIFT));
        totals = _mm512_sub_epi32(totals, _mm512_castps_si512(offset));
    }
    let scale = _mm512_mul_ps(scales, quarters::<T>(scales_of(x, block)));
    sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals), scale, sums);
    if D::MINS {
        sums = _mm512_fmadd_ps(minima, quarters::<T>(totals_of(x, block)), sums);
    }
    sums
}

/// Adds products of a type's levels.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
pub unsafe fn product<D: Levels, P: Dot>(sum: __m512i, levels: __m512i, x: __m512i) -> __m512i {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if is_wide(D::DTYPE) {
            P::dot::<true>(sum, levels, x)
        } else {
            P::dot::<false>(sum, levels, x)
        }
    }
}
