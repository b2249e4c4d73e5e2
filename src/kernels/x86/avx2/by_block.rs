//! Multiplies rows of blocks of 32 columns, each with a scale of its own.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]

use super::super::frame::{QUAD, by_row, each_block, offsets_of, scales_of, totals_of};
use super::decode::Blocks;
use super::dot::{Dot, unsigned};
use super::tile::{LANES, Tile};
use super::vectors::{load_signed, sum_halves, sum_words};
use crate::kernels::activations::Part;
use crate::kernels::blocks::BLOCKS;
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// Types of blocks, block by block.
pub struct ByBlock<D>(PhantomData<D>);

/// What scales the products of each block of a group, in the lanes of a quad: once for all rows, since putting four
/// numbers together takes as long as using them.
#[derive(Default)]
pub struct Tokens {
    scales: [[f32; QUAD]; BLOCKS],
    /// The bits of offset · sum.
    offsets: [[f32; QUAD]; BLOCKS],
    totals: [[f32; QUAD]; BLOCKS],
}

impl<D: Blocks> Tile for ByBlock<D> {
    type Type = D;
    const SLOTS: usize = BLOCKS;
    type Prepared = Tokens;

    fn prepare<const T: usize>(x: [&Part; T]) -> Tokens {
        let each = |of: &dyn Fn(usize) -> [f32; QUAD]| std::array::from_fn(of);
        Tokens {
            scales: each(&|block| scales_of(x, block)),
            offsets: each(&|block| offsets_of(x, block, D::OFFSET)),
            totals: each(&|block| totals_of(x, block)),
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn products<P: Dot, const T: usize>(
        rows: [*const u8; QUAD],
        blocks: usize,
        x: [&Part; T],
        out: &mut [__m256i],
    ) {
        let out: &mut [__m256i; BLOCKS] = out.first_chunk_mut().expect("a slot for each block");
        // SAFETY: guaranteed by the caller.
        each_block!(blocks.min(BLOCKS), |block| out[block] =
            unsafe { products_of_block::<D, P, T>(rows, block, x) });
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn add<P: Dot, const T: usize>(
        rows: &[*const u8; LANES],
        blocks: usize,
        (x, prepared): ([&Part; T], &Tokens),
        kept: &[__m256i],
        next: usize,
        mut sums: __m256,
    ) -> __m256 {
        let rows = by_row::<T, LANES, LANES>(rows, 0);
        let (first, second) = (&kept[..BLOCKS], &kept[next..][..BLOCKS]);
        each_block!(blocks.min(BLOCKS), |block| {
            let totals = sum_halves([first[block], second[block]]);
            // SAFETY: guaranteed by the caller.
            sums = unsafe { add_block::<D, T>(&rows, block, (x, prepared), totals, sums) };
        });
        sums
    }
}

/// The products of a quad with a block, in two parts each.
///
/// # Safety
/// The processor has the instruction set of this module and of `P`; each of the first `4 / T` rows has the block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn products_of_block<D: Blocks, P: Dot, const T: usize>(
    rows: [*const u8; QUAD],
    block: usize,
    x: [&Part; T],
) -> __m256i {
    let mut products = [_mm256_setzero_si256(); QUAD];
    let count = QUAD / T;
    for r in 0..count {
        let row = rows[r].wrapping_add(block / D::PARTS * D::BYTES);
        // SAFETY: guaranteed by the caller.
        let levels = unsafe { D::levels(row, &D::Read::default(), block % D::PARTS) };
        for t in 0..T {
            let quants = load_signed(&x[t].quants.as_chunks().0[block]);
            let (levels, quants) =
                if D::SIGNED { unsigned::<true>(levels, quants) } else { (levels, quants) };
            // SAFETY: guaranteed by the caller.
            products[t * count + r] = unsafe { P::dot(_mm256_setzero_si256(), levels, quants) };
        }
    }
    sum_words(products)
}

/// Adds the products of eight rows with a block, given their sums in whole numbers.
///
/// # Safety
/// The processor has the instruction set of this module; each row has the block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn add_block<D: Blocks, const T: usize>(
    rows: &[*const u8; LANES],
    block: usize,
    (x, prepared): ([&Part; T], &Tokens),
    mut totals: __m256i,
    mut sums: __m256,
) -> __m256 {
    if D::OFFSET != 0 {
        let offset = if T == 1 {
            _mm256_set1_ps(offsets_of(x, block, D::OFFSET)[0])
        } else {
            repeated(&prepared.offsets[block])
        };
        totals = _mm256_sub_epi32(totals, _mm256_castps_si256(offset));
    }
    // SAFETY: guaranteed by the caller.
    let factors = unsafe { D::factors::<T>(rows, block / D::PARTS * D::BYTES) };
    let scales = if T == 1 {
        _mm256_set1_ps(scales_of(x, block)[0])
    } else {
        repeated(&prepared.scales[block])
    };
    let scale = _mm256_mul_ps(factors.0, scales);
    sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals), scale, sums);
    if D::MINS {
        let totals = if T == 1 {
            _mm256_set1_ps(totals_of(x, block)[0])
        } else {
            repeated(&prepared.totals[block])
        };
        sums = _mm256_fmadd_ps(factors.1, totals, sums);
    }
    sums
}

/// Numbers of a quad, in both halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn repeated(four: &[f32; QUAD]) -> __m256 {
    // SAFETY: four floats, by the type; the load needs no alignment.
    let four = unsafe { _mm_loadu_ps(four.as_ptr()) };
    _mm256_set_m128(four, four)
}
