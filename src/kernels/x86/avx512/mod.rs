//! Products of levels in 512-bit vectors, with and without VNNI's byte dot product.
//!
//! Input: stored rows, eight-bit activations. Output: dot products, unpacked panels, products of panels. [`decode`] and
//! [`codebooks`] turn each type into vectors, [`quads`] does so for four rows at once; [`rows`] multiplies single
//! tokens, [`panels`] prompts. Both sum the same terms in the same order, so a token gets the same result alone and in
//! a prompt: sub-block by sub-block, sum += (scale · integer + min · sum of activations) · scale of activations.

mod codebooks;
mod decode;
mod dot;
mod panels;
mod quads;
mod rows;
mod types;
mod vectors;

/// Float kernels: those of AVX2, except loops that the compiler vectorizes, which get longer vectors.
pub mod floats {
    #![expect(unsafe_code, reason = "functions for this instruction set alone")]

    pub use crate::kernels::x86::float::{dot_bf16, dot_f16, dot_f32, quantize};

    crate::kernels::float::compiled!("avx512bw,avx512vl,avx512dq");
}

level!(vnni, Vnni);
level!(plain, Plain);
