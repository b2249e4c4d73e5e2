//! Shared by the tests: small executables, weights and bundles.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tealight_bundle::macho::signature;
use tealight_bundle::tail::Role;
use tealight_bundle::tail::write::{Fixed, Settings, Small, Sums, TailPart, TailPlan};

/// A prime, so that no content repeats at an aligned offset.
const CYCLE: u8 = 251;

/// Bytes that cycle through 0 to 250.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..CYCLE).cycle().take(len).collect()
}

/// Bytes that look like a Linux executable.
pub fn elf(len: usize) -> Vec<u8> {
    let mut bytes = pattern(len);
    bytes[..4].copy_from_slice(b"\x7fELF");
    bytes
}

/// Bytes that look like a Windows executable.
pub fn pe() -> Vec<u8> {
    let mut bytes = pattern(0x400);
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c..0x40].copy_from_slice(&0x80_u32.to_le_bytes());
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes
}

/// A CPU type in Mach-O headers.
pub const ARM64: u32 = 0x0100_000c;
/// The other CPU type.
pub const X86_64: u32 = 0x0100_0007;

/// Bytes that look like a macOS executable: four segments, every table that a linker makes, a signature.
pub fn mach_o() -> Vec<u8> {
    MachO::default().bytes()
}

/// An executable for macOS, with options.
pub struct MachO {
    pub processor: u32,
    pub signed: bool,
    /// Where the code begins; the space between the load commands and it is free.
    pub room: u32,
    /// An extra load command; empty for none.
    pub more: Vec<u8>,
}

impl Default for MachO {
    fn default() -> MachO {
        MachO { processor: ARM64, signed: true, room: 0x800, more: Vec::new() }
    }
}

impl MachO {
    pub fn bytes(&self) -> Vec<u8> {
        const BASE: u64 = 1 << 32;
        const LINKEDIT: u32 = 0x8000;
        // The contents of the tables. Nothing here reads them, but they must be the same after a move.
        let tables: [&[u8]; 7] = [
            &[0x11; 56], // chained fixups
            &[0x22; 24], // exports trie
            &[0x33; 8],  // function starts
            &[],         // data in code
            &symbol(),
            &[0, 0, 0, 0, 0, 0, 0, 0], // indirect symbols
            b" \0_main\0",
        ];
        let mut linkedit = Vec::new();
        let at = tables.map(|table| {
            let offset = LINKEDIT + u32::try_from(linkedit.len()).unwrap();
            linkedit.extend_from_slice(table);
            (offset, u32::try_from(table.len()).unwrap())
        });
        let signature = (LINKEDIT + linkedit.len() as u32).next_multiple_of(16);
        let signature_len = if self.signed { signature::len(signature.into()) as u32 } else { 0 };
        let end = if self.signed { signature + signature_len } else { at[6].0 + at[6].1 };

        let mut commands = vec![
            segment("__PAGEZERO", [0, BASE, 0, 0], 0, &[]),
            segment(
                "__TEXT",
                [BASE, 0x4000, 0, 0x4000],
                5,
                &[("__text", BASE + u64::from(self.room), 0x1000, self.room)],
            ),
            segment(
                "__DATA",
                [BASE + 0x4000, 0x4000, 0x4000, 0x4000],
                3,
                &[("__data", BASE + 0x4000, 16, 0x4000)],
            ),
            segment(
                "__LINKEDIT",
                [BASE + 0x8000, 0x4000, LINKEDIT.into(), (end - LINKEDIT).into()],
                1,
                &[],
            ),
            command(0x8000_0034, &[at[0].0, at[0].1]),
            command(0x8000_0033, &[at[1].0, at[1].1]),
            command(0x2, &[at[4].0, 1, at[6].0, at[6].1]),
            command(0xb, &[0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, at[5].0, 2, 0, 0, 0, 0]),
            text_command(0xe, &[12], "/usr/lib/dyld"),
            command(0x1b, &[1, 2, 3, 4]),
            command(0x32, &[1, 0x000b_0000, 0x000b_0000, 0]),
            command(0x2a, &[0, 0]),
            command(0x8000_0028, &[self.room, 0, 0, 0]),
            text_command(0xc, &[24, 2, 0x10000, 0x10000], "/usr/lib/libSystem.B.dylib"),
            command(0x26, &[at[2].0, at[2].1]),
            command(0x29, &[at[3].0, at[3].1]),
        ];
        if !self.more.is_empty() {
            commands.push(self.more.clone());
        }
        if self.signed {
            commands.push(command(0x1d, &[signature, signature_len]));
        }
        let len: usize = commands.iter().map(Vec::len).sum();
        let mut bytes = Vec::new();
        let count = u32::try_from(commands.len()).unwrap();
        for field in [0xfeed_facf, self.processor, 0, 2, count, len as u32, 0x0020_0085, 0] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(commands.concat());
        bytes.resize(self.room as usize, 0);
        bytes.extend(pattern(LINKEDIT as usize - self.room as usize));
        bytes.extend(linkedit);
        if self.signed {
            bytes.resize(signature as usize, 0);
            let pages =
                signature::hash_pages(&mut &bytes[..], signature.into(), &mut |_| {}).unwrap();
            bytes.extend(signature::make(signature.into(), 0x4000, &pages));
        }
        bytes
    }
}

/// One symbol: `_main`, external, in section 1.
fn symbol() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0xf, 1, 0, 0];
    bytes.extend(((1_u64 << 32) + 0x800).to_le_bytes());
    bytes
}

fn command(id: u32, fields: &[u32]) -> Vec<u8> {
    let len = 8 + 4 * fields.len() as u32;
    [id, len].iter().chain(fields).flat_map(|field| field.to_le_bytes()).collect()
}

fn text_command(id: u32, fields: &[u32], text: &str) -> Vec<u8> {
    let mut bytes = command(id, fields);
    bytes.extend(text.bytes());
    bytes.resize((bytes.len() + 1).next_multiple_of(8), 0);
    let len = (bytes.len() as u32).to_le_bytes();
    bytes[4..8].copy_from_slice(&len);
    bytes
}

/// A segment command. `place`: address, bytes in memory, offset, bytes in the file. `sections`: (name, address, bytes,
/// offset).
fn segment(
    name: &str,
    place: [u64; 4],
    protection: u32,
    sections: &[(&str, u64, u64, u32)],
) -> Vec<u8> {
    let name16 = |name: &str| {
        let mut field = name.as_bytes().to_vec();
        field.resize(16, 0);
        field
    };
    let words = |fields: &[u32]| fields.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    let mut bytes = words(&[0x19, 72 + 80 * sections.len() as u32]);
    bytes.extend(name16(name));
    bytes.extend(place.iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(words(&[protection, protection, sections.len() as u32, 0]));
    for (section, address, len, offset) in sections {
        bytes.extend(name16(section));
        bytes.extend(name16(name));
        bytes.extend(address.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(words(&[*offset, 2, 0, 0, 0, 0, 0, 0]));
    }
    bytes
}

/// Makes a folder like the one of `make dist`, with a stand-in for each runtime.
pub fn dist(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (name, machine) in [("linux-x86_64", 62), ("linux-aarch64", 183)] {
        let mut bytes = elf(1000);
        bytes[4..6].copy_from_slice(&[2, 1]);
        bytes[18..20].copy_from_slice(&[machine, 0]);
        std::fs::write(folder.join(format!("tealight-{name}")), bytes).unwrap();
    }
    for (name, machine) in [("windows-x86_64", 0x8664_u16), ("windows-arm64", 0xaa64)] {
        let mut bytes = pe();
        bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        std::fs::write(folder.join(format!("tealight-{name}.exe")), bytes).unwrap();
    }
    for (name, processor) in [("macos-x86_64", X86_64), ("macos-arm64", ARM64)] {
        let bytes = MachO { processor, ..MachO::default() }.bytes();
        std::fs::write(folder.join(format!("tealight-{name}")), bytes).unwrap();
    }
}

/// The header of a GGUF file with one tensor of `floats` 32-bit floats; the tensor's bytes must follow.
pub fn gguf_header(floats: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.push(b't');
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(floats.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}

/// One part of a model, `number` from 0.
pub fn gguf_part(number: u32, count: u32, floats: usize) -> Vec<u8> {
    let whole = gguf_header(floats as u64);
    let mut bytes = whole[..16].to_vec();
    bytes.extend(2_u64.to_le_bytes());
    for (key, value) in [("split.no", number), ("split.count", count)] {
        bytes.extend((key.len() as u64).to_le_bytes());
        bytes.extend(key.as_bytes());
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(&whole[24..]);
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(pattern(floats * 4));
    bytes
}

/// A whole GGUF file.
pub fn gguf(floats: usize) -> Vec<u8> {
    let mut bytes = gguf_header(floats as u64);
    bytes.extend(pattern(floats * 4));
    bytes
}

/// Writes a whole GGUF file of which only the header takes room on disk.
pub fn sparse_gguf(path: &Path, floats: u64) {
    let header = gguf_header(floats);
    std::fs::write(path, &header).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(header.len() as u64 + floats * 4).unwrap();
}

pub fn small(name: &str, role: Role, data: &[u8]) -> Small {
    Small { name: name.to_owned(), role, data: data.to_vec() }
}

/// Settings with a bit of everything; tests vary the `prompt`.
pub fn settings(prompt: &str) -> Settings {
    Settings {
        name: Some("Tea".to_owned()),
        small: vec![
            small("web/index.html", Role::Web, b"<!doctype html><title>tea</title>"),
            small("web/a.js", Role::Web, b"export const a = 1;\n"),
            small("web/b.js", Role::Web, b"export const b = 2;\n"),
            small(".args", Role::Args, b"--temp\n0.2\n...\n"),
            small("system-prompt.txt", Role::SystemPrompt, prompt.as_bytes()),
            small("license/LICENSE", Role::License, b"do what you like"),
        ],
        external: Vec::new(),
    }
}

/// A plan and the checksums that go with it.
pub fn plan(runtime: &[u8], parts: &[(&str, &[u8])]) -> (TailPlan, Fixed) {
    let part = |(name, data): &(&str, &[u8])| TailPart {
        name: (*name).to_owned(),
        role: Role::Model,
        bytes: data.len() as u64,
    };
    let plan = TailPlan::new(runtime.len() as u64, parts.iter().map(part).collect()).unwrap();
    let sums = parts.iter().map(|(_, data)| Sums::of(data)).collect();
    (plan, Fixed { runtime_sha256: Sums::of(runtime).sha256, parts: sums })
}

/// A bundle in memory.
pub fn bundle(runtime: &[u8], parts: &[(&str, &[u8])], settings: &Settings) -> Vec<u8> {
    let (plan, fixed) = plan(runtime, parts);
    let mut bytes = runtime.to_vec();
    let put = |bytes: &mut Vec<u8>, offset: u64, data: &[u8]| {
        let offset = usize::try_from(offset).unwrap();
        bytes.resize(bytes.len().max(offset), 0);
        bytes.truncate(offset);
        bytes.extend_from_slice(data);
    };
    put(&mut bytes, plan.head_offset(), &plan.head_entry());
    for ((placed, (_, data)), sums) in plan.parts().iter().zip(parts).zip(&fixed.parts) {
        put(&mut bytes, placed.header_offset, &plan.part_header(placed, sums.crc32));
        put(&mut bytes, placed.data_offset, data);
    }
    let tail = plan.tail(&fixed, settings, plan.tail_start()).unwrap();
    put(&mut bytes, plan.tail_start(), &tail);
    bytes
}

/// A small bundle with two weights entries.
pub fn sample() -> Vec<u8> {
    bundle(
        &elf(1000),
        &[
            ("weights/a-00001-of-00002.gguf", &gguf(10)),
            ("weights/a-00002-of-00002.gguf", &gguf(1)),
        ],
        &settings("be brief"),
    )
}

/// The program, to be run in `folder`.
pub fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tealight-bundle"));
    command.current_dir(folder);
    command
}

/// Runs the program in `folder` with these arguments.
pub fn run(folder: &Path, args: &[&str]) -> Output {
    program(folder).args(args).output().unwrap()
}

/// Like [`run`], but must succeed; returns stdout.
pub fn run_ok(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Like [`run`], but must fail with exit code 1; returns stderr.
pub fn run_fails(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
    assert!(output.stdout.is_empty(), "{args:?}: an answer beside an error");
    let stderr = stderr(&output);
    assert!(stderr.starts_with("error: ") || stderr.starts_with("note: "), "{stderr}");
    stderr
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a runtime `rt`, weights `w.gguf` and a page `page/index.html`.
pub fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rt"), elf(1000)).unwrap();
    std::fs::write(folder.path().join("w.gguf"), gguf(1000)).unwrap();
    std::fs::create_dir(folder.path().join("page")).unwrap();
    std::fs::write(folder.path().join("page/index.html"), "<!doctype html>").unwrap();
    folder
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whether a program can be started. If not, prints a note that the test is skipped.
pub fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        eprintln!("skipped: no `{program}` on this machine");
    }
    found
}

/// Whether this build is fast enough for a test that hashes gigabytes. If not, prints a note that it is skipped.
pub fn hashes_fast() -> bool {
    let data = pattern(16 << 20);
    let started = Instant::now();
    std::hint::black_box(tealight_bundle::tail::write::Sums::of(&data));
    let fast = started.elapsed() < Duration::from_millis(60);
    if !fast {
        eprintln!("skipped: 4 GiB would take too long in this build; try --release");
    }
    fast
}

/// Whether the file system of the temporary folder keeps holes. If not, prints a note that the test is skipped.
pub fn has_holes() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        if file.metadata().unwrap().blocks() * 512 < 1 << 20 {
            return true;
        }
    }
    eprintln!("skipped: the file system of the temporary folder keeps no holes");
    false
}
