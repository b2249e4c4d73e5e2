//! Types with super-blocks of 256 columns: a small integer scale per 16 or 32 columns, one or two f16 for the whole.

#![expect(clippy::inline_always, reason = "parts of `unpack`")]
#![expect(clippy::needless_range_loop, reason = "one index counts scales and bytes of a block")]

use super::plain::nibbles;
use super::{Factors, Group, IQ4_LEVELS, half_at, u32_at, whole};

/// 16 bytes of a 4-bit scale and a 4-bit min, 64 bytes of 2-bit levels, d, dmin.
#[inline(always)]
pub fn q2_k(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 84] = whole(bytes);
    pairs_of_bits(&block[16..80], group);
    q2_k_factors(block, &mut group.factors);
}

/// 32 bytes of third bits, 64 of the low two bits, 12 of scales, d; levels are offset by 4.
#[inline(always)]
pub fn q3_k(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 110] = whole(bytes);
    pairs_of_bits(&block[32..96], group);
    for part in 0..8 {
        for i in 0..32 {
            group.levels[32 * part + i] |= (block[i] >> part & 1) << 2;
        }
    }
    q3_k_factors(block, &mut group.factors);
}

/// d, dmin, 12 bytes of scales and mins, 128 bytes of nibbles.
#[inline(always)]
pub fn q4_k(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 144] = whole(bytes);
    wide_nibbles(&block[16..], group);
    k4_factors(block, &mut group.factors);
}

/// Like `Q4_K`, with 32 bytes of fifth bits before the nibbles.
#[inline(always)]
pub fn q5_k(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 176] = whole(bytes);
    wide_nibbles(&block[48..], group);
    for part in 0..8 {
        for i in 0..32 {
            group.levels[32 * part + i] |= (block[16 + i] >> part & 1) << 4;
        }
    }
    k4_factors(block, &mut group.factors);
}

/// 128 bytes of nibbles, 64 of the upper two bits, 16 signed 8-bit scales, d; levels are offset by 32.
#[inline(always)]
pub fn q6_k(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 210] = whole(bytes);
    for half in 0..2 {
        let (low, high) = (&block[64 * half..][..64], &block[128 + 32 * half..][..32]);
        let out = &mut group.levels[128 * half..][..128];
        for i in 0..32 {
            let high = high[i];
            out[i] = low[i] & 15 | (high & 3) << 4;
            out[32 + i] = low[32 + i] & 15 | (high >> 2 & 3) << 4;
            out[64 + i] = low[i] >> 4 | (high >> 4 & 3) << 4;
            out[96 + i] = low[32 + i] >> 4 | (high >> 6) << 4;
        }
    }
    q6_k_factors(block, &mut group.factors);
}

/// d, eight 6-bit scales (all upper two bits first), 128 bytes of 4-bit indices into a table of sixteen levels.
#[inline(always)]
pub fn iq4_xs(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 136] = whole(bytes);
    for i in 0..8 {
        let out = group.levels[32 * i..].first_chunk_mut().expect("eight blocks of 32");
        nibbles(&block[8 + 16 * i..], out, |q| IQ4_LEVELS[usize::from(q)]);
    }
    iq4_xs_factors(block, &mut group.factors);
}

/// What scales a super-block of `IQ4_XS`; only its first eight bytes are read.
#[inline(always)]
pub fn iq4_xs_factors(block: &[u8], factors: &mut Factors) {
    factors.units(half_at(block, 0), 0.0);
    let upper = u16::from_le_bytes([block[2], block[3]]);
    for i in 0..8 {
        let scale = block[4 + i / 2] >> (4 * (i % 2)) & 15 | ((upper >> (2 * i) & 3) << 4) as u8;
        factors.both_halves(i, i16::from(scale) - 32, 0);
    }
}

/// The eight 6-bit scales and eight 6-bit mins of a `Q4_K` or `Q5_K` block, packed in 12 bytes.
#[inline(always)]
fn k4_scales(packed: &[u8]) -> [u32; 4] {
    const LOW6: u32 = 0x3f3f_3f3f;
    const LOW4: u32 = 0x0f0f_0f0f;
    const HIGH2: u32 = 0x3030_3030;
    let (a, b, c) = (u32_at(packed, 0), u32_at(packed, 4), u32_at(packed, 8));
    [a & LOW6, c & LOW4 | a >> 2 & HIGH2, b & LOW6, c >> 4 & LOW4 | b >> 2 & HIGH2]
}

/// The sixteen 6-bit scales of a `Q3_K` block, packed in 12 bytes, offset by 32.
#[inline(always)]
pub fn k3_scales(packed: &[u8]) -> [u32; 4] {
    const LOW4: u32 = 0x0f0f_0f0f;
    const HIGH2: u32 = 0x3030_3030;
    let (a, b, c) = (u32_at(packed, 0), u32_at(packed, 4), u32_at(packed, 8));
    [
        a & LOW4 | c << 4 & HIGH2,
        b & LOW4 | c << 2 & HIGH2,
        a >> 4 & LOW4 | c & HIGH2,
        b >> 4 & LOW4 | c >> 2 & HIGH2,
    ]
}

/// What scales a super-block of `Q4_K` or `Q5_K`, which begin alike.
#[inline(always)]
pub fn k4_factors(block: &[u8], factors: &mut Factors) {
    factors.units(half_at(block, 0), half_at(block, 2));
    let packed = k4_scales(&block[4..16]);
    for i in 0..8 {
        let byte = |word: u32| i16::from(word.to_le_bytes()[i % 4]);
        factors.both_halves(i, byte(packed[i / 4]), byte(packed[2 + i / 4]));
    }
}

/// Each 32 bytes hold the levels of 32 columns in their low nibbles and of the next 32 in their high nibbles.
#[inline(always)]
fn wide_nibbles(packed: &[u8], group: &mut Group) {
    for part in 0..4 {
        for i in 0..32 {
            let byte = packed[32 * part + i];
            group.levels[64 * part + i] = byte & 15;
            group.levels[64 * part + 32 + i] = byte >> 4;
        }
    }
}

/// Each 32 bytes hold the 2-bit levels of four times 32 columns, lowest bits first.
#[inline(always)]
pub fn pairs_of_bits(packed: &[u8], group: &mut Group) {
    for part in 0..8 {
        for i in 0..32 {
            let byte = packed[32 * (part / 4) + i];
            group.levels[32 * part + i] = byte >> (2 * (part % 4)) & 3;
        }
    }
}

/// What scales a super-block of `Q2_K`.
#[inline(always)]
pub fn q2_k_factors(block: &[u8; 84], factors: &mut Factors) {
    factors.units(half_at(block, 80), half_at(block, 82));
    for i in 0..16 {
        factors.scales[i % 2][i / 2] = i16::from(block[i] & 15);
        factors.mins[i % 2][i / 2] = i16::from(block[i] >> 4);
    }
}

/// What scales a super-block of `Q3_K`.
#[inline(always)]
pub fn q3_k_factors(block: &[u8; 110], factors: &mut Factors) {
    factors.units(half_at(block, 108), 0.0);
    let packed = k3_scales(&block[96..108]);
    for i in 0..16 {
        factors.scales[i % 2][i / 2] = i16::from(packed[i / 4].to_le_bytes()[i % 4]) - 32;
    }
}

/// What scales a super-block of `Q6_K`.
#[inline(always)]
pub fn q6_k_factors(block: &[u8; 210], factors: &mut Factors) {
    factors.units(half_at(block, 208), 0.0);
    for i in 0..16 {
        factors.scales[i % 2][i / 2] = i16::from(block[192 + i] as i8);
    }
}
