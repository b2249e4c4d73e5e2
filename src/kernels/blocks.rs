//! The block layouts of ggml's quantized types, as offsets into a block's bytes, and what a block
//! means in f32. Kernels read through these; nothing else knows where a scale lies.
//!
//! Layouts: `ggml-common.h` of ggml; all numbers little-endian.

use half::{bf16, f16};
use tealight_bundle::gguf::DType;

/// Reads an f16 at `at`.
#[inline]
pub fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Reads a u32 at `at`.
#[inline]
pub fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The eight 6-bit scales and eight 6-bit mins of a `Q4_K` or `Q5_K` block, packed in 12 bytes.
#[inline]
pub fn k4_scales(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    const LOW6: u32 = 0x3f3f_3f3f;
    const LOW4: u32 = 0x0f0f_0f0f;
    const LOW2: u32 = 0x0303_0303;
    let word = |i: usize| u32_at(packed, i * 4);
    let (a, b, c) = (word(0), word(1), word(2));
    let scales = [a & LOW6, (c & LOW4) | ((a >> 6) & LOW2) << 4];
    let mins = [b & LOW6, (c >> 4 & LOW4) | ((b >> 6) & LOW2) << 4];
    (bytes8(scales), bytes8(mins))
}

/// The sixteen signed 6-bit scales of a `Q3_K` block, packed in 12 bytes, 32 subtracted.
#[inline]
#[expect(clippy::cast_possible_wrap, reason = "0 to 63")]
pub fn k3_scales(packed: &[u8]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = packed[i % 8] >> (4 * (i / 8)) & 0x0f;
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 0x03;
        *scale = (low | high << 4) as i8 - 32;
    }
    scales
}

#[inline]
fn bytes8(words: [u32; 2]) -> [u8; 8] {
    let (a, b) = (words[0].to_le_bytes(), words[1].to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

/// The integers of one block before scaling, in element order, written to `out` (a whole block).
/// For types with a minimum these are the unsigned levels; for the others they are signed.
#[expect(
    clippy::cast_possible_wrap,
    reason = "levels are at most 63, and Q8_0 stores signed bytes"
)]
pub fn levels(dtype: DType, block: &[u8], out: &mut [i8]) {
    match dtype {
        DType::Q4_0 => nibbles(&block[2..18], out, |q, _| q as i8 - 8),
        DType::Q4_1 => nibbles(&block[4..20], out, |q, _| q as i8),
        DType::Q5_0 => {
            let high = u32_at(block, 2);
            nibbles(&block[6..22], out, |q, i| fifth(q, high, i) - 16);
        }
        DType::Q5_1 => {
            let high = u32_at(block, 4);
            nibbles(&block[8..24], out, |q, i| fifth(q, high, i));
        }
        DType::Q8_0 => out.iter_mut().zip(&block[2..34]).for_each(|(o, &q)| *o = q as i8),
        DType::Q2_K => {
            let qs = &block[16..80];
            for (i, o) in out.iter_mut().enumerate() {
                // Two halves of 128; in each, byte l holds elements l, l+32, l+64, l+96.
                let byte = qs[32 * (i / 128) + i % 32];
                *o = (byte >> (2 * (i % 128 / 32)) & 3) as i8;
            }
        }
        DType::Q3_K => {
            let (high, qs) = (&block[..32], &block[32..96]);
            for (i, o) in out.iter_mut().enumerate() {
                let low = qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3;
                let set = high[i % 32] >> (i / 32) & 1;
                *o = low as i8 - if set == 1 { 0 } else { 4 };
            }
        }
        DType::Q4_K => {
            for (i, o) in out.iter_mut().enumerate() {
                let byte = block[16 + 32 * (i / 64) + i % 32];
                *o = (byte >> (4 * (i % 64 / 32)) & 15) as i8;
            }
        }
        DType::Q5_K => {
            for (i, o) in out.iter_mut().enumerate() {
                let byte = block[48 + 32 * (i / 64) + i % 32];
                let high = block[16 + i % 32] >> (i / 32) & 1;
                *o = (byte >> (4 * (i % 64 / 32)) & 15 | high << 4) as i8;
            }
        }
        DType::Q6_K => {
            let (ql, qh) = (&block[..128], &block[128..192]);
            for (i, o) in out.iter_mut().enumerate() {
                let (half, l) = (i / 128, i % 128);
                let low = ql[64 * half + l % 64] >> (4 * (l / 64)) & 15;
                let high = qh[32 * half + l % 32] >> (2 * (l / 32)) & 3;
                *o = (low | high << 4) as i8 - 32;
            }
        }
        _ => unreachable!("no kernel for {dtype}: refused when the model was loaded"),
    }
}

#[inline]
fn nibbles(qs: &[u8], out: &mut [i8], value: impl Fn(u8, usize) -> i8) {
    let (low, high) = out.split_at_mut(16);
    for (i, &q) in qs.iter().enumerate() {
        low[i] = value(q & 15, i);
        high[i] = value(q >> 4, i + 16);
    }
}

#[inline]
#[expect(clippy::cast_possible_wrap, reason = "at most 31")]
fn fifth(nibble: u8, high: u32, index: usize) -> i8 {
    (nibble | ((high >> index & 1) as u8) << 4) as i8
}

/// Decodes whole blocks to f32: the definition of what the bytes mean.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
            return;
        }
        DType::F16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = half_at(b, 0);
            }
            return;
        }
        DType::BF16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = bf16::from_le_bytes([b[0], b[1]]).to_f32();
            }
            return;
        }
        _ => {}
    }
    let n = dtype.block_elements();
    let mut q = [0_i8; 256];
    for (block, out) in bytes.chunks_exact(dtype.block_bytes()).zip(out.chunks_exact_mut(n)) {
        levels(dtype, block, &mut q[..n]);
        for (i, (o, &q)) in out.iter_mut().zip(&q).enumerate() {
            let (scale, min) = scale_and_min(dtype, block, i);
            *o = scale * f32::from(q) + min;
        }
    }
}

/// Scale and offset of element `i` of a block.
fn scale_and_min(dtype: DType, block: &[u8], i: usize) -> (f32, f32) {
    match dtype {
        DType::Q4_1 | DType::Q5_1 => (half_at(block, 0), half_at(block, 2)),
        DType::Q2_K => {
            let packed = block[i / 16];
            let (scale, min) = (f32::from(packed & 15), f32::from(packed >> 4));
            (half_at(block, 80) * scale, -(half_at(block, 82) * min))
        }
        DType::Q3_K => {
            let scales = k3_scales(&block[96..108]);
            (half_at(block, 108) * f32::from(scales[i / 16]), 0.0)
        }
        DType::Q4_K | DType::Q5_K => {
            let (scales, mins) = k4_scales(&block[4..16]);
            let (d, dmin) = (half_at(block, 0), half_at(block, 2));
            (d * f32::from(scales[i / 32]), -(dmin * f32::from(mins[i / 32])))
        }
        #[expect(clippy::cast_possible_wrap, reason = "stored as signed bytes")]
        DType::Q6_K => (half_at(block, 208) * f32::from(block[192 + i / 16] as i8), 0.0),
        _ => (half_at(block, 0), 0.0),
    }
}
