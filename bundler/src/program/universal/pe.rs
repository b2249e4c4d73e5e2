//! Makes a Windows executable that is also a shell script.
//!
//! Input: an executable, the script's first lines (a stub) and the rest. Output: the executable with the stub in place
//! of the DOS program, and the rest between headers and sections. Knows nothing of what the script does.
//!
//! ```text
//! 0        MZtealight='…        the DOS header; Windows reads two fields: `MZ`, and at 0x3c the next header's offset
//! 0x40     '…                   the stub, a shell's first commands
//!          PE\0\0 …             the headers, with file offsets adjusted and no checksum; they end before SCRIPT_AT
//! SCRIPT_AT                     the rest of the script
//! SCRIPT_END                    the sections, unchanged
//! ```
//!
//! Before a shell reads a file, it checks that it is a script: bash wants no NUL before the first newline, zsh and fish
//! also a lowercase letter there. From the quote to the stub, the text is one quoted string to every shell; Windows
//! ignores it. Sections are mapped where their headers say, so they may lie further back in the file. Only the headers
//! must stay within the first page, which is theirs in memory.

use anyhow::{Context, Result, ensure};

/// Where the rest of the script begins: after the one page that the headers may use.
pub const SCRIPT_AT: usize = 4096;
/// Where the room for it ends.
pub const SCRIPT_END: usize = 4 * 4096;

/// How the file begins; before the field at 0x3c there is room for a hint to anyone who looks inside.
const START: &[u8] = b"MZtealight='\nA program for Windows, Linux and macOS.";
const NEW_HEADER_FIELD: usize = 0x3c;
const DOS_HEADER_LEN: usize = 0x40;

/// Puts a script into an executable.
pub fn with_script(pe: &[u8], stub: &str, script: &str) -> Result<Vec<u8>> {
    let old = Headers::of(pe).context("its headers are inconsistent or truncated")??;
    ensure!(script.len() <= SCRIPT_END - SCRIPT_AT, "the script has {} bytes", script.len());

    let mut out = START.to_vec();
    out.resize(NEW_HEADER_FIELD, b' ');
    let new_at = (DOS_HEADER_LEN + stub.len()).next_multiple_of(8);
    out.extend(u32::try_from(new_at)?.to_le_bytes());
    out.extend(stub.as_bytes());
    out.resize(new_at, b'\n');
    out.extend(old.bytes);
    let headers_end = out.len().next_multiple_of(old.file_alignment);
    ensure!(
        headers_end <= SCRIPT_AT.min(old.first_address),
        "its headers have {} bytes, too many to fit with the script",
        old.bytes.len()
    );
    out.resize(SCRIPT_AT, 0);
    out.extend(script.as_bytes());
    out.resize(SCRIPT_END, b'\n');
    let shift = SCRIPT_END - old.first_section;
    out.extend(&pe[old.first_section..]);

    let mut put = |at: usize, value: usize| -> Result<()> {
        out[at..at + 4].copy_from_slice(&u32::try_from(value)?.to_le_bytes());
        Ok(())
    };
    put(new_at + old.header_bytes_field, headers_end)?;
    // A checksum of 0 (none) is valid too; the old one no longer is.
    put(new_at + old.check_sum_field, 0)?;
    for (field, value) in old.places {
        put(new_at + field, value + shift)?;
    }
    for (field, value) in old.places_in_sections {
        put(field + shift, value + shift)?;
    }
    Ok(out)
}

/// Facts about an executable's headers. Field offsets are relative to `bytes`.
struct Headers<'a> {
    /// From `PE\0\0` to the end of the section table.
    bytes: &'a [u8],
    file_alignment: usize,
    header_bytes_field: usize,
    check_sum_field: usize,
    /// Fields that hold file offsets, with their values.
    places: Vec<(usize, usize)>,
    /// The same in the sections' data; these field offsets are relative to the file.
    places_in_sections: Vec<(usize, usize)>,
    /// File offset of the first section.
    first_section: usize,
    /// Address of the first section, relative to the image.
    first_address: usize,
}

const OPTIONAL: usize = 24;
const DIRECTORIES: usize = OPTIONAL + 112;
const CERTIFICATES: usize = 4;
const DEBUG: usize = 6;
const BOUND_IMPORTS: usize = 11;
const SECTION_LEN: usize = 40;
const DEBUG_LEN: usize = 28;

impl Headers<'_> {
    /// `None`: something lies outside the file. An error: an executable whose sections cannot be moved.
    fn of(pe: &[u8]) -> Option<Result<Headers<'_>>> {
        let at = u32_at(pe, NEW_HEADER_FIELD)?;
        let header = pe.get(at..)?;
        let sections = u16_at(header, 6)?;
        let table = OPTIONAL + u16_at(header, 20)?;
        let bytes = header.get(..table + SECTION_LEN * sections)?;
        let directory = |index: usize| -> Option<(usize, usize)> {
            if index >= u32_at(bytes, OPTIONAL + 108)? {
                return Some((0, 0));
            }
            let field = DIRECTORIES + 8 * index;
            Some((u32_at(bytes, field)?, u32_at(bytes, field + 4)?))
        };
        let is_known = u16_at(bytes, 4)? == 0x8664 && u16_at(bytes, OPTIONAL)? == 0x20b;
        let is_signed = directory(CERTIFICATES)? != (0, 0);
        let is_bound = directory(BOUND_IMPORTS)? != (0, 0);

        let mut places = Vec::new();
        let mut first_section = pe.len();
        let mut first_address = usize::MAX;
        let mut found = Vec::new();
        for section in (table..bytes.len()).step_by(SECTION_LEN) {
            let (address, len) = (u32_at(bytes, section + 12)?, u32_at(bytes, section + 16)?);
            let place = u32_at(bytes, section + 20)?;
            first_address = first_address.min(address);
            if place > 0 {
                pe.get(place..place + len)?;
                places.push((section + 20, place));
                first_section = first_section.min(place);
                found.push((address, len, place));
            }
        }
        let symbols = u32_at(bytes, 12)?;
        if symbols > 0 {
            places.push((12, symbols));
        }
        let mut places_in_sections = Vec::new();
        let (debug, debug_len) = directory(DEBUG)?;
        if debug_len > 0 {
            let (address, _, place) = *found
                .iter()
                .find(|(address, len, _)| (*address..address + len).contains(&debug))?;
            let start = place + (debug - address);
            pe.get(start..start + debug_len)?;
            for record in (start..start + debug_len / DEBUG_LEN * DEBUG_LEN).step_by(DEBUG_LEN) {
                let place = u32_at(pe, record + 24)?;
                if place > 0 {
                    places_in_sections.push((record + 24, place));
                }
            }
        }
        let file_alignment = u32_at(bytes, OPTIONAL + 36)?;
        let fits = file_alignment.is_power_of_two()
            && file_alignment <= SCRIPT_AT
            && first_section.is_multiple_of(file_alignment)
            && (at + bytes.len()..=SCRIPT_END).contains(&first_section);
        let check = || -> Result<()> {
            ensure!(is_known, "it is not for 64-bit Windows on x86-64");
            ensure!(
                !is_signed,
                "it is signed, and the signature would become invalid\n\
                 hint: use an unsigned one, and sign the file made from it"
            );
            ensure!(!is_bound, "it has bound imports, which cannot be moved");
            ensure!(
                fits,
                "its sections begin at byte {first_section}, which leaves no room for the script"
            );
            Ok(())
        };
        Some(check().map(|()| Headers {
            bytes,
            file_alignment,
            header_bytes_field: OPTIONAL + 60,
            check_sum_field: OPTIONAL + 64,
            places,
            places_in_sections,
            first_section,
            first_address,
        }))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

#[cfg(test)]
#[path = "../../../tests/common/windows.rs"]
mod windows;

#[cfg(test)]
mod tests {
    use super::windows::{DEBUG_RECORD, FIRST_SECTION, HEADERS, executable};
    use super::*;

    const STUB: &str = "'\nexit 3\n";

    fn why(pe: &[u8]) -> String {
        format!("{:#}", with_script(pe, STUB, "# script\n").map(drop).unwrap_err())
    }

    #[test]
    fn everything_is_where_the_headers_say() {
        let old = executable();
        let new = with_script(&old, STUB, "# script\n").unwrap();
        let at = u32_at(&new, 0x3c).unwrap();
        assert!(new.starts_with(b"MZtealight='\n"));
        assert_eq!(&new[0x40..0x40 + STUB.len()], STUB.as_bytes());
        assert!(at >= 0x40 + STUB.len() && at.is_multiple_of(8));
        assert!(new[SCRIPT_AT..].starts_with(b"# script\n\n"));
        assert!(!new[SCRIPT_AT..SCRIPT_END].contains(&0));
        assert_eq!(new[SCRIPT_END..][..0x200], old[FIRST_SECTION..0x600]);

        // In the headers, only these fields differ.
        let shift = SCRIPT_END - FIRST_SECTION;
        let table = OPTIONAL + 240;
        let mut expected = old[HEADERS..HEADERS + table + 3 * SECTION_LEN].to_vec();
        let headers_end = (at + expected.len()).next_multiple_of(0x200);
        for (field, value) in [
            (12, 0x900 + shift),
            (OPTIONAL + 60, headers_end),
            (OPTIONAL + 64, 0),
            (table + 20, 0x400 + shift),
            (table + 60, 0x600 + shift),
        ] {
            expected[field..field + 4]
                .copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
        }
        assert_eq!(new[at..at + expected.len()], expected);
        assert!(new[at + expected.len()..SCRIPT_AT].iter().all(|&byte| byte == 0));

        // In the sections, only one: the file offset in the debug record.
        let mut sections = old[FIRST_SECTION..].to_vec();
        let field = DEBUG_RECORD + 24 - FIRST_SECTION;
        let place = u32::try_from(0x700 + shift).unwrap();
        sections[field..field + 4].copy_from_slice(&place.to_le_bytes());
        assert_eq!(new[SCRIPT_END..], sections);
    }

    #[test]
    fn the_script_can_be_replaced() {
        let once = with_script(&executable(), STUB, "# one\n").unwrap();
        let twice = with_script(&once, STUB, "# two\n").unwrap();
        assert_eq!(twice, with_script(&executable(), STUB, "# two\n").unwrap());
    }

    #[test]
    fn what_cannot_be_moved_is_refused() {
        let with = |field: usize, value: u32| {
            let mut pe = executable();
            pe[HEADERS + field..HEADERS + field + 4].copy_from_slice(&value.to_le_bytes());
            pe
        };
        assert!(why(&with(DIRECTORIES + 8 * CERTIFICATES, 0xa00)).contains("signed"));
        assert!(why(&with(DIRECTORIES + 8 * BOUND_IMPORTS, 0x200)).contains("bound"));
        assert!(why(&with(4, 0x0003_014c)).contains("64-bit Windows"), "32 bits");
        assert!(why(&with(OPTIONAL + 36, 0)).contains("no room"), "no alignment");
        assert!(
            why(&with(OPTIONAL + 240 + 12, 0x100)).contains("too many"),
            "in the headers' page"
        );
        assert!(why(&with(OPTIONAL + 240 + 20, 0x100)).contains("no room"), "in the headers");
        let long = "#".repeat(SCRIPT_END - SCRIPT_AT + 1);
        assert!(with_script(&executable(), STUB, &long).is_err());
        assert!(with_script(&executable(), &"#".repeat(SCRIPT_AT), "").is_err());
    }

    #[test]
    fn damage_never_panics() {
        let pe = executable();
        for len in 0..pe.len() {
            let _ = with_script(&pe[..len], STUB, "");
        }
        for at in 0..FIRST_SECTION {
            for value in [0x01, 0x7f, 0x80, 0xff] {
                let mut damaged = pe.clone();
                damaged[at] ^= value;
                let _ = with_script(&damaged, STUB, "");
            }
        }
    }
}
