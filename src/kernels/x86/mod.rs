//! Kernels for x86-64. Each file holds what one set of instructions computes faster than
//! [`super::scalar`] defines it.

pub mod attention;
pub mod avx2;
pub mod avx512;
pub mod float;
pub mod sse;
