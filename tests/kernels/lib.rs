//! The kernels as a crate of their own: see `Cargo.toml`.
#![allow(missing_docs, reason = "said in the program")]

#[path = "../../src/kernels/mod.rs"]
pub mod kernels;
