//! Types with a scale for each block of 32, 64 or 128 columns: one to eight bits, with and without a min.

#![expect(clippy::inline_always, reason = "parts of `unpack`")]

use super::{BLOCK, E2M1_LEVELS, Group, IQ4_LEVELS, half_at, u32_at};

/// d, 16 bytes of nibbles; levels are offset by 8.
#[inline(always)]
pub fn q4_0(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<18>().0.iter().enumerate() {
        nibbles(&block[2..], levels(group, i), |q| q);
        group.factors.blocks[i] = (half_at(block, 0), 0.0);
    }
}

/// d, min, 16 bytes of nibbles.
#[inline(always)]
pub fn q4_1(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<20>().0.iter().enumerate() {
        nibbles(&block[4..], levels(group, i), |q| q);
        group.factors.blocks[i] = (half_at(block, 0), half_at(block, 2));
    }
}

/// d, 32 fifth bits, 16 bytes of nibbles; levels are offset by 16.
#[inline(always)]
pub fn q5_0(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<22>().0.iter().enumerate() {
        let out = levels(group, i);
        nibbles(&block[6..], out, |q| q);
        fifth_bits(u32_at(block, 2), out);
        group.factors.blocks[i] = (half_at(block, 0), 0.0);
    }
}

/// d, min, 32 fifth bits, 16 bytes of nibbles.
#[inline(always)]
pub fn q5_1(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<24>().0.iter().enumerate() {
        let out = levels(group, i);
        nibbles(&block[8..], out, |q| q);
        fifth_bits(u32_at(block, 4), out);
        group.factors.blocks[i] = (half_at(block, 0), half_at(block, 2));
    }
}

/// d, 32 signed bytes; levels are offset by 128 to make them unsigned.
#[inline(always)]
pub fn q8_0(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<34>().0.iter().enumerate() {
        for (out, &q) in levels(group, i).iter_mut().zip(&block[2..]) {
            *out = q ^ 0x80;
        }
        group.factors.blocks[i] = (half_at(block, 0), 0.0);
    }
}

/// d, 16 bytes of 4-bit indices into a table of sixteen levels.
#[inline(always)]
pub fn iq4_nl(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<18>().0.iter().enumerate() {
        nibbles(&block[2..], levels(group, i), |q| IQ4_LEVELS[usize::from(q)]);
        group.factors.blocks[i] = (half_at(block, 0), 0.0);
    }
}

/// d, 128 bits: −d or d. Levels are 0 or 16, offset by 8, and count an eighth.
#[inline(always)]
pub fn q1_0(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<18>().0.iter().enumerate() {
        for part in 0..4 {
            let out = levels(group, 4 * i + part);
            out.fill(0);
            fifth_bits(u32_at(block, 2 + 4 * part), out);
            group.factors.blocks[4 * i + part] = (half_at(block, 0) * EIGHTH, 0.0);
        }
    }
}

/// What a level of `Q1_0` counts.
pub const EIGHTH: f32 = 0.125;

/// d, 64 pairs of bits: −d to 2 d; levels are offset by 1.
#[inline(always)]
pub fn q2_0(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<18>().0.iter().enumerate() {
        for part in 0..2 {
            let out = levels(group, 2 * i + part);
            for (four, byte) in out.as_chunks_mut::<4>().0.iter_mut().zip(&block[2 + 8 * part..]) {
                *four = std::array::from_fn(|at| byte >> (2 * at) & 3);
            }
            group.factors.blocks[2 * i + part] = (half_at(block, 0), 0.0);
        }
    }
}

/// An exponent byte, 16 bytes of four-bit floats (the OCP Microscaling format MXFP4).
#[inline(always)]
pub fn mxfp4(bytes: &[u8], group: &mut Group) {
    for (i, block) in bytes.as_chunks::<17>().0.iter().enumerate() {
        nibbles(&block[1..], levels(group, i), |q| E2M1_LEVELS[usize::from(q)]);
        group.factors.blocks[i] = (half_power_of_two(block[0]), 0.0);
    }
}

/// Four scales (UE4M3: four bits of exponent, three of mantissa), then four times 8 bytes of four-bit floats: NVIDIA's
/// NVFP4, as ggml stores it. Each scale is of 16 columns.
pub fn nvfp4(bytes: &[u8], out: &mut [f32]) {
    const SUB: usize = 16;
    for (block, out) in bytes.as_chunks::<36>().0.iter().zip(out.chunks_mut(4 * SUB)) {
        let (scales, packed) = block.split_at(4);
        for ((scale, packed), out) in
            scales.iter().zip(packed.chunks(SUB / 2)).zip(out.chunks_mut(SUB))
        {
            // The levels are doubled and offset by 12.
            let half = ue4m3(*scale) * 0.5;
            let values: [f32; 16] =
                std::array::from_fn(|i| half * (f32::from(E2M1_LEVELS[i]) - 12.0));
            for (i, byte) in packed.iter().enumerate() {
                out[i] = values[usize::from(byte & 15)];
                out[i + SUB / 2] = values[usize::from(byte >> 4)];
            }
        }
    }
}

/// An unsigned float with four bits of exponent (bias 7) and three of mantissa; its NaN counts as 0, as in ggml.
fn ue4m3(bits: u8) -> f32 {
    const SMALLEST: f32 = 1.0 / 512.0;
    let (exponent, mantissa) = (u32::from(bits >> 3 & 15), u32::from(bits & 7));
    match (exponent, mantissa) {
        _ if bits == 0x7f => 0.0,
        (0, _) => mantissa as f32 * SMALLEST,
        _ => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    }
}

/// 2^(exponent − 128): half the actual scale, because the levels are doubled.
#[inline(always)]
pub fn half_power_of_two(exponent: u8) -> f32 {
    // The two smallest results are subnormal in f32.
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (u32::from(exponent) - 1) << 23 };
    f32::from_bits(bits)
}

#[inline(always)]
fn levels(group: &mut Group, block: usize) -> &mut [u8; BLOCK] {
    let at = BLOCK * block;
    group.levels[at..].first_chunk_mut().expect("at most eight blocks")
}

/// Unpacks the low nibbles of 16 bytes, then the high nibbles.
#[inline(always)]
pub fn nibbles(packed: &[u8], out: &mut [u8; BLOCK], level: impl Fn(u8) -> u8) {
    let packed: &[u8; 16] = packed.first_chunk().expect("16 bytes of nibbles");
    for i in 0..16 {
        out[i] = level(packed[i] & 15);
        out[16 + i] = level(packed[i] >> 4);
    }
}

#[inline(always)]
fn fifth_bits(bits: u32, out: &mut [u8; BLOCK]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out |= ((bits >> i & 1) as u8) << 4;
    }
}
