//! Activations quantized to eight bits, for multiplication with quantized weights.
//!
//! Input: rows of f32. Output: [`Activations`], a [`Part`] for each 256 columns. For prefill, [`Tiles`] of them, in the
//! order in which panels read them. Rows are zero-padded to whole groups, so kernels need no remainder loops.
//!
//! The scale of 32 columns is a small multiple of that of their 256, so that products with a super-block add up in whole
//! numbers, in any order; see [`super::scalar`] for what follows from that.

#![expect(unsafe_code, reason = "calls what is compiled for an instruction set")]

use super::blocks::{BLOCKS, GROUP, Halves};
use std::mem::MaybeUninit;
use std::ops::Range;

pub use super::blocks::BLOCK;

/// The largest multiple. Products of it and a type's scales fit in 16 bits.
const MULTIPLE_MAX: f32 = 127.0;
/// Upper bound on the sum of all magnitudes of a group, in units of its scale. Rounding adds at most 32 · 8 · 127 / 2 to
/// it; with that, no sum of products with a super-block exceeds 32 bits: |scale · level| is at most 128 · 32 (`Q6_K`).
const SUM_MAX: f32 = 500_000.0;
/// Below this, magnitudes count as zero: the scale of the smallest would not be a normal number.
const TINY: f32 = 1e-30;
/// Bits of a weighted sum, including its sign. Two of them can be added in 16 bits.
const WEIGHTED_BITS: u32 = 14;

/// Eight-bit activations of 256 columns of a row: value = scale · multiple · quant.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Part {
    /// Quantized values, from -127 to 127.
    pub quants: [i8; GROUP],
    /// Multiples of the scale, from 1 to 127: one for each block, twice.
    pub multiples: Halves,
    /// Sums of sixteen quants.
    pub sums: Halves,
    /// Multiple · sum, in units of 2ⁿ: what mins are multiplied with.
    pub weighted: Halves,
    /// scale · multiple of each block.
    pub scales: [f32; BLOCKS],
    /// scale · multiple · sum of each block.
    pub totals: [f32; BLOCKS],
    /// The scale.
    pub scale: f32,
    /// scale · 2ⁿ, the unit of `weighted`.
    pub weighted_scale: f32,
}

impl Part {
    /// All zero.
    pub const ZERO: Self = Self {
        quants: [0; GROUP],
        multiples: [[1; BLOCKS]; 2],
        sums: [[0; BLOCKS]; 2],
        weighted: [[0; BLOCKS]; 2],
        scales: [0.0; BLOCKS],
        totals: [0.0; BLOCKS],
        scale: 0.0,
        weighted_scale: 0.0,
    };
}

/// Rows of eight-bit activations.
pub struct Activations {
    /// Number of rows.
    pub rows: usize,
    /// Columns of a row.
    pub columns: usize,
    /// The groups of all rows, (rows, groups).
    pub parts: Vec<Part>,
}

impl Activations {
    /// `rows` rows of `columns` elements (whole blocks), whose groups `fill` writes: threads share that, so the memory is
    /// not written before.
    ///
    /// # Safety
    /// `fill` initializes every element.
    pub unsafe fn filled(
        rows: usize,
        columns: usize,
        fill: impl FnOnce(&mut [MaybeUninit<Part>]),
    ) -> Self {
        let len = rows * columns.div_ceil(GROUP);
        let mut parts = Vec::with_capacity(len);
        fill(&mut parts.spare_capacity_mut()[..len]);
        // SAFETY: guaranteed by the caller.
        unsafe { parts.set_len(len) };
        Self { rows, columns, parts }
    }

    /// Groups of a row.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.columns.div_ceil(GROUP)
    }

    /// One row.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> &[Part] {
        &self.parts[index * self.groups()..(index + 1) * self.groups()]
    }
}

/// One group of each row.
#[inline]
pub fn group_of<'a, const T: usize>(x: &[&'a [Part]; T], group: usize) -> [&'a Part; T] {
    // A loop: `map` is not compiled for an instruction set, and was called, not inlined.
    let mut parts = [&x[0][group]; T];
    for t in 1..T {
        parts[t] = &x[t][group];
    }
    parts
}

/// The quants of rows of [`Activations`], in tiles of the rows that are multiplied with a panel at a time. Within a tile,
/// rows are interleaved: each run of columns of one row is followed by that of the next.
pub struct Tiles {
    stride: usize,
    /// Contiguous columns of a row, 4, 8 or [`BLOCK`].
    together: usize,
    quants: Vec<i8>,
}

/// Some whole groups of a tile of `T` rows.
#[derive(Clone, Copy)]
pub struct Tile<'a, const T: usize> {
    quants: &'a [i8],
    /// The groups of each row.
    pub parts: [&'a [Part]; T],
}

impl<const T: usize> Tile<'_, T> {
    /// The quantized values of block after block, in the order of the [`Tiles`].
    #[inline]
    pub fn quants(&self) -> &[i8] {
        self.quants
    }

    /// The quantized values, (columns / N, T, N); `N` is the `together` of the [`Tiles`].
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn woven<const N: usize>(&self) -> &[[[i8; N]; T]] {
        self.quants.as_chunks().0.as_chunks().0
    }
}

impl Tiles {
    /// Empty tiles for activations of this shape, with `together` contiguous columns of a row: 4, 8 or [`BLOCK`].
    pub fn of(x: &Activations, together: usize) -> Self {
        let stride = x.groups() * GROUP;
        Self { stride, together, quants: vec![0; x.rows * stride] }
    }

    /// One part per tile of `rows[i]..rows[i + 1]`, to be filled by [`TilePart::fill`].
    pub fn parts_mut(&mut self, rows: &[usize]) -> Vec<TilePart<'_>> {
        let mut quants = &mut self.quants[..];
        let part = |bounds: &[usize]| {
            let rows = bounds[1] - bounds[0];
            let quants = quants.split_off_mut(..rows * self.stride).unwrap_or_default();
            TilePart { first: bounds[0], rows, together: self.together, quants }
        };
        rows.windows(2).map(part).collect()
    }

    /// `groups` of the tile of `T` rows of `x` that starts at row `first`.
    #[inline]
    pub fn tile<'a, const T: usize>(
        &'a self,
        x: &'a Activations,
        first: usize,
        groups: Range<usize>,
    ) -> Tile<'a, T> {
        let at = |group: usize| first * self.stride + group * GROUP * T;
        Tile {
            quants: &self.quants[at(groups.start)..at(groups.end)],
            parts: std::array::from_fn(|t| &x.row(first + t)[groups.clone()]),
        }
    }
}

/// One tile, to be filled.
pub struct TilePart<'a> {
    first: usize,
    rows: usize,
    together: usize,
    quants: &'a mut [i8],
}

impl TilePart<'_> {
    /// Copies the tile's rows from `x`.
    pub fn fill(&mut self, x: &Activations) {
        match self.rows {
            6 => self.fill_of::<6>(x),
            4 => self.fill_of::<4>(x),
            2 => self.fill_of::<2>(x),
            _ => self.fill_of::<1>(x),
        }
    }

    fn fill_of<const T: usize>(&mut self, x: &Activations) {
        fn weave<const N: usize, const T: usize>(out: &mut [i8], rows: [&Part; T]) {
            let rows: [&[[i8; N]]; T] = rows.map(|part| part.quants.as_chunks().0);
            for (i, out) in out.as_chunks_mut::<N>().0.as_chunks_mut::<T>().0.iter_mut().enumerate()
            {
                *out = std::array::from_fn(|t| rows[t][i]);
            }
        }
        let rows: [&[Part]; T] = std::array::from_fn(|t| x.row(self.first + t));
        for (group, out) in self.quants.chunks_exact_mut(GROUP * T).enumerate() {
            let parts: [&Part; T] = std::array::from_fn(|t| &rows[t][group]);
            match self.together {
                4 => weave::<4, T>(out, parts),
                8 => weave::<8, T>(out, parts),
                _ => weave::<BLOCK, T>(out, parts),
            }
        }
    }
}

/// How an instruction set rounds a block.
pub trait Round {
    /// Multiplies with `inverse`, rounds to nearest even; returns the sums of both halves. No magnitude exceeds 127.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn round(x: &[f32; BLOCK], inverse: f32, quants: &mut [i8; BLOCK]) -> [i16; 2];
}

/// Rounds on any processor.
pub struct Portable;

impl Round for Portable {
    unsafe fn round(x: &[f32; BLOCK], inverse: f32, quants: &mut [i8; BLOCK]) -> [i16; 2] {
        // Adding 1.5 × 2²³ rounds as the processor does and leaves the integer in the low bits of the sum.
        const MAGIC: f32 = 12_582_912.0;
        for (quant, x) in quants.iter_mut().zip(x) {
            *quant = (x * inverse + MAGIC).to_bits() as i8;
        }
        let sum = |half: usize| quants[16 * half..][..16].iter().map(|&q| i16::from(q)).sum();
        [sum(0), sum(1)]
    }
}

/// Quantizes the columns of one row; `parts` are their groups, the last of which may be partial. Initializes all of them.
///
/// The scale of a group is the smallest with which the multiple of its largest block is a whole number, at most
/// [`MULTIPLE_MAX`], and the sum of all magnitudes at most [`SUM_MAX`] times the scale. A block's multiple is the
/// smallest whole number with which its quants are at most 127. Values are rounded to nearest even. If one of them, or
/// the sum of their magnitudes, is not finite, no product with the group is.
///
/// Always inlined, so that it is compiled for the instruction set of its caller; no step depends on that.
///
/// # Safety
/// The processor has the instruction set of `R`.
///
/// # Panics
/// When the number of groups is another one.
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
pub unsafe fn quantize<R: Round>(x: &[f32], parts: &mut [MaybeUninit<Part>]) {
    assert_eq!(x.len().div_ceil(GROUP), parts.len(), "groups of {} columns", x.len());
    for (x, part) in x.chunks(GROUP).zip(parts) {
        // SAFETY: guaranteed by the caller.
        unsafe { quantize_group::<R>(x.as_chunks().0, part) };
    }
}

/// # Safety
/// As [`quantize`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "inherits the caller's instruction set")]
unsafe fn quantize_group<R: Round>(x: &[[f32; BLOCK]], part: &mut MaybeUninit<Part>) {
    // A sum for each place in a block: one after the other, additions would wait for each other.
    let (mut largest, mut lanes) = ([0_u32; BLOCKS], [0_f32; BLOCK]);
    for (largest, x) in largest.iter_mut().zip(x) {
        // Magnitudes order like their bits, and an integer maximum has no special case for NaN.
        let mut maxima = [0_u32; 8];
        for (part, (x, lanes)) in
            x.as_chunks::<8>().0.iter().zip(lanes.as_chunks_mut::<8>().0).enumerate()
        {
            for i in 0..8 {
                let magnitude = x[i].abs();
                lanes[i] += magnitude;
                let bits = magnitude.to_bits();
                maxima[i] = if part == 0 { bits } else { maxima[i].max(bits) };
            }
        }
        *largest = maxima.into_iter().fold(0, u32::max);
    }
    let top = f32::from_bits(largest.into_iter().fold(0, u32::max));
    let eight = |i: usize| (lanes[i] + lanes[i + 8]) + (lanes[i + 16] + lanes[i + 24]);
    let [a, b, c, d, e, f, g, h]: [f32; 8] = std::array::from_fn(eight);
    let sum = ((a + e) + (b + f)) + ((c + g) + (d + h));
    if !sum.is_finite() {
        part.write(Part {
            scale: f32::NAN,
            weighted_scale: f32::NAN,
            scales: [f32::NAN; BLOCKS],
            totals: [f32::NAN; BLOCKS],
            ..Part::ZERO
        });
        return;
    }
    if top < TINY {
        part.write(Part::ZERO);
        return;
    }
    let part = part.write(Part::ZERO);
    let most = (top / sum * (SUM_MAX / 127.0)).min(MULTIPLE_MAX).floor();
    let scale = top / (127.0 * most);
    let (mut multiples, mut inverses) = ([0_i16; BLOCKS], [0.0; BLOCKS]);
    for block in 0..BLOCKS {
        let multiple = (f32::from_bits(largest[block]) / (127.0 * scale)).ceil().max(1.0).min(most);
        multiples[block] = multiple as i16;
        part.scales[block] = scale * multiple;
        inverses[block] = 1.0 / part.scales[block];
    }
    let mut sums = [[0_i16; BLOCKS]; 2];
    for (block, quants) in part.quants.as_chunks_mut().0.iter_mut().enumerate() {
        let Some(x) = x.get(block) else {
            *quants = [0; BLOCK];
            continue;
        };
        // SAFETY: guaranteed by the caller.
        [sums[0][block], sums[1][block]] = unsafe { R::round(x, inverses[block], quants) };
    }
    let (mut weighted, mut widest) = ([[0_i32; BLOCKS]; 2], 0);
    for (weighted, sums) in weighted.iter_mut().zip(&sums) {
        for ((weighted, &sum), &multiple) in weighted.iter_mut().zip(sums).zip(&multiples) {
            *weighted = i32::from(sum) * i32::from(multiple);
            widest = widest.max(weighted.unsigned_abs());
        }
    }
    let shift = (u32::BITS - widest.leading_zeros() + 1).saturating_sub(WEIGHTED_BITS);
    for (rounded, exact) in part.weighted.iter_mut().zip(&weighted) {
        for (rounded, exact) in rounded.iter_mut().zip(exact) {
            *rounded = ((exact + ((1 << shift) >> 1)) >> shift) as i16;
        }
    }
    let [first, second] = &weighted;
    for ((total, first), second) in part.totals.iter_mut().zip(first).zip(second) {
        *total = (first + second) as f32 * scale;
    }
    part.multiples = [multiples; 2];
    part.sums = sums;
    part.scale = scale;
    part.weighted_scale = scale * (1_u32 << shift) as f32;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(x: &[f32]) -> Activations {
        // SAFETY: all groups are initialized; no instruction set in particular is needed.
        unsafe { Activations::filled(1, x.len(), |parts| quantize::<Portable>(x, parts)) }
    }

    /// Pseudo-random values with many small and a few large magnitudes.
    fn values(seed: u32, spread: i32) -> Vec<f32> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        };
        (0..GROUP).map(|_| next() * (next() * spread as f32).exp2()).collect()
    }

    #[test]
    fn blocks_round_to_even_and_keep_their_sums() {
        let mut x = [0_f32; 64];
        (x[0], x[1], x[2], x[16]) = (127.0, 2.5, 3.5, -0.5);
        x[33] = -3.0;
        let a = quantized(&x);
        let [part] = a.row(0) else { panic!("one group") };
        assert_eq!(part.scale.to_bits(), (1.0_f32 / 127.0).to_bits());
        assert_eq!(&part.multiples[0][..3], &[127, 3, 1]);
        assert_eq!(&part.quants[..4], &[127, 2, 4, 0]);
        assert_eq!((part.quants[33], part.quants[40]), (-127, 0));
        assert_eq!((part.sums[0][0], part.sums[1][0], part.sums[0][1]), (133, 0, -127));
        assert_eq!(&part.totals[..3], &[133.0, -3.0, 0.0]);
        // 133 · 127 has 15 bits; 13 and a sign are kept.
        assert_eq!(part.weighted_scale.to_bits(), (4.0_f32 / 127.0).to_bits());
        assert_eq!((part.weighted[0][0], part.weighted[0][1]), (4223, -95));
    }

    #[test]
    fn every_value_is_within_half_a_step_and_no_sum_can_overflow() {
        let constant = |x: f32| vec![x; GROUP];
        let mut cases = vec![constant(1.0), constant(-3e-29), constant(1e36), constant(0.0)];
        cases.extend((1..400).map(|seed| values(seed, (seed % 40) as i32)));
        for x in cases {
            let a = quantized(&x);
            let part = &a.parts[0];
            let mut total = 0;
            for (i, (&x, &quant)) in x.iter().zip(&part.quants).enumerate() {
                let (half, block) = (i / 16 % 2, i / BLOCK);
                let multiple = part.multiples[half][block];
                assert!((1..=127).contains(&multiple) && quant != i8::MIN);
                let step = f64::from(part.scale) * f64::from(multiple);
                let error = (f64::from(x) - step * f64::from(quant)).abs();
                assert!(error <= step * 0.501, "{x} became {quant} times {step}");
                total += i64::from(multiple) * i64::from(quant.unsigned_abs());
            }
            assert!(total * 128 * 32 <= i64::from(i32::MAX), "{total}");
            for half in 0..2 {
                for block in 0..BLOCKS {
                    let exact = f64::from(part.sums[half][block])
                        * f64::from(part.multiples[half][block])
                        * f64::from(part.scale);
                    let unit = f64::from(part.weighted_scale);
                    let weighted = unit * f64::from(part.weighted[half][block]);
                    assert!((exact - weighted).abs() <= 0.501 * unit);
                    assert!(part.weighted[half][block].abs() <= 1 << 13);
                }
            }
        }
    }

    /// What integer multiples cost: the largest value of a block is no longer met exactly, and the cap on the sums.
    #[test]
    fn the_error_is_hardly_more_than_that_of_a_float_for_each_block() {
        let (mut ours, mut floats) = (0.0, 0.0);
        for seed in 1..400 {
            // Sums of four are nearly normal; every second group has outliers.
            let parts: Vec<_> = (0..4).map(|i| values(4 * seed + i, 0)).collect();
            let mut x: Vec<f32> =
                (0..GROUP).map(|i| parts.iter().map(|part| part[i]).sum()).collect();
            if seed % 2 == 0 {
                x[7] *= 20.0;
            }
            let part = &quantized(&x).parts[0];
            for (block, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                let scale = x.iter().fold(0_f32, |max, x| max.max(x.abs())) / 127.0;
                for (x, quant) in x.iter().zip(&part.quants[BLOCK * block..]) {
                    ours += f64::from(x - part.scales[block] * f32::from(*quant)).powi(2);
                    floats += f64::from(x - scale * (x / scale).round()).powi(2);
                }
            }
        }
        let more = (ours / floats).sqrt();
        assert!((1.0..1.025).contains(&more), "{more}");
    }

    #[test]
    fn what_is_not_finite_shows_in_every_product_with_its_group() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 2 * GROUP];
            x[3] = wrong;
            let a = quantized(&x);
            assert!(a.parts[0].scale.is_nan() && a.parts[0].scales.iter().all(|s| s.is_nan()));
            assert!(a.parts[1].scale.is_finite());
        }
    }
}
