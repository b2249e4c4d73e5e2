//! Kernels for 64-bit ARM. Each file holds what one set of instructions computes faster than
//! [`super::scalar`] defines it.
//!
//! Products of bytes are written as assembly: their intrinsics are not stable Rust yet.

pub mod dotprod;
pub mod i8mm;
pub mod neon;
