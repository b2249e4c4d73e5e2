//! What multiplying stored rows in place is made of: eight products of a row and a token at a time.
//!
//! [`super::by_row`], [`super::pairs`] and [`super::by_block`] are [`Tile`]s; [`super::rows`] reads rows for them.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{QUAD, by_row, scales, weighted_scales};
use super::decode::{Decode, Super};
use super::dot::Dot;
use crate::kernels::activations::Part;
use crate::kernels::blocks::BLOCKS;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

/// Products at a time, one per lane: those of two quads.
pub const LANES: usize = 8;

/// Multiplies 256 columns of eight products.
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

    /// The products of the whole numbers of a quad, in two parts each: of a super-block, or of `blocks` blocks.
    ///
    /// # Safety
    /// The processor has the instruction set of this module and of `P`; each of the first `4 / T` pointers is that of
    /// a super-block, or of as many blocks.
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        blocks: usize,
        x: [&Part; T],
        out: &mut [__m256i],
    );

    /// Scales what was kept of both quads and adds it to `sums`. That of the second begins `next` slots further on.
    ///
    /// # Safety
    /// As [`Tile::products`]; the pointers are those of all rows.
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        blocks: usize,
        x: ([&Part; T], &Self::Prepared),
        kept: &[__m256i],
        next: usize,
        sums: __m256,
    ) -> __m256;
}

/// Numbers of a quad, in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn both<const T: usize>(four: [f32; QUAD]) -> __m256 {
    if T == 1 {
        return _mm256_set1_ps(four[0]);
    }
    let four = _mm_setr_ps(four[0], four[1], four[2], four[3]);
    _mm256_set_m128(four, four)
}

/// Adds the products of super-blocks, given their sums in whole numbers.
///
/// # Safety
/// The processor has the instruction set of this module; the pointers are those of super-blocks.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn add_super_blocks<D: Super, const T: usize>(
    totals: __m256i,
    minima: __m256i,
    rows: &[*const u8; LANES],
    x: [&Part; T],
    sums: __m256,
) -> __m256 {
    // SAFETY: guaranteed by the caller.
    let units = unsafe { D::units(&by_row::<T, LANES, LANES>(rows, 0), 0) };
    let scale = _mm256_mul_ps(units.0, both::<T>(scales(x)));
    let sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals), scale, sums);
    if !D::MINS {
        return sums;
    }
    let scale = _mm256_mul_ps(units.1, both::<T>(weighted_scales(x)));
    _mm256_fnmadd_ps(_mm256_cvtepi32_ps(minima), scale, sums)
}

/// Shuffle indices that repeat word `index` of each half.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn word(index: usize) -> __m256i {
    // From memory: the compiler would make two shuffles of one with known indices.
    static WORDS: [[u8; 32]; 8] = {
        let mut words = [[0; 32]; 8];
        let mut i = 0;
        while i < 256 {
            words[i / 32][i % 32] = (2 * (i / 32) + i % 2) as u8;
            i += 1;
        }
        words
    };
    let mut words = WORDS.as_ptr();
    // SAFETY: emits no instruction.
    unsafe {
        std::arch::asm!("/* {w} */", w = inout(reg) words, options(pure, readonly, nostack, preserves_flags));
        _mm256_loadu_si256(words.add(index).cast())
    }
}

/// Numbers of both halves of each block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub fn load_halves(numbers: &[[i16; BLOCKS]; 2]) -> __m256i {
    // SAFETY: 32 bytes, by the type; the load needs no alignment.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}
