//! Products of levels with 512-bit vectors (AVX-512 with VNNI).
//!
//! Enters: stored rows, eight-bit activations. Leaves: dot products, unpacked panels, products of
//! panels. Each type is a [`Decode`]: how 64 levels and the scales of 256 columns get into vectors.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]
#![expect(clippy::needless_range_loop, reason = "registers are numbered")]
#![expect(
    clippy::large_types_passed_by_value,
    reason = "sixteen registers, in functions that are inlined"
)]

use crate::kernels::activations::{BLOCK, Row};
use crate::kernels::blocks::{E2M1_LEVELS, GROUP, Group, IQ4_LEVELS, group_bytes, k3_scales};
use crate::kernels::blocks::{k4_scales, sub_of, unpack};
use crate::kernels::panel::{PANEL_ROWS, Panel, Place};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Columns of one vector of levels.
const STEP: usize = 64;
/// Rows whose sums are in one vector.
const LANES: usize = 16;
/// Groups that are fetched ahead of their use.
const GROUPS_AHEAD: usize = 4;

/// How a type's bytes become vectors.
trait Decode {
    /// Bytes of a block of 32 columns, or of a super-block.
    const BYTES: usize;
    /// Columns of such a block.
    const COLUMNS: usize;
    /// Columns that share a scale: 16 or 32.
    const SUB: usize;

    /// The levels of columns `64 · step ..` of the group at `b`.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; at `b` lie blocks that hold the columns.
    unsafe fn levels(b: *const u8, step: usize) -> __m512i;

    /// `SUB` 32: eight scales and eight minima (and nothing). `SUB` 16: sixteen scales, sixteen minima.
    /// Zeros for blocks that lie beyond `len` bytes.
    ///
    /// # Safety
    /// The processor has the instruction set of this module; `len` bytes of blocks lie at `b`.
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512);
}

/// Calls a generic function with the [`Decode`] of a type, or the fallback.
macro_rules! for_type {
    ($dtype:expr, $function:ident $arguments:tt, $fallback:expr) => {
        for_type!(@ $dtype, $function, $arguments, $fallback,
            Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS)
    };
    (@ $dtype:expr, $function:ident, $arguments:tt, $fallback:expr, $($name:ident)*) => {
        match $dtype {
            $(DType::$name => $function::<$name> $arguments,)*
            _ => $fallback,
        }
    };
}

/// Dot products of consecutive stored rows with one row of activations, added up in the order of
/// [`multiply`], so that a token gets the same result alone and in a prompt.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn rows(dtype: DType, w: &[u8], x: Row<'_>, out: &mut [f32]) {
    let size = w.len() / out.len().max(1);
    // Half a vector of columns is left at the end of some rows; the way through memory is for those.
    let odd = dtype.block_elements() == BLOCK && !size.is_multiple_of(2 * dtype.block_bytes());
    if odd {
        return rows_of_any(dtype, w, x, out);
    }
    for_type!(dtype, rows_of(w, x, out), rows_of_any(dtype, w, x, out));
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn rows_of<D: Decode>(w: &[u8], x: Row<'_>, out: &mut [f32]) {
    let row_bytes = w.len() / out.len().max(1);
    let group_bytes = GROUP / D::COLUMNS * D::BYTES;
    for (tile, out) in out.chunks_mut(LANES).enumerate() {
        let w = &w[tile * LANES * row_bytes..];
        // A tile that is not full repeats its last row; those results go nowhere.
        let mut rows = [w.as_ptr(); LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = w[i.min(out.len() - 1) * row_bytes..][..row_bytes].as_ptr();
        }
        let mut sums = _mm512_setzero_ps();
        for (index, at) in (0..row_bytes).step_by(group_bytes).enumerate() {
            let len = group_bytes.min(row_bytes - at);
            let steps = len / D::BYTES * D::COLUMNS / STEP;
            // Sixteen rows are too many streams for the processor to foresee: what comes next of each,
            // in this tile or the next one, is fetched ahead.
            let mut ahead = at + GROUPS_AHEAD * group_bytes;
            if ahead >= row_bytes {
                ahead += (LANES - 1) * row_bytes;
            }
            // SAFETY: at `at` of each row lie `len` bytes: a whole group, or an even number of blocks,
            // `steps` pairs; activations are padded to whole groups.
            sums = unsafe { add_group::<D>(&rows, at, len, steps, x, index, sums, ahead) };
        }
        put(sums, out);
    }
}

/// As [`rows_of`], of any type, through memory.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn rows_of_any(dtype: DType, w: &[u8], x: Row<'_>, out: &mut [f32]) {
    let row_bytes = w.len() / out.len().max(1);
    let mut groups = [Group::ZERO; LANES];
    for (tile, out) in out.chunks_mut(LANES).enumerate() {
        let mut sums = _mm512_setzero_ps();
        let size = group_bytes(dtype);
        for (index, at) in (0..row_bytes).step_by(size).enumerate() {
            let len = size.min(row_bytes - at);
            let columns = len / dtype.block_bytes() * dtype.block_elements();
            for (i, group) in groups.iter_mut().enumerate() {
                let row = (tile * LANES + i.min(out.len() - 1)) * row_bytes;
                if columns < GROUP {
                    *group = Group::ZERO;
                }
                unpack(dtype, &w[row + at..][..len], group);
            }
            let mut rows = [std::ptr::null(); LANES];
            for (row, group) in rows.iter_mut().zip(&groups) {
                *row = std::ptr::from_ref(group).cast();
            }
            let steps = columns.div_ceil(STEP);
            // SAFETY: `Unpacked` reads the whole groups that the pointers are of.
            sums = unsafe {
                if sub_of(dtype) == 32 {
                    add_group::<Unpacked<32>>(&rows, 0, 0, steps, x, index, sums, 0)
                } else {
                    add_group::<Unpacked<16>>(&rows, 0, 0, steps, x, index, sums, 0)
                }
            };
        }
        put(sums, out);
    }
}

/// Writes as many results as there is room for.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn put(sums: __m512, out: &mut [f32]) {
    let mut all = [0.0; LANES];
    store(&mut all, _mm512_castps_si512(sums));
    out.copy_from_slice(&all[..out.len()]);
}

/// Adds one group, `steps` × 64 columns, of sixteen rows to their sums, a row in each lane.
///
/// # Safety
/// As [`Decode`] says, at `at` of every row; the activations have the group `index`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
#[expect(clippy::too_many_arguments, reason = "the state of the loop around it")]
unsafe fn add_group<D: Decode>(
    rows: &[*const u8; LANES],
    at: usize,
    len: usize,
    steps: usize,
    x: Row<'_>,
    index: usize,
    mut sums: __m512,
    ahead: usize,
) -> __m512 {
    let mut scales = [_mm512_setzero_si512(); LANES];
    let mut minima = [_mm512_setzero_si512(); LANES];
    for i in 0..LANES {
        // SAFETY: said by the caller.
        let found = unsafe { D::scales(rows[i].add(at), len) };
        scales[i] = _mm512_castps_si512(found.0);
        minima[i] = _mm512_castps_si512(found.1);
    }
    // (sub-blocks, rows)
    let scales = transpose(scales);
    let minima = if D::SUB == 32 { scales } else { transpose(minima) };
    let quants: &[i8; GROUP] = x.quants[GROUP * index..].first_chunk().expect("whole groups");
    for step in 0..steps {
        let quants = load_i8(quants[STEP * step..].first_chunk().expect("four steps"));
        let mut products = [_mm512_setzero_si512(); LANES];
        for i in 0..LANES {
            // SAFETY: said by the caller.
            let levels = unsafe { D::levels(rows[i].add(at), step) };
            products[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels, quants);
            _mm_prefetch::<_MM_HINT_T0>(rows[i].wrapping_add(ahead + 64 * step).cast());
        }
        let integers = sum_quarters(products); // (sixteenths, rows)
        for block in 0..2 {
            let number = 2 * step + block; // in the group
            let x_block = GROUP / BLOCK * index + number;
            let parts = [integers[2 * block], integers[2 * block + 1]];
            let factor = |v: __m512i| _mm512_castsi512_ps(v);
            let scaled = if D::SUB == 32 {
                let sum = _mm512_set1_ps(x.sums32[x_block]);
                sums = _mm512_fmadd_ps(factor(minima[8 + number]), sum, sums);
                let integer = _mm512_cvtepi32_ps(_mm512_add_epi32(parts[0], parts[1]));
                _mm512_mul_ps(integer, factor(scales[number]))
            } else {
                let first = _mm512_set1_ps(x.sums16[2 * x_block]);
                sums = _mm512_fmadd_ps(factor(minima[2 * number]), first, sums);
                let scaled = _mm512_cvtepi32_ps(parts[0]);
                let scaled = _mm512_mul_ps(scaled, factor(scales[2 * number]));
                let second = _mm512_set1_ps(x.sums16[2 * x_block + 1]);
                sums = _mm512_fmadd_ps(factor(minima[2 * number + 1]), second, sums);
                let integer = _mm512_cvtepi32_ps(parts[1]);
                _mm512_fmadd_ps(integer, factor(scales[2 * number + 1]), scaled)
            };
            sums = _mm512_fmadd_ps(scaled, _mm512_set1_ps(x.scales[x_block]), sums);
        }
    }
    sums
}

/// Sums of each quarter (sixteen columns) of sixteen vectors: four vectors with a row in each lane.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn sum_quarters(rows: [__m512i; LANES]) -> [__m512i; 4] {
    let mut fours = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    }
    // Each quarter of `fours[i]` holds four rows; quarters are gathered.
    let even = [
        _mm512_shuffle_i32x4::<0x88>(fours[0], fours[1]),
        _mm512_shuffle_i32x4::<0x88>(fours[2], fours[3]),
    ];
    let odd = [
        _mm512_shuffle_i32x4::<0xdd>(fours[0], fours[1]),
        _mm512_shuffle_i32x4::<0xdd>(fours[2], fours[3]),
    ];
    [
        _mm512_shuffle_i32x4::<0x88>(even[0], even[1]),
        _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]),
        _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]),
        _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]),
    ]
}

/// A [`Group`] as a type of its own.
struct Unpacked<const SUB: usize>;

#[expect(clippy::cast_ptr_alignment, reason = "the pointers were made of groups")]
impl<const SUB: usize> Decode for Unpacked<SUB> {
    const BYTES: usize = size_of::<Group>();
    const COLUMNS: usize = GROUP;
    const SUB: usize = SUB;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: the pointer is a group's.
        let group = unsafe { &*b.cast::<Group>() };
        load(group.levels[STEP * step..].first_chunk().expect("four steps"))
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: the pointer is a group's.
        let group = unsafe { &*b.cast::<Group>() };
        let (scales, minima) = (load_f32(&group.scales), load_f32(&group.mins));
        if SUB == 16 {
            return (scales, minima);
        }
        let twice = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        (_mm512_permutex2var_ps(scales, twice, minima), _mm512_setzero_ps())
    }
}

/// Unpacks some columns of the rows of a panel, rows `row(0)` to `row(PANEL_ROWS - 1)`.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn unpack_panel<'a>(dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let size = row(0).len();
    let odd = dtype.block_elements() == BLOCK && !size.is_multiple_of(2 * dtype.block_bytes());
    if odd {
        return panel.unpack(dtype, row);
    }
    for_type!(dtype, unpack_panel_of(row, panel), panel.unpack(dtype, row));
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn unpack_panel_of<'a, D: Decode>(row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let size = GROUP / D::COLUMNS * D::BYTES;
    for first in (0..PANEL_ROWS).step_by(16) {
        let mut rows = [row(first); 16];
        for i in 1..16 {
            rows[i] = row(first + i);
        }
        let len = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == len));
        for at in (0..len).step_by(size) {
            let column = at / D::BYTES * D::COLUMNS;
            let group_len = size.min(len - at);
            let mut scales = [_mm512_setzero_si512(); 16];
            let mut minima = [_mm512_setzero_si512(); 16];
            for i in 0..16 {
                // SAFETY: `group_len` bytes lie from `at` on in each row.
                let found = unsafe { D::scales(rows[i].as_ptr().add(at), group_len) };
                scales[i] = _mm512_castps_si512(found.0);
                minima[i] = _mm512_castps_si512(found.1);
            }
            let scales = transpose(scales);
            if D::SUB == 32 {
                for i in 0..8 {
                    let place = Place { sub: column / 32 + i, row: first };
                    store(panel.scales_mut(place), scales[i]);
                    store(panel.minima_mut(place), scales[8 + i]);
                }
            } else {
                let minima = transpose(minima);
                for i in 0..16 {
                    let place = Place { sub: column / 16 + i, row: first };
                    store(panel.scales_mut(place), scales[i]);
                    store(panel.minima_mut(place), minima[i]);
                }
            }
            for step in 0..group_len / D::BYTES * D::COLUMNS / STEP {
                let mut levels = [_mm512_setzero_si512(); 16];
                for i in 0..16 {
                    // SAFETY: an even number of blocks lies there, of which this is a pair.
                    levels[i] = unsafe { D::levels(rows[i].as_ptr().add(at), step) };
                }
                let levels = transpose(levels);
                for i in 0..16 {
                    let out = panel.levels_mut((column + STEP * step) / 4 + i, first);
                    // SAFETY: 64 bytes, by the type; the store needs no alignment.
                    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), levels[i]) };
                }
            }
        }
    }
}

/// Adds the products of a panel's `columns` with `T` rows of activations, from their column `at` on, to
/// `out[t][row]`, one block after the other.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn multiply<const T: usize, const SUB: usize>(
    _: DType,
    panel: &Panel,
    columns: usize,
    x: [Row<'_>; T],
    at: usize,
    out: [&mut [f32; PANEL_ROWS]; T],
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; T];
    for t in 0..T {
        let old = out[t].as_chunks().0;
        sums[t] = [load_f32(&old[0]), load_f32(&old[1])];
    }
    for t in 0..T {
        assert!(x[t].quants.len() >= at + columns && x[t].sums16.len() >= (at + columns) / 16);
        assert!(x[t].scales.len() >= (at + columns) / BLOCK);
        assert!(x[t].sums32.len() >= (at + columns) / BLOCK);
    }
    for block in 0..columns / BLOCK {
        let x_block = at / BLOCK + block;
        let mut scaled = [[_mm512_setzero_ps(); 2]; T];
        for half in 0..BLOCK / SUB {
            let sub = block * BLOCK / SUB + half;
            let mut integers = [[_mm512_setzero_si512(); 2]; T];
            for four in 0..SUB / 4 {
                let column = block * BLOCK + half * SUB + four * 4;
                let levels =
                    [load(panel.levels(column / 4, 0)), load(panel.levels(column / 4, 16))];
                for t in 0..T {
                    // SAFETY: within the row, by the assertion above.
                    let four = unsafe {
                        x[t].quants.as_ptr().add(at + column).cast::<i32>().read_unaligned()
                    };
                    let four = _mm512_set1_epi32(four);
                    for r in 0..2 {
                        integers[t][r] = _mm512_dpbusd_epi32(integers[t][r], levels[r], four);
                    }
                }
            }
            for r in 0..2 {
                let place = Place { sub, row: 16 * r };
                let (scales, minima) =
                    (load_f32(panel.scales(place)), load_f32(panel.minima(place)));
                for t in 0..T {
                    let integer = _mm512_cvtepi32_ps(integers[t][r]);
                    let sum = if SUB == 32 {
                        x[t].sums32[x_block]
                    } else {
                        x[t].sums16[2 * x_block + half]
                    };
                    sums[t][r] = _mm512_fmadd_ps(minima, _mm512_set1_ps(sum), sums[t][r]);
                    scaled[t][r] = if half == 0 {
                        _mm512_mul_ps(integer, scales)
                    } else {
                        _mm512_fmadd_ps(integer, scales, scaled[t][r])
                    };
                }
            }
        }
        for t in 0..T {
            let scale = _mm512_set1_ps(x[t].scales[x_block]);
            for r in 0..2 {
                sums[t][r] = _mm512_fmadd_ps(scaled[t][r], scale, sums[t][r]);
            }
        }
    }
    for (out, sums) in out.into_iter().zip(sums) {
        for (out, sum) in out.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
            store(out, _mm512_castps_si512(sum));
        }
    }
}

/// See [`crate::kernels::Limits`].
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn multiply_registers(rounds: usize) -> usize {
    let x = std::hint::black_box(_mm512_set1_epi8(1));
    let mut sums = [_mm512_setzero_si512(); 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, x);
        }
    }
    std::hint::black_box(sums);
    rounds * sums.len() * STEP
}

/// 16 × 16 words of 32 bits, rows to columns.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = rows;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut eights = fours;
    for i in (0..16).step_by(8) {
        for j in 0..4 {
            eights[i + j] = _mm512_shuffle_i32x4::<0x88>(fours[i + j], fours[i + j + 4]);
            eights[i + j + 4] = _mm512_shuffle_i32x4::<0xdd>(fours[i + j], fours[i + j + 4]);
        }
    }
    let mut out = eights;
    for j in 0..8 {
        out[j] = _mm512_shuffle_i32x4::<0x88>(eights[j], eights[j + 8]);
        out[j + 8] = _mm512_shuffle_i32x4::<0xdd>(eights[j], eights[j + 8]);
    }
    out
}

struct Q4_0;

impl Decode for Q4_0 {
    const BYTES: usize = 18;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        unsafe { low_bits(two_nibbles(b.add(36 * step + 2), b.add(36 * step + 20))) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: said by the trait.
        let halves = unsafe { words(b, len, 0, [0, 9, 18, 27, 36, 45, 54, 63]) };
        shifted(halves, -8.0)
    }
}

struct IQ4_NL;

impl Decode for IQ4_NL {
    const BYTES: usize = 18;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        look_up(&IQ4_LEVELS, unsafe { Q4_0::levels(b, step) })
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: said by the trait.
        let halves = unsafe { words(b, len, 0, [0, 9, 18, 27, 36, 45, 54, 63]) };
        shifted(halves, -128.0)
    }
}

struct Q4_1;

impl Decode for Q4_1 {
    const BYTES: usize = 20;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        unsafe { low_bits(two_nibbles(b.add(40 * step + 4), b.add(40 * step + 24))) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: said by the trait.
        let scales = unsafe { words(b, len, 0, [0, 10, 20, 30, 40, 50, 60, 70]) };
        // SAFETY: as above.
        let minima = unsafe { words(b, len, 0, [1, 11, 21, 31, 41, 51, 61, 71]) };
        with_minima(scales, minima)
    }
}

struct Q5_0;

impl Decode for Q5_0 {
    const BYTES: usize = 22;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        unsafe {
            let (first, second) = (b.add(44 * step), b.add(44 * step + 22));
            let low = low_bits(two_nibbles(first.add(6), second.add(6)));
            with_bit(low, two_masks(first.add(2), second.add(2)), 16)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: said by the trait.
        let halves = unsafe { words(b, len, 0, [0, 11, 22, 33, 44, 55, 66, 77]) };
        shifted(halves, -16.0)
    }
}

struct Q5_1;

impl Decode for Q5_1 {
    const BYTES: usize = 24;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        unsafe {
            let (first, second) = (b.add(48 * step), b.add(48 * step + 24));
            let low = low_bits(two_nibbles(first.add(8), second.add(8)));
            with_bit(low, two_masks(first.add(4), second.add(4)), 16)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: said by the trait.
        let scales = unsafe { words(b, len, 0, [0, 12, 24, 36, 48, 60, 72, 84]) };
        // SAFETY: as above.
        let minima = unsafe { words(b, len, 0, [1, 13, 25, 37, 49, 61, 73, 85]) };
        with_minima(scales, minima)
    }
}

struct Q8_0;

impl Decode for Q8_0 {
    const BYTES: usize = 34;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait: the 32 bytes after each of the two scales.
        let (first, second) = unsafe {
            let b = b.add(68 * step);
            (_mm256_loadu_si256(b.add(2).cast()), _mm256_loadu_si256(b.add(36).cast()))
        };
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
        _mm512_xor_si512(both, _mm512_set1_epi8(-128))
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        // SAFETY: said by the trait.
        let (low, high) = unsafe {
            (
                words(b, len, 0, [0, 17, 34, 51, 0, 0, 0, 0]),
                words(b, len, 128, [4, 21, 38, 55, 0, 0, 0, 0]),
            )
        };
        shifted(_mm_unpacklo_epi64(low, high), -128.0)
    }
}

struct MXFP4;

impl Decode for MXFP4 {
    const BYTES: usize = 17;
    const COLUMNS: usize = 32;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        let nibbles = unsafe { low_bits(two_nibbles(b.add(34 * step + 1), b.add(34 * step + 18))) };
        look_up(&E2M1_LEVELS, nibbles)
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, len: usize) -> (__m512, __m512) {
        let mut exponents = [0_u8; 8];
        for (i, exponent) in exponents.iter_mut().enumerate().take(len / 17) {
            // SAFETY: the first byte of a block.
            *exponent = unsafe { *b.add(17 * i) };
        }
        let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(exponents)));
        let usual = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
        // The two smallest are subnormal in f32.
        let smallest = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
        let usual = _mm256_mask_mov_epi32(
            usual,
            _mm256_cmplt_epi32_mask(e, _mm256_set1_epi32(2)),
            smallest,
        );
        let d = _mm256_castsi256_ps(usual);
        (twice_scaled(d, -12.0), _mm512_setzero_ps())
    }
}

struct Q2_K;

impl Decode for Q2_K {
    const BYTES: usize = 84;
    const COLUMNS: usize = 256;
    const SUB: usize = 16;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        unsafe { pairs_of_bits(b.add(16 + 32 * (step / 2)), step) }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: a super-block lies at `b`.
        let (packed, d) = unsafe {
            (_mm_loadu_si128(b.cast()), _mm_cvtsi32_si128(b.add(80).cast::<i32>().read_unaligned()))
        };
        let low = _mm_set1_epi8(15);
        let d = _mm_cvtph_ps(d);
        let scales = bytes_to_f32(_mm_and_si128(packed, low));
        let minima = bytes_to_f32(_mm_and_si128(_mm_srli_epi16::<4>(packed), low));
        let dmin = _mm512_broadcastss_ps(_mm_movehdup_ps(d));
        let dmin = _mm512_sub_ps(_mm512_setzero_ps(), dmin);
        (_mm512_mul_ps(scales, _mm512_broadcastss_ps(d)), _mm512_mul_ps(minima, dmin))
    }
}

struct Q3_K;

impl Decode for Q3_K {
    const BYTES: usize = 110;
    const COLUMNS: usize = 256;
    const SUB: usize = 16;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        unsafe {
            with_bit(pairs_of_bits(b.add(32 + 32 * (step / 2)), step), bit_planes(b, step), 4)
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: a super-block lies at `b`.
        let (packed, d) = unsafe { (std::slice::from_raw_parts(b.add(96), 12), half(b.add(108))) };
        let scales =
            _mm512_sub_ps(bytes_to_f32(four_words(k3_scales(packed))), _mm512_set1_ps(32.0));
        let scales = _mm512_mul_ps(scales, d);
        (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-4.0)))
    }
}

struct Q4_K;

impl Decode for Q4_K {
    const BYTES: usize = 144;
    const COLUMNS: usize = 256;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        low_bits(unsafe { halves_of_bytes(b.add(16 + 32 * step)) })
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: a super-block lies at `b`.
        (unsafe { k4_scales_and_minima(b) }, _mm512_setzero_ps())
    }
}

struct Q5_K;

impl Decode for Q5_K {
    const BYTES: usize = 176;
    const COLUMNS: usize = 256;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        unsafe {
            with_bit(
                low_bits(halves_of_bytes(b.add(48 + 32 * step))),
                bit_planes(b.add(16), step),
                16,
            )
        }
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: a super-block lies at `b`.
        (unsafe { k4_scales_and_minima(b) }, _mm512_setzero_ps())
    }
}

struct Q6_K;

impl Decode for Q6_K {
    const BYTES: usize = 210;
    const COLUMNS: usize = 256;
    const SUB: usize = 16;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        let (half, odd) = (step / 2, step % 2);
        // SAFETY: said by the trait: 64 bytes of low bits and 32 of high ones for each 128 columns.
        let (low, high) = unsafe {
            (
                _mm512_loadu_si512(b.add(64 * half).cast()),
                _mm256_loadu_si256(b.add(128 + 32 * half).cast()),
            )
        };
        let high = _mm512_broadcast_i64x4(high);
        // The pair of bits of columns 32 · j is bits 2j of the byte; it becomes bits 4 and 5.
        let (low, high) = if odd == 0 {
            (low, _mm512_sllv_epi16(high, by_half(4, 2)))
        } else {
            (_mm512_srli_epi16::<4>(low), _mm512_srlv_epi16(high, by_half(0, 2)))
        };
        _mm512_or_si512(low_bits(low), _mm512_and_si512(high, _mm512_set1_epi8(0x30)))
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: a super-block lies at `b`.
        let (packed, d) = unsafe { (_mm_loadu_si128(b.add(192).cast()), half(b.add(208))) };
        let scales = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(packed)), d);
        (scales, _mm512_mul_ps(scales, _mm512_set1_ps(-32.0)))
    }
}

struct IQ4_XS;

impl Decode for IQ4_XS {
    const BYTES: usize = 136;
    const COLUMNS: usize = 256;
    const SUB: usize = 32;

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn levels(b: *const u8, step: usize) -> __m512i {
        // SAFETY: said by the trait.
        let nibbles = unsafe { low_bits(two_nibbles(b.add(8 + 32 * step), b.add(24 + 32 * step))) };
        look_up(&IQ4_LEVELS, nibbles)
    }

    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn scales(b: *const u8, _: usize) -> (__m512, __m512) {
        // SAFETY: a super-block lies at `b`.
        let (d, high, low) = unsafe {
            (
                half(b),
                b.add(2).cast::<u16>().read_unaligned(),
                b.add(4).cast::<i32>().read_unaligned(),
            )
        };
        let low = _mm256_srlv_epi32(
            _mm256_set1_epi32(low),
            _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28),
        );
        let high = _mm256_set1_epi32(i32::from(high));
        let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
        let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3)));
        let scales = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
        let scales = _mm256_mul_ps(_mm256_cvtepi32_ps(scales), _mm512_castps512_ps256(d));
        (twice_scaled(scales, -128.0), _mm512_setzero_ps())
    }
}

/// Two times 16 bytes: each byte's low half in a lane of 128 bits, its high half moved down in the next
/// (other bits above).
///
/// # Safety
/// 16 bytes can be read at both.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn two_nibbles(first: *const u8, second: *const u8) -> __m512i {
    // SAFETY: said by the caller.
    let (first, second) =
        unsafe { (_mm_loadu_si128(first.cast()), _mm_loadu_si128(second.cast())) };
    let both = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(first), 0xff00, second);
    let shifts = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    _mm512_srlv_epi32(both, shifts)
}

/// 32 bytes, and again moved down by four bits (other bits above).
///
/// # Safety
/// 32 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn halves_of_bytes(b: *const u8) -> __m512i {
    // SAFETY: said by the caller.
    let both = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(b.cast()) });
    _mm512_srlv_epi16(both, by_half(0, 4))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn low_bits(v: __m512i) -> __m512i {
    _mm512_and_si512(v, _mm512_set1_epi8(15))
}

/// Pairs of bits `2 · step ..` (modulo 4 pairs) of 32 bytes, for 2 × 32 columns.
///
/// # Safety
/// 32 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn pairs_of_bits(b: *const u8, step: usize) -> __m512i {
    // SAFETY: said by the caller.
    let both = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(b.cast()) });
    let shifts = if step.is_multiple_of(2) { by_half(0, 2) } else { by_half(4, 6) };
    _mm512_and_si512(_mm512_srlv_epi16(both, shifts), _mm512_set1_epi8(3))
}

/// Bits `2 · step` and `2 · step + 1` of 32 bytes, as a mask of 2 × 32 columns.
///
/// # Safety
/// 32 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn bit_planes(b: *const u8, step: usize) -> __mmask64 {
    // SAFETY: said by the caller.
    let both = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(b.cast()) });
    let bits = _mm512_inserti64x4::<1>(
        _mm512_set1_epi8((1_u8 << (2 * step)) as i8),
        _mm256_set1_epi8((2_u8 << (2 * step)) as i8),
    );
    _mm512_test_epi8_mask(both, bits)
}

/// Two times 32 bits.
///
/// # Safety
/// Four bytes can be read at both.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn two_masks(first: *const u8, second: *const u8) -> __mmask64 {
    // SAFETY: said by the caller.
    let (first, second) =
        unsafe { (first.cast::<u32>().read_unaligned(), second.cast::<u32>().read_unaligned()) };
    u64::from(first) | u64::from(second) << 32
}

/// Adds `bit` to the levels of the mask.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn with_bit(levels: __m512i, mask: __mmask64, bit: i8) -> __m512i {
    _mm512_mask_add_epi8(levels, mask, levels, _mm512_set1_epi8(bit))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn look_up(table: &[u8; 16], nibbles: __m512i) -> __m512i {
    // SAFETY: 16 bytes, by the type.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles)
}

/// Words of 16 bits with one value in the lower 256 bits and another in the upper.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn by_half(low: i16, high: i16) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_set1_epi16(low), _mm256_set1_epi16(high))
}

/// Eight of the words of 16 bits at `b + at`, zero beyond `len`; `which` lie in the first 192 bytes.
///
/// # Safety
/// `len` bytes can be read at `b`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn words(b: *const u8, len: usize, at: usize, which: [u16; 8]) -> __m128i {
    // SAFETY: only bytes below `len` are read.
    let part = |at: usize| unsafe {
        if at + 64 <= len {
            _mm512_loadu_si512(b.add(at).cast())
        } else {
            let mask = (1_u64 << len.saturating_sub(at)) - 1;
            _mm512_maskz_loadu_epi8(mask, b.wrapping_add(at).cast())
        }
    };
    let first = which.map(|w| if w < 64 { w } else { 0 });
    let found = _mm512_permutex2var_epi16(part(at), index(first), part(at + 64));
    if which.iter().all(|&w| w < 64) {
        return _mm512_castsi512_si128(found);
    }
    let mut lane = 0;
    let second = which.map(|w| {
        lane += 1;
        if w < 64 { lane - 1 } else { w - 64 + 32 }
    });
    _mm512_castsi512_si128(_mm512_permutex2var_epi16(found, index(second), part(at + 128)))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn index(which: [u16; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = which.map(|w| w as i16);
    _mm512_castsi128_si512(_mm_setr_epi16(a, b, c, d, e, f, g, h))
}

/// Eight scales, and as their minima what the levels are too high.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn shifted(halves: __m128i, by: f32) -> (__m512, __m512) {
    (twice_scaled(_mm256_cvtph_ps(halves), by), _mm512_setzero_ps())
}

/// `v`, and `v` times a factor.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn twice_scaled(v: __m256, by: f32) -> __m512 {
    let times = _mm512_insertf32x8::<1>(_mm512_set1_ps(1.0), _mm256_set1_ps(by));
    _mm512_mul_ps(_mm512_broadcast_f32x8(v), times)
}

/// Eight scales and eight minima in half precision.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn with_minima(scales: __m128i, minima: __m128i) -> (__m512, __m512) {
    (_mm512_cvtph_ps(_mm256_set_m128i(minima, scales)), _mm512_setzero_ps())
}

/// Eight scales and eight minima of a `Q4_K` or `Q5_K` block.
///
/// # Safety
/// 16 bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn k4_scales_and_minima(b: *const u8) -> __m512 {
    // SAFETY: said by the caller.
    let (packed, d) = unsafe {
        (
            std::slice::from_raw_parts(b.add(4), 12),
            _mm_cvtsi32_si128(b.cast::<i32>().read_unaligned()),
        )
    };
    let d = _mm_cvtph_ps(d); // d and dmin
    let negated = _mm_sub_ps(_mm_setzero_ps(), _mm_movehdup_ps(d));
    let d = _mm512_insertf32x8::<1>(_mm512_broadcastss_ps(d), _mm256_broadcastss_ps(negated));
    _mm512_mul_ps(bytes_to_f32(four_words(k4_scales(packed))), d)
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn four_words(words: [u32; 4]) -> __m128i {
    let pair = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32) as i64;
    _mm_set_epi64x(pair(words[2], words[3]), pair(words[0], words[1]))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn bytes_to_f32(bytes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
}

/// An f16 in every lane.
///
/// # Safety
/// Two bytes can be read.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn half(b: *const u8) -> __m512 {
    // SAFETY: said by the caller.
    let bits = unsafe { b.cast::<u16>().read_unaligned() };
    _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes, by the type; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn load_i8(quants: &[i8; 64]) -> __m512i {
    // SAFETY: 64 bytes, by the type; the load needs no alignment.
    unsafe { _mm512_loadu_si512(quants.as_ptr().cast()) }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn load_f32(x: &[f32; 16]) -> __m512 {
    // SAFETY: 16 floats, by the type; the load needs no alignment.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn store(out: &mut [f32; 16], v: __m512i) {
    // SAFETY: 16 floats, by the type; the store needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(v)) }
}
