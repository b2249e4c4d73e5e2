//! What a process does when its mapped file goes away. Each case runs this program as a child, because it ends the
//! process.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "maps a file that nobody takes note of")]

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};
use tealight_bundle::Mapped;

const CASE: &str = "TEALIGHT_TEST_VANISHED";
const BYTES: u64 = 1 << 20;

#[test]
fn a_truncated_file_ends_with_a_message_and_an_exit_code() {
    let done = again("a_truncated_file_ends_with_a_message_and_an_exit_code", |path| {
        let other = Mapped::open(&std::env::current_exe().unwrap()).unwrap();
        let gone = Mapped::open(path).unwrap();
        drop(Mapped::open(path).unwrap());
        File::options().write(true).open(path).unwrap().set_len(4096).unwrap();
        // Many threads at once, like the compute threads.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| gone.bytes().iter().map(|&byte| u64::from(byte)).sum::<u64>());
            }
        });
        drop(other);
    });
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("weights: the file was truncated"), "{said}");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
}

#[test]
fn a_fault_outside_a_known_file_is_passed_on() {
    let done = again("a_fault_outside_a_known_file_is_passed_on", |path| {
        let _known = Mapped::open(&std::env::current_exe().unwrap()).unwrap();
        // This one was registered, and no longer is.
        drop(Mapped::open(path).unwrap());
        // SAFETY: only plain bytes are read; that they go away is the point of the test.
        let map = unsafe { memmap2::Mmap::map(&File::open(path).unwrap()).unwrap() };
        File::options().write(true).open(path).unwrap().set_len(0).unwrap();
        std::hint::black_box(map[4096]);
    });
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.signal(), Some(libc::SIGBUS), "{said}");
    assert!(!said.contains("was truncated"), "{said}");
}

#[test]
fn a_stack_overflow_is_still_reported_by_the_standard_library() {
    #[expect(unconditional_recursion, reason = "that is the case")]
    fn deeper(depth: u64) -> u64 {
        let room = std::hint::black_box([depth; 512]);
        deeper(depth + 1) + room[7]
    }
    let done = again("a_stack_overflow_is_still_reported_by_the_standard_library", |path| {
        let _known = Mapped::open(path).unwrap();
        std::hint::black_box(deeper(0));
    });
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.signal(), Some(libc::SIGABRT), "{said}");
    assert!(said.contains("overflowed its stack"), "{said}");
}

/// Runs `case` in a process of its own, on a file of zeros.
fn again(name: &str, case: impl FnOnce(&Path)) -> Output {
    if let Some(path) = std::env::var_os(CASE) {
        case(Path::new(&path));
        unreachable!("the process has ended");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    File::create(&path).unwrap().set_len(BYTES).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CASE, &path);
    command.output().unwrap()
}
