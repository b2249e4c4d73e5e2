//! One file for every system: what is in it. Running it is tested in `tests/e2e/test_universal.py`.

mod common;
#[path = "common/windows.rs"]
mod windows;

use std::path::Path;

use common::{dist, gguf, names, program, run, run_fails, run_ok, sparse_gguf, stderr, workshop};
use tealight_bundle::tail::{self, Role};
use tealight_bundle::{Mapped, Tail};

const MAKE: [&str; 7] = ["--universal", "--dist", "dist", "--weights", "w.gguf", "-o", "chat"];

const BEHIND: [&str; 4] = [
    "runtime/tealight-macos-arm64",
    "runtime/tealight-macos-x86_64",
    "runtime/tealight-linux-x86_64",
    "runtime/tealight-linux-aarch64",
];

fn workshop_with_dist() -> tempfile::TempDir {
    let folder = workshop();
    dist(&folder.path().join("dist"));
    let windows = folder.path().join("dist/tealight-windows-x86_64.exe");
    std::fs::write(windows, windows::executable()).unwrap();
    folder
}

fn open(path: &Path) -> (Mapped, Tail) {
    let mapped = Mapped::open(path).unwrap();
    let tail = tail::read(mapped.bytes()).unwrap().expect("a bundle");
    (mapped, tail)
}

/// The script's entry for a program: its first block, its length, and the start of its SHA-256.
fn known(front: &[u8], target: &str) -> (usize, usize, String) {
    let script = String::from_utf8_lossy(&front[4096..4 * 4096]);
    let line = script.lines().find(|line| line.trim_start().starts_with(&format!("{target})")));
    let line = line.expect("a line for each target");
    let field = |name: &str| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
        word.expect("each field").to_owned()
    };
    let number = |name: &str| field(name).parse().unwrap();
    (number("tl_block="), number("tl_bytes="), field("tl_name="))
}

/// Checks that the script finds each program where it lies.
fn check(bundle: &Path, dist: &Path) {
    let (mapped, tail) = open(bundle);
    let runtimes: Vec<_> = tail.with_role(Role::Runtime).collect();
    assert_eq!(runtimes.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), BEHIND);
    for entry in runtimes {
        let name = entry.name.strip_prefix("runtime/").unwrap();
        let content = std::fs::read(dist.join(name)).unwrap();
        let target = name.strip_prefix("tealight-").unwrap();
        let (block, bytes, sum) = known(mapped.bytes(), target);
        assert_eq!(mapped.bytes()[block * 65_536..][..bytes], content, "{name}");
        assert_eq!(mapped.bytes()[entry.range.clone()], content, "{name}");
        let expected = tealight_bundle::manifest::Sha256Sum(entry.sha256).to_string();
        assert!(sum.len() == 32 && expected.starts_with(&sum), "{sum}");
    }
}

#[test]
fn it_holds_a_program_for_every_system_and_a_script_that_finds_them() {
    let folder = workshop_with_dist();
    let at = folder.path();
    assert_eq!(run_ok(at, &MAKE), "chat.exe\n");
    let bundle = at.join("chat.exe");
    check(&bundle, &at.join("dist"));
    let (mapped, tail) = open(&bundle);
    assert!(mapped.bytes().starts_with(b"MZtealight='\n"));
    let model = tail.with_role(Role::Model).next().unwrap();
    assert_eq!(mapped.bytes()[model.range.clone()], gguf(1000));
    assert_eq!(model.range.start % 65_536, 0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&bundle).unwrap().permissions().mode() & 0o100, 0o100);
    }
    let first = std::fs::read(&bundle).unwrap();
    run_ok(at, &[&MAKE[..], &["--force"]].concat());
    assert!(std::fs::read(&bundle).unwrap() == first, "the same inputs, other bytes");
}

#[test]
fn list_verify_extract_and_set_handle_it() {
    let folder = workshop_with_dist();
    let at = folder.path();
    run_ok(at, &MAKE);
    let bundle = at.join("chat.exe");
    let before = std::fs::read(&bundle).unwrap();
    let listed = run_ok(at, &["list", "chat.exe"]);
    assert!(BEHIND.iter().all(|name| listed.contains(name)), "{listed}");
    let listed: serde_json::Value =
        serde_json::from_str(&run_ok(at, &["list", "--json", "chat.exe"])).unwrap();
    assert_eq!(listed["entries"][1]["role"], "runtime");
    run_ok(at, &["verify", "chat.exe"]);

    run_ok(at, &["set", "chat.exe", "--system-prompt", &"be brief ".repeat(1000)]);
    check(&bundle, &at.join("dist"));
    run_ok(at, &["verify", "chat.exe"]);
    run_ok(at, &["set", "chat.exe", "--no-system-prompt"]);
    assert!(std::fs::read(&bundle).unwrap() == before, "there and back again");

    run_ok(at, &["extract", "chat.exe", "-o", "out"]);
    for name in BEHIND {
        let out = at.join("out").join(name);
        let content = std::fs::read(at.join("dist").join(&name["runtime/".len()..])).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), content);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o100, 0o100);
        }
    }
    run_ok(at, &["extract", "chat.exe", "--runtime", "-o", "front"]);
    assert_eq!(names(&at.join("front")), ["tealight.exe"]);
    // Its script refers to programs that are no longer there; used as the front again, it gets a new one.
    std::fs::copy(at.join("front/tealight.exe"), at.join("dist/tealight-windows-x86_64.exe"))
        .unwrap();
    run_ok(at, &[&MAKE[..6], &["again"]].concat());
    assert!(std::fs::read(at.join("again.exe")).unwrap() == before);
}

#[test]
fn damage_to_a_program_is_found_and_named() {
    let folder = workshop_with_dist();
    let at = folder.path();
    run_ok(at, &MAKE);
    let bundle = at.join("chat.exe");
    for name in BEHIND {
        let (mapped, tail) = open(&bundle);
        let place = tail.entry(name).unwrap().range.start + 7;
        let mut bytes = mapped.bytes().to_vec();
        bytes[place] ^= 1;
        std::fs::write(at.join("damaged.exe"), bytes).unwrap();
        assert!(run_fails(at, &["verify", "damaged.exe"]).contains(name));
    }
}

#[test]
fn a_missing_or_wrong_program_leaves_nothing() {
    let folder = workshop_with_dist();
    let at = folder.path();
    let before = names(at);
    std::fs::rename(at.join("dist/tealight-macos-arm64"), at.join("dist/kept")).unwrap();
    let error = run_fails(at, &MAKE);
    assert!(error.contains("tealight-macos-arm64") && error.contains("hint: "), "{error}");
    std::fs::copy(at.join("dist/tealight-macos-x86_64"), at.join("dist/tealight-macos-arm64"))
        .unwrap();
    let error = run_fails(at, &MAKE);
    assert!(error.contains("tealight-macos-arm64") && error.contains("macos-x86_64"), "{error}");
    std::fs::rename(at.join("dist/kept"), at.join("dist/tealight-macos-arm64")).unwrap();
    let windows = at.join("dist/tealight-windows-x86_64.exe");
    std::fs::write(&windows, &windows::executable()[..0x500]).unwrap();
    let error = run_fails(at, &MAKE);
    assert!(
        error.contains("tealight-windows-x86_64.exe") && error.contains("truncated"),
        "{error}"
    );
    assert_eq!(names(at), before);

    std::fs::write(&windows, windows::executable()).unwrap();
    for more in [["--runtime", "rt"], ["--target", "macos-arm64"]] {
        assert_eq!(run(at, &[&MAKE[..], &more].concat()).status.code(), Some(2), "{more:?}");
    }
    let onto_input = [&MAKE[..6], &["dist/tealight-linux-x86_64.exe", "--force"]].concat();
    run_ok(at, &onto_input);
    let onto_input = [&MAKE[..6], &["dist/tealight-windows-x86_64", "--force"]].concat();
    assert!(run_fails(at, &onto_input).contains("the output is also an input"));
}

#[test]
fn a_pair_keeps_the_weights_beside_it() {
    let folder = workshop_with_dist();
    let at = folder.path();
    assert_eq!(run_ok(at, &[&MAKE[..], &["--pair"]].concat()), "chat.gguf\nchat.exe\n");
    check(&at.join("chat.exe"), &at.join("dist"));
    assert_eq!(std::fs::read(at.join("chat.gguf")).unwrap(), gguf(1000));
    run_ok(at, &["verify", "chat.exe"]);
}

#[test]
fn above_four_gib_it_warns_about_windows_and_gets_no_exe_ending() {
    if cfg!(debug_assertions) {
        eprintln!("skipped: 4 GiB would take too long in this build; try --release");
        return;
    }
    let folder = workshop_with_dist();
    let at = folder.path();
    sparse_gguf(&at.join("w.gguf"), 1 << 30);
    let output = program(at).args(MAKE).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "chat\n");
    let warning = stderr(&output);
    assert!(warning.contains("warning: chat will be 4.00 GiB"), "{warning}");
    assert!(warning.contains("Linux and macOS only") && warning.contains("--pair"), "{warning}");
    check(&at.join("chat"), &at.join("dist"));
    run_ok(at, &["set", "chat", "--system-prompt", "be brief"]);
    check(&at.join("chat"), &at.join("dist"));
}
