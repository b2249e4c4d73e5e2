//! Other programs can read a bundle as a zip, even beyond 4 and 8 GiB.

mod common;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{elf, gguf, have, run_ok, sample, settings};
use tealight_bundle::tail::write::{Fixed, Sums, TailPart, TailPlan};
use tealight_bundle::tail::{self, Role};
use tealight_bundle::{Mapped, Tail};

const GIB: u64 = 1 << 30;

fn open(path: &Path) -> (Mapped, Tail) {
    let mapped = Mapped::open(path).unwrap();
    let tail = tail::read(mapped.bytes()).unwrap().expect("a bundle");
    (mapped, tail)
}

fn python(script: &str, file: &Path) -> String {
    let output =
        Command::new("python3").args(["-W", "error", "-c", script]).arg(file).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", common::stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn unzip_tests_and_unpacks_without_a_warning() {
    if !have("unzip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat");
    fs::write(&file, sample()).unwrap();
    let output = Command::new("unzip").arg("-t").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{text}{}",
        common::stderr(&output)
    );
    assert!(text.contains("No errors detected") && !text.contains("warning"), "{text}");
    let output = Command::new("unzip")
        .arg("-p")
        .arg(&file)
        .arg("weights/a-00001-of-00002.gguf")
        .output()
        .unwrap();
    assert_eq!(output.stdout, gguf(10));
}

#[test]
fn pythons_zipfile_tests_and_unpacks() {
    if !have("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat");
    fs::write(&file, sample()).unwrap();
    let script = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1])\n\
        assert z.testzip() is None\n\
        for i in z.infolist(): print(i.filename, i.file_size, i.date_time[:3])\n";
    let text = python(script, &file);
    assert!(text.contains("system-prompt.txt 8 (1980, 1, 1)"), "{text}");
    assert_eq!(text.lines().count(), 10);
}

#[test]
fn the_zip_crate_reads_every_entry() {
    let bytes = sample();
    let tail = tail::read(&bytes).unwrap().unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    assert_eq!(archive.len(), tail.entries().len());
    for entry in tail.entries() {
        let mut data = Vec::new();
        archive.by_name(&entry.name).unwrap().read_to_end(&mut data).unwrap();
        assert_eq!(data, bytes[entry.range.clone()], "{}", entry.name);
    }
}

/// Writes a bundle with two weights entries of 5 GiB each that are holes, and a small one behind them.
fn giant(path: &Path) -> TailPlan {
    let runtime = elf(1000);
    let part = |name: &str, bytes| TailPart {
        name: format!("weights/{name}.gguf"),
        role: Role::Model,
        bytes,
    };
    let small = gguf(5);
    let parts = vec![part("a", 5 * GIB), part("b", 5 * GIB), part("c", small.len() as u64)];
    let plan = TailPlan::new(runtime.len() as u64, parts).unwrap();
    // Opening a bundle does not check the holes' checksums.
    let hole = Sums { sha256: [0; 32], crc32: 0 };
    let fixed = Fixed {
        runtime_sha256: Sums::of(&runtime).sha256,
        parts: vec![hole, hole, Sums::of(&small)],
    };
    let mut file = fs::File::create(path).unwrap();
    let mut put = |offset: u64, bytes: &[u8]| {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(bytes).unwrap();
    };
    put(0, &runtime);
    put(plan.head_offset(), &plan.head_entry());
    for (placed, sums) in plan.parts().iter().zip(&fixed.parts) {
        put(placed.header_offset, &plan.part_header(placed, sums.crc32));
    }
    put(plan.parts()[2].data_offset, &small);
    put(plan.tail_start(), &plan.tail(&fixed, &settings("be brief"), plan.tail_start()).unwrap());
    plan
}

#[test]
#[cfg(target_pointer_width = "64")]
fn offsets_and_sizes_beyond_four_and_eight_gib_are_read_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("giant");
    let plan = giant(&file);
    let started = Instant::now();
    let (mapped, tail) = open(&file);
    assert!(started.elapsed() < Duration::from_millis(200), "opening looked at the weights");
    let last = tail.entry("weights/c.gguf").unwrap();
    assert!(last.range.start as u64 > 10 * GIB && last.range.start % 65_536 == 0);
    assert_eq!(mapped.bytes()[last.range.clone()], gguf(5));
    assert_eq!(tail.entry("weights/b.gguf").unwrap().range.len() as u64, 5 * GIB);
    assert_eq!(tail.tail_start(), plan.tail_start());

    let mut archive = zip::ZipArchive::new(fs::File::open(&file).unwrap()).unwrap();
    for (name, wanted) in [("weights/c.gguf", gguf(5)), ("system-prompt.txt", b"be brief".to_vec())]
    {
        let mut data = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut data).unwrap();
        assert_eq!(data, wanted);
    }
    if have("python3") {
        let script = "import sys, zipfile\n\
            z = zipfile.ZipFile(sys.argv[1])\n\
            assert z.getinfo('weights/b.gguf').file_size == 5 << 30\n\
            assert z.open('weights/a.gguf').read(9) == bytes(9)\n\
            assert z.open('weights/b.gguf').read(9) == bytes(9)\n\
            print(len(z.read('weights/c.gguf')), z.read('system-prompt.txt').decode())\n";
        assert_eq!(python(script, &file), format!("{} be brief\n", gguf(5).len()));
    }
    if have("unzip") {
        let output =
            Command::new("unzip").arg("-p").arg(&file).arg("weights/c.gguf").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", common::stderr(&output));
        assert_eq!(output.stdout, gguf(5));
        let output = Command::new("unzip").arg("-l").arg(&file).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", common::stderr(&output));
    }
}

#[test]
#[cfg(target_pointer_width = "64")]
fn set_on_ten_gib_takes_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("giant");
    giant(&file);
    let started = Instant::now();
    run_ok(folder.path(), &["set", "giant", "--system-prompt", "be kind"]);
    let took = started.elapsed();
    eprintln!("set on 10 GiB: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (mapped, tail) = open(&file);
    assert_eq!(&mapped.bytes()[tail.entry("system-prompt.txt").unwrap().range.clone()], b"be kind");
    assert_eq!(tail.leftover_bytes(), 0);
}
