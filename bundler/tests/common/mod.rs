//! What the tests share: small executables, weights and bundles.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::Path;
use std::process::{Command, Output};

use tealight_bundle::tail::Role;
use tealight_bundle::tail::write::{Fixed, Part, Plan, Settings, Small, Sums};

/// A prime, so that no content repeats at an aligned place.
const CYCLE: u8 = 251;

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..CYCLE).cycle().take(len).collect()
}

/// What Linux would take for an executable.
pub fn elf(len: usize) -> Vec<u8> {
    let mut bytes = pattern(len);
    bytes[..4].copy_from_slice(b"\x7fELF");
    bytes
}

/// What Windows would take for an executable.
pub fn pe() -> Vec<u8> {
    let mut bytes = pattern(0x400);
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c..0x40].copy_from_slice(&0x80_u32.to_le_bytes());
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes
}

/// What macOS would take for an executable.
pub fn mach_o() -> Vec<u8> {
    let mut bytes = pattern(0x400);
    bytes[..4].copy_from_slice(&0xfeed_facf_u32.to_le_bytes());
    bytes
}

/// A folder such as `make dist` makes, with what stands in for each runtime.
pub fn dist(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (name, machine) in [("linux-x86_64", 62), ("linux-aarch64", 183)] {
        let mut bytes = elf(1000);
        bytes[4..6].copy_from_slice(&[2, 1]);
        bytes[18..20].copy_from_slice(&[machine, 0]);
        std::fs::write(folder.join(format!("tealight-{name}")), bytes).unwrap();
    }
    let mut bytes = pe();
    bytes[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
    std::fs::write(folder.join("tealight-windows-x86_64.exe"), bytes).unwrap();
    for (name, processor) in [("macos-x86_64", 0x0100_0007_u32), ("macos-arm64", 0x0100_000c)] {
        let mut bytes = mach_o();
        bytes[4..8].copy_from_slice(&processor.to_le_bytes());
        std::fs::write(folder.join(format!("tealight-{name}")), bytes).unwrap();
    }
}

/// The start of a GGUF file with one tensor of that many 32-bit floats; the tensor's bytes follow.
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

/// A whole GGUF file.
pub fn gguf(floats: usize) -> Vec<u8> {
    let mut bytes = gguf_header(floats as u64);
    bytes.extend(pattern(floats * 4));
    bytes
}

/// A whole GGUF file of which only the header takes room on disk.
pub fn sparse_gguf(path: &Path, floats: u64) {
    let header = gguf_header(floats);
    std::fs::write(path, &header).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(header.len() as u64 + floats * 4).unwrap();
}

pub fn small(name: &str, role: Role, data: &[u8]) -> Small {
    Small { name: name.to_owned(), role, data: data.to_vec() }
}

/// Some of everything, with `prompt` as what changes.
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

/// A plan and the sums that go with it.
pub fn plan(runtime: &[u8], parts: &[(&str, &[u8])]) -> (Plan, Fixed) {
    let part = |(name, data): &(&str, &[u8])| Part {
        name: (*name).to_owned(),
        role: Role::Model,
        bytes: data.len() as u64,
    };
    let plan = Plan::new(runtime.len() as u64, parts.iter().map(part).collect()).unwrap();
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

/// As [`run`], and it must succeed; its stdout.
pub fn run_ok(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// As [`run`], and it must fail with exit code 1; its stderr.
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

/// Whether a program can be started; a test that needs it and lacks it says so and passes.
pub fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        eprintln!("skipped: no `{program}` on this machine");
    }
    found
}
