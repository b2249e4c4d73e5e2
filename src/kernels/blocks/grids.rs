//! The codebooks of the IQ types, and the rule for the signs of their entries.
//!
//! `grids.bin` holds each entry as indices into a handful of values; here they become bytes when the
//! program is compiled. The values are those of `ggml-common.h`; `tests/golden/blocks.py` makes the file.

/// Every entry, one u16 each, codebook after codebook.
static INDICES: &[u8; 2 * (256 + 512 + 1024 + 256 + 512 + 2048)] = include_bytes!("grids.bin");

/// `IQ2_XXS`: eight magnitudes for each index.
pub static IQ2_XXS: [[u8; 8]; 256] = eights(0, [8, 25, 43]);
/// `IQ2_XS`: eight magnitudes.
pub static IQ2_XS: [[u8; 8]; 512] = eights(256, [8, 25, 43]);
/// `IQ2_S`: eight magnitudes.
pub static IQ2_S: [[u8; 8]; 1024] = eights(768, [8, 25, 43]);
/// `IQ3_XXS`: four magnitudes.
pub static IQ3_XXS: [[u8; 4]; 256] = fours(1792, [4, 12, 20, 28, 36, 44, 52, 62]);
/// `IQ3_S`: four magnitudes.
pub static IQ3_S: [[u8; 4]; 512] = fours(2048, [1, 3, 5, 7, 9, 11, 13, 15]);
/// `IQ1_S` and `IQ1_M`: eight values of -1, 0 and 1, one too high.
pub static IQ1: [[u8; 8]; 2048] = eights(2560, [0, 1, 2]);

/// The signs of eight magnitudes, a bit each (set: negative), of the seven bits that are stored: their
/// number is even.
#[inline(always)]
#[expect(clippy::inline_always, reason = "part of `unpack`")]
pub fn signs(seven: u32) -> u8 {
    let seven = seven & 127;
    (seven | (seven.count_ones() & 1) << 7) as u8
}

const fn eights<const N: usize>(first: usize, values: [u8; 3]) -> [[u8; 8]; N] {
    let mut out = [[0; 8]; N];
    let mut i = 0;
    while i < N {
        let mut j = 0;
        while j < 8 {
            out[i][j] = values[(entry(first + i) >> (2 * j) & 3) as usize];
            j += 1;
        }
        i += 1;
    }
    out
}

const fn fours<const N: usize>(first: usize, values: [u8; 8]) -> [[u8; 4]; N] {
    let mut out = [[0; 4]; N];
    let mut i = 0;
    while i < N {
        let mut j = 0;
        while j < 4 {
            out[i][j] = values[(entry(first + i) >> (3 * j) & 7) as usize];
            j += 1;
        }
        i += 1;
    }
    out
}

const fn entry(index: usize) -> u16 {
    u16::from_le_bytes([INDICES[2 * index], INDICES[2 * index + 1]])
}
