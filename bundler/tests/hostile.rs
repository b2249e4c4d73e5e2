//! Hostile and damaged files. Each test is named after the attack.

mod common;

use std::time::{Duration, Instant};

use common::{bundle, elf, gguf, sample, settings, small};
use proptest::prelude::*;
use tealight_bundle::tail::{self, Role, layout};
use tealight_bundle::{Tail, TailError, verify};

fn open(bytes: &[u8]) -> Tail {
    tail::read(bytes).unwrap().expect("a bundle")
}

fn error(bytes: &[u8]) -> TailError {
    tail::read(bytes).expect_err("a damaged bundle")
}

fn find(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    (0..=bytes.len() - needle.len()).filter(|&at| bytes[at..].starts_with(needle)).collect()
}

/// Where the directory's record of that entry begins: 46 bytes before the last occurrence of its name in a record.
fn central(bytes: &[u8], name: &str) -> usize {
    find(bytes, name.as_bytes())
        .into_iter()
        .rfind(|at| bytes[at - 46..].starts_with(b"PK\x01\x02"))
        .unwrap()
        - 46
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Replaces a name with another of the same length, in header, directory and manifest.
fn rename(bytes: &mut [u8], old: &str, new: &[u8]) {
    assert_eq!(old.len(), new.len());
    for at in find(bytes, old.as_bytes()) {
        put(bytes, at, new);
    }
}

/// Replaces text in the manifest with text of the same length, and updates its CRC-32.
fn edit_manifest(bytes: &mut [u8], old: &str, new: &str) {
    assert_eq!(old.len(), new.len(), "{old} {new}");
    let range = open(bytes).entry("manifest.json").unwrap().range.clone();
    let at = range.start + find(&bytes[range.clone()], old.as_bytes())[0];
    put(bytes, at, new.as_bytes());
    let crc32 = crc32fast::hash(&bytes[range.clone()]).to_le_bytes();
    let local = range.start - 30 - "manifest.json".len();
    put(bytes, local + 14, &crc32);
    let record = central(bytes, "manifest.json");
    put(bytes, record + 16, &crc32);
}

/// An honest bundle whose page has these files.
fn with_page(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut settings = settings("x");
    settings.small.extend(files.iter().map(|(name, data)| small(name, Role::Web, data)));
    bundle(&elf(100), &[("weights/w.gguf", &gguf(1))], &settings)
}

#[test]
fn a_valid_bundle_is_read() {
    use Role::{Args, Head, License, Manifest, Model, SystemPrompt, Web};
    let bytes = sample();
    let tail = open(&bytes);
    let roles: Vec<Role> = tail.entries().iter().map(|entry| entry.role).collect();
    assert_eq!(roles, [Head, Model, Model, Args, SystemPrompt, License, Web, Web, Web, Manifest]);
    assert_eq!(tail.leftover_bytes(), 0);
    assert_eq!(tail.runtime_end(), 1000);
    assert_eq!(&bytes[tail.entry("system-prompt.txt").unwrap().range.clone()], b"be brief");
    for (model, floats) in tail.with_role(Role::Model).zip([10, 1]) {
        assert_eq!(model.range.start % 65_536, 0);
        assert_eq!(bytes[model.range.clone()], gguf(floats));
    }
    let mut last = (0, 0);
    verify(&bytes, &tail, &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last.0, last.1);
}

#[test]
fn files_that_are_not_bundles_are_not_called_damaged() {
    for ordinary in [&b""[..], b"\x7fELF", &elf(200_000), &gguf(100), b"PK\x05\x06", &[0; 22]] {
        assert!(tail::read(ordinary).unwrap().is_none());
    }
}

#[test]
fn another_programs_zip_after_an_executable_is_not_a_bundle() {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("model.gguf", stored).unwrap();
    let mut bytes = elf(70_000);
    bytes.extend(zip.finish().unwrap().into_inner());
    assert!(tail::read(&bytes).unwrap().is_none());
}

#[test]
fn a_download_truncated_anywhere_is_never_accepted() {
    let bytes = sample();
    let whole = open(&bytes);
    let weights_end = usize::try_from(whole.weights_end()).unwrap();
    let head = whole.entry(layout::HEAD_NAME).unwrap().range.clone();
    // At every byte of the head and just behind it, around the start and end of each entry, and at every byte of the
    // small part.
    let mut cuts: Vec<usize> = (65_536..head.end + 2).collect();
    for entry in whole.entries() {
        cuts.extend([
            entry.range.start - 1,
            entry.range.start,
            entry.range.start + 1,
            entry.range.end - 1,
        ]);
    }
    cuts.extend(weights_end..bytes.len());
    for cut in cuts {
        match tail::read(&bytes[..cut]) {
            Ok(None) => assert!(cut < 65_536 + 43, "cut at {cut}: the head was there"),
            Err(TailError::TruncatedHead { file_bytes, offset: 65_536 }) => {
                assert!(file_bytes == cut as u64 && cut < head.end);
            }
            Err(TailError::Truncated { file_bytes, weights_end: end }) => {
                assert!(file_bytes == cut as u64 && end == weights_end as u64 && cut < weights_end);
            }
            Err(TailError::Ends { .. }) => assert!(cut >= weights_end),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    let text = error(&bytes[..weights_end - 1]).to_string();
    assert!(text.contains("truncated") && text.contains("hint: "), "{text}");
}

#[test]
fn a_byte_flipped_in_any_region_is_found() {
    let bytes = sample();
    let tail = open(&bytes);
    // Every byte, but only samples in the gaps and the runtime.
    let small = usize::try_from(tail.tail_start()).unwrap()..bytes.len();
    let mut places: Vec<usize> = vec![0, 1, 999, 1000, 1001, 40_000, 65_535];
    places.extend(65_536..65_536 + 100);
    places.extend([100_000, 2 * 65_536 - 100]);
    for model in tail.with_role(Role::Model) {
        places.extend(model.range.start - 60..model.range.end + 2);
    }
    places.extend([small.start - 4000, small.start - 1]);
    places.extend(small);
    for at in places {
        for flip in [0x01, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            let found = match tail::read(&bad) {
                Err(error) => error.to_string(),
                Ok(None) => panic!("flipped at {at}: taken for an ordinary file"),
                Ok(Some(tail)) => match verify(&bad, &tail, &mut |_, _| {}) {
                    Err(error) => error.to_string(),
                    Ok(()) => panic!("flipped at {at}: not found"),
                },
            };
            let place = tail.entries().iter().find(|entry| entry.range.contains(&at));
            if let Some(entry) = place.filter(|entry| entry.role != Role::Head) {
                assert!(found.contains(&entry.name), "flipped at {at} in {}: {found}", entry.name);
            }
        }
    }
}

#[test]
fn a_flipped_byte_in_a_gap_is_named_by_its_offset() {
    let mut bytes = sample();
    bytes[1000] = 7;
    let text = verify(&bytes, &open(&bytes), &mut |_, _| {}).unwrap_err().to_string();
    assert!(text.contains("at byte 1000 of the file, expected 0x00, found 0x07"), "{text}");
}

#[test]
fn a_compressed_page_could_be_a_zip_bomb_and_is_refused() {
    let mut bytes = sample();
    let record = central(&bytes, "web/a.js");
    put(&mut bytes, record + 10, &8_u16.to_le_bytes());
    assert!(
        matches!(error(&bytes), TailError::Compressed { name, method: 8 } if name == "web/a.js")
    );
}

#[test]
fn encryption_and_data_descriptors_are_refused_by_name() {
    for (flag, wanted) in [
        (1_u16, "web/b.js` is encrypted"),
        (1 << 6, "is encrypted"),
        (1 << 3, "web/b.js` has a data descriptor"),
    ] {
        let mut bytes = sample();
        let record = central(&bytes, "web/b.js");
        put(&mut bytes, record + 8, &(flag | 1 << 11).to_le_bytes());
        let text = error(&bytes).to_string();
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn two_sizes_for_one_entry_are_refused() {
    let mut bytes = sample();
    let record = central(&bytes, "web/a.js");
    put(&mut bytes, record + 20, &5_u32.to_le_bytes());
    assert!(error(&bytes).to_string().contains("its two sizes differ"));
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for evil in [
        &b"../ab.js"[..],
        b"/eb/a.js",
        b"web\\a.js",
        b"C:b/a.js",
        b"web//.js",
        b"we/../js",
        b"web/\xff.js",
        b"web/\0.js",
        b"web/nul.",
    ] {
        let mut bytes = sample();
        rename(&mut bytes, "web/a.js", evil);
        assert!(matches!(error(&bytes), TailError::Name { .. }), "{}", evil.escape_ascii());
    }
}

#[test]
fn the_same_name_twice_is_refused() {
    let mut bytes = sample();
    rename(&mut bytes, "web/b.js", b"web/a.js");
    assert!(matches!(error(&bytes), TailError::Duplicate { name } if name == "web/a.js"));
}

#[test]
fn an_entry_that_points_at_the_runtime_or_at_another_is_refused() {
    for offset in [0_u32, 64, 1 << 16, 70_000, u32::MAX - 1] {
        for name in ["web/a.js", "weights/a-00002-of-00002.gguf", "manifest.json", "head.tealight"]
        {
            let mut bytes = sample();
            let record = central(&bytes, name);
            if bytes[record + 42..record + 46] == offset.to_le_bytes() {
                continue;
            }
            put(&mut bytes, record + 42, &offset.to_le_bytes());
            error(&bytes);
        }
    }
}

#[test]
fn a_size_beyond_the_file_is_refused() {
    for size in [1_000_000_u32, u32::MAX - 1, u32::MAX] {
        for name in [
            "web/a.js",
            "weights/a-00001-of-00002.gguf",
            "weights/a-00002-of-00002.gguf",
            "manifest.json",
        ] {
            let mut bytes = sample();
            let record = central(&bytes, name);
            put(&mut bytes, record + 20, &size.to_le_bytes());
            put(&mut bytes, record + 24, &size.to_le_bytes());
            error(&bytes);
        }
    }
}

#[test]
fn a_directory_with_absurd_size_offset_or_count_is_refused_at_once() {
    let values = [0, 1, 9, 65_537, u64::from(u32::MAX), u64::MAX - 100, u64::MAX];
    let started = Instant::now();
    // Entry count, length and offset of the directory, in the zip64 end record.
    for field in [32, 40, 48] {
        for value in values {
            let mut bytes = sample();
            let at = bytes.len() - 98 + field;
            put(&mut bytes, at, &value.to_le_bytes());
            assert!(matches!(error(&bytes), TailError::Ends { .. } | TailError::Directory { .. }));
        }
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_consistent_lie_about_the_count_is_refused() {
    let mut bytes = sample();
    let at = bytes.len() - 98;
    for (field, value) in [(24, 11_u64), (32, 11)] {
        put(&mut bytes, at + field, &value.to_le_bytes());
    }
    for field in [98 - 22 + 8, 98 - 22 + 10] {
        put(&mut bytes, at + field, &11_u16.to_le_bytes());
    }
    assert!(matches!(error(&bytes), TailError::Directory { expected: 11, found: 10, .. }));
}

#[test]
fn an_archive_comment_cannot_hide_anything() {
    let mut bytes = sample();
    let at = bytes.len() - 2;
    put(&mut bytes, at, &4_u16.to_le_bytes());
    bytes.extend(b"evil");
    error(&bytes);
}

#[test]
fn a_manifest_that_disagrees_is_refused() {
    for (old, new, wanted) in [
        ("\"web/a.js\"", "\"web/z.js\"", "in the directory, but not in the manifest"),
        ("\"bytes\": 20,", "\"bytes\": 21,", "from the manifest, expected 21, found 20"),
        ("\"bytes\": 1000,", "\"bytes\": 1001,", "the runtime's length"),
        ("\"role\": \"web\"", "\"role\":\"head\"", "role head is not allowed after the weights"),
        (
            "\"role\": \"model\"",
            "\"role\":  \"args\"",
            "role args is not allowed among the weights",
        ),
        ("\"role\": \"args\"", "\"role\":\"model\"", "role model is not allowed after the weights"),
        ("\"role\": \"web\",", "\"role\":\"manifest\"".get(..14).unwrap(), "manifest.json"),
        ("\"format\": 1", "\"format\": 2", "has format 2"),
        ("\"format\": 1", "\"format\":[1", "manifest.json"),
        ("\"created_by\"", "\"created_up\"", "created_by"),
    ] {
        let mut bytes = sample();
        edit_manifest(&mut bytes, old, new);
        let text = error(&bytes).to_string();
        assert!(text.contains(wanted), "{old}: {text}");
    }
}

#[test]
fn a_deeply_nested_manifest_does_not_overflow_the_stack() {
    let mut bytes = with_page(&[]);
    let json = open(&bytes).entry("manifest.json").unwrap().range.clone();
    let old = String::from_utf8(bytes[json].to_vec()).unwrap();
    let new = "[".repeat(old.len());
    edit_manifest(&mut bytes, &old, &new);
    assert!(matches!(error(&bytes), TailError::Manifest(_)));
}

#[test]
fn a_head_of_a_later_format_is_named() {
    let mut bytes = sample();
    let data = open(&bytes).entry(layout::HEAD_NAME).unwrap().range.clone();
    put(&mut bytes, data.start + 8, &9_u32.to_le_bytes());
    assert!(matches!(error(&bytes), TailError::Format { found: 9 }));
    let short = bytes.len() - 500;
    assert!(matches!(error(&bytes[..short]), TailError::Format { found: 9 }));
}

#[test]
fn a_head_whose_offsets_contradict_each_other_is_refused() {
    for field in [16, 24, 32] {
        for value in [0_u64, 1001, 65_536, 65_600, u64::MAX - 1, u64::MAX] {
            let mut bytes = sample();
            let data = open(&bytes).entry(layout::HEAD_NAME).unwrap().range.clone();
            put(&mut bytes, data.start + field, &value.to_le_bytes());
            let crc32 = crc32fast::hash(&bytes[data.clone()]).to_le_bytes();
            put(&mut bytes, data.start - 43 + 14, &crc32);
            let record = central(&bytes, layout::HEAD_NAME);
            put(&mut bytes, record + 16, &crc32);
            error(&bytes);
        }
    }
}

#[test]
fn a_bundle_inside_the_page_is_not_mistaken_for_the_bundle() {
    let inner = sample();
    let bytes = with_page(&[("web/inner.bin", &inner)]);
    assert!(open(&bytes).entry("web/inner.bin").is_some());
    // Nor when the outer end record is gone.
    error(&bytes[..bytes.len() - 1]);
}

#[test]
fn a_page_full_of_end_records_does_not_take_forever() {
    let end = &sample()[sample().len() - 98..];
    let bytes = with_page(&[
        ("web/ends.bin", &end.repeat(100_000)),
        ("web/sig.bin", &b"PK\x05\x06".repeat(1_000_000)),
    ]);
    let started = Instant::now();
    error(&bytes[..bytes.len() - 1]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn more_entries_than_allowed_cannot_be_written() {
    let mut many = settings("x");
    many.small = (0..70_000).map(|n| small(&format!("web/{n}"), Role::Web, b"")).collect();
    let (plan, fixed) = common::plan(&elf(100), &[]);
    let text = plan.tail(&fixed, &many, plan.tail_start()).unwrap_err().to_string();
    assert!(text.contains("at most"), "{text}");
}

#[test]
fn as_many_entries_as_the_manifest_can_list_are_read() {
    // Above 65,535 the count moves to the zip64 record, but the manifest's limit comes first.
    let mut many = settings("x");
    many.small = (0..20_000).map(|n| small(&format!("web/{n:05}"), Role::Web, b"")).collect();
    let bytes = bundle(&elf(100), &[], &many);
    assert_eq!(open(&bytes).entries().len(), 20_002);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_damage_to_the_tail_never_panics(
        edits in prop::collection::vec((0_usize..3000, any::<u8>()), 1..8),
        cut in prop::option::of(0_usize..3000),
    ) {
        let mut bytes = sample();
        if let Some(cut) = cut {
            bytes.truncate(bytes.len() - cut);
        }
        let len = bytes.len();
        for (back, value) in edits {
            bytes[len - 1 - back] = value;
        }
        if let Ok(Some(tail)) = tail::read(&bytes) {
            let _ = verify(&bytes, &tail, &mut |_, _| {});
        }
    }
}
