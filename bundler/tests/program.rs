//! The program from outside: what it writes, what it says, what it leaves behind when it fails.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use common::{
    elf, gguf, gguf_part, have, names, pattern, pe, program, run, run_fails, run_ok, sparse_gguf,
    stderr, workshop,
};
use tealight_bundle::{Mapped, Tail, tail, verify};

const NEW: [&str; 6] = ["--weights", "w.gguf", "--runtime", "rt", "-o", "chat"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    NEW.iter().copied().chain(more.iter().copied()).collect()
}

fn open(path: &Path) -> (Mapped, Tail) {
    let mapped = Mapped::open(path).unwrap();
    let tail = tail::read(mapped.bytes()).unwrap().expect("a bundle");
    (mapped, tail)
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_an_executable() {
    let folder = workshop();
    let at = folder.path();
    assert_eq!(run_ok(at, &NEW), "chat\n");
    let first = fs::read(at.join("chat")).unwrap();
    sleep(Duration::from_millis(20));
    run_ok(at, &with(&["--force"]));
    run_ok(at, &["new", "-w", "w.gguf", "--runtime", "rt", "-o", "other"]);
    assert_eq!(first, fs::read(at.join("chat")).unwrap());
    assert_eq!(first, fs::read(at.join("other")).unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(at.join("chat")).unwrap().permissions().mode() & 0o100, 0o100);
    }
    assert!(run_ok(at, &["verify", "chat"]).contains("verified"));
    assert_eq!(names(at), ["chat", "other", "page", "rt", "w.gguf"]);
}

#[test]
fn set_gives_the_same_bytes_as_bundling_again() {
    let folder = workshop();
    let at = folder.path();
    fs::write(at.join("args"), "--temp\n0.1\n...\n").unwrap();
    fs::write(at.join("template"), "{{ messages }}").unwrap();
    fs::write(at.join("LICENSE"), "free").unwrap();
    fs::write(at.join("prompt"), "from a file").unwrap();
    let all = [
        "--web",
        "page",
        "--name",
        "Tea",
        "--system-prompt",
        "@prompt",
        "--args",
        "args",
        "--chat-template",
        "template",
        "--license",
        "LICENSE",
    ];
    run_ok(at, &with(&all));
    let fresh = fs::read(at.join("chat")).unwrap();
    run_ok(at, &["--weights", "w.gguf", "--runtime", "rt", "-o", "b"]);
    let plain = fs::read(at.join("b")).unwrap();
    run_ok(at, &[&["set", "b"], &all[..]].concat());
    assert_eq!(fs::read(at.join("b")).unwrap(), fresh);
    // In two steps, and there and back.
    run_ok(at, &["set", "b", "--system-prompt", "@@home", "--no-license"]);
    let (mapped, tail) = open(&at.join("b"));
    assert_eq!(&mapped.bytes()[tail.entry("system-prompt.txt").unwrap().range.clone()], b"@home");
    assert!(tail.entry("license/LICENSE").is_none());
    drop(mapped);
    let back = [
        "set",
        "b",
        "--no-system-prompt",
        "--no-name",
        "--no-args",
        "--no-chat-template",
        "--no-web",
    ];
    run_ok(at, &back);
    run_ok(at, &["--weights", "w.gguf", "--runtime", "rt", "-o", "c"]);
    run_ok(at, &["set", "c", "--no-web"]);
    assert_eq!(fs::read(at.join("b")).unwrap(), fs::read(at.join("c")).unwrap());
    assert_eq!(plain[..66_000], fs::read(at.join("c")).unwrap()[..66_000]);
    assert!(stderr(&run(at, &["set", "c", "--no-web"])).contains("nothing to change"));
}

#[test]
fn list_prints_text_and_json() {
    let folder = workshop();
    let at = folder.path();
    run_ok(at, &with(&["--name", "Tea"]));
    let text = run_ok(at, &["list", "chat"]);
    assert!(
        text.contains("“Tea”") && text.contains("weights/w.gguf") && text.contains("runtime"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&run_ok(at, &["list", "chat", "--json"])).unwrap();
    assert_eq!(json["name"], "Tea");
    assert_eq!(json["leftover_bytes"], 0);
    assert_eq!(json["entries"][1]["name"], "weights/w.gguf");
    assert_eq!(json["entries"][1]["bytes"].as_u64(), Some(gguf(1000).len() as u64));
    assert_eq!(json["entries"][1]["offset"].as_u64().unwrap() % 65_536, 0);
}

#[test]
fn extract_gives_back_what_went_in() {
    let folder = workshop();
    let at = folder.path();
    run_ok(at, &with(&["--web", "page"]));
    run_ok(at, &["extract", "chat", "-o", "out"]);
    assert_eq!(fs::read(at.join("out/weights/w.gguf")).unwrap(), gguf(1000));
    assert_eq!(fs::read(at.join("out/web/index.html")).unwrap(), b"<!doctype html>");
    assert_eq!(names(&at.join("out")), ["manifest.json", "web", "weights"]);
    assert_eq!(
        run_ok(at, &["extract", "chat", "--runtime", "-o", "rt-out"]).trim(),
        Path::new("rt-out").join("tealight").to_str().unwrap()
    );
    assert_eq!(fs::read(at.join("rt-out/tealight")).unwrap(), elf(1000));
    assert!(
        run_fails(at, &["extract", "chat", "web/index.html", "-o", "out"])
            .contains("hint: --force")
    );
    fs::write(at.join("out/web/index.html"), "mine").unwrap();
    run_ok(at, &["extract", "chat", "web/index.html", "-o", "out", "--force"]);
    assert_eq!(fs::read(at.join("out/web/index.html")).unwrap(), b"<!doctype html>");
    assert!(run_fails(at, &["extract", "chat", "nothing"]).contains("no entry `nothing`"));
}

#[test]
#[cfg(unix)]
fn a_link_in_the_output_folder_does_not_lead_extract_elsewhere() {
    let folder = workshop();
    let at = folder.path();
    run_ok(at, &with(&["--web", "page"]));
    fs::create_dir_all(at.join("out")).unwrap();
    fs::create_dir(at.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", at.join("out/web")).unwrap();
    let text = run_fails(at, &["extract", "chat", "web/index.html", "-o", "out", "--force"]);
    assert!(text.contains("may lead elsewhere"), "{text}");
    assert!(names(&at.join("elsewhere")).is_empty());
}

#[test]
fn verify_names_what_changed_and_exits_with_one() {
    let folder = workshop();
    let at = folder.path();
    run_ok(at, &NEW);
    let mut bytes = fs::read(at.join("chat")).unwrap();
    let middle = open(&at.join("chat")).1.entry("weights/w.gguf").unwrap().range.start + 2000;
    bytes[middle] ^= 1;
    fs::write(at.join("chat"), bytes).unwrap();
    let text = run_fails(at, &["verify", "chat"]);
    assert!(
        text.contains("entry `weights/w.gguf`: expected SHA-256") && text.contains("hint: "),
        "{text}"
    );
    let text = run_fails(at, &["extract", "chat", "weights/w.gguf", "-o", "out"]);
    assert!(text.contains("SHA-256"), "{text}");
    assert!(names(&at.join("out/weights")).is_empty(), "a damaged file was left");
}

#[test]
fn every_command_reports_a_truncated_bundle() {
    let folder = workshop();
    let at = folder.path();
    run_ok(at, &NEW);
    let file = fs::OpenOptions::new().write(true).open(at.join("chat")).unwrap();
    file.set_len(2 * 65_536 + 1000).unwrap();
    for command in [
        &["list", "chat"][..],
        &["verify", "chat"],
        &["extract", "chat"],
        &["set", "chat", "--no-name"],
    ] {
        let text = run_fails(at, command);
        assert!(text.contains("truncated") && text.contains("hint: the download"), "{text}");
    }
    let text = run_fails(at, &["--weights", "w.gguf", "--runtime", "chat", "-o", "x"]);
    assert!(text.contains("truncated"), "{text}");
}

#[test]
fn inputs_that_are_missing_or_wrong_leave_nothing() {
    let folder = workshop();
    let at = folder.path();
    fs::write(at.join("empty"), "").unwrap();
    fs::write(at.join("text"), "not a model").unwrap();
    fs::write(at.join("nul-args"), "a\0b").unwrap();
    fs::create_dir(at.join("no-page")).unwrap();
    let whole = gguf(1000);
    fs::write(at.join("cut.gguf"), &whole[..whole.len() - 1]).unwrap();
    let before = names(at);
    let cases: [(&[&str], &str); 16] = [
        (&["-w", "none.gguf", "--runtime", "rt", "-o", "x"], "cannot open none.gguf"),
        (&["-w", "page", "--runtime", "rt", "-o", "x"], "found a folder"),
        (&["-w", "empty", "--runtime", "rt", "-o", "x"], "the file is empty"),
        (&["-w", "text", "--runtime", "rt", "-o", "x"], "not a GGUF file"),
        (&["-w", "cut.gguf", "--runtime", "rt", "-o", "x"], "hint: the download may be incomplete"),
        (&["-w", "w.gguf", "--runtime", "none", "-o", "x"], "cannot open none"),
        (&["-w", "w.gguf", "--runtime", "w.gguf", "-o", "x"], "it is a weights file"),
        (&["-w", "w.gguf", "--runtime", "text", "-o", "x"], "not an executable"),
        (&["-w", "w.gguf", "--runtime", "rt", "-o", "none/x"], "the folder none does not exist"),
        (&["-w", "w.gguf", "--runtime", "rt", "-o", "page"], "found a folder"),
        (&["-w", "w.gguf", "--runtime", "rt", "-o", "x", "--web", "no-page"], "no `index.html`"),
        (&["-w", "w.gguf", "--runtime", "rt", "-o", "x", "--args", "nul-args"], "line 1 has a NUL"),
        (
            &["-w", "w.gguf", "--runtime", "rt", "-o", "x", "--system-prompt", "@none"],
            "cannot read the system prompt none",
        ),
        (
            &["-w", "w.gguf", "--runtime", "rt", "-o", "x", "--system-prompt", " "],
            "the system prompt is empty",
        ),
        (&["-w", "w.gguf", "--runtime", "rt", "-o", "x", "--name", "a\nb"], "a control character"),
        (
            &[
                "-w",
                "w.gguf",
                "--runtime",
                "rt",
                "-o",
                "x",
                "--license",
                "rt",
                "--license",
                "page/../rt",
            ],
            "occurs twice",
        ),
    ];
    for (args, wanted) in cases {
        let text = run_fails(at, args);
        assert!(text.contains(wanted), "{args:?}: {text}");
        assert_eq!(names(at), before, "{args:?}");
    }
}

#[test]
fn an_input_is_never_replaced_and_a_file_only_by_force() {
    let folder = workshop();
    let at = folder.path();
    for target in ["w.gguf", "rt", "./page/../rt"] {
        let text = run_fails(at, &["-w", "w.gguf", "--runtime", "rt", "-o", target, "--force"]);
        assert!(text.contains("the output is also an input"), "{text}");
    }
    fs::write(at.join("chat"), "precious").unwrap();
    assert!(run_fails(at, &NEW).contains("hint: --force replaces it"));
    assert_eq!(fs::read(at.join("chat")).unwrap(), b"precious");
    run_ok(at, &with(&["--force"]));
    assert_eq!(names(at), ["chat", "page", "rt", "w.gguf"]);
}

#[test]
fn usage_errors_exit_with_two() {
    let folder = workshop();
    for args in [
        &["--weights"][..],
        &["-w", "w.gguf"],
        &["set", "x", "--name", "a", "--no-name"],
        &["list"],
        &["bake"],
        &[],
    ] {
        assert_eq!(run(folder.path(), args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    if cfg!(not(unix)) || !have("sh") {
        return;
    }
    let folder = workshop();
    run_ok(folder.path(), &NEW);
    let script =
        format!("{{ {} list chat; echo $? >code; }} | true", env!("CARGO_BIN_EXE_tealight-bundle"));
    assert!(
        Command::new("sh")
            .arg("-c")
            .arg(script)
            .current_dir(folder.path())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(fs::read_to_string(folder.path().join("code")).unwrap().trim(), "0");
}

#[test]
fn a_bundle_as_runtime_is_used_without_its_tail() {
    let folder = workshop();
    let at = folder.path();
    run_ok(at, &NEW);
    let output = run(at, &["-w", "w.gguf", "--runtime", "chat", "-o", "second"]);
    assert!(stderr(&output).contains("is itself a bundle"), "{}", stderr(&output));
    assert_eq!(fs::read(at.join("chat")).unwrap(), fs::read(at.join("second")).unwrap());
    // A damaged one is not passed on.
    let mut bytes = fs::read(at.join("chat")).unwrap();
    bytes[500] ^= 1;
    fs::write(at.join("chat"), bytes).unwrap();
    assert!(
        run_fails(at, &["-w", "w.gguf", "--runtime", "chat", "-o", "third"])
            .contains("that bundle is damaged")
    );
    assert_eq!(names(at), ["chat", "page", "rt", "second", "w.gguf"]);
}

#[test]
fn split_weights_go_in_together_in_order() {
    let folder = workshop();
    let at = folder.path();
    for (number, floats) in [(1, 8), (2, 4), (3, 2)] {
        let name = format!("m-0000{number}-of-00003.gguf");
        fs::write(at.join(name), gguf_part(number - 1, 3, floats)).unwrap();
    }
    run_ok(at, &["-w", "m-00002-of-00003.gguf", "--runtime", "rt", "-o", "chat"]);
    let (mapped, tail) = open(&at.join("chat"));
    let models: Vec<_> = tail.with_role(tealight_bundle::Role::Model).collect();
    let found: Vec<_> =
        models.iter().map(|entry| (entry.name.as_str(), entry.range.len())).collect();
    let wanted = |n: usize| gguf_part(0, 3, n).len();
    assert_eq!(
        found,
        [
            ("weights/m-00001-of-00003.gguf", wanted(8)),
            ("weights/m-00002-of-00003.gguf", wanted(4)),
            ("weights/m-00003-of-00003.gguf", wanted(2))
        ]
    );
    assert_eq!(mapped.bytes()[models[2].range.clone()], gguf_part(2, 3, 2));
    run_ok(at, &["-w", "m-00001-of-00003.gguf", "--runtime", "rt", "-o", "duo", "--pair"]);
    assert!(at.join("duo-00003-of-00003.gguf").is_file());
    fs::remove_file(at.join("m-00001-of-00003.gguf")).unwrap();
    fs::remove_file(at.join("m-00003-of-00003.gguf")).unwrap();
    let text = run_fails(at, &["-w", "m-00002-of-00003.gguf", "--runtime", "rt", "-o", "x"]);
    assert!(
        text.contains("m-00001-of-00003.gguf, m-00003-of-00003.gguf") && text.contains("hint: "),
        "{text}"
    );
}

#[test]
fn a_pair_knows_its_weights_and_reports_them_missing() {
    let folder = workshop();
    let at = folder.path();
    assert_eq!(run_ok(at, &with(&["--pair", "--name", "Tea"])), "chat.gguf\nchat\n");
    assert_eq!(fs::read(at.join("chat.gguf")).unwrap(), gguf(1000));
    let (_, tail) = open(&at.join("chat"));
    let external: Vec<_> = tail.manifest().entries.iter().filter(|entry| entry.external).collect();
    assert_eq!(
        (external.len(), external[0].name.as_str(), external[0].bytes),
        (1, "chat.gguf", gguf(1000).len() as u64)
    );
    run_ok(at, &["verify", "chat"]);
    run_ok(at, &["set", "chat", "--no-name"]);
    run_ok(at, &["verify", "chat"]);
    assert!(run_fails(at, &with(&["--pair"])).contains("hint: --force"));
    // Weights that are already in place stay, even when they are the input.
    run_ok(at, &["-w", "chat.gguf", "--runtime", "rt", "-o", "chat", "--pair", "--force"]);
    assert_eq!(fs::read(at.join("chat.gguf")).unwrap(), gguf(1000));
    let mut bytes = gguf(1000);
    bytes[3000] ^= 1;
    fs::write(at.join("chat.gguf"), bytes).unwrap();
    assert!(run_fails(at, &["verify", "chat"]).contains("chat.gguf: expected SHA-256"));
    fs::remove_file(at.join("chat.gguf")).unwrap();
    assert!(run_fails(at, &["verify", "chat"]).contains("needs the file chat.gguf beside it"));
    assert_eq!(names(at), ["chat", "page", "rt", "w.gguf"]);
}

/// In the build folder there is a runtime beside the bundler, so this runs a copy elsewhere.
#[test]
fn a_bundler_without_a_runtime_beside_it_says_so() {
    let folder = workshop();
    let lonely = folder.path().join("lonely");
    fs::copy(env!("CARGO_BIN_EXE_tealight-bundle"), &lonely).unwrap();
    let mut command = Command::new(&lonely);
    let output = command.current_dir(folder.path()).args(["-w", "w.gguf", "-o", "x"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(common::stderr(&output).contains("hint: choose one with --runtime"));
    assert!(!folder.path().join("x").exists());
}

#[test]
fn a_target_names_its_runtime_in_the_dist_folder() {
    let folder = workshop();
    let at = folder.path();
    common::dist(&at.join("built"));
    let new = ["-w", "w.gguf", "-o", "chat", "--force", "--target"];
    let made = |target, more: &[&str]| run_ok(at, &[&new[..], &[target], more].concat());
    assert_eq!(made("windows-x86_64", &["--dist", "built"]), "chat.exe\n");
    let exe = fs::read(at.join("built/tealight-windows-x86_64.exe")).unwrap();
    assert!(fs::read(at.join("chat.exe")).unwrap().starts_with(&exe));
    // Without --dist: the folder of the bundler (which has none here), then ./dist.
    let text = run_fails(at, &[&new[..], &["linux-aarch64"]].concat());
    assert!(text.contains("no `tealight-linux-aarch64` in") && text.contains("with --dist"));
    fs::rename(at.join("built"), at.join("dist")).unwrap();
    made("linux-aarch64", &[]);
    let arm = fs::read(at.join("dist/tealight-linux-aarch64")).unwrap();
    assert!(fs::read(at.join("chat")).unwrap().starts_with(&arm));
    // --dist without --target: the runtime for this system.
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        run_ok(at, &["-w", "w.gguf", "-o", "here", "--dist", "dist"]);
        let own = fs::read(at.join("dist/tealight-linux-x86_64")).unwrap();
        assert!(fs::read(at.join("here")).unwrap().starts_with(&own));
    }
    // A wrong file in the folder is noticed, and so is a wrong target or combination on the command line.
    fs::write(at.join("dist/tealight-linux-aarch64"), elf(1000)).unwrap();
    let text = run_fails(at, &[&new[..], &["linux-aarch64"]].concat());
    assert!(text.contains("for linux-aarch64, found one for another"), "{text}");
    assert_eq!(run(at, &[&new[..], &["macos"]].concat()).status.code(), Some(2));
    let both = ["--runtime", "rt", "--target", "linux-aarch64", "-w", "w.gguf", "-o", "x"];
    assert_eq!(run(at, &both).status.code(), Some(2));
}

/// In a dist folder the programs' names contain their targets.
#[test]
fn a_bundler_in_a_dist_folder_finds_the_runtime_for_its_system() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let folder = workshop();
    let at = folder.path();
    common::dist(&at.join("dist"));
    let bundler = at.join("dist/tealight-bundle-linux-x86_64");
    fs::copy(env!("CARGO_BIN_EXE_tealight-bundle"), &bundler).unwrap();
    let own = fs::read(at.join("dist/tealight-linux-x86_64")).unwrap();
    for more in [&[][..], &["--force", "--target", "linux-x86_64"]] {
        // Not in `at`, where ./dist would be found.
        let mut command = Command::new(&bundler);
        command.current_dir(at.join("page")).args(["-w", "../w.gguf", "-o", "chat"]).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(fs::read(at.join("page/chat")).unwrap().starts_with(&own));
    }
}

#[test]
fn a_windows_executable_gets_its_ending_and_one_file_below_four_gib() {
    let folder = workshop();
    let at = folder.path();
    fs::write(at.join("rt"), pe()).unwrap();
    assert_eq!(run_ok(at, &NEW), "chat.exe\n");
    run_ok(at, &["-w", "w.gguf", "--runtime", "rt", "-o", "b.EXE"]);
    assert_eq!(fs::read(at.join("chat.exe")).unwrap(), fs::read(at.join("b.EXE")).unwrap());
    run_ok(at, &["extract", "chat.exe", "--runtime"]);
    assert_eq!(fs::read(at.join("tealight.exe")).unwrap(), pe());
}

#[test]
#[cfg(unix)]
fn a_windows_executable_above_four_gib_becomes_a_pair() {
    if !common::hashes_fast() {
        return;
    }
    let folder = workshop();
    let at = folder.path();
    fs::write(at.join("rt"), pe()).unwrap();
    sparse_gguf(&at.join("w.gguf"), 1 << 30);
    let output = run(at, &NEW);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8(output.stdout.clone()).unwrap(), "chat.gguf\nchat.exe\n");
    assert!(
        stderr(&output).contains("Windows does not start an .exe above 4 GiB"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        fs::metadata(at.join("chat.gguf")).unwrap().len(),
        fs::metadata(at.join("w.gguf")).unwrap().len()
    );
    let (mapped, tail) = open(&at.join("chat.exe"));
    verify(mapped.bytes(), &tail, &mut |_, _| {}).unwrap();
    assert!(tail.manifest().entries.iter().any(|entry| entry.external && entry.bytes > 1 << 32));
}

/// Starts a long run, and waits until it is in the middle.
#[cfg(unix)]
fn slow_run(at: &Path) -> std::process::Child {
    sparse_gguf(&at.join("slow.gguf"), 10 << 30);
    let child = program(at)
        .args(["-w", "slow.gguf", "--runtime", "rt", "-o", "slow"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let unfinished = at.join("slow.tealight-unfinished");
    let started = Instant::now();
    while fs::metadata(&unfinished).map_or(0, |found| found.len()) < 1000 {
        assert!(started.elapsed() < Duration::from_secs(30), "nothing is written");
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(50));
    child
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    assert!(Command::new("kill").arg(name).arg(child.id().to_string()).status().unwrap().success());
}

#[test]
#[cfg(unix)]
fn interrupted_in_the_middle_leaves_nothing() {
    for name in ["-INT", "-TERM"] {
        let folder = workshop();
        let at = folder.path();
        let child = slow_run(at);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
        assert_eq!(names(at), ["page", "rt", "slow.gguf", "w.gguf"]);
    }
}

#[test]
#[cfg(unix)]
fn killed_in_the_middle_leaves_a_partial_file_that_the_next_run_removes() {
    let folder = workshop();
    let at = folder.path();
    let mut child = slow_run(at);
    let text = run_fails(at, &["-w", "w.gguf", "--runtime", "rt", "-o", "slow"]);
    assert!(text.contains("another tealight-bundle is writing it"), "{text}");
    signal(&child, "-KILL");
    child.wait().unwrap();
    assert_eq!(names(at), ["page", "rt", "slow.gguf", "slow.tealight-unfinished", "w.gguf"]);
    run_ok(at, &["-w", "w.gguf", "--runtime", "rt", "-o", "slow"]);
    assert_eq!(names(at), ["page", "rt", "slow", "slow.gguf", "w.gguf"]);
}

/// Without locks, one of thirty readers found a damaged file or was killed by the system.
#[test]
fn readers_during_set_see_the_old_bundle_or_the_new_one() {
    const READS: usize = 80;
    let folder = workshop();
    let at = folder.path();
    fs::create_dir(at.join("small")).unwrap();
    fs::write(at.join("small/index.html"), "x").unwrap();
    fs::write(at.join("page/big.bin"), pattern(1 << 20)).unwrap();
    run_ok(at, &with(&["--web", "page"]));
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for command in ["verify", "list"] {
            let done = &done;
            scope.spawn(move || {
                let reads = (0..READS).map(|_| run(at, &[command, "chat"]));
                let failed: Vec<_> = reads.filter(|output| !output.status.success()).collect();
                done.fetch_add(1, Ordering::Relaxed);
                let told: Vec<_> = failed.iter().map(stderr).collect();
                assert!(failed.is_empty(), "{} of {READS} {command}: {told:?}", failed.len());
            });
        }
        let mut changes = 0;
        while done.load(Ordering::Relaxed) < 2 {
            let page = ["small", "page"][changes % 2];
            run_ok(at, &["set", "chat", "--web", page, "--name", &changes.to_string()]);
            changes += 1;
        }
        assert!(changes > 5, "{changes} changes only");
    });
}

#[test]
#[cfg(unix)]
fn set_killed_at_any_time_leaves_a_bundle() {
    let folder = workshop();
    let at = folder.path();
    fs::write(at.join("page/big.bin"), pattern(3 << 20)).unwrap();
    run_ok(at, &with(&["--web", "page", "--name", "0"]));
    let mut name = "0".to_owned();
    for round in 1..40_u64 {
        let next = round.to_string();
        let mut child = program(at)
            .args(["set", "chat", "--name", &next])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_micros(round * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        let (mapped, tail) = open(&at.join("chat"));
        let found = tail.manifest().name.clone().unwrap();
        assert!(found == name || found == next, "{found}");
        verify(mapped.bytes(), &tail, &mut |_, _| {}).unwrap();
        name = found;
    }
    run_ok(at, &["set", "chat", "--name", "0"]);
    let settled = fs::read(at.join("chat")).unwrap();
    run_ok(at, &with(&["--web", "page", "--name", "0", "--force"]));
    assert_eq!(settled, fs::read(at.join("chat")).unwrap());
}

#[test]
#[cfg(unix)]
fn a_full_disk_leaves_nothing_and_set_leaves_the_old_bundle() {
    let folder = workshop();
    let at = folder.path();
    let limited = |blocks: u32, args: &str| {
        // A file-size limit makes a write fail like a full disk. Blocks have 512 bytes, in some shells 1024.
        let script = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec {} {args}",
            env!("CARGO_BIN_EXE_tealight-bundle")
        );
        Command::new("sh").arg("-c").arg(script).current_dir(at).output().unwrap()
    };
    let output = limited(65, "-w w.gguf --runtime rt -o chat");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("cannot write chat") && stderr(&output).contains("hint: "),
        "{}",
        stderr(&output)
    );
    assert_eq!(names(at), ["page", "rt", "w.gguf"]);
    run_ok(at, &NEW);
    let before = fs::read(at.join("chat")).unwrap();
    let output = limited(130, "set chat --name other");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing was changed"), "{}", stderr(&output));
    assert_eq!(fs::read(at.join("chat")).unwrap(), before);
}

#[test]
#[cfg(target_os = "linux")]
fn a_running_bundle_is_not_changed() {
    let folder = workshop();
    let at = folder.path();
    let Some(sleeper) =
        ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|path| Path::new(path).is_file())
    else {
        eprintln!("skipped: no `sleep` on this machine");
        return;
    };
    fs::copy(sleeper, at.join("rt")).unwrap();
    run_ok(at, &NEW);
    let mut running = Command::new(at.join("chat")).arg("30").spawn().unwrap();
    sleep(Duration::from_millis(200));
    let text = run_fails(at, &["set", "chat", "--name", "x"]);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(text.contains("chat is running\nhint: stop it"), "{text}");
    run_ok(at, &["set", "chat", "--name", "x"]);
}
