//! Makes a bundle: one file, or a pair of executable and weights.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tealight_bundle::Mapped;
use tealight_bundle::manifest::{ManifestEntry, Sha256Sum};
use tealight_bundle::tail::write::{Fixed, Part, Plan, Settings, Sums};
use tealight_bundle::tail::{self, Role};

use super::copy::{Sink, copy, write_failed};
use super::output::{self, Output, same_file};
use super::progress::Progress;
use super::runtime::{self, Kind, PE_BYTES_MAX, Runtime};
use super::settings::{self, Change};
use super::universal;
use super::weights::{self, Shard, shard_name};
use super::{answer, cli, human, note};

/// `tealight-bundle new`.
pub fn run(args: &cli::New) -> Result<()> {
    let (Some(weights), Some(target)) = (&args.weights, &args.output) else {
        bail!("--weights and --output are needed");
    };
    let shards = weights::find(weights)?;
    let runtime = if args.universal {
        universal::front(args.runtime.dist.as_deref())?
    } else {
        runtime::find(&args.runtime)?
    };
    let change = Change::of(&args.settings)?;
    let untouched = runtime.kind == Kind::MachO;
    ensure!(
        !untouched || change.is_empty(),
        "an executable for macOS cannot carry a page, prompt, arguments, template, licence or name: data behind it would \
         break its signature\nhint: leave these options out, and give them when the program is started"
    );
    let mut settings = settings::defaults();
    change.apply(&mut settings);

    let plan = Plan::new(runtime.bytes, parts(&runtime, &shards)?)?;
    let single_bytes = plan.file_bytes(&settings)?;
    let beyond_windows = args.universal && !args.pair && single_bytes > PE_BYTES_MAX;
    let target = if beyond_windows { target.clone() } else { with_exe(target, runtime.kind) };
    refuse_inputs(&target, &inputs(&runtime, &shards))?;
    if beyond_windows {
        note(format_args!(
            "warning: {} will have {}, and Windows does not start a program above 4 GiB: this one is for Linux and \
             macOS only\nhint: --pair leaves the weights in a file beside it; then it starts on Windows, too",
            target.display(),
            human(single_bytes)
        ));
    }

    let Some(reason) = pair_reason(args.pair, &runtime, single_bytes) else {
        return single(&target, args.force, &runtime, &shards, &plan, &settings);
    };
    if !args.pair {
        note(format_args!(
            "note: {reason}; so the weights go into a file beside it (keep the two together)"
        ));
    }
    pair(&target, args.force, &runtime, &shards, settings)
}

/// Why the weights may not be in the executable, if so.
fn pair_reason(asked: bool, runtime: &Runtime, single_bytes: u64) -> Option<String> {
    match runtime.kind {
        Kind::MachO => Some("data behind an executable for macOS breaks its signature".to_owned()),
        Kind::Pe if single_bytes > PE_BYTES_MAX && runtime.programs.is_empty() => Some(format!(
            "Windows does not start an .exe above 4 GiB, and this one would have {}",
            human(single_bytes)
        )),
        _ => asked.then(|| "a pair was asked for".to_owned()),
    }
}

/// Writes `[runtime][head][weights][small entries]` into one file.
fn single(
    target: &Path,
    force: bool,
    runtime: &Runtime,
    shards: &[Shard],
    plan: &Plan,
    settings: &Settings,
) -> Result<()> {
    let mut output = Output::create(target, force, true)?;
    let weights_bytes: u64 = shards.iter().map(|shard| shard.bytes).sum();
    let mut progress = Progress::new("bundling", weights_bytes + runtime.bytes);
    write_bundle(&mut output, runtime, shards, plan, settings, &mut progress)?;
    drop(progress);
    finish(&[&output])
}

/// Writes the executable, with everything but the weights behind it, and the weights beside it.
fn pair(
    target: &Path,
    force: bool,
    runtime: &Runtime,
    shards: &[Shard],
    mut settings: Settings,
) -> Result<()> {
    let stem = weights::utf8_name(target)?;
    let stem = stem.strip_suffix(".exe").unwrap_or(stem);
    let names: Vec<String> =
        (1..=shards.len()).map(|number| shard_name(stem, number, shards.len())).collect();
    // Weights that already lie where they should are left alone.
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
    for (name, shard) in names.iter().zip(shards) {
        let mut input = open(&shard.path)?;
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
            // Where the file ends in a hole, only its length says so.
            output.file.set_len(shard.bytes).map_err(|error| write_failed(&path, &error))?;
            outputs.push(output);
            sums
        };
        settings.external.push(ManifestEntry {
            name: name.clone(),
            role: Role::Model,
            bytes: shard.bytes,
            sha256: Sha256Sum(sums.sha256),
            external: true,
        });
    }
    if runtime.kind == Kind::MachO {
        copy_runtime(&mut executable, runtime, &mut progress)?;
    } else {
        let plan = Plan::new(runtime.bytes, parts(runtime, &[])?)?;
        write_bundle(&mut executable, runtime, &[], &plan, &settings, &mut progress)?;
    }
    drop(progress);
    // The weights first: an executable without them would be the half of something.
    finish(&outputs.iter().chain([&executable]).collect::<Vec<_>>())
}

fn write_bundle(
    output: &mut Output,
    runtime: &Runtime,
    shards: &[Shard],
    plan: &Plan,
    settings: &Settings,
    progress: &mut Progress,
) -> Result<()> {
    let runtime_sha256 = copy_runtime(output, runtime, progress)?.sha256;
    let head = plan.head_entry();
    pad(output, runtime.bytes, plan.head_offset())?;
    write_at(output, plan.head_offset(), &head)?;
    let mut end = plan.head_offset() + head.len() as u64;
    let mut sums = Vec::new();
    let programs = runtime.programs.iter().map(|it| (&it.path, it.bytes, Some(it.sha256)));
    let weights = shards.iter().map(|shard| (&shard.path, shard.bytes, None));
    for (placed, (from, bytes, sha256)) in plan.parts().iter().zip(programs.chain(weights)) {
        pad(output, end, placed.data_offset)?;
        let path = output.target().to_owned();
        let sink = Sink { file: &mut output.file, path: &path };
        let tick = &mut |bytes| progress.add(bytes);
        let sum = copy(&mut open(from)?, from, bytes, Some(sink), tick)?;
        ensure!(
            sha256.is_none_or(|sha256| sha256 == sum.sha256),
            "{}: the file changed while it was read\nhint: try again",
            from.display()
        );
        // The header holds the data's CRC-32, so it is written after it.
        write_at(output, placed.header_offset, &plan.part_header(placed, sum.crc32))?;
        sums.push(sum);
        end = placed.data_offset + bytes;
    }
    let fixed = Fixed { runtime_sha256, parts: sums };
    let tail_bytes = plan.tail(&fixed, settings, plan.tail_start())?;
    pad(output, end, plan.tail_start())?;
    write_at(output, plan.tail_start(), &tail_bytes)?;

    let mapped = Mapped::of(&output.file, output.unfinished())?;
    let found = tail::read(mapped.bytes())
        .context("the new bundle does not read back; this is a fault of this program")?;
    ensure!(found.is_some(), "the new bundle does not read back; this is a fault of this program");
    Ok(())
}

fn copy_runtime(output: &mut Output, runtime: &Runtime, progress: &mut Progress) -> Result<Sums> {
    let path = output.target().to_owned();
    let sink = Sink { file: &mut output.file, path: &path };
    let tick = &mut |bytes| progress.add(bytes);
    let sums = match &runtime.changed {
        Some(front) => copy(&mut front.as_slice(), &runtime.path, runtime.bytes, Some(sink), tick)?,
        None => copy(&mut open(&runtime.path)?, &runtime.path, runtime.bytes, Some(sink), tick)?,
    };
    if let Some(expected) = runtime.sha256.filter(|expected| *expected != sums.sha256) {
        bail!(
            "the runtime in {}: SHA-256 {} expected, {} found\nhint: that bundle is damaged; fetch it again",
            runtime.path.display(),
            Sha256Sum(expected),
            Sha256Sum(sums.sha256)
        );
    }
    output.file.set_len(runtime.bytes).map_err(|error| write_failed(&path, &error))?;
    Ok(sums)
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

fn parts(runtime: &Runtime, shards: &[Shard]) -> Result<Vec<Part>> {
    let part = |shard: &Shard| {
        Ok(Part { name: shard.entry_name()?, role: Role::Model, bytes: shard.bytes })
    };
    runtime
        .programs
        .iter()
        .map(|program| Ok(program.part()))
        .chain(shards.iter().map(part))
        .collect()
}

fn inputs<'a>(runtime: &'a Runtime, shards: &'a [Shard]) -> Vec<&'a Path> {
    let programs = runtime.programs.iter().map(|program| program.path.as_path());
    let shards = shards.iter().map(|shard| shard.path.as_path());
    programs.chain(shards).chain([runtime.path.as_path()]).collect()
}

fn with_exe(target: &Path, kind: Kind) -> PathBuf {
    let has_exe = target.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("exe"));
    if kind != Kind::Pe || has_exe {
        return target.to_owned();
    }
    let mut name = target.as_os_str().to_owned();
    name.push(kind.ending());
    name.into()
}

fn refuse_inputs(target: &Path, inputs: &[&Path]) -> Result<()> {
    match inputs.iter().find(|input| same_file(input, target)) {
        Some(_) => bail!(
            "{}: this is one of the inputs\nhint: name another file with -o",
            target.display()
        ),
        None => Ok(()),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn seek(output: &mut Output, offset: u64) -> Result<()> {
    output
        .file
        .seek(SeekFrom::Start(offset))
        .map(drop)
        .map_err(|error| write_failed(output.target(), &error))
}

/// Fills a gap with zeros, really written: reading a hole through a mapping needs room on some file systems (tmpfs), and
/// ends the program where there is none.
fn pad(output: &mut Output, start: u64, end: u64) -> Result<()> {
    let zeros = vec![0; usize::try_from(end.saturating_sub(start))?];
    write_at(output, start, &zeros)?;
    seek(output, end)
}

fn write_at(output: &mut Output, offset: u64, bytes: &[u8]) -> Result<()> {
    seek(output, offset)?;
    output.file.write_all(bytes).map_err(|error| write_failed(output.target(), &error))
}
