//! Products of levels in 256-bit vectors: AVX2, and AVX-VNNI with its byte dot product.
//!
//! Input: stored rows, eight-bit activations. Output: dot products, unpacked panels, products of panels. The files and
//! the order of additions are those of [`super::avx512`].

mod codebooks;
mod dot;
mod panels;
mod quads;
mod rows;
mod vectors;

level!(avx2, Avx2);
level!(avxvnni, AvxVnni);
