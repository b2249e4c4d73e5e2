//! The meaning of ggml's quantized types: each block layout is decoded to integers, scales and mins.
//!
//! Input: the bytes of up to 256 columns of a row. Output: a [`Group`], or f32 values. Kernels either use
//! these functions or are tested against them. Layouts: `ggml-common.h` of ggml; all numbers are
//! little-endian.

#![expect(clippy::inline_always, reason = "`unpack` inherits its caller's instruction set")]

pub mod grids;
mod iq;
mod k;
mod plain;

use half::{bf16, f16};
use tealight_bundle::gguf::DType;

#[cfg(target_arch = "x86_64")]
pub use iq::{iq1_m_factors, iq1_s_scales, iq2_xxs_scales, iq3_s_scales, iq3_xxs_scales};
#[cfg(target_arch = "x86_64")]
pub use k::k3_scales;
pub use k::{iq4_xs_factors, k4_factors, q2_k_factors, q3_k_factors, q6_k_factors};
pub use plain::{EIGHTH, half_power_of_two};

/// Columns in a group: one super-block of the K and I types, or eight blocks of the older types.
pub const GROUP: usize = 256;
/// Columns of a block.
pub const BLOCK: usize = 32;
/// Blocks of a group.
pub const BLOCKS: usize = GROUP / BLOCK;
/// The smallest number of columns that share a scale: half a block.
pub const SUB: usize = 16;

/// A whole number for each 16 columns of a group, (half of the block, block).
pub type Halves = [[i16; BLOCKS]; 2];

/// Columns of one row. What they are worth depends on the type's [`Form`].
#[derive(Clone)]
#[repr(align(64))]
pub struct Group {
    /// Unsigned integers, [`offset`] above their value: at most 127 unless [`is_wide`].
    pub levels: [u8; GROUP],
    /// What scales them.
    pub factors: Factors,
}

/// What scales the levels of a group.
#[derive(Clone)]
pub struct Factors {
    /// [`Form::Super`]: the scales, as multiples of `d`.
    pub scales: Halves,
    /// [`Form::Super`]: what is subtracted, as multiples of `dmin`.
    pub mins: Halves,
    /// [`Form::Super`]: the unit of the scales.
    pub d: f32,
    /// [`Form::Super`]: the unit of the mins.
    pub dmin: f32,
    /// [`Form::Blocks`]: scale and min of each block.
    pub blocks: [(f32, f32); BLOCKS],
}

/// How a type scales its levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A float for each block of 32: value = scale · (level − offset) + min.
    Blocks,
    /// Two floats for 256 columns, and whole numbers for each 16 or 32 of them:
    /// value = d · scale · (level − offset) − dmin · min.
    Super,
}

impl Group {
    /// All zero.
    pub const ZERO: Self = Self { levels: [0; GROUP], factors: Factors::ZERO };
}

impl Factors {
    /// All zero.
    pub const ZERO: Self = Self {
        scales: [[0; BLOCKS]; 2],
        mins: [[0; BLOCKS]; 2],
        d: 0.0,
        dmin: 0.0,
        blocks: [(0.0, 0.0); BLOCKS],
    };

    /// Sets the scale and min of the 32 columns of `block`.
    #[inline(always)]
    pub fn both_halves(&mut self, block: usize, scale: i16, min: i16) {
        for half in 0..2 {
            self.scales[half][block] = scale;
            self.mins[half][block] = min;
        }
    }

    /// Sets the units of a super-block.
    #[inline(always)]
    pub fn units(&mut self, d: f32, dmin: f32) {
        (self.d, self.dmin) = (d, dmin);
    }
}

/// How a storage type is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantKind {
    /// Floating point: multiplied with the f32 activations.
    Float,
    /// Quantized levels: multiplied with eight-bit activations.
    Levels,
}

/// How `dtype` is multiplied; `None` if it has no kernel.
#[must_use]
pub fn kind(dtype: DType) -> Option<QuantKind> {
    use DType as T;
    match dtype {
        // Of the last, two floats scale each 32 columns; its rows become floats before they are multiplied.
        T::F32 | T::F16 | T::BF16 | T::NVFP4 => Some(QuantKind::Float),
        T::Q4_0
        | T::Q4_1
        | T::Q5_0
        | T::Q5_1
        | T::Q8_0
        | T::Q2_K
        | T::Q3_K
        | T::Q4_K
        | T::Q5_K
        | T::Q6_K
        | T::IQ4_NL
        | T::IQ4_XS
        | T::MXFP4
        | T::IQ2_XXS
        | T::IQ2_XS
        | T::IQ2_S
        | T::IQ3_XXS
        | T::IQ3_S
        | T::IQ1_S
        | T::IQ1_M
        | T::TQ1_0
        | T::TQ2_0
        | T::Q1_0
        | T::Q2_0 => Some(QuantKind::Levels),
        _ => None,
    }
}

/// Whether levels of the type exceed 127, too large for AVX2's byte product.
#[must_use]
pub const fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS)
}

/// Columns that share a scale, 16 or 32.
#[must_use]
pub const fn sub_of(dtype: DType) -> usize {
    use DType as T;
    match dtype {
        T::Q2_K | T::Q3_K | T::Q6_K | T::IQ2_XS | T::IQ2_S | T::IQ1_M => 16,
        _ => 32,
    }
}

/// How the levels of a type are scaled.
#[must_use]
pub const fn form(dtype: DType) -> Form {
    if dtype.block_elements() == GROUP { Form::Super } else { Form::Blocks }
}

/// Parts of 32 columns in a block that has one scale for all of them.
#[must_use]
pub const fn parts(dtype: DType) -> usize {
    if matches!(form(dtype), Form::Super) { 1 } else { dtype.block_elements() / BLOCK }
}

/// What is subtracted from a type's levels.
#[must_use]
pub const fn offset(dtype: DType) -> i32 {
    use DType as T;
    match dtype {
        T::Q3_K => 4,
        T::Q4_0 | T::Q1_0 => 8,
        T::MXFP4 => 12,
        T::Q5_0 | T::IQ1_S | T::IQ1_M => 16,
        T::Q6_K => 32,
        T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS | T::IQ3_S => 64,
        T::Q8_0 | T::IQ4_NL | T::IQ4_XS => 128,
        T::TQ1_0 | T::TQ2_0 | T::Q2_0 => 1,
        _ => 0,
    }
}

/// Whether a type has mins.
#[must_use]
pub const fn has_mins(dtype: DType) -> bool {
    matches!(dtype, DType::Q4_1 | DType::Q5_1 | DType::Q2_K | DType::Q4_K | DType::Q5_K)
}

/// Bytes of a full group.
#[must_use]
pub const fn group_bytes(dtype: DType) -> usize {
    GROUP / dtype.block_elements() * dtype.block_bytes()
}

/// Unpacks whole blocks of at most [`GROUP`] columns; later columns of `group` are left unchanged.
///
/// Always inlined, so that it is compiled for the instruction set of the kernel that calls it.
#[inline(always)]
pub fn unpack(dtype: DType, bytes: &[u8], group: &mut Group) {
    match dtype {
        DType::Q4_0 => plain::q4_0(bytes, group),
        DType::Q4_1 => plain::q4_1(bytes, group),
        DType::Q5_0 => plain::q5_0(bytes, group),
        DType::Q5_1 => plain::q5_1(bytes, group),
        DType::Q8_0 => plain::q8_0(bytes, group),
        DType::IQ4_NL => plain::iq4_nl(bytes, group),
        DType::MXFP4 => plain::mxfp4(bytes, group),
        DType::Q1_0 => plain::q1_0(bytes, group),
        DType::Q2_0 => plain::q2_0(bytes, group),
        DType::Q2_K => k::q2_k(bytes, group),
        DType::Q3_K => k::q3_k(bytes, group),
        DType::Q4_K => k::q4_k(bytes, group),
        DType::Q5_K => k::q5_k(bytes, group),
        DType::Q6_K => k::q6_k(bytes, group),
        DType::IQ4_XS => k::iq4_xs(bytes, group),
        DType::IQ2_XXS => iq::iq2_xxs(bytes, group),
        DType::IQ2_XS => iq::iq2_xs(bytes, group),
        DType::IQ2_S => iq::iq2_s(bytes, group),
        DType::IQ3_XXS => iq::iq3_xxs(bytes, group),
        DType::IQ3_S => iq::iq3_s(bytes, group),
        DType::IQ1_S => iq::iq1_s(bytes, group),
        DType::IQ1_M => iq::iq1_m(bytes, group),
        DType::TQ1_0 => iq::tq1_0(bytes, group),
        DType::TQ2_0 => iq::tq2_0(bytes, group),
        _ => unreachable!("no kernel for {dtype}: refused when the model was loaded"),
    }
}

/// Decodes whole blocks to f32.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F32 => floats(bytes, out, |b: [u8; 4]| f32::from_le_bytes(b)),
        DType::F16 => floats(bytes, out, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
        DType::BF16 => floats(bytes, out, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32()),
        DType::NVFP4 => plain::nvfp4(bytes, out),
        _ => {
            let mut group = Group::ZERO;
            for (bytes, out) in bytes.chunks(group_bytes(dtype)).zip(out.chunks_mut(GROUP)) {
                unpack(dtype, bytes, &mut group);
                for (i, (out, &level)) in out.iter_mut().zip(&group.levels).enumerate() {
                    let level = (i32::from(level) - offset(dtype)) as f32;
                    let (half, block) = (i / SUB % 2, i / BLOCK);
                    *out = if form(dtype) == Form::Super {
                        let min = group.factors.dmin * f32::from(group.factors.mins[half][block]);
                        group.factors.d * f32::from(group.factors.scales[half][block]) * level - min
                    } else {
                        group.factors.blocks[block].0 * level + group.factors.blocks[block].1
                    };
                }
            }
        }
    }
}

fn floats<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = value(*bytes);
    }
}

/// Reads an f16 at `at` as f32, without a branch or a call.
#[inline(always)]
pub fn half_at(block: &[u8], at: usize) -> f32 {
    // Shift the exponent to its place in f32 and correct the bias with a multiplication, which also
    // handles subnormals. Infinities and NaN keep the largest exponent.
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(u16::from_le_bytes([block[at], block[at + 1]]));
    let magnitude = (f32::from_bits((bits & 0x7fff) << 13) * REBIAS).to_bits();
    let special = if bits & 0x7c00 == 0x7c00 { 0xff << 23 } else { 0 };
    f32::from_bits(magnitude | special | (bits & 0x8000) << 16)
}

/// Reads a u32 at `at`.
#[inline(always)]
fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The one super-block of a group.
#[inline(always)]
fn whole<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    const { assert!(GROUP == 256) };
    bytes.first_chunk().expect("rows are whole super-blocks")
}

/// The sixteen values of the non-linear four-bit types (`IQ4_NL`, `IQ4_XS`), offset by 128.
pub const IQ4_LEVELS: [u8; 16] =
    [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// The sixteen values of a four-bit float (E2M1), doubled and offset by 12.
pub const E2M1_LEVELS: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_reads_like_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (ours, exact) = (half_at(&bits.to_le_bytes(), 0), f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == exact.to_bits() || ours.is_nan() && exact.is_nan(),
                "{bits:x}"
            );
        }
    }
}
