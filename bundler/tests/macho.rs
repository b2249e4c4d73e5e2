//! Bundles for macOS: executables whose every page is signed, with the tail in a segment. The `object` crate reads
//! their structure, and a few lines here read the signature; both are independent of this crate.

mod common;

use std::fs;
use std::path::Path;

use common::{ARM64, MachO, X86_64, gguf, mach_o, names, run, run_fails, run_ok, stderr, workshop};
use object::macho::{MachHeader64, SegmentCommand64};
use object::read::macho::{LoadCommandVariant, MachHeader, Segment};
use object::{LittleEndian, Object, ObjectSymbol};
use sha2::{Digest, Sha256};
use tealight_bundle::macho::{Image, signature};
use tealight_bundle::tail::write::Sums;
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

/// A workshop whose runtime is for macOS.
fn mac(runtime: &[u8]) -> tempfile::TempDir {
    let folder = workshop();
    fs::write(folder.path().join("rt"), runtime).unwrap();
    folder
}

fn be32(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Every table that a load command points to, in order: the command's number, and the bytes.
fn tables(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let header = MachHeader64::<LittleEndian>::parse(bytes, 0).unwrap();
    let mut commands = header.load_commands(LittleEndian, bytes, 0).unwrap();
    let mut found = Vec::new();
    while let Some(command) = commands.next().unwrap() {
        let mut add = |offset: u32, len: u32| {
            let (offset, len) = (offset as usize, len as usize);
            found.push((command.cmd(), bytes[offset..offset + len].to_vec()));
        };
        let get = |field: object::U32<LittleEndian>| field.get(LittleEndian);
        match command.variant().unwrap() {
            LoadCommandVariant::LinkeditData(table) if command.cmd() != 0x1d => {
                add(get(table.dataoff), get(table.datasize));
            }
            LoadCommandVariant::Symtab(table) => {
                add(get(table.symoff), get(table.nsyms) * 16);
                add(get(table.stroff), get(table.strsize));
            }
            LoadCommandVariant::Dysymtab(table) => {
                add(get(table.indirectsymoff), get(table.nindirectsyms) * 4);
            }
            _ => {}
        }
    }
    found
}

fn segments(bytes: &[u8]) -> Vec<(String, SegmentCommand64<LittleEndian>)> {
    let header = MachHeader64::<LittleEndian>::parse(bytes, 0).unwrap();
    let mut commands = header.load_commands(LittleEndian, bytes, 0).unwrap();
    let mut found = Vec::new();
    while let Some(command) = commands.next().unwrap() {
        if let Some((segment, _)) = command.segment_64().unwrap() {
            found.push((String::from_utf8(segment.name().to_vec()).unwrap(), *segment));
        }
    }
    found
}

/// Recomputes every page hash of the signature, and checks that it covers everything before it and ends the file.
fn check_signature(bytes: &[u8]) {
    let header = MachHeader64::<LittleEndian>::parse(bytes, 0).unwrap();
    let mut commands = header.load_commands(LittleEndian, bytes, 0).unwrap();
    let mut place = None;
    while let Some(command) = commands.next().unwrap() {
        if let LoadCommandVariant::LinkeditData(table) = command.variant().unwrap()
            && command.cmd() == 0x1d
        {
            place = Some((table.dataoff.get(LittleEndian), table.datasize.get(LittleEndian)));
        }
    }
    let (start, len) = place.expect("a signature");
    let (start, end) = (start as usize, (start + len) as usize);
    assert_eq!(end, bytes.len());
    assert_eq!(start % 16, 0);
    let blob = &bytes[start..end];
    assert_eq!(be32(blob, 0), 0xfade_0cc0, "a super blob");
    assert!(be32(blob, 4) <= blob.len());
    assert_eq!((be32(blob, 8), be32(blob, 12)), (1, 0), "one blob, the code directory");
    let directory = &blob[be32(blob, 16)..];
    assert_eq!(be32(directory, 0), 0xfade_0c02);
    assert_eq!(be32(directory, 8), 0x0002_0400, "the version");
    assert_eq!(be32(directory, 12) & 2, 2, "ad hoc");
    let (hashes, identifier) = (be32(directory, 16), be32(directory, 20));
    assert!(directory[identifier..].starts_with(b"tealight\0"));
    assert_eq!(be32(directory, 24), 0, "no special hashes");
    assert_eq!(be32(directory, 32), start, "all before it is covered");
    assert_eq!(directory[36..40], [32, 2, 0, 12], "SHA-256 of pages of 4 KiB");
    assert_eq!(be32(directory, 28), start.div_ceil(4096));
    for (number, page) in bytes[..start].chunks(4096).enumerate() {
        let at = hashes + 32 * number;
        assert_eq!(directory[at..at + 32], *Sha256::digest(page), "page {number}");
    }
}

#[test]
fn it_is_an_executable_with_the_tail_in_a_segment_and_every_page_signed() {
    for (processor, signed) in [(ARM64, true), (X86_64, true), (X86_64, false)] {
        let runtime = MachO { processor, signed, ..MachO::default() }.bytes();
        let folder = mac(&runtime);
        let at = folder.path();
        run_ok(at, &with(&["--name", "Tea", "--system-prompt", "be brief"]));
        let (mapped, tail) = open(&at.join("chat"));
        let bytes = mapped.bytes();
        check_signature(bytes);
        verify(bytes, &tail, &mut |_, _| {}).unwrap();

        let found = segments(bytes);
        let order: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(order, ["__PAGEZERO", "__TEXT", "__DATA", "__TEALIGHT", "__LINKEDIT"]);
        // Contiguous in memory and in the file, page-aligned; the last one ends the file.
        for pair in found[1..].windows(2) {
            let get = |field: object::U64<LittleEndian>| field.get(LittleEndian);
            let (a, b) = (&pair[0].1, &pair[1].1);
            assert_eq!(get(a.vmaddr) + get(a.vmsize), get(b.vmaddr), "{}", pair[1].0);
            assert_eq!(get(a.fileoff) + get(a.filesize), get(b.fileoff), "{}", pair[1].0);
            assert_eq!((get(b.vmaddr) % 0x4000, get(b.fileoff) % 0x4000), (0, 0));
            assert!(get(b.filesize) <= get(b.vmsize));
        }
        let (start, len) = found[4].1.file_range(LittleEndian);
        assert_eq!(start + len, bytes.len() as u64);
        let (start, len) = found[3].1.file_range(LittleEndian);
        for entry in tail.entries() {
            assert!(entry.range.start as u64 >= start && entry.range.end as u64 <= start + len);
        }
        let weights = tail.entry("weights/w.gguf").unwrap().range.clone();
        assert_eq!((weights.start % 0x1_0000, &bytes[weights]), (0, &gguf(1000)[..]));

        // Everything else is unchanged.
        assert_eq!(tables(bytes), tables(&runtime));
        assert_eq!(bytes[0x800..0x8000], runtime[0x800..0x8000]);
        let file = object::File::parse(bytes).unwrap();
        assert_eq!(file.entry(), object::File::parse(&*runtime).unwrap().entry());
        assert!(file.symbols().any(|symbol| symbol.name() == Ok("_main")));
        assert_eq!(tail.manifest().runtime.sha256.0, Sums::of(&runtime).sha256);
        assert_eq!(tail.manifest().runtime.bytes, runtime.len() as u64);
    }
}

#[test]
fn it_is_made_changed_extracted_and_reused_like_any_other() {
    let folder = mac(&mach_o());
    let at = folder.path();
    run_ok(at, &with(&["--system-prompt", "be brief", "--web", "page"]));
    let fresh = fs::read(at.join("chat")).unwrap();
    run_ok(at, &["-w", "w.gguf", "--runtime", "rt", "-o", "other"]);
    let plain = fs::read(at.join("other")).unwrap();
    let output = run(at, &["set", "other", "--system-prompt", "be brief", "--web", "page"]);
    assert!(stderr(&output).contains("re-signed it"), "{}", stderr(&output));
    assert_eq!(fs::read(at.join("other")).unwrap(), fresh);
    let again = run(at, &["set", "other", "--system-prompt", "be brief"]);
    assert!(stderr(&again).contains("nothing to change"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(at.join("other"), PermissionsExt::from_mode(0o751)).unwrap();
        run_ok(at, &["set", "other", "--no-system-prompt"]);
        assert_eq!(fs::metadata(at.join("other")).unwrap().permissions().mode() & 0o777, 0o751);
    }

    // A bundle as the runtime gives the same result as its own runtime.
    run_ok(at, &["-w", "w.gguf", "--runtime", "chat", "-o", "third"]);
    assert_eq!(fs::read(at.join("third")).unwrap(), plain);

    assert!(run_ok(at, &["list", "chat"]).contains("weights/w.gguf"));
    assert!(run_ok(at, &["verify", "chat"]).contains("verified"));
    run_ok(at, &["extract", "chat", "-o", "out"]);
    assert_eq!(fs::read(at.join("out/weights/w.gguf")).unwrap(), gguf(1000));
    let text = run_fails(at, &["extract", "chat", "--runtime", "-o", "out"]);
    assert!(text.contains("hint: the original is the runtime with SHA-256"), "{text}");
    let text = run_fails(at, &["-w", "w.gguf", "--runtime", "chat", "-o", "x", "--pair"]);
    assert!(text.contains("hint: give the runtime that it was made from"), "{text}");
    assert_eq!(names(at), ["chat", "other", "out", "page", "rt", "third", "w.gguf"]);
}

#[test]
fn a_pair_with_settings_is_signed_and_one_without_is_unchanged() {
    let folder = mac(&mach_o());
    let at = folder.path();
    run_ok(at, &with(&["--pair"]));
    assert_eq!(fs::read(at.join("chat")).unwrap(), mach_o(), "a signature of its own was lost");
    assert_eq!(fs::read(at.join("chat.gguf")).unwrap(), gguf(1000));
    run_ok(at, &with(&["--pair", "--force", "--system-prompt", "be brief"]));
    let (mapped, tail) = open(&at.join("chat"));
    check_signature(mapped.bytes());
    assert!(tail.entry("system-prompt.txt").is_some());
    assert_eq!(tail.manifest().entries.last().unwrap().name, "chat.gguf");
    assert!(run_ok(at, &["verify", "chat"]).contains("verified"));
}

#[test]
fn a_byte_flipped_anywhere_is_found() {
    let folder = mac(&mach_o());
    let at = folder.path();
    run_ok(at, &NEW);
    let (mapped, tail) = open(&at.join("chat"));
    let whole = mapped.bytes().to_vec();
    let tail_end = usize::try_from(tail.small_part().end).unwrap();
    let weights = tail.entry("weights/w.gguf").unwrap().range.start;
    let hashes = whole.len() - 200;
    let places = [
        ("the signature", 24),             // a flag in the header
        ("the signature", 0x1000),         // code
        ("the signature", 0x9000),         // the zeros before the head
        ("weights/w.gguf", weights + 500), // named by the entry
        ("the signature", tail_end + 10),  // the zeros behind the tail
        ("the signature", tail_end.next_multiple_of(0x4000) + 3), // a table
        ("the signature", hashes),
    ];
    for (named, place) in places {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        let error = tail::read(&damaged).map_err(|error| error.to_string()).and_then(|tail| {
            verify(&damaged, &tail.expect("a bundle"), &mut |_, _| {}).map_err(|e| e.to_string())
        });
        let error = error.expect_err("damage was not found");
        let named = if named == "the signature" { "signature" } else { named };
        assert!(error.contains(named) || place < 0xa000, "{place}: {error}");
        fs::write(at.join("damaged"), &damaged).unwrap();
        let text = run_fails(at, &["set", "damaged", "--system-prompt", "x"]);
        assert!(text.contains("hint:"), "{text}");
        assert_eq!(fs::read(at.join("damaged")).unwrap(), damaged, "damage was signed");
    }
    let mut longer = whole.clone();
    longer.push(0);
    let tail = tail::read(&longer).unwrap().unwrap();
    let error = verify(&longer, &tail, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("1 bytes follow"), "{error}");
}

#[test]
fn a_download_truncated_anywhere_is_never_accepted() {
    let folder = mac(&mach_o());
    run_ok(folder.path(), &NEW);
    let whole = fs::read(folder.path().join("chat")).unwrap();
    let commands_end = 32 + u32::from_le_bytes(whole[20..24].try_into().unwrap()) as usize;
    for len in (0..whole.len()).step_by(97).chain(whole.len() - 300..whole.len()) {
        match tail::read(&whole[..len]) {
            Ok(None) => assert!(len < commands_end, "{len}"),
            Ok(Some(_)) => panic!("cut to {len} and accepted"),
            Err(error) => assert!(error.to_string().contains("truncated"), "{len}: {error}"),
        }
    }
}

#[test]
fn what_cannot_take_a_tail_is_refused_with_a_hint() {
    let mut fat = 0xcafe_babe_u32.to_be_bytes().to_vec();
    fat.resize(4096, 1);
    let library = {
        let mut bytes = mach_o();
        bytes[12] = 6;
        bytes
    };
    let used = {
        let mut bytes = mach_o();
        bytes[0x7f0] = 1;
        bytes
    };
    let mut longer = mach_o();
    longer.push(0);
    let room = MachO { room: 0x3d0, ..MachO::default() };
    let unknown = MachO { more: vec![0x99, 0, 0, 0, 8, 0, 0, 0], ..MachO::default() };
    for (runtime, said, hint) in [
        (fat, "a universal executable", "hint: use the one for arm64"),
        (library, "not a program", "hint: use one made by `make dist`"),
        (used, "is in use", "hint: use one"),
        (longer, "something follows it", "hint: use one"),
        (room.bytes(), "no room for another load command", "-headerpad"),
        (unknown.bytes(), "unknown load command 0x99", "hint: use a runtime"),
    ] {
        let folder = mac(&runtime);
        let at = folder.path();
        let text = run_fails(at, &with(&["--name", "Tea"]));
        assert!(text.contains(said) && text.contains(hint) && text.contains("rt"), "{text}");
        assert_eq!(names(at), ["page", "rt", "w.gguf"]);
        // An executable that is left unchanged can be anything that macOS starts.
        run_ok(at, &with(&["--pair"]));
        assert_eq!(fs::read(at.join("chat")).unwrap(), runtime);
    }
}

/// A damaged or hostile executable may be accepted or refused, but never causes a panic and never takes long.
#[test]
fn random_damage_to_the_load_commands_never_panics() {
    let folder = mac(&mach_o());
    run_ok(folder.path(), &NEW);
    let whole = fs::read(folder.path().join("chat")).unwrap();
    let mut state = 1_u64;
    let mut roll = |sides: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    for _ in 0..1000 {
        let mut bytes = whole.clone();
        for _ in 0..=roll(3) {
            let at = roll(0x600);
            bytes[at] = [0, 1, 0x7f, 0xff, 0x80][roll(5)];
        }
        if let Ok(Some(tail)) = tail::read(&bytes) {
            let _ = verify(&bytes, &tail, &mut |_, _| {});
        }
        if let Ok(image) = Image::parse(&bytes) {
            let _ = image.place(1 << 20);
            let _ = image.place(u64::MAX);
        }
        let _ = signature::verify(&bytes, &mut |_| {});
    }
}

/// Every offset in a signed Mach-O file has 32 bits.
#[test]
#[cfg(target_pointer_width = "64")]
fn above_four_gib_it_becomes_a_pair() {
    if !common::hashes_fast() || !common::has_holes() {
        return;
    }
    let folder = mac(&mach_o());
    let at = folder.path();
    common::sparse_gguf(&at.join("w.gguf"), (4 << 30) / 4);
    let output = run(at, &with(&["--name", "Tea"]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot be larger than 4 GiB"), "{}", stderr(&output));
    let (mapped, tail) = open(&at.join("chat"));
    check_signature(mapped.bytes());
    assert_eq!(tail.manifest().entries.last().unwrap().name, "chat.gguf");
    assert!(fs::metadata(at.join("chat.gguf")).unwrap().len() > 4 << 30);

    // The limit is where 32-bit offsets end; found with the image alone, without writing a file.
    let image = Image::parse(&mach_o()).unwrap();
    let longest = (0..64).rev().fold(0_u64, |end, bit| {
        let more = end | 1 << bit;
        if image.place(more).is_ok() { more } else { end }
    });
    let placed = image.place(longest).unwrap();
    assert!(placed.file_bytes <= u32::MAX.into() && placed.file_bytes > (4 << 30) - (64 << 10));
    assert!(image.place(longest + 1).is_err());
}
