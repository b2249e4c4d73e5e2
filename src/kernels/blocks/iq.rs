//! Codebook types (IQ1 to IQ3) and ternary types (TQ), in super-blocks of 256 columns.
//!
//! Signed magnitudes become levels offset by 64. Eight levels are computed at a time, as the bytes of a u64.

#![expect(clippy::inline_always, reason = "parts of `unpack`")]

use super::grids::{self, NEGATIVE, NEGATIVE_EVEN};
use super::{BLOCKS, Group, Halves, half_at, u32_at, whole};

/// Offset that turns a signed magnitude into a level.
const SHIFT: u8 = 64;
/// A one in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// d, then per 32 columns: four 8-bit indices, four times seven sign bits, a 4-bit scale.
#[inline(always)]
pub fn iq2_xxs(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 66] = whole(bytes);
    group.factors.units(half_at(block, 0) / 8.0, 0.0);
    for part in 0..8 {
        let at = 2 + 8 * part;
        let packed = u32_at(block, at + 4);
        for i in 0..4 {
            let grid = grids::IQ2_XXS[usize::from(block[at + i])];
            signed(group, 4 * part + i, u64::from_le_bytes(grid), even(packed >> (7 * i)));
        }
        group.factors.both_halves(part, iq2_xxs_scales(block)[part], 0);
    }
}

/// d, 32 words (nine index bits, seven sign bits), sixteen 4-bit scales.
#[inline(always)]
pub fn iq2_xs(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 74] = whole(bytes);
    for eight in 0..32 {
        let word = u16::from_le_bytes([block[2 + 2 * eight], block[3 + 2 * eight]]);
        let grid = grids::IQ2_XS[usize::from(word & 511)];
        signed(group, eight, u64::from_le_bytes(grid), even(u32::from(word >> 9)));
    }
    scales_of_four_bits(half_at(block, 0), &block[66..], group);
}

/// d, 32 low bytes of indices, 32 bytes of signs, 8 bytes with the upper two bits of indices, sixteen 4-bit scales.
#[inline(always)]
pub fn iq2_s(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 82] = whole(bytes);
    for eight in 0..32 {
        let high = usize::from(block[66 + eight / 4]) >> (2 * (eight % 4)) & 3;
        let grid = grids::IQ2_S[usize::from(block[2 + eight]) | high << 8];
        let negative = NEGATIVE[usize::from(block[34 + eight])];
        signed(group, eight, u64::from_le_bytes(grid), negative);
    }
    scales_of_four_bits(half_at(block, 0), &block[74..], group);
}

/// d, 64 8-bit indices, then per 32 columns: four times seven sign bits, a 4-bit scale.
#[inline(always)]
pub fn iq3_xxs(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 98] = whole(bytes);
    group.factors.units(half_at(block, 0) / 4.0, 0.0);
    for part in 0..8 {
        let packed = u32_at(block, 66 + 4 * part);
        for i in 0..4 {
            let at = 2 + 8 * part + 2 * i;
            let pair = [block[at], block[at + 1]].map(|i| grids::IQ3_XXS[usize::from(i)]);
            signed(group, 4 * part + i, eight(pair), even(packed >> (7 * i)));
        }
        group.factors.both_halves(part, iq3_xxs_scales(block)[part], 0);
    }
}

/// d, 64 low bytes of indices, 8 bytes with their ninth bits, 32 bytes of signs, eight 4-bit scales.
#[inline(always)]
pub fn iq3_s(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 110] = whole(bytes);
    group.factors.units(half_at(block, 0), 0.0);
    for part in 0..8 {
        let high = usize::from(block[66 + part]);
        for i in 0..4 {
            let at = 2 + 8 * part + 2 * i;
            let ninth = high >> (2 * i);
            let pair = [
                grids::IQ3_S[usize::from(block[at]) | (ninth & 1) << 8],
                grids::IQ3_S[usize::from(block[at + 1]) | (ninth & 2) << 7],
            ];
            let negative = NEGATIVE[usize::from(block[74 + 4 * part + i])];
            signed(group, 4 * part + i, eight(pair), negative);
        }
        group.factors.both_halves(part, iq3_s_scales(block)[part], 0);
    }
}

/// d, 32 low bytes of indices, 8 words: the upper three bits of four indices, a 3-bit scale, and the sign of
/// the 1/8 that is added to every value. Levels count eighths, offset by 16.
#[inline(always)]
pub fn iq1_s(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 50] = whole(bytes);
    group.factors.units(half_at(block, 0) / 8.0, 0.0);
    for part in 0..8 {
        let word = u16::from_le_bytes([block[34 + 2 * part], block[35 + 2 * part]]);
        for i in 0..4 {
            let high = usize::from(word) >> (3 * i) & 7;
            let grid = grids::IQ1[usize::from(block[2 + 4 * part + i]) | high << 8];
            let added = 9 - u64::from(word >> 14 & 2);
            put(group, 4 * part + i, 8 * u64::from_le_bytes(grid) + added * ONES);
        }
        group.factors.both_halves(part, iq1_s_scales(block)[part], 0);
    }
}

/// 32 low bytes of indices; 16 bytes of nibbles with the upper three bits of an index and the sign of its added
/// 1/8; 4 words with four 3-bit scales and four bits of d each. Levels count eighths, offset by 16.
#[inline(always)]
pub fn iq1_m(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 56] = whole(bytes);
    let (scales, d) = iq1_m_factors(block);
    group.factors.units(d, 0.0);
    group.factors.scales = scales;
    for two in 0..16 {
        let both = block[32 + two];
        for (next, high) in [both & 15, both >> 4].into_iter().enumerate() {
            let eight = 2 * two + next;
            let grid = grids::IQ1[usize::from(block[eight]) | usize::from(high & 7) << 8];
            let added = 9 - u64::from(high >> 2 & 2);
            put(group, eight, 8 * u64::from_le_bytes(grid) + added * ONES);
        }
    }
}

/// 48 bytes of five base-3 digits, 4 bytes of four, d; digits are offset by 1.
#[inline(always)]
pub fn tq1_0(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 54] = whole(bytes);
    // A byte is a fixed-point fraction with base-3 digits: 3ⁿ moves digit n to the front, and the integer part
    // of 3 × the fraction is that digit.
    let digit = |byte: u8, power: u8| ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as u8;
    let runs = [(0, 32, 5, 0), (32, 16, 5, 160), (48, 4, 4, 240)];
    for (at, len, digits, column) in runs {
        let mut power = 1;
        for n in 0..digits {
            for i in 0..len {
                group.levels[column + n * len + i] = digit(block[at + i], power);
            }
            power *= 3;
        }
    }
    ternary(half_at(block, 52), group);
}

/// 64 bytes of four 2-bit levels, d; levels are offset by 1.
#[inline(always)]
pub fn tq2_0(bytes: &[u8], group: &mut Group) {
    let block: &[u8; 66] = whole(bytes);
    super::k::pairs_of_bits(&block[..64], group);
    ternary(half_at(block, 64), group);
}

#[inline(always)]
fn ternary(d: f32, group: &mut Group) {
    group.factors.units(d, 0.0);
    group.factors.scales = [[1; BLOCKS]; 2];
}

#[inline(always)]
fn scales_of_four_bits(d: f32, packed: &[u8], group: &mut Group) {
    group.factors.units(d / 8.0, 0.0);
    for sub in 0..16 {
        group.factors.scales[sub % 2][sub / 2] = odd(packed[sub / 2] >> (4 * (sub % 2)) & 15);
    }
}

/// The scales of `IQ2_XXS` blocks: the top four bits of every second word.
#[inline(always)]
pub fn iq2_xxs_scales(block: &[u8; 66]) -> [i16; BLOCKS] {
    std::array::from_fn(|part| odd(block[9 + 8 * part] >> 4))
}

/// The scales of `IQ3_XXS` blocks: the top four bits of eight words.
#[inline(always)]
pub fn iq3_xxs_scales(block: &[u8; 98]) -> [i16; BLOCKS] {
    std::array::from_fn(|part| odd(block[69 + 4 * part] >> 4))
}

/// The scales of `IQ3_S` blocks: nibbles.
#[inline(always)]
pub fn iq3_s_scales(block: &[u8; 110]) -> [i16; BLOCKS] {
    std::array::from_fn(|part| odd(block[106 + part / 2] >> (4 * (part % 2)) & 15))
}

/// The scales of `IQ1_S` blocks: three bits of each word.
#[inline(always)]
pub fn iq1_s_scales(block: &[u8; 50]) -> [i16; BLOCKS] {
    std::array::from_fn(|part| odd(block[35 + 2 * part] >> 4 & 7))
}

/// The scales of `IQ1_M` blocks, three bits each, and d, whose bits are the top four of each word.
#[inline(always)]
pub fn iq1_m_factors(block: &[u8; 56]) -> (Halves, f32) {
    let word = |i: usize| u16::from_le_bytes([block[48 + 2 * i], block[49 + 2 * i]]);
    let d = word(0) >> 12 | word(1) >> 8 & 0x00f0 | word(2) >> 4 & 0x0f00 | word(3) & 0xf000;
    let mut scales = [[0; BLOCKS]; 2];
    for sub in 0..16 {
        let scale = word(sub / 4) >> (3 * (sub % 4)) & 7;
        scales[sub % 2][sub / 2] = odd(scale as u8);
    }
    (scales, half_at(&d.to_le_bytes(), 0) / 8.0)
}

/// The scale that a few bits stand for.
#[inline(always)]
fn odd(bits: u8) -> i16 {
    i16::from(2 * bits + 1)
}

/// Stores eight magnitudes, at most 63, as levels; those under the mask `negative` are negated.
#[inline(always)]
fn signed(group: &mut Group, eight: usize, magnitudes: u64, negative: u64) {
    // m + 64, or (63 - m) + 1: no byte carries into the next.
    put(group, eight, (magnitudes ^ negative) + (u64::from(SHIFT) * ONES - negative));
}

/// The sign mask for seven stored sign bits, the lowest bits of `word`.
#[inline(always)]
fn even(word: u32) -> u64 {
    NEGATIVE_EVEN[word as usize & 127]
}

/// Stores eight levels at columns `8 · eight ..` of a group.
#[inline(always)]
fn put(group: &mut Group, eight: usize, levels: u64) {
    group.levels.as_chunks_mut().0[eight] = levels.to_le_bytes();
}

#[inline(always)]
fn eight(pair: [[u8; 4]; 2]) -> u64 {
    let [low, high] = pair.map(|four| u64::from(u32::from_le_bytes(four)));
    low | high << 32
}
