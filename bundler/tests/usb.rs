//! A USB stick: what is on it, that FAT can hold its names and lengths, and that its programs find the weights.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{dist, gguf_part, have, names, run, run_fails, run_ok, sparse_gguf, stderr, workshop};
use sha2::{Digest, Sha256};
use tealight_bundle::gguf::{Gguf, Value};
use tealight_bundle::manifest::Sha256Sum;
use tealight_bundle::{Mapped, tail};

const ALL: [&str; 11] = [
    "README.txt",
    "SHA256SUMS",
    "Start chat (Windows on ARM).exe",
    "Start chat (Windows).exe",
    "Start chat (macOS).command",
    "start-chat-linux.sh",
    "tealight-linux-aarch64",
    "tealight-linux-x86_64",
    "tealight-macos-arm64",
    "tealight-macos-x86_64",
    "w.gguf",
];

fn hex(bytes: &[u8]) -> String {
    Sha256Sum(Sha256::digest(bytes).into()).to_string()
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

#[test]
fn a_program_for_each_system_shares_one_copy_of_the_weights() {
    let folder = workshop();
    let at = folder.path();
    dist(&at.join("dist"));
    let made = run_ok(
        at,
        &["usb", "stick", "-w", "w.gguf", "--name", "Tea", "--system-prompt", "be brief"],
    );
    assert_eq!(made.lines().count(), ALL.len());
    assert_eq!(names(&at.join("stick")), sorted(ALL.to_vec()));

    let sums = fs::read_to_string(at.join("stick/SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), ALL.len() - 1);
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        assert_eq!(sum, hex(&fs::read(at.join("stick").join(name)).unwrap()), "{name}");
    }
    for name in ALL.iter().filter(|name| name.contains("tealight-") || name.contains("Windows")) {
        let path = at.join("stick").join(name);
        assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
        let mapped = Mapped::open(&path).unwrap();
        let tail = tail::read(mapped.bytes()).unwrap().expect("a bundle");
        assert_eq!(tail.manifest().name.as_deref(), Some("Tea"));
        let prompt = tail.entry("system-prompt.txt").unwrap().range.clone();
        assert_eq!(&mapped.bytes()[prompt], b"be brief");
        let external = tail.manifest().entries.last().unwrap();
        assert!(external.external && external.name == "w.gguf");
        assert!(run_ok(&at.join("stick"), &["verify", name]).contains("verified"));
    }
    let text = fs::read_to_string(at.join("stick/README.txt")).unwrap();
    for said in ["Tea", "Español", "SmartScreen", "xattr -dr com.apple.quarantine", "noexec"] {
        assert!(text.contains(said), "{said}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode =
            fs::metadata(at.join("stick/tealight-linux-x86_64")).unwrap().permissions().mode();
        assert_eq!(mode & 0o100, 0o100);
    }

    // As elsewhere, nothing is replaced without --force; with it, the result is the same.
    let text = run_fails(at, &["usb", "stick", "-w", "w.gguf"]);
    assert!(text.contains("hint: --force"), "{text}");
    let again =
        ["usb", "stick", "-w", "w.gguf", "--name", "Tea", "--system-prompt", "be brief", "--force"];
    run_ok(at, &again);
    assert_eq!(fs::read_to_string(at.join("stick/SHA256SUMS")).unwrap(), sums);
}

#[test]
fn programs_missing_from_dist_are_left_out_and_reported() {
    let folder = workshop();
    let at = folder.path();
    let text = run_fails(at, &["usb", "stick", "-w", "w.gguf", "--dist", "page"]);
    assert!(text.contains("no runtimes") && text.contains("with --dist"), "{text}");
    assert!(!at.join("stick").exists());
    dist(&at.join("d"));
    for name in ["macos-arm64", "macos-x86_64", "windows-x86_64.exe", "windows-arm64.exe"] {
        fs::remove_file(at.join("d").join(format!("tealight-{name}"))).unwrap();
    }
    let output = run(at, &["usb", "stick", "-w", "w.gguf", "--dist", "d"]);
    let said = "no runtime for windows-x86_64, windows-arm64, macos-arm64, macos-x86_64, so";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
    let there: Vec<_> = ALL.into_iter().filter(|name| !name.contains("Start")).collect();
    let there: Vec<_> = there.into_iter().filter(|name| !name.contains("macos")).collect();
    assert_eq!(names(&at.join("stick")), sorted(there));
    let text = fs::read_to_string(at.join("stick/README.txt")).unwrap();
    assert!(!text.contains("SmartScreen") && !text.contains("quarantine"));
}

#[test]
fn a_failure_leaves_nothing() {
    let folder = workshop();
    let at = folder.path();
    dist(&at.join("dist"));
    // The last runtime looked at is not an executable for its target.
    fs::write(at.join("dist/tealight-linux-aarch64"), common::elf(1000)).unwrap();
    run_fails(at, &["usb", "stick", "-w", "w.gguf"]);
    assert!(!at.join("stick").exists());
    fs::remove_file(at.join("dist/tealight-linux-aarch64")).unwrap();
    fs::create_dir(at.join("stick")).unwrap();
    fs::write(at.join("stick/SHA256SUMS"), "mine").unwrap();
    run_fails(at, &["usb", "stick", "-w", "w.gguf"]);
    assert_eq!(names(&at.join("stick")), ["SHA256SUMS"]);
    assert_eq!(fs::read(at.join("stick/SHA256SUMS")).unwrap(), b"mine");
}

/// Writes a model with three tensors of `bytes` bytes each, which take no room on disk.
fn three_holes(path: &Path, bytes: u64) {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend(3_u64.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    for number in 0..3 {
        out.extend(1_u64.to_le_bytes());
        out.push(b'a' + number);
        out.extend(1_u32.to_le_bytes());
        out.extend(bytes.to_le_bytes());
        out.extend(24_u32.to_le_bytes()); // I8
        out.extend((u64::from(number) * bytes).to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(32), 0);
    fs::write(path, &out).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(out.len() as u64 + 3 * bytes).unwrap();
}

#[test]
#[cfg(target_pointer_width = "64")]
fn weights_above_four_gib_are_split_for_fat32_and_whole_for_exfat() {
    if !common::hashes_fast() || !common::has_holes() {
        return;
    }
    let folder = workshop();
    let at = folder.path();
    dist(&at.join("dist"));
    let bytes = 3 << 29; // two of them fit into a file for FAT32
    three_holes(&at.join("w.gguf"), bytes);
    let output = run(at, &["usb", "stick", "-w", "w.gguf", "--filesystem", "fat32"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("because FAT32 allows none above 4 GiB"));
    let mut tensors = Vec::new();
    for (number, name) in ["w-00001-of-00002.gguf", "w-00002-of-00002.gguf"].iter().enumerate() {
        let mapped = Mapped::open(&at.join("stick").join(name)).unwrap();
        assert!(u32::try_from(mapped.bytes().len()).is_ok(), "{name} is too long for FAT32");
        let gguf = Gguf::parse(mapped.bytes()).unwrap();
        let key = |key: &str| gguf.get(key).and_then(Value::as_u64);
        assert_eq!(key("split.no"), Some(number as u64));
        assert_eq!((key("split.count"), key("split.tensors.count")), (Some(2), Some(3)));
        tensors.extend(gguf.tensors().iter().map(|t| (t.name.clone(), t.range.len() as u64)));
    }
    let whole = ["a", "b", "c"].map(|name| (name.to_owned(), bytes));
    assert_eq!(tensors, whole);
    let mapped = Mapped::open(&at.join("stick/tealight-linux-x86_64")).unwrap();
    let tail = tail::read(mapped.bytes()).unwrap().unwrap();
    assert_eq!(tail.manifest().entries.iter().filter(|entry| entry.external).count(), 2);

    let output = run(at, &["usb", "big", "-w", "w.gguf", "--filesystem", "exfat"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(names(&at.join("big")), sorted(ALL.to_vec()));
    assert!(fs::metadata(at.join("big/w.gguf")).unwrap().len() > 3 * bytes);

    // One tensor that FAT32 cannot hold.
    sparse_gguf(&at.join("w.gguf"), (4 << 30) / 4);
    let text = run_fails(at, &["usb", "x", "-w", "w.gguf", "--filesystem", "fat32"]);
    assert!(text.contains("tensor `t` alone") && text.contains("hint: format the stick"), "{text}");
    assert!(!at.join("x").exists());
}

#[test]
fn split_weights_that_fit_stay_as_they_are() {
    let folder = workshop();
    let at = folder.path();
    dist(&at.join("dist"));
    for number in [1, 2] {
        let name = format!("m-0000{number}-of-00002.gguf");
        fs::write(at.join(name), gguf_part(number - 1, 2, 10)).unwrap();
    }
    run_ok(at, &["usb", "stick", "-w", "m-00002-of-00002.gguf"]);
    for number in [1, 2] {
        let name = format!("m-0000{number}-of-00002.gguf");
        assert_eq!(
            fs::read(at.join(&name)).unwrap(),
            fs::read(at.join("stick").join(&name)).unwrap()
        );
    }
}

/// The shells of old systems must be able to read the scripts, too.
#[test]
fn the_scripts_are_valid_in_every_shell() {
    let folder = workshop();
    let at = folder.path();
    dist(&at.join("dist"));
    run_ok(at, &["usb", "stick", "-w", "w.gguf"]);
    for shell in ["dash", "bash", "zsh", "busybox"] {
        if !have(shell) {
            continue;
        }
        for script in ["start-chat-linux.sh", "Start chat (macOS).command"] {
            let mut command = Command::new(shell);
            if shell == "busybox" {
                command.arg("sh");
            }
            let output = command.arg("-n").arg(at.join("stick").join(script)).output().unwrap();
            assert!(output.status.success(), "{shell} {script}: {}", stderr(&output));
        }
    }
}
