//! Products of levels with 256-bit vectors: AVX2, and the dot product of bytes that AVX-VNNI brings.
//!
//! Enters: stored rows, eight-bit activations. Leaves: dot products, unpacked panels, products of panels. The files
//! are those of [`super::avx512`], and so is the order of additions.

mod codebooks;
mod dot;
mod panels;
mod quads;
mod rows;
mod vectors;

level!(avx2, Avx2);
level!(avxvnni, AvxVnni);
