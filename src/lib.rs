//! tealight.
pub mod kernels;
pub mod model;
pub mod tokenizer;
