//! Products of levels with 512-bit vectors (AVX-512 with VNNI).
//!
//! Enters: stored rows, eight-bit activations. Leaves: dot products, unpacked panels, products of
//! panels. Each type is a [`Decode`]: how 64 levels and the scales of 256 columns get into vectors.

#![expect(unsafe_code, reason = "vector loads through pointers whose extent is argued beside them")]
#![expect(non_camel_case_types, reason = "types are named as the field writes them")]

use crate::kernels::activations::{BLOCK, Row};
use crate::kernels::blocks::{E2M1_LEVELS, GROUP, Group, IQ4_LEVELS, group_bytes, k3_scales};
use crate::kernels::blocks::{k4_scales, unpack};
use crate::kernels::panel::{PANEL_ROWS, Panel, Place};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;
use tealight_bundle::gguf::DType;

/// Columns of one vector of levels.
const STEP: usize = 64;

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

/// Adds a group of a row, `steps` × 64 columns, to the sums of a dot product. A macro, because as a
/// function it is too large to be inlined, and its call costs more than its work.
macro_rules! add_group {
    ($D:ty, $b:expr, $len:expr, $steps:expr, $x:ident, $index:expr, $products:ident, $minima:ident) => {{
        let (scales, minima) = <$D>::scales($b, $len);
        let xs: &[f32; 8] = $x.scales[8 * $index..].first_chunk().expect("whole groups");
        // The scale of each sub-block, times that of its activations; and which lanes take which.
        let (factors, lanes) = if <$D>::SUB == 32 {
            let sums: &[f32; 8] = $x.sums32[8 * $index..].first_chunk().expect("whole groups");
            let xs = _mm512_castps256_ps512(load_f32x8(xs));
            let factors = _mm512_mul_ps(scales, _mm512_insertf32x8::<1>(xs, load_f32x8(sums)));
            // The upper half of the factors is minima times sums.
            $minima = _mm512_add_ps($minima, factors);
            (factors, _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1))
        } else {
            let sums: &[f32; 16] = $x.sums16[16 * $index..].first_chunk().expect("whole groups");
            $minima = _mm512_fmadd_ps(minima, load_f32(sums), $minima);
            let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            let xs = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(load_f32x8(xs)));
            let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            (_mm512_mul_ps(scales, xs), lanes)
        };
        let quants: &[i8; GROUP] = $x.quants[GROUP * $index..].first_chunk().expect("whole groups");
        for step in 0..$steps {
            let levels = <$D>::levels($b, step);
            let quants = load_i8(quants[STEP * step..].first_chunk().expect("four steps"));
            let integer = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels, quants);
            let first = _mm512_set1_epi32((STEP / <$D>::SUB * step) as i32);
            let factor = _mm512_permutexvar_ps(_mm512_add_epi32(lanes, first), factors);
            $products = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integer), factor, $products);
        }
    }};
}

/// Dot products of consecutive stored rows with one row of activations.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn rows(dtype: DType, w: &[u8], x: Row<'_>, out: &mut [f32]) {
    let size = w.len() / out.len().max(1);
    // Half a vector of columns is left at the end of some rows; the plain way is for those.
    if dtype.block_elements() == BLOCK && !size.is_multiple_of(2 * dtype.block_bytes()) {
        return rows_of(size, w, out, |w| dot_any(dtype, w, x));
    }
    for_type!(
        dtype,
        rows_of_type(size, w, x, out),
        rows_of(size, w, out, |w| dot_any(dtype, w, x))
    );
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn rows_of_type<D: Decode>(size: usize, w: &[u8], x: Row<'_>, out: &mut [f32]) {
    rows_of(size, w, out, |w| dot::<D>(w, x));
}

/// Four rows at a time, because four sums across lanes cost little more than one.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn rows_of(size: usize, w: &[u8], out: &mut [f32], dot: impl Fn(&[u8]) -> __m512) {
    let mut rows = w.chunks_exact(size.max(1));
    let mut row = || rows.next().map_or(_mm512_setzero_ps(), |w| dot(w));
    let (fours, rest) = out.as_chunks_mut::<4>();
    for out in fours {
        let (a, b, c, d) = (row(), row(), row(), row());
        let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
        let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
        let v = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
        let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        // SAFETY: 4 floats, by the type; the store needs no alignment.
        unsafe { _mm_storeu_ps(out.as_mut_ptr(), v) };
    }
    for out in rest {
        *out = _mm512_reduce_add_ps(row());
    }
}

/// One dot product, to be summed across lanes. The row is an even number of blocks.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn dot<D: Decode>(w: &[u8], x: Row<'_>) -> __m512 {
    let mut products = _mm512_setzero_ps();
    let mut minima = _mm512_setzero_ps();
    let size = GROUP / D::COLUMNS * D::BYTES;
    let whole = w.len() / size;
    for index in 0..whole {
        let b = w[index * size..].as_ptr();
        // SAFETY: a whole group lies at `b`.
        unsafe { add_group!(D, b, size, GROUP / STEP, x, index, products, minima) };
    }
    let rest = &w[whole * size..];
    if !rest.is_empty() {
        let steps = rest.len() / D::BYTES * D::COLUMNS / STEP;
        // SAFETY: an even number of blocks lies at `rest`, `steps` pairs; activations are padded to
        // whole groups.
        unsafe { add_group!(D, rest.as_ptr(), rest.len(), steps, x, whole, products, minima) };
    }
    // Of the minima of `SUB` 32 only the upper half counts.
    let minima = if D::SUB == 32 { _mm512_maskz_mov_ps(0xff00, minima) } else { minima };
    _mm512_add_ps(products, minima)
}

/// As [`dot`], of any type, through memory.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn dot_any(dtype: DType, w: &[u8], x: Row<'_>) -> __m512 {
    let mut products = _mm512_setzero_ps();
    let mut minima = _mm512_setzero_ps();
    let mut group = Group::ZERO;
    for (index, bytes) in w.chunks(group_bytes(dtype)).enumerate() {
        let columns = bytes.len() / dtype.block_bytes() * dtype.block_elements();
        if columns < GROUP {
            group = Group::ZERO;
        }
        unpack(dtype, bytes, &mut group);
        let b = std::ptr::from_ref(&group).cast();
        // SAFETY: `Unpacked` reads a whole group there.
        unsafe { add_group!(Unpacked, b, 0, GROUP / STEP, x, index, products, minima) };
    }
    _mm512_add_ps(products, minima)
}

/// A [`Group`] as a type of its own.
struct Unpacked;

impl Decode for Unpacked {
    const BYTES: usize = size_of::<Group>();
    const COLUMNS: usize = GROUP;
    const SUB: usize = 16;

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
        (load_f32(&group.scales), load_f32(&group.mins))
    }
}

/// Unpacks some columns of the rows of a panel, rows `row(0)` to `row(PANEL_ROWS - 1)`.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn unpack_panel<'a>(dtype: DType, row: &dyn Fn(usize) -> &'a [u8], panel: &mut Panel) {
    let size = row(0).len();
    let odd = size % (2 * dtype.block_bytes()) != 0 && dtype.block_elements() == BLOCK;
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

/// Adds the products of a panel's `columns` with `T` rows of activations, from their column `at` on:
/// `out[t][row]`.
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
            store(out, _mm512_castps_si512(_mm512_add_ps(load_f32(out), sum)));
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
fn load_f32x8(x: &[f32; 8]) -> __m256 {
    // SAFETY: 8 floats, by the type; the load needs no alignment.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn store(out: &mut [f32; 16], v: __m512i) {
    // SAFETY: 16 floats, by the type; the store needs no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(v)) }
}
