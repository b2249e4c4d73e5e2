//! Kernels for 64-bit ARM. Each file holds what one instruction set computes faster than [`super::scalar`], which
//! defines the results.
//!
//! Byte products are inline assembly: their intrinsics are not stable Rust yet.

pub mod dotprod;
pub mod i8mm;
pub mod neon;
