//! Renders a model's Markdown whole and as it grows: the final HTML of each block must be the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tealight::render::{Streamer, render};

fuzz_target!(|input: (usize, &str)| {
    let (at, text) = input;
    let at = (0..=text.len()).rev().find(|n| *n <= at % (text.len() + 1) && text.is_char_boundary(*n));
    let (first, second) = text.split_at(at.unwrap_or(0));
    let mut grown: Vec<String> = Vec::new();
    let mut streamer = Streamer::default();
    for piece in [first, second] {
        streamer.push(piece);
        for (number, html) in streamer.update() {
            grown.truncate(number);
            grown.push(html);
        }
    }
    assert_eq!(grown, render(text));
});
