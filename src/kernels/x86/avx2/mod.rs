//! Products of levels in 256-bit vectors: AVX2, and AVX-VNNI with its byte dot product.
//!
//! Input: stored rows, eight-bit activations. Output: dot products, unpacked panels, products of panels. [`decode`] and
//! [`codebooks`] turn each type into vectors; [`rows`] multiplies a few tokens; [`unpack`] and
//! [`panels`] are for prompts.

/// Evaluates an expression with the decoder of a type, one for types of blocks and one for those of super-blocks.
macro_rules! for_type {
    ($dtype:expr, blocks $B:ident => $of_blocks:expr, super_blocks $S:ident => $of_super_blocks:expr) => {
        $crate::kernels::x86::avx2::for_type!(@ $dtype, $B, $of_blocks, $S, $of_super_blocks,
            Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4 Q1_0 Q2_0; Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS;
            IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ1_S IQ1_M TQ1_0 TQ2_0)
    };
    (@ $dtype:expr, $B:ident, $of_blocks:expr, $S:ident, $of_super_blocks:expr,
        $($block:ident)*; $($super_block:ident)*; $($codebook:ident)*) => {
        match $dtype {
            $(DType::$block => {
                type $B = $crate::kernels::x86::avx2::decode::$block;
                $of_blocks
            })*
            $(DType::$super_block => {
                type $S = $crate::kernels::x86::avx2::decode::$super_block;
                $of_super_blocks
            })*
            $(DType::$codebook => {
                type $S = $crate::kernels::x86::avx2::codebooks::$codebook;
                $of_super_blocks
            })*
            other => unreachable!("{other} has no levels"),
        }
    };
}
pub(super) use for_type;

mod by_block;
mod by_row;
pub(super) mod codebooks;
pub(super) mod decode;
mod dot;
pub(super) mod numbers;
mod pairs;
mod panels;
mod rows;
pub(super) mod tile;
pub(super) mod unpack;
pub(super) mod vectors;

level!(avx2, Avx2);
level!(avxvnni, AvxVnni);
