//! The kernels as a crate of their own: see `Cargo.toml`.
#![allow(missing_docs, reason = "said in the program")]

#[path = "../../src/kernels/mod.rs"]
pub mod kernels;

/// The protocol between the scheduler and its requests.
#[cfg(loom)]
#[path = "../../src/engine/channel.rs"]
pub mod channel;
