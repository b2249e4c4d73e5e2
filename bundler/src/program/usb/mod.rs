//! Fills a USB stick: a program for each system, one copy of the weights for all, files to click on, and a README.
//!
//! Input: weights, a `dist` folder, settings, the folder to fill. Output: files that FAT can hold. Each program is a
//! bundle without weights, whose manifest names the weights beside it.

pub mod filesystem;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tealight_bundle::Mapped;
use tealight_bundle::gguf::{Gguf, split};
use tealight_bundle::manifest::{ManifestEntry, Sha256Sum};
use tealight_bundle::tail::Role;
use tealight_bundle::tail::layout::check_name;
use tealight_bundle::tail::write::{Settings, Sums};

use super::copy::{Sink, copy, write_failed};
use super::output::{self, Output, same_file};
use super::progress::Progress;
use super::runtime::{self, Runtime};
use super::settings::{self, Change};
use super::target::Target;
use super::weights::{self, Shard, shard_name};
use super::write::{self, Layout};
use super::{answer, cli, human, note};
pub use filesystem::FileSystem;

/// The files to click on; the other programs keep their names from `dist`.
const WINDOWS_NAME: &str = "Start chat (Windows).exe";
const WINDOWS_ARM_NAME: &str = "Start chat (Windows on ARM).exe";
const MACOS_NAME: &str = "Start chat (macOS).command";
const LINUX_NAME: &str = "start-chat-linux.sh";
const README_NAME: &str = "README.txt";
const SUMS_NAME: &str = "SHA256SUMS";

const START_LINUX: &str = include_str!("start-linux.sh");
const START_MACOS: &str = include_str!("start-macos.sh");
const README: &str = include_str!("README.txt");

/// Longest file name on FAT and exFAT, in UTF-16 units.
const NAME_UNITS_MAX: usize = 255;

/// `tealight-bundle usb`.
pub fn run(args: &cli::Usb) -> Result<()> {
    let shards = weights::find(&args.weights)?;
    let runtimes = runtime::all(args.dist.as_deref())?;
    let change = Change::of(&args.settings)?;
    let mut settings = settings::defaults();
    change.apply(&mut settings);
    let stem = weights::stem(&args.weights)?;
    let name = settings.name.clone().unwrap_or_else(|| stem.to_owned());

    let made_folder = make_folder(&args.folder)?;
    let filled = fill(args, &shards, &runtimes, settings, stem, &name);
    if filled.is_err() && made_folder {
        // This removes the folder only if it is empty.
        let _ = fs::remove_dir(&args.folder);
    }
    let files = filled?;
    answer(
        &files.iter().fold(String::new(), |all, name| {
            format!("{all}{}\n", args.folder.join(name).display())
        }),
    )
}

/// Writes all files; returns their names.
fn fill(
    args: &cli::Usb,
    shards: &[Shard],
    runtimes: &[(Target, Runtime)],
    mut settings: Settings,
    stem: &str,
    name: &str,
) -> Result<Vec<String>> {
    let found = filesystem::of(&args.folder);
    let system = args.filesystem.or(found).unwrap_or(FileSystem::Fat32);
    let most = args.part_bytes.unwrap_or(system.file_bytes_max());
    let mut stick = Stick::new(args, shards.iter().map(|shard| shard.bytes).sum());

    if shards.iter().any(|shard| shard.bytes > most) {
        settings.external = stick.put_divided(shards, stem, most)?;
        note(format_args!(
            "note: the weights go into {} files, because {} allows none above 4 GiB",
            settings.external.len(),
            system.name()
        ));
    } else {
        settings.external = stick.put_whole(shards, stem)?;
    }
    for (target, runtime) in runtimes {
        let name = match target {
            Target::WindowsX86_64 => WINDOWS_NAME.to_owned(),
            Target::WindowsArm64 => WINDOWS_ARM_NAME.to_owned(),
            other => other.runtime_name(),
        };
        stick.put_program(&name, runtime, &settings)?;
    }
    let has = |wanted: &[Target]| runtimes.iter().any(|(target, _)| wanted.contains(target));
    let (linux, macos) = (
        has(&[Target::LinuxX86_64, Target::LinuxAarch64]),
        has(&[Target::MacosArm64, Target::MacosX86_64]),
    );
    if linux {
        stick.put_text(LINUX_NAME, START_LINUX, true)?;
    }
    if macos {
        stick.put_text(MACOS_NAME, START_MACOS, true)?;
    }
    let missing: Vec<_> =
        Target::ALL.iter().filter(|target| !has(&[**target])).map(|target| target.name()).collect();
    if !missing.is_empty() {
        note(format_args!(
            "note: found no runtime for {}, so the stick has none\nhint: `make dist` builds all of them",
            missing.join(", ")
        ));
    }
    let windows: Vec<_> =
        [(Target::WindowsX86_64, WINDOWS_NAME), (Target::WindowsArm64, WINDOWS_ARM_NAME)]
            .into_iter()
            .filter_map(|(target, name)| has(&[target]).then_some(name))
            .collect();
    let readme = readme(
        name,
        &windows,
        macos,
        linux.then(|| {
            if has(&[Target::LinuxX86_64]) { Target::LinuxX86_64 } else { Target::LinuxAarch64 }
        }),
    );
    stick.put_text(README_NAME, &readme, false)?;
    stick.finish()
}

/// The folder being filled.
struct Stick<'a> {
    args: &'a cli::Usb,
    progress: Progress,
    outputs: Vec<Output>,
    sums: BTreeMap<String, Sha256Sum>,
}

impl<'a> Stick<'a> {
    fn new(args: &'a cli::Usb, weights_bytes: u64) -> Stick<'a> {
        let progress = Progress::new("filling the stick", weights_bytes);
        Stick { args, progress, outputs: Vec::new(), sums: BTreeMap::new() }
    }

    /// Copies the weights as they are.
    fn put_whole(&mut self, shards: &[Shard], stem: &str) -> Result<Vec<ManifestEntry>> {
        let mut entries = Vec::new();
        for (number, shard) in (1..).zip(shards) {
            let name = shard_name(stem, number, shards.len());
            let mut input = write::open(&shard.path)?;
            let target = self.args.folder.join(&name);
            let sums = if same_file(&target, &shard.path) {
                note(format_args!(
                    "note: the weights stay where they are, in {}",
                    shard.path.display()
                ));
                let tick = &mut |bytes| self.progress.add(bytes);
                copy(&mut input, &shard.path, shard.bytes, None, tick)?
            } else {
                self.put(&name, &mut input, &shard.path, shard.bytes)?
            };
            entries.push(self.entry(name, shard.bytes, sums));
        }
        Ok(entries)
    }

    /// Splits the weights into files of at most `most` bytes.
    fn put_divided(
        &mut self,
        shards: &[Shard],
        stem: &str,
        most: u64,
    ) -> Result<Vec<ManifestEntry>> {
        let mapped: Vec<_> =
            shards.iter().map(|shard| Mapped::open(&shard.path)).collect::<Result<_, _>>()?;
        let parsed: Vec<_> = mapped
            .iter()
            .map(|mapped| {
                Gguf::parse(mapped.bytes()).with_context(|| mapped.path().display().to_string())
            })
            .collect::<Result<_>>()?;
        let files: Vec<_> = mapped.iter().map(Mapped::bytes).zip(&parsed).collect();
        let parts = split::split(&files, most)?;
        let mut inputs: Vec<File> =
            shards.iter().map(|shard| write::open(&shard.path)).collect::<Result<_>>()?;
        let mut entries = Vec::new();
        for (number, part) in (1..).zip(&parts) {
            let name = shard_name(stem, number, parts.len());
            for shard in shards {
                ensure!(
                    !same_file(&self.args.folder.join(&name), &shard.path),
                    "{}: the output is also an input\nhint: choose another folder",
                    shard.path.display()
                );
            }
            let mut reader = PartReader::new(part, &mut inputs);
            let path = shards.first().map_or(Path::new(""), |shard| &shard.path);
            let sums = self.put(&name, &mut reader, path, part.bytes())?;
            entries.push(self.entry(name, part.bytes(), sums));
        }
        Ok(entries)
    }

    fn entry(&mut self, name: String, bytes: u64, sums: Sums) -> ManifestEntry {
        let sha256 = Sha256Sum(sums.sha256);
        self.sums.insert(name.clone(), sha256);
        ManifestEntry { name, role: Role::Model, bytes, sha256, external: true }
    }

    /// Writes a bundle without weights.
    fn put_program(&mut self, name: &str, runtime: &Runtime, settings: &Settings) -> Result<()> {
        let mut output = self.begin(name, true)?;
        let layout = Layout::new(runtime, Vec::new())?;
        layout.write(&mut output, runtime, &[], settings, &mut self.progress)?;
        let bytes = output.file.metadata().map_or(0, |metadata| metadata.len());
        output.file.rewind().with_context(|| format!("cannot read back {name}"))?;
        let path = output.target().to_owned();
        let sums = copy(&mut output.file, &path, bytes, None, &mut |_| {})?;
        self.sums.insert(name.to_owned(), Sha256Sum(sums.sha256));
        self.outputs.push(output);
        Ok(())
    }

    fn put_text(&mut self, name: &str, text: &str, executable: bool) -> Result<()> {
        let mut output = self.begin(name, executable)?;
        let written = output.file.write_all(text.as_bytes());
        written.map_err(|error| write_failed(output.target(), &error))?;
        self.sums.insert(name.to_owned(), Sha256Sum(Sums::of(text.as_bytes()).sha256));
        self.outputs.push(output);
        Ok(())
    }

    fn put(
        &mut self,
        name: &str,
        from: &mut (impl Read + Send),
        path: &Path,
        bytes: u64,
    ) -> Result<Sums> {
        let mut output = self.begin(name, false)?;
        let target = output.target().to_owned();
        let sink = Sink { file: &mut output.file, path: &target };
        let tick = &mut |bytes| self.progress.add(bytes);
        let sums = copy(from, path, bytes, Some(sink), tick)?;
        // If the file ends in a hole, nothing was written there yet, so set its length.
        output.file.set_len(bytes).map_err(|error| write_failed(&target, &error))?;
        self.outputs.push(output);
        Ok(sums)
    }

    fn begin(&self, name: &str, executable: bool) -> Result<Output> {
        check_name(name).map_err(|why| {
            anyhow::anyhow!("`{name}`: the name {why}\nhint: rename the weights file")
        })?;
        ensure!(
            name.encode_utf16().count() <= NAME_UNITS_MAX,
            "`{name}`: the name is longer than the {NAME_UNITS_MAX} characters that FAT allows\n\
             hint: rename the weights file"
        );
        Output::create(&self.args.folder.join(name), self.args.force, executable)
    }

    /// Writes the checksums, and gives all files their final names.
    fn finish(mut self) -> Result<Vec<String>> {
        let line = |(name, sum): (&String, &Sha256Sum)| format!("{sum}  {name}\n");
        let text: String = self.sums.iter().map(line).collect();
        self.put_text(SUMS_NAME, &text, false)?;
        let bytes = |output: &Output| output.file.metadata().map_or(0, |metadata| metadata.len());
        let total: u64 = self.outputs.iter().map(bytes).sum();
        output::commit(&self.outputs.iter().collect::<Vec<_>>())?;
        drop(self.progress);
        note(format_args!(
            "filled {} with {} files ({})",
            self.args.folder.display(),
            self.outputs.len(),
            human(total)
        ));
        Ok(self.sums.into_keys().collect())
    }
}

/// Reads the bytes of a part, one piece after the other.
struct PartReader<'a> {
    header: Cursor<&'a [u8]>,
    pieces: std::slice::Iter<'a, split::Piece>,
    files: &'a mut [File],
    /// The current piece: index of its file, bytes left of it, and zeros left after it.
    file: usize,
    left: u64,
    zeros: u64,
}

impl<'a> PartReader<'a> {
    fn new(part: &'a split::WeightsPart, files: &'a mut [File]) -> PartReader<'a> {
        let header = Cursor::new(&part.header[..]);
        PartReader { header, pieces: part.pieces.iter(), files, file: 0, left: 0, zeros: 0 }
    }
}

impl Read for PartReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.header.read(out)?;
        if read > 0 || out.is_empty() {
            return Ok(read);
        }
        while self.left == 0 && self.zeros == 0 {
            let Some(piece) = self.pieces.next() else { return Ok(0) };
            (self.file, self.left, self.zeros) =
                (piece.file, piece.range.len() as u64, piece.padding);
            if let Some(file) = self.files.get_mut(self.file) {
                file.seek(SeekFrom::Start(piece.range.start as u64))?;
            }
        }
        let want = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        if self.left > 0 {
            let want = want(self.left);
            let Some(file) = self.files.get_mut(self.file) else { return Ok(0) };
            let read = file.read(&mut out[..want])?;
            self.left -= read as u64;
            return Ok(read);
        }
        let want = want(self.zeros);
        out[..want].fill(0);
        self.zeros -= want as u64;
        Ok(want)
    }
}

/// Makes the folder if it does not exist; returns whether it did.
fn make_folder(folder: &Path) -> Result<bool> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            ensure!(folder.is_dir(), "{}: expected a folder, found a file", folder.display());
            Ok(false)
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot create the folder {}", folder.display()))
        }
    }
}

/// The README with the sections for the systems on the stick, and line ends that every Windows shows.
fn readme(name: &str, windows: &[&str], macos: bool, linux: Option<Target>) -> String {
    let linux_program = linux.map(Target::runtime_name).unwrap_or_default();
    let mut out = String::new();
    let mut shown = true;
    for line in README.lines() {
        match line {
            "{{#windows}}" | "{{/both}}" => shown = !windows.is_empty(),
            "{{#both}}" => shown = windows.len() > 1,
            "{{#macos}}" => shown = macos,
            "{{#linux}}" => shown = linux.is_some(),
            "{{/windows}}" | "{{/macos}}" | "{{/linux}}" => shown = true,
            line if shown => {
                let line = line
                    .replace("{{name}}", name)
                    .replace("{{exe}}", windows.first().unwrap_or(&""))
                    .replace("{{arm}}", WINDOWS_ARM_NAME)
                    .replace("{{command}}", MACOS_NAME)
                    .replace("{{sh}}", LINUX_NAME)
                    .replace("{{linux}}", &linux_program);
                out.push_str(&line);
                out.push_str("\r\n");
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_only_what_is_there() {
        let both = [WINDOWS_NAME, WINDOWS_ARM_NAME];
        let all = readme("Tea", &both, true, Some(Target::LinuxX86_64));
        for name in [
            WINDOWS_NAME,
            WINDOWS_ARM_NAME,
            MACOS_NAME,
            LINUX_NAME,
            "tealight-linux-x86_64",
            "com.apple.quarantine",
        ] {
            assert_eq!(all.matches(name).count() % 2, 0, "{name}: once in each language");
            assert!(all.contains(name), "{name}");
        }
        assert!(all.starts_with("Tea\r\n") && !all.contains("{{"), "{all}");
        assert!(all.lines().all(|line| line.chars().count() <= 80));
        for (there, missing) in [(WINDOWS_NAME, WINDOWS_ARM_NAME), (WINDOWS_ARM_NAME, WINDOWS_NAME)]
        {
            let windows = readme("Tea", &[there], false, None);
            assert!(windows.contains(there) && !windows.contains(missing));
            assert!(!windows.contains(LINUX_NAME) && !windows.contains("macOS\r\n---"));
        }
        assert!(!readme("Tea", &[], true, None).contains("SmartScreen"));
    }

    #[test]
    fn every_name_is_valid_on_fat() {
        let programs = Target::ALL.map(Target::runtime_name);
        let fixed =
            [WINDOWS_NAME, WINDOWS_ARM_NAME, MACOS_NAME, LINUX_NAME, README_NAME, SUMS_NAME];
        for name in programs.iter().map(String::as_str).chain(fixed) {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }
}
