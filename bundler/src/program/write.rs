//! Writes one bundle: `[runtime][head][weights][small entries]`, and for macOS the rest of the runtime and a signature.
//!
//! Input: a runtime, where the weights are, settings. Output: a file that reads back as a bundle.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tealight_bundle::Mapped;
use tealight_bundle::macho::{Image, MachError, Placed, signature};
use tealight_bundle::manifest::Sha256Sum;
use tealight_bundle::tail;
use tealight_bundle::tail::write::{Fixed, Settings, Sums, TailPart, TailPlan};

use super::copy::{Sink, copy, write_failed};
use super::executable::{ExecutableFormat, PE_BYTES_MAX};
use super::human;
use super::output::Output;
use super::progress::Progress;
use super::runtime::Runtime;
use super::source::Source;
use super::universal::program::Program;

/// The layout of a bundle.
pub struct Layout {
    plan: TailPlan,
    /// For macOS: the executable around the tail.
    image: Option<Image>,
}

impl Layout {
    /// Lays out a bundle of this runtime, the programs that go with it, and these parts.
    pub fn new(runtime: &Runtime, parts: Vec<TailPart>) -> Result<Layout> {
        let parts = runtime.programs.iter().map(Program::part).chain(parts).collect();
        if runtime.format != ExecutableFormat::MachO {
            return Ok(Layout { plan: TailPlan::new(runtime.bytes, parts)?, image: None });
        }
        let mapped = Mapped::open(&runtime.path)?;
        let image = Image::parse(mapped.bytes())
            .with_context(|| format!("the runtime {}", runtime.path.display()))?;
        let plan = TailPlan::within(image.front_end(), runtime.bytes, parts)?;
        Ok(Layout { plan, image: Some(image) })
    }

    /// Where the tail ends; the file ends there too, except for macOS.
    pub fn tail_end(&self, settings: &Settings) -> Result<u64> {
        Ok(self.plan.file_bytes(settings)?)
    }

    /// Why the bundle would be too long for its system to start; `None` if it is not.
    pub fn too_long(&self, runtime: &Runtime, settings: &Settings) -> Result<Option<String>> {
        let tail_end = self.tail_end(settings)?;
        if runtime.format == ExecutableFormat::Pe
            && tail_end > PE_BYTES_MAX
            && runtime.programs.is_empty()
        {
            return Ok(Some(format!(
                "Windows does not start an .exe above 4 GiB, and this one would be {}",
                human(tail_end)
            )));
        }
        match self.image.as_ref().map(|image| image.place(tail_end)) {
            Some(Err(MachError::TooLong { .. })) => Ok(Some(format!(
                "a signed macOS executable cannot be larger than 4 GiB, and this one would be {}",
                human(tail_end)
            ))),
            Some(Err(error)) => {
                Err(error).with_context(|| format!("the runtime {}", runtime.path.display()))
            }
            _ => Ok(None),
        }
    }

    /// Writes the bundle and returns the checksums of what went in. `sources` are the parts that it was laid out with.
    pub fn write(
        &self,
        output: &mut Output,
        runtime: &Runtime,
        sources: &[Source<'_>],
        settings: &Settings,
        progress: &mut Progress,
    ) -> Result<Fixed> {
        let plan = &self.plan;
        let placed = match &self.image {
            None => None,
            Some(image) => Some((image, image.place(plan.file_bytes(settings)?)?)),
        };
        let (runtime_sha256, front_end) = match &placed {
            None => (copy_runtime(output, runtime, progress)?, runtime.bytes),
            Some((image, placed)) => {
                put_front(output, runtime, image, placed, progress)?;
                (sum_of_runtime(runtime)?, image.front_end())
            }
        };
        let head = plan.head_entry();
        pad(output, front_end, plan.head_offset())?;
        write_at(output, plan.head_offset(), &head)?;
        let mut end = plan.head_offset() + head.len() as u64;
        let mut sums = Vec::new();
        let programs: Vec<_> = runtime.programs.iter().map(Program::source).collect();
        for (part, source) in plan.parts().iter().zip(programs.iter().chain(sources)) {
            pad(output, end, part.data_offset)?;
            let sum = put(output, source, progress)?;
            ensure!(
                source.sha256.is_none_or(|sha256| sha256 == sum.sha256),
                "{}: the file changed while it was being read\nhint: try again",
                source.path.display()
            );
            // The header holds the data's CRC-32, so it is written after the data.
            write_at(output, part.header_offset, &plan.part_header(part, sum.crc32))?;
            sums.push(sum);
            end = part.data_offset + source.bytes;
        }
        let fixed = Fixed { runtime_sha256, parts: sums };
        let tail_bytes = plan.tail(&fixed, settings, plan.tail_start())?;
        pad(output, end, plan.tail_start())?;
        write_at(output, plan.tail_start(), &tail_bytes)?;
        if let Some((image, placed)) = &placed {
            let tail_end = plan.tail_start() + tail_bytes.len() as u64;
            put_rest(output, runtime, image, placed, tail_end, progress)?;
        }

        let mapped = Mapped::of(&output.file, output.unfinished())?;
        let found = tail::read(mapped.bytes())
            .context("the new bundle cannot be read back; this is a bug in tealight-bundle")?;
        ensure!(
            found.is_some(),
            "the new bundle cannot be read back; this is a bug in tealight-bundle"
        );
        Ok(fixed)
    }
}

/// Copies an executable as it is; returns its SHA-256.
pub fn copy_runtime(
    output: &mut Output,
    runtime: &Runtime,
    progress: &mut Progress,
) -> Result<[u8; 32]> {
    ensure!(
        !runtime.in_segment,
        "the runtime {} is a macOS bundle, from which the original executable cannot be recovered\n\
         hint: give the runtime that it was made from, or leave out --pair",
        runtime.path.display()
    );
    let sums = match &runtime.changed {
        Some(front) => {
            let path = output.target().to_owned();
            let sink = Sink { file: &mut output.file, path: &path };
            let tick = &mut |bytes| progress.add(bytes);
            copy(&mut front.as_slice(), &runtime.path, runtime.bytes, Some(sink), tick)?
        }
        None => put(output, &Source::part_of(&runtime.path, 0..runtime.bytes), progress)?,
    };
    if let Some(expected) = runtime.sha256.filter(|expected| *expected != sums.sha256) {
        bail!(
            "the runtime in {}: expected SHA-256 {}, found {}\nhint: that bundle is damaged; fetch it again",
            runtime.path.display(),
            Sha256Sum(expected),
            Sha256Sum(sums.sha256)
        );
    }
    let path = output.target().to_owned();
    output.file.set_len(runtime.bytes).map_err(|error| write_failed(&path, &error))?;
    Ok(sums.sha256)
}

/// Writes the part of an executable for macOS before the tail, with its new header.
fn put_front(
    output: &mut Output,
    runtime: &Runtime,
    image: &Image,
    placed: &Placed,
    progress: &mut Progress,
) -> Result<()> {
    let front = Source::part_of(&runtime.path, 0..image.front_end());
    put(output, &front, progress)?;
    write_at(output, 0, &placed.header)?;
    seek(output, image.front_end())
}

/// Writes the part behind the tail, and the signature of everything.
fn put_rest(
    output: &mut Output,
    runtime: &Runtime,
    image: &Image,
    placed: &Placed,
    tail_end: u64,
    progress: &mut Progress,
) -> Result<()> {
    let moved = image.moved();
    let moved_bytes = moved.end - moved.start;
    pad(output, tail_end, placed.linkedit)?;
    put(output, &Source::part_of(&runtime.path, moved), progress)?;
    pad(output, placed.linkedit + moved_bytes, placed.signature)?;
    seek(output, 0)?;
    let path = output.target().to_owned();
    let pages = signature::hash_pages(&mut output.file, placed.signature, &mut |bytes| {
        progress.add(bytes);
    })
    .with_context(|| format!("cannot read back {}", path.display()))?;
    let signature = signature::make(placed.signature, image.text_bytes(), &pages);
    write_at(output, placed.signature, &signature)?;
    output.file.set_len(placed.file_bytes).map_err(|error| write_failed(&path, &error))
}

/// The SHA-256 of the runtime before it was changed.
fn sum_of_runtime(runtime: &Runtime) -> Result<[u8; 32]> {
    if let Some(sha256) = runtime.sha256 {
        return Ok(sha256);
    }
    let mut file = open(&runtime.path)?;
    Ok(copy(&mut file, &runtime.path, runtime.bytes, None, &mut |_| {})?.sha256)
}

/// Copies a source to the output's current position.
fn put(output: &mut Output, source: &Source<'_>, progress: &mut Progress) -> Result<Sums> {
    let path = output.target().to_owned();
    let sink = Sink { file: &mut output.file, path: &path };
    let tick = &mut |bytes| progress.add(bytes);
    let mut input = open(source.path)?;
    input
        .seek(SeekFrom::Start(source.offset))
        .with_context(|| format!("cannot read {}", source.path.display()))?;
    copy(&mut input, source.path, source.bytes, Some(sink), tick)
}

pub fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn seek(output: &mut Output, offset: u64) -> Result<()> {
    output
        .file
        .seek(SeekFrom::Start(offset))
        .map(drop)
        .map_err(|error| write_failed(output.target(), &error))
}

/// Fills a gap with real zeros, not a hole: on some file systems (tmpfs) reading a hole through a mapping needs room,
/// and ends the program if there is none.
fn pad(output: &mut Output, start: u64, end: u64) -> Result<()> {
    let zeros = vec![0; usize::try_from(end.saturating_sub(start))?];
    write_at(output, start, &zeros)?;
    seek(output, end)
}

fn write_at(output: &mut Output, offset: u64, bytes: &[u8]) -> Result<()> {
    seek(output, offset)?;
    output.file.write_all(bytes).map_err(|error| write_failed(output.target(), &error))
}
