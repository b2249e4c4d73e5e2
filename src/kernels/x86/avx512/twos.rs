//! Multiplies rows of blocks of 32 columns, two blocks at a time.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{QUAD, by_row};
use super::dot::Dot;
use super::levels::{Levels, STEP};
use super::tile::{LANES, Tile, add_block, halves_of_quads, product};
use super::vectors::{load_signed, sum_words};
use crate::kernels::activations::Part;
use crate::kernels::blocks::BLOCKS;
use crate::kernels::x86::avx2::decode::Blocks;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::marker::PhantomData;
use tealight_bundle::gguf::DType;

/// Types of blocks, two at a time.
pub struct ByTwo<D>(PhantomData<D>);

impl<D: Blocks + Levels> Tile for ByTwo<D> {
    type Type = D;
    const SLOTS: usize = BLOCKS / 2;
    type Prepared = ();

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        blocks: usize,
        x: [&Part; T],
        out: &mut [__m512i],
    ) {
        let out: &mut [__m512i; BLOCKS / 2] = out.first_chunk_mut().expect("a slot for two blocks");
        // SAFETY: guaranteed by the caller.
        unsafe {
            // Rows of many models end with half a group.
            if blocks == BLOCKS / 2 {
                out[0] = products_of_two::<D, P, T>(rows, 0, false, x);
                out[1] = products_of_two::<D, P, T>(rows, 1, false, x);
                return;
            }
            if blocks == BLOCKS {
                out[0] = products_of_two::<D, P, T>(rows, 0, false, x);
                out[1] = products_of_two::<D, P, T>(rows, 1, false, x);
                out[2] = products_of_two::<D, P, T>(rows, 2, false, x);
                out[3] = products_of_two::<D, P, T>(rows, 3, false, x);
                return;
            }
            for (two, out) in out.iter_mut().enumerate().take(blocks.div_ceil(2)) {
                *out = products_of_two::<D, P, T>(rows, two, blocks == 2 * two + 1, x);
            }
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    #[inline]
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        blocks: usize,
        (x, ()): ([&Part; T], &()),
        kept: &[__m512i],
        next: usize,
        mut sums: __m512,
    ) -> __m512 {
        let (first, second) = (by_row::<T, LANES, 8>(rows, 0), by_row::<T, LANES, 8>(rows, 8));
        for two in 0..blocks / 2 {
            let [first_totals, second_totals] = halves_of_quads(kept, next, two);
            // SAFETY: guaranteed by the caller.
            unsafe {
                sums = add_block::<D, T>([&first, &second], 2 * two, x, first_totals, sums);
                sums = add_block::<D, T>([&first, &second], 2 * two + 1, x, second_totals, sums);
            }
        }
        if !blocks.is_multiple_of(2) {
            let [totals, _] = halves_of_quads(kept, next, blocks / 2);
            // SAFETY: guaranteed by the caller.
            sums = unsafe { add_block::<D, T>([&first, &second], blocks - 1, x, totals, sums) };
        }
        sums
    }
}

/// The products of a quad with two blocks, in two parts each; a `single` last block is padded.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; each of the first `4 / T` rows has the blocks.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn products_of_two<D: Blocks + Levels, P: Dot, const T: usize>(
    rows: [*const u8; QUAD],
    two: usize,
    single: bool,
    x: [&Part; T],
) -> __m512i {
    let mut products = [_mm512_setzero_si512(); QUAD];
    let count = QUAD / T;
    for r in 0..count {
        // SAFETY: guaranteed by the caller; only blocks of 32 columns come singly.
        let levels = unsafe {
            if single {
                padded::<D>(rows[r].wrapping_add(2 * two * D::BYTES))
            } else {
                D::levels_of(rows[r], two)
            }
        };
        for t in 0..T {
            let quants = load_signed(&x[t].quants.as_chunks::<STEP>().0[two]);
            // SAFETY: guaranteed by the caller.
            products[t * count + r] =
                unsafe { product::<D, P>(_mm512_setzero_si512(), levels, quants) };
        }
    }
    sum_words(products)
}

/// The levels of a single block, the last of its row, and of another one of zeros.
///
/// # Safety
/// The processor has the instruction set of this module; the pointer is that of a block.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn padded<D: Levels>(block: *const u8) -> __m512i {
    let mut two = [0_u8; 2 * DType::Q8_0.block_bytes()];
    // SAFETY: guaranteed by the caller; no block of 32 columns is larger than one of eight bits.
    unsafe {
        two.as_mut_ptr().copy_from_nonoverlapping(block, D::BYTES);
        D::levels_of(two.as_ptr(), 0)
    }
}
