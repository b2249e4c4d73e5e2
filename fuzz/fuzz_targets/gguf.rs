//! Parses a hostile GGUF file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tealight_bundle::gguf::Gguf;

fuzz_target!(|input: &[u8]| {
    if let Ok(gguf) = Gguf::parse(input) {
        for tensor in gguf.tensors() {
            assert!(
                input.get(tensor.range.clone()).is_some(),
                "a tensor outside the file"
            );
        }
    }
});
