//! tealight: a language model in one file.
//!
//! The flow is one way: a mapped file ([`source`]) → weights and metadata ([`model`], [`tokenizer`]) → an [`engine`]
//! that turns prompts into text → the [`server`] and its page, or the [`terminal`]. [`kernels`] does the arithmetic,
//! [`chat`] writes prompts, [`sampler`] chooses among the tokens that a [`constraint`] allows, [`mod@text`] and
//! [`mod@render`] produce what a person sees. [`cli`] and [`settings`] read the options, [`system`] describes the
//! computer. [`worker`] runs the [`jobs`] of hostile files and requests in processes of their own. The container lives
//! in the crate `tealight_bundle`. See `docs/architecture.md`.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "what tests expect may differ in its last bits")
)]

pub mod backend;
pub mod chat;
pub mod cli;
pub mod constraint;
pub mod engine;
pub mod jobs;
pub mod kernels;
pub mod model;
pub mod render;
pub mod sampler;
mod semaphore;
pub mod server;
pub mod settings;
pub mod source;
pub mod system;
pub mod terminal;
pub mod text;
pub mod tokenizer;
pub mod worker;
