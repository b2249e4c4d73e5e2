//! Unpacks stored rows into a panel.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]

use super::super::frame::further;
use super::decode::{Blocks, Decode, Super};
use super::vectors::{transpose_halves, transpose_words};
use crate::kernels::blocks::{BLOCK, BLOCKS, GROUP, sub_of};
use crate::kernels::panel::{PANEL_COLUMNS, PANEL_ROWS, Pair, Panel};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Rows in a vector.
const LANES: usize = 8;
/// Rows whose levels are side by side in a panel.
pub const ROWS: usize = 16;

/// Place in a panel of four columns of some rows: (rows / 16, columns / 4, 16, 4).
#[inline]
pub fn place(column: usize, row: usize) -> usize {
    row / ROWS * (PANEL_COLUMNS * ROWS) + column * ROWS + 4 * (row % ROWS)
}

/// Unpacks some columns of a panel's rows, eight rows at a time.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn unpack_panel<'a>(dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    for_type!(
        dtype,
        blocks D => unpack_blocks::<D>(row, panel),
        super_blocks D => unpack_super::<D>(row, panel)
    );
}

/// Calls `with` for each eight rows: the number of the first, and pointers to their `columns` columns.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
pub fn eight_rows<'a, D: Decode>(
    row: &dyn Fn(usize) -> &'a [u8],
    mut with: impl FnMut(usize, [*const u8; LANES], usize),
) {
    for first in (0..PANEL_ROWS).step_by(LANES) {
        let rows: [&[u8]; LANES] = std::array::from_fn(|i| row(first + i));
        let len = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == len));
        with(first, rows.map(<[u8]>::as_ptr), len / D::BYTES * D::DTYPE.block_elements());
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_blocks<'a, D: Blocks>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    eight_rows::<D>(row, |first, rows, columns| {
        for block in 0..columns / BLOCK {
            let at: [*const u8; LANES] = further(&rows, block / D::PARTS * D::BYTES);
            let read = [D::Read::default(); LANES];
            let part = block % D::PARTS;
            // SAFETY: the rows have as many blocks.
            unsafe { put_levels::<D>(at, &read, part, BLOCK * block, first, panel) };
        }
        // SAFETY: as above.
        unsafe { put_factors_of_blocks::<D>(rows, columns, first, panel) };
    });
}

/// Stores the scales and mins of blocks.
///
/// # Safety
/// The processor has the instruction set of this module; each row holds as many columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn put_factors_of_blocks<D: Blocks>(
    rows: [*const u8; LANES],
    columns: usize,
    first: usize,
    panel: &mut Panel,
) {
    for block in 0..columns / BLOCK {
        // SAFETY: guaranteed by the caller.
        let factors = unsafe { D::factors::<1>(&rows, block / D::PARTS * D::BYTES) };
        store_factors(panel.factors_mut(block, first), factors);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn unpack_super<'a, D: Super>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    eight_rows::<D>(row, |first, rows, columns| {
        for group in 0..columns / GROUP {
            let at: [*const u8; LANES] = further(&rows, group * D::BYTES);
            let mut read = [D::Read::default(); LANES];
            for i in 0..LANES {
                // SAFETY: the rows have as many super-blocks.
                unsafe { D::read(at[i], &mut read[i]) };
            }
            for part in 0..BLOCKS {
                let column = GROUP * group + BLOCK * part;
                // SAFETY: as above.
                unsafe { put_levels::<D>(at, &read, part, column, first, panel) };
            }
        }
        // SAFETY: as above.
        unsafe { put_factors_of_super_blocks::<D>(rows, columns, first, panel) };
    });
}

/// Stores the scales, mins and units of super-blocks.
///
/// # Safety
/// The processor has the instruction set of this module; each row holds as many columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub unsafe fn put_factors_of_super_blocks<D: Super>(
    rows: [*const u8; LANES],
    columns: usize,
    first: usize,
    panel: &mut Panel,
) {
    for group in 0..columns / GROUP {
        let at: [*const u8; LANES] = further(&rows, group * D::BYTES);
        // SAFETY: guaranteed by the caller.
        unsafe {
            store_factors(panel.factors_mut(group, first), D::units(&at, 0));
            put_scales::<D>(at, group, first, panel);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_factors([first, second]: [&mut [f32; LANES]; 2], factors: (__m256, __m256)) {
    // SAFETY: eight floats each, by the type; the stores need no alignment.
    unsafe {
        _mm256_storeu_ps(first.as_mut_ptr(), factors.0);
        _mm256_storeu_ps(second.as_mut_ptr(), factors.1);
    }
}

/// Stores 32 columns of eight rows from `column` on.
///
/// # Safety
/// As [`Decode::levels`], for each row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn put_levels<D: Decode>(
    rows: [*const u8; LANES],
    read: &[D::Read; LANES],
    part: usize,
    column: usize,
    first: usize,
    panel: &mut Panel,
) {
    let mut levels = [_mm256_setzero_si256(); LANES];
    for i in 0..LANES {
        // SAFETY: guaranteed by the caller.
        levels[i] = unsafe { D::levels(rows[i], &read[i], part) };
    }
    for (i, fours) in transpose_words(levels).into_iter().enumerate() {
        let to: &mut [u8; 32] = panel.levels_mut(place(column + 4 * i, first));
        // SAFETY: 32 bytes, by the type; the store needs no alignment.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), fours) };
    }
}

/// Stores the scales and mins of a super-block of eight rows.
///
/// # Safety
/// As [`Super::scales`], for each row.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn put_scales<D: Super>(
    rows: [*const u8; LANES],
    group: usize,
    first: usize,
    panel: &mut Panel,
) {
    let sub = const { sub_of(D::DTYPE) };
    let mut of_rows = [_mm256_setzero_si256(); LANES];
    for i in 0..LANES {
        // SAFETY: guaranteed by the caller.
        of_rows[i] = unsafe { D::scales(rows[i]) };
    }
    let scales = transposed(of_rows);
    for block in 0..BLOCKS {
        for half in 0..BLOCK / sub {
            let index = (BLOCKS * group + block) * (BLOCK / sub) + half;
            let scales = scales[half][block];
            store_pairs(panel.scales_mut(index, first), scales, scales);
        }
    }
    if D::MINS {
        for i in 0..LANES {
            // SAFETY: guaranteed by the caller.
            of_rows[i] = unsafe { D::mins(rows[i]) };
        }
        let mins = transposed(of_rows);
        if sub == 32 {
            for two in 0..BLOCKS / 2 {
                let to = panel.mins_mut(BLOCKS / 2 * group + two, first);
                store_pairs(to, mins[0][2 * two], mins[0][2 * two + 1]);
            }
        } else {
            for block in 0..BLOCKS {
                let to = panel.mins_mut(BLOCKS * group + block, first);
                store_pairs(to, mins[0][block], mins[1][block]);
            }
        }
    }
}

/// Numbers of eight rows, from (row, half, block) to (half, block, row).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn transposed(rows: [__m256i; LANES]) -> [[__m128i; BLOCKS]; 2] {
    let (mut first, mut second) = ([_mm_setzero_si128(); LANES], [_mm_setzero_si128(); LANES]);
    for i in 0..LANES {
        first[i] = _mm256_castsi256_si128(rows[i]);
        second[i] = _mm256_extracti128_si256::<1>(rows[i]);
    }
    [transpose_halves(first), transpose_halves(second)]
}

/// Stores two numbers of each row side by side.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_pairs(to: &mut [Pair; LANES], first: __m128i, second: __m128i) {
    // SAFETY: twice sixteen bytes, by the type; the stores need no alignment.
    unsafe {
        let to: *mut __m128i = to.as_mut_ptr().cast();
        _mm_storeu_si128(to, _mm_unpacklo_epi16(first, second));
        _mm_storeu_si128(to.add(1), _mm_unpackhi_epi16(first, second));
    }
}
