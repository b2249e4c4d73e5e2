//! The codebooks of the IQ types, the sign masks for their entries, and the powers of three for `TQ1_0`.
//!
//! `grids.bin` stores each entry as indices into a handful of values; they are expanded to bytes at compile
//! time. The values are those of `ggml-common.h`; `tests/golden/blocks.py` writes the file.

/// Every entry, one u16 each, codebook after codebook.
static INDICES: &[u8; 2 * (256 + 512 + 1024 + 256 + 512 + 2048)] = include_bytes!("grids.bin");

/// `IQ2_XXS`: eight magnitudes per index.
pub static IQ2_XXS: [[u8; 8]; 256] = eights(0, [8, 25, 43]);
/// `IQ2_XS`: eight magnitudes.
pub static IQ2_XS: [[u8; 8]; 512] = eights(256, [8, 25, 43]);
/// `IQ2_S`: eight magnitudes.
pub static IQ2_S: [[u8; 8]; 1024] = eights(768, [8, 25, 43]);
/// `IQ3_XXS`: four magnitudes.
pub static IQ3_XXS: [[u8; 4]; 256] = fours(1792, [4, 12, 20, 28, 36, 44, 52, 62]);
/// `IQ3_S`: four magnitudes.
pub static IQ3_S: [[u8; 4]; 512] = fours(2048, [1, 3, 5, 7, 9, 11, 13, 15]);
/// `IQ1_S` and `IQ1_M`: eight values of -1, 0 and 1, offset by 1.
pub static IQ1: [[u8; 8]; 2048] = eights(2560, [0, 1, 2]);

/// XOR masks for eight magnitudes: in each byte whose sign bit is set, the mask turns `m` into `63 - m`.
pub static NEGATIVE: [u64; 256] = negative();
/// The same for seven stored sign bits; the eighth makes the number of set bits even.
pub static NEGATIVE_EVEN: [u64; 128] = negative_even();

/// `TQ1_0`: for each pair of columns, the power of three that brings their digit to the front of the byte.
#[cfg(target_arch = "x86_64")]
pub static THREES: [u16; 128] = threes();

#[cfg(target_arch = "x86_64")]
const fn threes() -> [u16; 128] {
    let mut out = [1; 128];
    let mut pair = 0;
    while pair < 128 {
        // 32 bytes of five digits, 16 of five and 4 of four; in each run, all first digits precede all second digits.
        let mut digit = match 2 * pair {
            column @ 0..160 => column / 32,
            column @ 160..240 => (column - 160) / 16,
            column => (column - 240) / 4,
        };
        while digit > 0 {
            out[pair] *= 3;
            digit -= 1;
        }
        pair += 1;
    }
    out
}

const fn negative() -> [u64; 256] {
    let mut out = [0; 256];
    let mut signs = 0;
    while signs < 256 {
        let mut i = 0;
        while i < 8 {
            out[signs] |= ((signs as u64 >> i & 1) * 0x3f) << (8 * i);
            i += 1;
        }
        signs += 1;
    }
    out
}

const fn negative_even() -> [u64; 128] {
    let mut out = [0; 128];
    let mut seven = 0;
    while seven < 128 {
        out[seven] = NEGATIVE[seven | (seven.count_ones() as usize & 1) << 7];
        seven += 1;
    }
    out
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
