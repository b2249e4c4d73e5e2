//! Activations quantized to eight bits, for multiplication with quantized weights.
//!
//! Input: rows of f32. Output: [`Activations`], blocks of 32 signed bytes with an f32 scale, and the sums
//! that are multiplied with the weights' mins. For prefill, [`Tiles`] of them, in the order in which panels
//! read them. Rows are zero-padded to whole groups, so kernels need no remainder loops.

use super::blocks::GROUP;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Columns that share a scale.
pub const BLOCK: usize = 32;
/// Columns summed in one entry of [`Activations::sums16`].
const SUM: usize = 16;

/// Rows of eight-bit activations, structure of arrays. Value = scale · quant.
pub struct Activations {
    /// Number of rows.
    pub rows: usize,
    /// Columns of a row.
    pub columns: usize,
    /// Columns of a row including padding, a multiple of [`GROUP`].
    pub stride: usize,
    /// Quantized values, (rows, stride).
    pub quants: Vec<i8>,
    /// One scale per 32 columns, (rows, stride / 32).
    pub scales: Vec<f32>,
    /// Sum of the quantized values of 32 columns each, (rows, stride / 32).
    pub sums32: Vec<f32>,
    /// Sum of the quantized values of 16 columns each, (rows, stride / 16).
    pub sums16: Vec<f32>,
    /// The [`Row::id`] of the first row.
    id: u64,
}

/// One row of [`Activations`]; the other fields are slices of those there.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Unique non-zero id of the row's contents; kernels cache derived data under it.
    pub id: u64,
    pub quants: &'a [i8],
    pub scales: &'a [f32],
    pub sums32: &'a [f32],
    pub sums16: &'a [f32],
}

/// One mutable row of [`Activations`].
pub struct RowMut<'a> {
    pub quants: &'a mut [i8],
    pub scales: &'a mut [f32],
    pub sums32: &'a mut [f32],
    pub sums16: &'a mut [f32],
}

impl Activations {
    /// `rows` rows of `columns` elements (whole blocks), all zero.
    #[must_use]
    pub fn zeros(rows: usize, columns: usize) -> Self {
        let stride = columns.next_multiple_of(GROUP);
        let n = rows * stride;
        Self {
            rows,
            columns,
            stride,
            quants: vec![0; n],
            scales: vec![0.0; n / BLOCK],
            sums32: vec![0.0; n / BLOCK],
            sums16: vec![0.0; n / SUM],
            id: Self::new_ids(rows),
        }
    }

    /// Reserves `rows` ids and returns the first.
    fn new_ids(rows: usize) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(rows as u64, Ordering::Relaxed)
    }

    /// One row.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> Row<'_> {
        let at = |size: usize| index * self.stride / size..(index + 1) * self.stride / size;
        Row {
            id: self.id + index as u64,
            quants: &self.quants[at(1)],
            scales: &self.scales[at(BLOCK)],
            sums32: &self.sums32[at(BLOCK)],
            sums16: &self.sums16[at(SUM)],
        }
    }

    /// Iterates over the rows mutably, after giving them new ids.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = RowMut<'_>> {
        self.id = Self::new_ids(self.rows);
        let stride = self.stride.max(GROUP);
        self.quants
            .chunks_exact_mut(stride)
            .zip(self.scales.chunks_exact_mut(stride / BLOCK))
            .zip(self.sums32.chunks_exact_mut(stride / BLOCK))
            .zip(self.sums16.chunks_exact_mut(stride / SUM))
            .map(|(((quants, scales), sums32), sums16)| RowMut { quants, scales, sums32, sums16 })
    }
}

/// The rows of [`Activations`] in tiles of the rows that are multiplied with a panel at a time. Within a tile, rows
/// are interleaved: each run of columns (each scale, each sum) of one row is followed by that of the next row.
pub struct Tiles {
    stride: usize,
    /// Contiguous columns of a row, 4 or [`BLOCK`].
    together: usize,
    quants: Vec<i8>,
    scales: Vec<f32>,
    sums32: Vec<f32>,
    sums16: Vec<f32>,
}

/// Some columns of a tile of `T` rows.
#[derive(Clone, Copy)]
pub struct Tile<'a, const T: usize> {
    quants: &'a [i8],
    /// (columns / 32, T)
    pub scales: &'a [[f32; T]],
    /// (columns / 32, T)
    pub sums32: &'a [[f32; T]],
    /// (columns / 16, T)
    pub sums16: &'a [[f32; T]],
}

impl<const T: usize> Tile<'_, T> {
    /// The quantized values, (columns / N, T, N); `N` is the `together` of the [`Tiles`].
    #[inline]
    pub fn woven<const N: usize>(&self) -> &[[[i8; N]; T]] {
        self.quants.as_chunks().0.as_chunks().0
    }
}

impl Tiles {
    /// Empty tiles for activations of this shape, with `together` contiguous columns of a row: 4 or [`BLOCK`].
    pub fn of(x: &Activations, together: usize) -> Self {
        Self {
            stride: x.stride,
            together,
            quants: vec![0; x.quants.len()],
            scales: vec![0.0; x.scales.len()],
            sums32: vec![0.0; x.sums32.len()],
            sums16: vec![0.0; x.sums16.len()],
        }
    }

    /// One part per tile of `rows[i]..rows[i + 1]`, to be filled by [`TilePart::fill`].
    pub fn parts_mut(&mut self, rows: &[usize]) -> Vec<TilePart<'_>> {
        let (mut quants, mut scales) = (&mut self.quants[..], &mut self.scales[..]);
        let (mut sums32, mut sums16) = (&mut self.sums32[..], &mut self.sums16[..]);
        let part = |bounds: &[usize]| {
            let rows = bounds[1] - bounds[0];
            let n = rows * self.stride;
            TilePart {
                first: bounds[0],
                rows,
                together: self.together,
                quants: quants.split_off_mut(..n).unwrap_or_default(),
                scales: scales.split_off_mut(..n / BLOCK).unwrap_or_default(),
                sums32: sums32.split_off_mut(..n / BLOCK).unwrap_or_default(),
                sums16: sums16.split_off_mut(..n / SUM).unwrap_or_default(),
            }
        };
        rows.windows(2).map(part).collect()
    }

    /// `columns` (whole groups, or up to the end) of the tile of `T` rows that starts at row `first`.
    #[inline]
    pub fn tile<const T: usize>(&self, first: usize, columns: Range<usize>) -> Tile<'_, T> {
        let at = |size: usize| {
            let start = first * self.stride / size;
            start + columns.start / size * T..start + columns.end.div_ceil(size) * T
        };
        Tile {
            quants: &self.quants[at(1)],
            scales: self.scales[at(BLOCK)].as_chunks().0,
            sums32: self.sums32[at(BLOCK)].as_chunks().0,
            sums16: self.sums16[at(SUM)].as_chunks().0,
        }
    }
}

/// One tile, to be filled.
pub struct TilePart<'a> {
    first: usize,
    rows: usize,
    together: usize,
    quants: &'a mut [i8],
    scales: &'a mut [f32],
    sums32: &'a mut [f32],
    sums16: &'a mut [f32],
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
        fn weave<V: Copy, const T: usize>(out: &mut [[V; T]], rows: [&[V]; T]) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = std::array::from_fn(|t| rows[t][i]);
            }
        }
        let rows: [Row<'_>; T] = std::array::from_fn(|t| x.row(self.first + t));
        if self.together == BLOCK {
            let quants = self.quants.as_chunks_mut::<BLOCK>().0.as_chunks_mut().0;
            weave(quants, rows.map(|row| row.quants.as_chunks().0));
        } else {
            let quants = self.quants.as_chunks_mut::<4>().0.as_chunks_mut().0;
            weave(quants, rows.map(|row| row.quants.as_chunks().0));
        }
        weave(self.scales.as_chunks_mut().0, rows.map(|row| row.scales));
        weave(self.sums32.as_chunks_mut().0, rows.map(|row| row.sums32));
        weave(self.sums16.as_chunks_mut().0, rows.map(|row| row.sums16));
    }
}

/// Quantizes one row: the scale is the largest magnitude / 127, values are rounded to nearest even.
pub fn quantize(x: &[f32], row: &mut RowMut<'_>) {
    // Adding 1.5 × 2²³ rounds as the processor does and leaves the integer in the low bits of the sum.
    const MAGIC: f32 = 12_582_912.0;
    for (block, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
        // Magnitudes order like their bits, and an integer maximum has no special case for NaN.
        let max = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
        let max = f32::from_bits(max);
        let scale = max / 127.0;
        let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
        let quants: &mut [i8; BLOCK] =
            row.quants[BLOCK * block..].first_chunk_mut().expect("as long as x");
        let mut sums = [0_i32; BLOCK / SUM];
        for (quant, x) in quants.iter_mut().zip(x) {
            *quant = (x * inverse + MAGIC).to_bits() as i8;
        }
        for (sum, quants) in sums.iter_mut().zip(quants.as_chunks::<SUM>().0) {
            *sum = quants.iter().map(|&q| i32::from(q)).sum();
        }
        row.scales[block] = scale;
        row.sums32[block] = (sums[0] + sums[1]) as f32;
        row.sums16[2 * block] = sums[0] as f32;
        row.sums16[2 * block + 1] = sums[1] as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_to_even_and_keep_their_sums() {
        let mut x = [0_f32; 64];
        (x[0], x[1], x[2], x[16]) = (127.0, 2.5, 3.5, -0.5);
        x[33] = -3.0;
        let mut a = Activations::zeros(1, 64);
        a.rows_mut().for_each(|mut row| quantize(&x, &mut row));
        let row = a.row(0);
        assert_eq!(row.quants.len(), GROUP);
        assert_eq!(&row.quants[..4], &[127, 2, 4, 0]);
        assert_eq!((row.quants[33], row.quants[40]), (-127, 0));
        assert_eq!(&row.scales[..3], &[1.0, 3.0 / 127.0, 0.0]);
        assert_eq!(&row.sums16[..3], &[133.0, 0.0, -127.0]);
        assert_eq!(&row.sums32[..2], &[133.0, -127.0]);
    }
}
