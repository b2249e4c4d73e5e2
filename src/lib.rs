//! tealight.
pub mod kernels;
