//! x86-64 kernels on f32 and f16 vectors (AVX2, FMA, F16C): the gate, the softmax and products of floats.
//!
//! AVX-512 adds only longer vectors in loops that the compiler vectorizes ([`super::avx512::floats`]).

#![expect(unsafe_code, reason = "vector loads and stores of arrays whose length the type says")]

use crate::kernels::activations::{BLOCK, Round};
use half::{bf16, f16};
#[allow(clippy::wildcard_imports, reason = "a kernel is made of them")]
use std::arch::x86_64::*;

pub use super::lanes::avx2::{advance, advance_keyed};

crate::kernels::float::compiled!("avx2,fma,f16c", round: Rounded);

/// Rounds 32 floats at once.
pub struct Rounded;

impl Round for Rounded {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn round(x: &[f32; BLOCK], inverse: f32, quants: &mut [i8; BLOCK]) -> [i16; 2] {
        let inverse = _mm256_set1_ps(inverse);
        let [a, b, c, d] = x.as_chunks().0 else { unreachable!("four eights") };
        // Rounds to nearest even, the processor's default mode.
        let a = _mm256_cvtps_epi32(_mm256_mul_ps(load_f32(a), inverse));
        let b = _mm256_cvtps_epi32(_mm256_mul_ps(load_f32(b), inverse));
        let c = _mm256_cvtps_epi32(_mm256_mul_ps(load_f32(c), inverse));
        let d = _mm256_cvtps_epi32(_mm256_mul_ps(load_f32(d), inverse));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let packed = _mm256_permutevar8x32_epi32(packed, order);
        // SAFETY: 32 bytes, by the type; the store needs no alignment.
        unsafe { _mm256_storeu_si256(quants.as_mut_ptr().cast(), packed) };
        // Sums of eight bytes each, offset by 128 to be unsigned.
        let unsigned = _mm256_xor_si256(packed, _mm256_set1_epi8(-128));
        let eights = _mm256_sad_epu8(unsigned, _mm256_setzero_si256());
        let sums = _mm256_add_epi64(eights, _mm256_unpackhi_epi64(eights, eights));
        let (first, second) = (_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        [
            (_mm_cvtsi128_si32(first) - 128 * 16) as i16,
            (_mm_cvtsi128_si32(second) - 128 * 16) as i16,
        ]
    }
}

/// Dot products of a stored row of f32 with `M` rows of activations.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn dot_f32<const M: usize>(w: &[u8], x: [&[f32]; M]) -> [f32; M] {
    dot_chunks(
        w,
        x,
        // SAFETY: 32 bytes, by the type; the load needs no alignment.
        |w: &[[u8; 4]; 8]| unsafe { _mm256_loadu_ps(w.as_ptr().cast()) },
        f32::from_le_bytes,
    )
}

/// Dot products of a stored row of f16 with `M` rows of activations.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn dot_f16<const M: usize>(w: &[u8], x: [&[f32]; M]) -> [f32; M] {
    dot_chunks(
        w,
        x,
        // SAFETY: 16 bytes, by the type; the load needs no alignment.
        |w: &[[u8; 2]; 8]| _mm256_cvtph_ps(unsafe { _mm_loadu_si128(w.as_ptr().cast()) }),
        |w| f16::from_le_bytes(w).to_f32(),
    )
}

/// Dot products of a stored row of bf16 with `M` rows of activations.
///
/// # Safety
/// The processor has the instruction set of this module.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn dot_bf16<const M: usize>(w: &[u8], x: [&[f32]; M]) -> [f32; M] {
    dot_chunks(
        w,
        x,
        |w: &[[u8; 2]; 8]| {
            // SAFETY: 16 bytes, by the type; the load needs no alignment.
            let halves = unsafe { _mm_loadu_si128(w.as_ptr().cast()) };
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        },
        |w| bf16::from_le_bytes(w).to_f32(),
    )
}

/// Eight floats per step, then the rest one by one.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot_chunks<const M: usize, const SIZE: usize>(
    w: &[u8],
    x: [&[f32]; M],
    eight: impl Fn(&[[u8; SIZE]; 8]) -> __m256,
    one: impl Fn([u8; SIZE]) -> f32,
) -> [f32; M] {
    let mut acc = [_mm256_setzero_ps(); M];
    let (chunks, rest) = w.as_chunks::<SIZE>().0.as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        let w = eight(chunk);
        for m in 0..M {
            let x = x[m][8 * i..].first_chunk().expect("as long as the weights");
            acc[m] = _mm256_fmadd_ps(w, load_f32(x), acc[m]);
        }
    }
    let mut out = acc.map(|v| sum(v));
    for (i, &w) in rest.iter().enumerate() {
        let w = one(w);
        for m in 0..M {
            out[m] += w * x[m][8 * chunks.len() + i];
        }
    }
    out
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_f32(x: &[f32; 8]) -> __m256 {
    // SAFETY: 8 floats, by the type; the load needs no alignment.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sum(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
}
