//! Unpacks stored rows into a panel.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]

use super::levels::{Levels, STEP};
use super::vectors::transpose;
use crate::kernels::blocks::{Form, GROUP, form, group_bytes, is_wide, parts};
use crate::kernels::panel::{PANEL_ROWS, Panel};
use crate::kernels::x86::avx2::decode::{Blocks, Super};
use crate::kernels::x86::avx2::{for_type, unpack as avx2};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Rows in a vector.
const LANES: usize = 16;

/// Unpacks some columns of rows `row(0)` to `row(PANEL_ROWS - 1)` into a panel.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub unsafe fn unpack_panel<'a>(dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let size = row(0).len();
    let single = parts(dtype) == 1 && !size.is_multiple_of(2 * dtype.block_bytes());
    if form(dtype) == Form::Blocks && single {
        // SAFETY: this instruction set includes AVX2.
        unsafe { avx2::unpack_panel(dtype, row, panel) };
        if is_wide(dtype) {
            panel.make_unsigned();
        }
        return;
    }
    for_type!(
        dtype,
        blocks D => unpack_blocks::<D>(row, panel),
        super_blocks D => unpack_super::<D>(row, panel)
    );
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn unpack_blocks<'a, D: Blocks + Levels>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    put_levels::<D>(row, panel);
    // SAFETY: this instruction set includes AVX2.
    avx2::eight_rows::<D>(row, |first, rows, columns| unsafe {
        avx2::put_factors_of_blocks::<D>(rows, columns, first, panel);
    });
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn unpack_super<'a, D: Super + Levels>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    put_levels::<D>(row, panel);
    // SAFETY: this instruction set includes AVX2.
    avx2::eight_rows::<D>(row, |first, rows, columns| unsafe {
        avx2::put_factors_of_super_blocks::<D>(rows, columns, first, panel);
    });
}

/// Stores the levels of all rows: whole pairs of blocks, or super-blocks.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
#[inline]
fn put_levels<'a, D: Levels>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let size = const { group_bytes(D::DTYPE) };
    for first in (0..PANEL_ROWS).step_by(LANES) {
        let mut rows = [row(first); LANES];
        for i in 1..LANES {
            rows[i] = row(first + i);
        }
        let len = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == len));
        for (group, at) in (0..len).step_by(size).enumerate() {
            let columns = size.min(len - at) / D::BYTES * D::DTYPE.block_elements();
            for step in 0..columns / STEP {
                let mut levels = [_mm512_setzero_si512(); LANES];
                for i in 0..LANES {
                    // SAFETY: each row has these columns.
                    levels[i] = unsafe { D::levels_of(rows[i].as_ptr().add(at), step) };
                }
                for (i, levels) in transpose(levels).into_iter().enumerate() {
                    let column = GROUP * group + STEP * step + 4 * i;
                    let to: &mut [u8; 64] = panel.levels_mut(avx2::place(column, first));
                    // SAFETY: 64 bytes, by the type; the store needs no alignment.
                    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), levels) };
                }
            }
        }
    }
}
