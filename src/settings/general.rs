//! Settings of the model and of the program itself.

use super::setting::{Given, Origin, Setting, Takes, Value, Wrong};
use crate::kernels::CacheType;

/// The rows.
pub static ROWS: &[Setting] = &[
    Setting::new(
        "model",
        Value::Path(|c, path, _| {
            c.model = Some(path);
            Ok(())
        }),
        "FILE",
        "Weights: a GGUF file, the first part of a split one, or another bundle",
    )
    .short('m')
    .aliases(&["weights"]),
    Setting::new(
        "ctx-size",
        Value::Whole {
            min: 0,
            max: 1 << 30,
            set: |c, n, given| {
                c.context = count(n);
                c.context_named = !matches!(given.origin, Origin::BuiltIn | Origin::Bundle);
            },
        },
        "N",
        "Context size in tokens (0: what the model was trained on, if memory allows)",
    )
    .short('c')
    .aliases(&["contextsize"])
    .default("0"),
    Setting::new(
        "predict",
        Value::Whole {
            min: i64::MIN,
            max: i64::MAX,
            set: |c, n, _| c.predict = usize::try_from(n).ok(),
        },
        "N",
        "Maximum number of tokens to generate (-1: until the model stops)",
    )
    .short('n')
    .aliases(&["n-predict"])
    .default("-1")
    .field("max_tokens")
    .main_control(-1.0, 1e6, 1.0),
    Setting::new(
        "threads",
        Value::Whole { min: 1, max: 1024, set: |c, n, _| c.threads = count(n) },
        "N",
        "Compute threads (default: the fast physical cores)",
    )
    .short('t')
    .shown(|c| c.threads.to_string()),
    Setting::new(
        "batch-size",
        Value::Whole { min: 1, max: 1 << 16, set: |c, n, _| c.batch = count(n) },
        "N",
        "Prompt tokens processed at a time",
    )
    .short('b')
    .variables(&["LLAMA_ARG_BATCH"])
    // Large enough to use each weight many times while it is in cache.
    .default("128"),
    Setting::new(
        "n-gpu-layers",
        Value::Ignored { takes: Takes::One, told: on_the_cpu },
        "N",
        "Layers to run on the GPU: a number, auto or all (this build runs on the CPU)",
    )
    .aliases(&["gpu-layers", "gpulayers"])
    .dashed(&["-ngl"]),
    Setting::new(
        "cache-type-k",
        Value::Text(|c, given| {
            c.key_type = cache_type(given)?;
            Ok(())
        }),
        "TYPE",
        "Element type of the cached keys: f16, bf16, f32 or q8_0",
    )
    .dashed(&["-ctk"])
    .default("f16"),
    Setting::new(
        "cache-type-v",
        Value::Text(|c, given| {
            c.value_type = cache_type(given)?;
            Ok(())
        }),
        "TYPE",
        "Element type of the cached values: f16, bf16, f32 or q8_0",
    )
    .dashed(&["-ctv"])
    .default("f16"),
    Setting::new(
        "print-config",
        Value::Action,
        "",
        "Print each setting and where it comes from, then exit",
    ),
    Setting::new("verbose", Value::Switch(|c| c.verbose = true), "", "Print more on stderr")
        .short('v'),
    Setting::new(
        "log-disable",
        Value::Switch(|c| c.quiet = true),
        "",
        "Print only errors on stderr",
    )
    .aliases(&["quiet"]),
    // For tests of the kernels.
    Setting::new(
        "isa",
        Value::Text(|c, given| {
            c.isa = given.text.parse().map_err(Wrong::Expected)?;
            Ok(())
        }),
        "NAME",
        "",
    )
    .shown(|c| c.isa.to_string()),
];

/// Converts a number whose range excludes negative ones.
fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

fn cache_type(given: Given<'_>) -> Result<CacheType, Wrong> {
    given.text.parse().map_err(|expected: &str| Wrong::Expected(expected.to_owned()))
}

/// The warning for a request to use a GPU.
pub(super) fn on_the_cpu(layers: &str) -> Option<&'static str> {
    let told = "--n-gpu-layers: this build runs on the CPU, so the setting has no effect";
    (layers != "0").then_some(told)
}
