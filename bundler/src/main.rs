//! `tealight-bundle`: makes, changes, lists, unpacks and verifies bundles.

#![deny(unsafe_code)]

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
