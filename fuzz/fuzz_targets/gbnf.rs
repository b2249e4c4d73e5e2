//! Compiles a GBNF grammar and follows it for some tokens.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tealight::constraint::Constraint;

#[path = "../model.rs"]
mod model;

fuzz_target!(|input: &str| model::follow(&Constraint::Gbnf(input.to_owned())));
