//! Products of levels with 512-bit vectors, with the dot product of bytes that VNNI brings and without.
//!
//! Enters: stored rows, eight-bit activations. Leaves: dot products, unpacked panels, products of panels. [`decode`]
//! and [`codebooks`] say how each type becomes vectors, [`quads`] how those of four rows do together; [`rows`]
//! multiplies single tokens, [`panels`] prompts. Both add up the same terms in the same order, so that a token gets the
//! same result alone and in a prompt: for one sub-block after the other, sum += (scale · integer + minimum · sum of
//! activations) · scale of activations.

mod codebooks;
mod decode;
mod dot;
mod panels;
mod quads;
mod rows;
mod types;
mod vectors;

/// Kernels on floats: those of AVX2, but for what the compiler makes longer vectors of.
pub mod floats {
    #![expect(unsafe_code, reason = "functions for this instruction set alone")]

    pub use crate::kernels::x86::float::{dot_bf16, dot_f16, dot_f32, quantize};

    crate::kernels::float::compiled!("avx512bw,avx512vl,avx512dq");
}

level!(vnni, Vnni);
level!(plain, Plain);
