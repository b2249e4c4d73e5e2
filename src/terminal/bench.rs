//! `tealight bench`: measures the speed of prefill and of generation.

use crate::cli::BenchFlags;
use crate::engine::{Engine, Event, Generating, Generation, Received, Session};
use crate::kernels::{Compute, Limits};
use crate::sampler::Sampling;
use anyhow::Context as _;
use serde_json::json;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Measures what `flags` ask for. Returns the report.
///
/// # Errors
/// When the counts do not fit the context.
pub fn bench(engine: &Engine, flags: &BenchFlags) -> anyhow::Result<String> {
    let passes = if flags.sequences > 0 { flags.generate.max(16 * flags.sequences) } else { 0 };
    let needed = (flags.depth + flags.prompt.max(flags.generate)).max(flags.prompt + passes) + 2;
    anyhow::ensure!(
        needed <= engine.info.context,
        "bench: {needed} tokens are needed, but the context has room for {}",
        engine.info.context
    );
    let mut session = engine.session();
    // Warm-up: loads the weights into memory. The tokens in the cache before a run are not measured, so they need none.
    one(&mut session, engine, 0, flags.prompt.min(64), 4)?;
    let (mut prompts, mut generations) = (Vec::new(), Vec::new());
    for _ in 0..flags.repetitions {
        let (prompt, generation) =
            one(&mut session, engine, flags.depth, flags.prompt, flags.generate)?;
        prompts.extend(prompt);
        generations.extend(generation);
    }
    let (mut together, mut passes) = (Vec::new(), Vec::new());
    if flags.sequences > 0 {
        for _ in 0..flags.repetitions {
            together.push(several(engine, flags)?);
            passes.push(pass(&mut session, engine, flags)?);
        }
    }
    if flags.json {
        let report = json!({
            "model": engine.info.name,
            "together": {
                "sequences": flags.sequences,
                "tokens_per_second": together,
                "pass_tokens_per_second": passes,
            },
            "prompt": {
                "tokens": flags.prompt,
                "ids": ids(engine, flags.prompt, PROMPT),
                "tokens_per_second": prompts,
            },
            "generation": {
                "tokens": flags.generate,
                "ids": ids(engine, flags.generate, GENERATION),
                "tokens_per_second": generations,
            },
        });
        return Ok(format!("{report}\n"));
    }
    let mut out = String::new();
    for (name, tokens, speeds) in [
        ("prompt", flags.prompt, &mut prompts),
        ("generation", flags.generate, &mut generations),
        ("together", flags.sequences, &mut together),
        ("one pass", flags.sequences, &mut passes),
    ] {
        speeds.sort_by(f64::total_cmp);
        if let (Some(low), Some(high)) = (speeds.first(), speeds.last()) {
            let median = speeds[speeds.len() / 2];
            let _ = writeln!(
                out,
                "{name:<10} {tokens:>5} tokens  {median:>8.1} tokens/s  ({low:.1} to {high:.1})"
            );
        }
    }
    Ok(out)
}

/// The purposes of tokens; each gets different ones.
const FIRST: u32 = 0;
const DEPTH: u32 = 1;
const PROMPT: u32 = 2;
const GENERATION: u32 = 3;

/// Ordinary tokens of any vocabulary, none twice in a row.
fn ids(engine: &Engine, n: usize, purpose: u32) -> Vec<u32> {
    let words = u32::try_from(engine.tokenizer.len()).unwrap_or(1);
    (0..n as u32)
        .map(|i| (i.wrapping_mul(7919).wrapping_add(purpose) % 1000 + 300) % words)
        .collect()
}

/// Tokens per second of several answers that are generated together, from when the last of them begins until the first
/// ends.
fn several(engine: &Engine, flags: &BenchFlags) -> anyhow::Result<f64> {
    let request = |which: usize| Generation {
        // Each has a prompt of its own: nothing is shared.
        prompt: ids(engine, flags.prompt.max(1), PROMPT)
            .iter()
            .map(|id| id + which as u32)
            .collect(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        max_tokens: Some(flags.generate.max(2)),
        ignore_end: true,
        ..Generation::default()
    };
    // The prompts are read before, so that all begin together.
    for which in 0..flags.sequences {
        engine.generate(
            &Generation { max_tokens: Some(1), ..request(which) },
            &|| true,
            &mut |_| {},
        )?;
    }
    let mut open = (0..flags.sequences)
        .map(|which| Ok((engine.begin(request(which))?, Vec::new())))
        .collect::<anyhow::Result<Vec<(Generating, Vec<Instant>)>>>()?;
    let mut done = Vec::new();
    while !open.is_empty() {
        // One is waited for, so that polling takes no time from what is measured.
        let (mut at, mut wait) = (0, Duration::from_millis(5));
        while at < open.len() {
            let (answer, times) = &mut open[at];
            match answer.next(std::mem::take(&mut wait)) {
                Received::Event(Event::Text { .. }) => times.push(Instant::now()),
                Received::Event(_) => {}
                Received::Nothing => at += 1,
                Received::End(outcome) => {
                    outcome?;
                    done.push(open.remove(at).1);
                }
            }
        }
    }
    let begin = done.iter().filter_map(|times| times.first()).max().copied();
    let end = done.iter().filter_map(|times| times.last()).min().copied();
    let (Some(begin), Some(end)) = (begin, end) else { return Ok(0.0) };
    let within = done.iter().flatten().filter(|time| **time > begin && **time <= end).count();
    Ok(within as f64 / end.saturating_duration_since(begin).as_secs_f64().max(1e-9))
}

/// Tokens per second of passes of as many tokens of one sequence, with the logits after each.
fn pass(session: &mut Session, engine: &Engine, flags: &BenchFlags) -> anyhow::Result<f64> {
    const PASSES: usize = 16;
    session.rewind(0);
    session.read(&ids(engine, flags.prompt.max(1), PROMPT))?;
    let tokens = ids(engine, flags.sequences, GENERATION);
    let start = Instant::now();
    for _ in 0..PASSES {
        session.read_each(&tokens).context("measuring passes")?;
    }
    Ok((PASSES * tokens.len()) as f64 / start.elapsed().as_secs_f64())
}

/// The machine's peak rates, for comparison.
#[must_use]
pub fn limits(compute: &Compute, as_json: bool) -> String {
    let Limits { read_bytes, multiply_adds } = compute.limits();
    let (isa, threads) = (compute.isa, compute.pool.threads());
    if as_json {
        let report = json!({
            "isa": isa.name(), "threads": threads,
            "read_bytes_per_second": read_bytes, "multiply_adds_per_second": multiply_adds,
        });
        return format!("{report}\n");
    }
    format!(
        "{isa}, {threads} threads: {:.1} GB/s read, {:.0} billion multiply-adds/s\n",
        read_bytes / 1e9,
        multiply_adds / 1e9
    )
}

/// Tokens per second of one prefill and one generation, each after `depth` tokens; `None` if it has no tokens.
fn one(
    session: &mut Session,
    engine: &Engine,
    depth: usize,
    prompt: usize,
    generate: usize,
) -> anyhow::Result<(Option<f64>, Option<f64>)> {
    let begin = |session: &mut Session| -> anyhow::Result<()> {
        session.rewind(0);
        session.read(&ids(engine, 1, FIRST))?;
        if depth > 0 {
            session.read(&ids(engine, depth, DEPTH))?;
        }
        Ok(())
    };
    let mut speeds = (None, None);
    if prompt > 0 {
        begin(session)?;
        let tokens = ids(engine, prompt, PROMPT);
        let start = Instant::now();
        session.read(&tokens).context("measuring the prompt")?;
        speeds.0 = Some(prompt as f64 / start.elapsed().as_secs_f64());
    }
    if generate > 0 {
        begin(session)?;
        let start = Instant::now();
        for id in ids(engine, generate, GENERATION) {
            session.read(&[id]).context("measuring the generation")?;
        }
        speeds.1 = Some(generate as f64 / start.elapsed().as_secs_f64());
    }
    Ok(speeds)
}
