//! Flags of other programs that are accepted but have no effect here.

use super::general::on_the_cpu;
use super::setting::{Setting, Takes, Value};

/// A switch that means nothing here or is always on; no warning.
const fn switch(flag: &'static str) -> Setting {
    ignored(flag, Takes::Nothing, |_| None)
}

/// A switch for an appearance or a check that does not exist here.
const fn look(flag: &'static str) -> Setting {
    ignored(flag, Takes::Nothing, |_| {
        Some("--no-webui, --v2, --nologo, --ascii and --unsecure have no effect here")
    })
}

const fn ignored(
    flag: &'static str,
    takes: Takes,
    told: fn(&str) -> Option<&'static str>,
) -> Setting {
    Setting::new(flag, Value::Ignored { takes, told }, "N", "")
}

/// The rows.
pub static ROWS: &[Setting] = &[
    switch("server"),
    switch("embeddings").aliases(&["embedding"]),
    switch("cli"),
    switch("chat"),
    switch("launch"),
    switch("offline"),
    switch("jinja"),
    switch("mmap"),
    ignored("no-mmap", Takes::Nothing, |_| {
        Some("--no-mmap has no effect: weights are always mapped, never copied")
    }),
    ignored("mlock", Takes::Nothing, |_| Some("--mlock has no effect here")),
    look("no-webui"),
    look("v2"),
    look("nologo"),
    look("ascii"),
    look("unsecure"),
    switch("cont-batching").dashed(&["-cb"]),
    ignored("ubatch-size", Takes::Count, |_| None)
        .dashed(&["-ub"])
        .variables(&["LLAMA_ARG_UBATCH"]),
    ignored("threads-batch", Takes::Count, |_| {
        Some("--threads-batch has no effect: --threads applies to prompts too")
    })
    .dashed(&["-tb"]),
    ignored("flash-attn", Takes::Perhaps, |_| None).dashed(&["-fa"]),
    ignored("gpu", Takes::One, on_the_cpu),
];
