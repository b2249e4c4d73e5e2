//! Makes a bundle: one file, or a pair of executable and weights.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use tealight_bundle::manifest::{ManifestEntry, Sha256Sum};
use tealight_bundle::tail::Role;
use tealight_bundle::tail::write::{Settings, TailPart};

use super::copy::{Sink, copy, write_failed};
use super::executable::{ExecutableFormat, PE_BYTES_MAX};
use super::output::{self, Output, same_file};
use super::progress::Progress;
use super::runtime::{self, Runtime};
use super::settings::{self, Change};
use super::universal;
use super::weights::{self, Shard, shard_name};
use super::write::{self, Layout};
use super::{answer, cli, human, note};

/// `tealight-bundle new`.
pub fn run(args: &cli::New) -> Result<()> {
    let (Some(weights), Some(target)) = (&args.weights, &args.output) else {
        bail!("--weights and --output are required");
    };
    let shards = weights::find(weights)?;
    let runtime = if args.universal {
        universal::front(args.runtime.dist.as_deref())?
    } else {
        runtime::find(&args.runtime)?
    };
    let change = Change::of(&args.settings)?;
    let mut settings = settings::defaults();
    let plain = change.is_empty();
    change.apply(&mut settings);

    // Someone's own signature stays valid only if the executable is not changed.
    let untouched = runtime.format == ExecutableFormat::MachO && plain;
    let exe = with_exe(target, runtime.format);
    if args.pair && untouched {
        refuse_inputs(&exe, &inputs(&runtime, &shards))?;
        return pair(&exe, args.force, &runtime, &shards, None);
    }
    let layout = Layout::new(&runtime, parts(&shards)?)?;
    let single_bytes = layout.tail_end(&settings)?;
    let beyond_windows = args.universal && !args.pair && single_bytes > PE_BYTES_MAX;
    let target = if beyond_windows { target.clone() } else { exe };
    refuse_inputs(&target, &inputs(&runtime, &shards))?;
    if beyond_windows {
        note(format_args!(
            "warning: {} will be {}, and Windows does not start programs above 4 GiB: this one is for Linux and \
             macOS only\nhint: --pair puts the weights in a separate file; then it starts on Windows too",
            target.display(),
            human(single_bytes)
        ));
    }

    if let Some(reason) = layout.too_long(&runtime, &settings)? {
        note(format_args!(
            "note: {reason}; the weights go into a separate file beside it (keep the two together)"
        ));
    } else if !args.pair {
        return single(&target, args.force, &runtime, &shards, &layout, &settings);
    }
    pair(&target, args.force, &runtime, &shards, (!untouched).then_some(settings))
}

/// Writes everything into one file.
fn single(
    target: &Path,
    force: bool,
    runtime: &Runtime,
    shards: &[Shard],
    layout: &Layout,
    settings: &Settings,
) -> Result<()> {
    let mut output = Output::create(target, force, true)?;
    let weights_bytes: u64 = shards.iter().map(|shard| shard.bytes).sum();
    let passes = if runtime.format == ExecutableFormat::MachO { 2 } else { 1 };
    let mut progress = Progress::new("bundling", passes * (weights_bytes + runtime.bytes));
    let sources: Vec<_> = shards.iter().map(Shard::source).collect();
    layout.write(&mut output, runtime, &sources, settings, &mut progress)?;
    drop(progress);
    finish(&[&output])
}

/// Writes the executable with everything but the weights behind it, and the weights beside it. Without settings the
/// executable is unchanged, and finds the weights by its own name.
fn pair(
    target: &Path,
    force: bool,
    runtime: &Runtime,
    shards: &[Shard],
    settings: Option<Settings>,
) -> Result<()> {
    let stem = weights::utf8_name(target)?;
    let stem = stem.strip_suffix(".exe").unwrap_or(stem);
    let names: Vec<String> =
        (1..=shards.len()).map(|number| shard_name(stem, number, shards.len())).collect();
    // Weights that are already in place are left alone.
    let in_place = |name: &str, shard: &Shard| same_file(&target.with_file_name(name), &shard.path);
    for (name, shard) in names.iter().zip(shards) {
        if !in_place(name, shard) {
            let beside = target.with_file_name(name);
            refuse_inputs(&beside, &inputs(runtime, shards))?;
            output::check_target(&beside, force)?;
        }
    }
    let mut executable = Output::create(target, force, true)?;
    let weights_bytes: u64 = shards.iter().map(|shard| shard.bytes).sum();
    let mut progress = Progress::new("writing the pair", weights_bytes + runtime.bytes);
    let mut outputs = Vec::new();
    let mut external = Vec::new();
    for (name, shard) in names.iter().zip(shards) {
        let mut input = write::open(&shard.path)?;
        let mut tick = |bytes| progress.add(bytes);
        let sums = if in_place(name, shard) {
            note(format_args!(
                "note: the weights stay where they are, in {}",
                shard.path.display()
            ));
            copy(&mut input, &shard.path, shard.bytes, None, &mut tick)?
        } else {
            let mut output = Output::create(&target.with_file_name(name), force, false)?;
            let path = output.target().to_owned();
            let sink = Sink { file: &mut output.file, path: &path };
            let sums = copy(&mut input, &shard.path, shard.bytes, Some(sink), &mut tick)?;
            // If the file ends in a hole, nothing was written there yet, so set its length.
            output.file.set_len(shard.bytes).map_err(|error| write_failed(&path, &error))?;
            outputs.push(output);
            sums
        };
        external.push(ManifestEntry {
            name: name.clone(),
            role: Role::Model,
            bytes: shard.bytes,
            sha256: Sha256Sum(sums.sha256),
            external: true,
        });
    }
    match settings {
        Some(settings) => {
            let settings = Settings { external, ..settings };
            let layout = Layout::new(runtime, Vec::new())?;
            layout.write(&mut executable, runtime, &[], &settings, &mut progress)?;
        }
        None => drop(write::copy_runtime(&mut executable, runtime, &mut progress)?),
    }
    drop(progress);
    // The weights first: an executable without them would be half a pair.
    finish(&outputs.iter().chain([&executable]).collect::<Vec<_>>())
}

fn finish(outputs: &[&Output]) -> Result<()> {
    output::commit(outputs)?;
    let mut made = String::new();
    for output in outputs {
        let bytes = output.file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        note(format_args!("wrote {} ({})", output.target().display(), human(bytes)));
        made.push_str(&output.target().display().to_string());
        made.push('\n');
    }
    answer(&made)
}

fn parts(shards: &[Shard]) -> Result<Vec<TailPart>> {
    let part = |shard: &Shard| {
        Ok(TailPart { name: shard.entry_name()?, role: Role::Model, bytes: shard.bytes })
    };
    shards.iter().map(part).collect()
}

fn inputs<'a>(runtime: &'a Runtime, shards: &'a [Shard]) -> Vec<&'a Path> {
    let programs = runtime.programs.iter().map(|program| program.path.as_path());
    let shards = shards.iter().map(|shard| shard.path.as_path());
    programs.chain(shards).chain([runtime.path.as_path()]).collect()
}

fn with_exe(target: &Path, format: ExecutableFormat) -> PathBuf {
    let has_exe = target.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("exe"));
    if format != ExecutableFormat::Pe || has_exe {
        return target.to_owned();
    }
    let mut name = target.as_os_str().to_owned();
    name.push(format.ending());
    name.into()
}

fn refuse_inputs(target: &Path, inputs: &[&Path]) -> Result<()> {
    match inputs.iter().find(|input| same_file(input, target)) {
        Some(_) => bail!(
            "{}: the output is also an input\nhint: choose another file with -o",
            target.display()
        ),
        None => Ok(()),
    }
}
