//! tealight.
pub mod chat;
pub mod engine;
pub mod kernels;
pub mod model;
pub mod render;
pub mod sampler;
pub mod text;
pub mod tokenizer;
