//! Reads the tail of a hostile file.
//!
//! The input is the part behind the weights of a bundle; runtime, head and gaps are put in front, so that the fuzzer
//! need not invent 64 KiB of them. With a first byte of 0 the input is the whole file. With a first byte of 1 the
//! CRC-32s of its entries are corrected first, so that the input gets past them and into the manifest.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tealight_bundle::tail::{self, layout, write};
use tealight_bundle::verify;

/// Everything before the small entries of a bundle without weights.
static FRONT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let plan = write::TailPlan::new(4, Vec::new()).expect("nothing is wrong with it");
    let mut front = b"\x7fELF".to_vec();
    front.resize(usize::try_from(plan.head_offset()).expect("64 KiB"), 0);
    front.extend(plan.head_entry());
    front.resize(usize::try_from(plan.tail_start()).expect("68 KiB"), 0);
    front
});

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else {
        return;
    };
    let mut file = if kind == 0 { Vec::new() } else { FRONT.clone() };
    file.extend_from_slice(input);
    if kind == 1 {
        mend(&mut file);
    }
    if let Ok(Some(tail)) = tail::read(&file) {
        for entry in tail.entries() {
            assert!(
                file.get(entry.range.clone()).is_some(),
                "a range outside the file"
            );
            layout::check_name(&entry.name).expect("a name that is refused");
        }
        assert!(tail.leftover_bytes() <= file.len() as u64);
        let _ = verify(&file, &tail, &mut |done, total| assert!(done <= total));
    }
});

/// Writes the right CRC-32 of every entry into its header and its directory record, as far as both can be found.
fn mend(file: &mut [u8]) {
    let mut at = file.len().saturating_sub(1);
    while let Some(found) = file
        .get(..at)
        .and_then(|before| before.windows(4).rposition(|four| four == b"PK\x01\x02"))
    {
        at = found;
        let Some(record) = file.get(at..at + 46) else {
            continue;
        };
        let field = |offset: usize| {
            u32::from_le_bytes(record[offset..offset + 4].try_into().expect("four bytes")) as usize
        };
        let (size, name, header) = (field(24), usize::from(record[28]), field(42));
        let Some(data) = file
            .get(header + 30 + name..)
            .and_then(|rest| rest.get(..size))
        else {
            continue;
        };
        let crc32 = crc32(data).to_le_bytes();
        file[at + 16..at + 20].copy_from_slice(&crc32);
        file[header + 14..header + 18].copy_from_slice(&crc32);
    }
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
