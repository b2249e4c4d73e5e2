//! Products of levels in 512-bit vectors, with and without VNNI's byte dot product.
//!
//! Input: stored rows, eight-bit activations. Output: dot products, unpacked panels, products of panels. [`levels`] and
//! [`codebooks`] turn each type into vectors; its scales and mins are decoded as with 256 bits ([`super::avx2`]).
//! [`rows`] multiplies a few tokens; [`unpack`] and [`panels`] are for prompts.

mod by_super;
mod codebooks;
mod dot;
mod fours;
mod heads;
mod levels;
mod panels;
mod rows;
mod tile;
mod twos;
mod unpack;
mod vectors;

/// Float kernels: those of AVX2, except loops that the compiler vectorizes, which get longer vectors.
pub mod floats {
    #![expect(unsafe_code, reason = "functions for this instruction set alone")]

    use crate::kernels::x86::float::Rounded;
    pub use crate::kernels::x86::float::{dot_bf16, dot_f16, dot_f32};
    pub use crate::kernels::x86::lanes::avx512::{advance, advance_keyed};

    crate::kernels::float::compiled!("avx512bw,avx512vl,avx512dq", round: Rounded);
}

level!(vnni, Vnni);
level!(plain, Plain);
