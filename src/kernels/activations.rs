//! Activations in the form in which a weight type wants them.
//!
//! Enters: rows of f32. Leaves: [`Activations`], the same rows as 8-bit blocks or as they were.
//! The blocks are those of ggml (`Q8_0`, `Q8_1`, `Q8_K`), scales rounded as there, so that integer sums
//! agree with the reference bit for bit.

use half::f16;
use tealight_bundle::gguf::DType;

/// Elements of a small block (`Q8_0`, `Q8_1`).
pub const SMALL: usize = 32;
/// Elements of a super-block (`Q8_K`).
pub const SUPER: usize = 256;
/// Elements summed in one entry of [`Activations::sums`] of a super-block.
pub const GROUP: usize = 16;

/// What a weight type is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    F32,
    /// Blocks of 32 with an f16-rounded scale; `offsets` hold scale × sum, as in `Q8_1`.
    Small,
    /// Blocks of 256 with an f32 scale; `sums` hold the sums of each 16, as in `Q8_K`.
    Super,
}

impl Form {
    /// The form for a weight type, `None` when the type has no kernel.
    #[must_use]
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Some(Self::F32),
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => {
                Some(Self::Small)
            }
            DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => {
                Some(Self::Super)
            }
            _ => None,
        }
    }
}

/// Rows of activations, structure of arrays.
pub struct Activations {
    /// Number of rows.
    pub rows: usize,
    /// The rows unquantized, (rows, elements); empty in the 8-bit forms.
    pub floats: Vec<f32>,
    /// Quantized values, (rows, elements).
    pub quants: Vec<i8>,
    /// One scale a block, (rows, elements / block).
    pub scales: Vec<f32>,
    /// `Small`: scale × sum of a block, rounded to f16; (rows, elements / 32).
    pub offsets: Vec<f32>,
    /// `Super`: integer sums of each 16; (rows, elements / 16).
    pub sums: Vec<i16>,
}

impl Activations {
    /// Converts `x`, rows of `columns` elements (a whole number of blocks), to `form`.
    #[must_use]
    pub fn new(form: Form, x: &[f32], columns: usize) -> Self {
        let rows = x.len() / columns.max(1);
        let mut a = Self {
            rows,
            floats: Vec::new(),
            quants: Vec::new(),
            scales: Vec::new(),
            offsets: Vec::new(),
            sums: Vec::new(),
        };
        match form {
            Form::F32 => a.floats = x.to_vec(),
            Form::Small => {
                a.reserve(x.len(), SMALL);
                a.offsets.reserve(x.len() / SMALL);
                x.chunks_exact(SMALL).for_each(|block| a.push_small(block));
            }
            Form::Super => {
                a.reserve(x.len(), SUPER);
                a.sums.reserve(x.len() / GROUP);
                x.chunks_exact(SUPER).for_each(|block| a.push_super(block));
            }
        }
        a
    }

    fn reserve(&mut self, elements: usize, block: usize) {
        self.quants.reserve(elements);
        self.scales.reserve(elements / block);
    }

    /// `quantize_row_q8_1`: the scale is largest magnitude / 127, values are rounded to nearest even.
    fn push_small(&mut self, block: &[f32]) {
        let max = block.iter().fold(0_f32, |m, x| m.max(x.abs()));
        let scale = max / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 127.0 / max };
        let mut sum = 0_i32;
        self.quants.extend(block.iter().map(|x| {
            let q = round_even(x * inverse);
            sum += i32::from(q);
            q
        }));
        self.scales.push(f16::from_f32(scale).to_f32());
        #[expect(clippy::cast_precision_loss, reason = "at most 32 × 127")]
        self.offsets.push(f16::from_f32(scale * sum as f32).to_f32());
    }

    /// `quantize_row_q8_K`: the value of largest magnitude becomes -127 exactly.
    fn push_super(&mut self, block: &[f32]) {
        let mut extreme = 0_f32;
        for &x in block {
            if x.abs() > extreme.abs() {
                extreme = x;
            }
        }
        if extreme == 0.0 {
            self.quants.resize(self.quants.len() + SUPER, 0);
            self.sums.resize(self.sums.len() + SUPER / GROUP, 0);
            self.scales.push(0.0);
            return;
        }
        let inverse = -127.0 / extreme;
        for group in block.chunks_exact(GROUP) {
            let mut sum = 0_i16;
            self.quants.extend(group.iter().map(|x| {
                let q = round_even(x * inverse);
                sum += i16::from(q);
                q
            }));
            self.sums.push(sum);
        }
        self.scales.push(1.0 / inverse);
    }

    /// One row.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> Row<'_> {
        fn part<T>(all: &[T], rows: usize, index: usize) -> &[T] {
            let n = all.len() / rows;
            &all[index * n..(index + 1) * n]
        }
        Row {
            floats: part(&self.floats, self.rows, index),
            quants: part(&self.quants, self.rows, index),
            scales: part(&self.scales, self.rows, index),
            offsets: part(&self.offsets, self.rows, index),
            sums: part(&self.sums, self.rows, index),
        }
    }
}

/// One row of [`Activations`]; the fields are those of the whole.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub floats: &'a [f32],
    pub quants: &'a [i8],
    pub scales: &'a [f32],
    pub offsets: &'a [f32],
    pub sums: &'a [i16],
}

/// Nearest integer, ties to even, for |x| ≤ 127 (NaN gives 0).
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the caller scales to 127, and `as` saturates")]
fn round_even(x: f32) -> i8 {
    // Adding 1.5 × 2²³ leaves the integer in the low bits of the sum, rounded as the processor does;
    // `round_ties_even` is a library call on the baseline instruction set.
    const MAGIC: f32 = 12_582_912.0;
    ((x + MAGIC) - MAGIC) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_blocks_round_to_even_and_keep_the_scaled_sum() {
        let mut x = [0_f32; 32];
        x[0] = 127.0;
        x[1] = 2.5;
        x[2] = 3.5;
        x[3] = -0.5;
        let a = Activations::new(Form::Small, &x, 32);
        assert_eq!(&a.quants[..4], &[127, 2, 4, 0]);
        assert!((a.scales[0] - 1.0).abs() < f32::EPSILON);
        assert!((a.offsets[0] - 133.0).abs() < f32::EPSILON);
    }

    #[test]
    fn super_blocks_map_the_extreme_to_minus_127() {
        let mut x = [0_f32; 256];
        x[17] = 2.0;
        x[18] = -1.0;
        let a = Activations::new(Form::Super, &x, 256);
        assert_eq!(a.quants[17], -127);
        assert_eq!(a.quants[18], 64);
        assert_eq!(a.sums[1], -63);
        let zero = Activations::new(Form::Super, &[0.0; 256], 256);
        assert!(zero.quants.iter().all(|&q| q == 0) && zero.scales == [0.0]);
    }
}
