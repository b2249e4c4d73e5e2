//! Compiles and renders a chat template. In the program a worker process does this, with limits on time and memory.
//! Here there are none, so templates that could loop or contain themselves are skipped.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tealight::chat::{ChatTemplate, Inputs, Message};

fuzz_target!(|input: &str| {
    if ["for", "macro", "namespace", "range", "call"].iter().any(|word| input.contains(word)) {
        return;
    }
    let Ok(template) = ChatTemplate::new(input, "<s>".to_owned(), "</s>".to_owned()) else { return };
    let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi\r\n\u{1f56f}")];
    let _ = template.render(&Inputs::new(&messages));
});
