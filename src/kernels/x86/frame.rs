//! What the products of stored rows with a few tokens share at both widths: how rows are read and their sums kept.
//!
//! `tiles!` and `each_block!` are macros: as generic functions, they made generation on AVX2 three to six percent slower
//! (0.5B, Zen 4).

#![expect(unsafe_code, reason = "prefetching, which may name any address")]

use crate::kernels::activations::Part;
use crate::kernels::blocks::{BLOCK, group_bytes};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Products that are added up together: of one row of each stream with one token, or of fewer rows with more tokens.
pub const QUAD: usize = 4;
/// Groups whose sums are kept until all rows of a tile have been read so far: 9,216 columns, so that rows are read in
/// sequence.
pub const AT_ONCE: usize = 36;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Prefetch distance in bytes: memory has answered before the distance is [`NEAR`]. With 1,536, a large `Q4_K` matrix took
/// half as long again (Zen 5, AVX2).
const FAR: usize = 3072;
/// Prefetch distance in bytes from L2 into L1, which can wait for fewer lines.
const NEAR: usize = 1024;
/// Prefetch distance in bytes, where one step has to do.
const ALONE: usize = 1536;
/// Bytes above which a matrix doesn't stay in cache until the next token.
pub const LARGE: usize = 64 << 20;

/// Prefetches what follows `bytes` bytes at `at`: into L2 first and from there into L1, or in one step into L1.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one or two instructions per line")]
pub fn prefetch(at: *const u8, bytes: usize, two_steps: bool) {
    for line in 0..bytes.div_ceil(LINE) {
        let line = at.wrapping_add(LINE * line);
        // SAFETY: a prefetch has no effect but on caches, whatever the address.
        unsafe {
            if two_steps {
                _mm_prefetch::<_MM_HINT_T1>(line.wrapping_add(FAR).cast());
                _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(NEAR).cast());
            } else {
                _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(ALONE).cast());
            }
        }
    }
}

/// The row and the token of a lane: a quad has `4 / T` rows, first all with the first token.
#[inline]
pub const fn lane<const T: usize>(lane: usize) -> (usize, usize) {
    let rows = QUAD / T;
    (lane / QUAD * rows + lane % QUAD % rows, lane % QUAD / rows)
}

/// The row's pointer in each lane, `first` lanes further on.
#[inline]
pub fn by_row<const T: usize, const ALL: usize, const N: usize>(
    rows: &[*const u8; ALL],
    first: usize,
) -> [*const u8; N] {
    std::array::from_fn(|i| rows[lane::<T>(first + i).0])
}

/// A number of each token in the lanes of a quad.
#[inline]
pub fn by_token<const T: usize>(of: [f32; T]) -> [f32; QUAD] {
    std::array::from_fn(|i| of[lane::<T>(i).1])
}

/// Blocks of 32 columns in the next group of a row, given what is left of it.
#[inline]
pub fn blocks_of(dtype: DType, bytes: usize) -> usize {
    bytes.min(group_bytes(dtype)) / dtype.block_bytes() * dtype.block_elements() / BLOCK
}

/// Pointers that are `bytes` further on; the first of them again, where there are fewer rows.
#[inline]
pub fn further<const N: usize>(rows: &[*const u8], bytes: usize) -> [*const u8; N] {
    std::array::from_fn(|i| rows[i % rows.len()].wrapping_add(bytes))
}

// Closures in functions with target features are not inlined into what calls them; these functions have none.

/// The scale of each token's group.
#[inline]
pub fn scales<const T: usize>(x: [&Part; T]) -> [f32; QUAD] {
    by_token(x.map(|x| x.scale))
}

/// The unit of each token's weighted sums.
#[inline]
pub fn weighted_scales<const T: usize>(x: [&Part; T]) -> [f32; QUAD] {
    by_token(x.map(|x| x.weighted_scale))
}

/// The scale of each token's block.
#[inline]
pub fn scales_of<const T: usize>(x: [&Part; T], block: usize) -> [f32; QUAD] {
    by_token(x.map(|x| x.scales[block]))
}

/// The total of each token's block.
#[inline]
pub fn totals_of<const T: usize>(x: [&Part; T], block: usize) -> [f32; QUAD] {
    by_token(x.map(|x| x.totals[block]))
}

/// offset · sum of each token's block, as the bits of floats.
#[inline]
pub fn offsets_of<const T: usize>(x: [&Part; T], block: usize, offset: i32) -> [f32; QUAD] {
    by_token(x.map(|x| {
        let sum = i32::from(x.sums[0][block]) + i32::from(x.sums[1][block]);
        f32::from_bits((offset * sum).cast_unsigned())
    }))
}

/// Evaluates an expression for each of the first `$count` of eight blocks; if they are all eight, with known numbers, so
/// that addresses are.
macro_rules! each_block {
    ($count:expr, |$block:ident| $body:expr) => {
        if $count == 8 {
            $crate::kernels::x86::frame::each_block!(@ $block, $body, 0 1 2 3 4 5 6 7);
        } else {
            for $block in 0..$count {
                $body;
            }
        }
    };
    (@ $block:ident, $body:expr, $($number:literal)*) => {$(
        {
            let $block = $number;
            $body;
        }
    )*};
}
pub(super) use each_block;

/// Defines `tiles`, which multiplies the rows of all runs. The file has `LANES`, `Tile` with `SLOTS` vectors for what is
/// kept of a group, and the functions of a vector of sums.
macro_rules! tiles {
    (features: $features:tt, slot: $slot:ty, no_slot: $no_slot:expr, zero: $zero:expr, store: $store:ident) => {
        thread_local! {
            /// A thread's buffer: allocating one takes as long as a few rows.
            static KEPT: Cell<Vec<$slot>> = Cell::default();
        }

        /// Multiplies all rows with `T` tokens.
        #[target_feature(enable = $features)]
        #[inline]
        fn tiles<K: Tile, P: Dot, const T: usize>(
            runs: Runs<'_>,
            x: [&[Part]; T],
            out: &mut [[&mut [f32]; 4]; T],
        ) {
            const { assert!(T == 1 || T == 2 || T == 4) };
            let quads = LANES / QUAD;
            let (rows_of_quad, rows_of_part) = (QUAD / T, LANES / T);
            let count = out[0].iter().map(|out| out.len()).max().unwrap_or(0);
            let last = (runs.w.len() / runs.row_bytes).saturating_sub(1);
            let size = const { group_bytes(K::Type::DTYPE) };
            let two_steps = const { in_two_steps(K::Type::DTYPE) } || runs.w.len() > LARGE;
            let groups = runs.row_bytes.div_ceil(size);
            let one = K::Prepared::default();
            let prepared: Vec<K::Prepared> = if T == 1 {
                Vec::new()
            } else {
                (0..groups).map(|group| K::prepare(group_of(&x, group))).collect()
            };
            let mut kept = KEPT.take();
            let chunk = AT_ONCE * K::SLOTS;
            if kept.len() < quads * chunk {
                kept.resize(quads * chunk, $no_slot);
            }
            for at in (0..count).step_by(LANES / 4) {
                // Shorter runs compute rows beyond their end; those results are dropped.
                let all: [*const u8; LANES] = runs.pointers(at, last);
                for part in 0..T {
                    let rows = &all[part * rows_of_part..][..rows_of_part];
                    let mut sums = $zero;
                    for begin in (0..groups).step_by(AT_ONCE) {
                        let end = groups.min(begin + AT_ONCE);
                        for quad in 0..quads {
                            let kept = &mut kept[quad * chunk..][..chunk];
                            let rows = &rows[quad * rows_of_quad..][..rows_of_quad];
                            for group in begin..end {
                                let start = group * size;
                                let mut own = [rows[0].wrapping_add(start); QUAD];
                                for i in 0..rows_of_quad {
                                    own[i] = rows[i].wrapping_add(start);
                                    prefetch(own[i], size, two_steps);
                                }
                                let blocks = blocks_of(K::Type::DTYPE, runs.row_bytes - start);
                                let kept = &mut kept[(group - begin) * K::SLOTS..][..K::SLOTS];
                                // SAFETY: the processor has these instructions; each row has `blocks` · 32 columns there.
                                unsafe {
                                    K::products::<P, T>(own, blocks, group_of(&x, group), kept);
                                }
                            }
                        }
                        for group in begin..end {
                            let start = group * size;
                            let blocks = blocks_of(K::Type::DTYPE, runs.row_bytes - start);
                            let slots = (group - begin) * K::SLOTS;
                            let own = further(rows, start);
                            // SAFETY: as above.
                            sums = unsafe {
                                K::add::<P, T>(
                                    &own,
                                    blocks,
                                    (
                                        group_of(&x, group),
                                        if T == 1 { &one } else { &prepared[group] },
                                    ),
                                    &kept[slots..],
                                    chunk,
                                    sums,
                                )
                            };
                        }
                    }
                    for (i, sum) in $store(sums).into_iter().enumerate() {
                        let (row, token) = lane::<T>(i);
                        let (stream, row) = Runs::place(part * rows_of_part + row, at);
                        if let Some(out) = out[token][stream].get_mut(row) {
                            *out = sum;
                        }
                    }
                }
            }
            KEPT.set(kept);
        }
    };
}
pub(super) use tiles;
