//! One file for every system: a program for Windows that is also a shell script. The script starts one of the programs
//! for the other systems, which the file holds as well.
//!
//! Input: a folder with a runtime for each target. Output: the runtime that goes in front, changed (see [`pe`]), with
//! the others that go behind it. They lie before the weights, so that `set` never moves anything the script relies on.
//! The script is `stub.sh` and `universal.sh`; [`table`] gives it the facts about one file.

mod pe;
pub mod program;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tealight_bundle::Mapped;
use tealight_bundle::manifest::Sha256Sum;
use tealight_bundle::tail::write::{Placed, TailPlan};

use super::executable::ExecutableFormat;
use super::runtime::{self, Runtime};
use super::target::Target;
use program::Program;

/// The part of the script that finds the file. It begins by closing the quote that [`pe`] opens.
const STUB: &str = include_str!("stub.sh");
/// The rest of the script.
const SCRIPT: &str = include_str!("universal.sh");
/// Block size of `dd` in `universal.sh`.
const BLOCK: u64 = 65536;

/// Makes the runtime in front of a file for every system. Without `dist`, the folders are those of
/// [`runtime::for_target`].
pub fn front(dist: Option<&Path>) -> Result<Runtime> {
    let mut front = runtime::for_target(Target::WindowsX86_64, dist)?;
    // Windows on ARM runs the front as well.
    let behind = Target::ALL.into_iter().filter(|target| target.format() != ExecutableFormat::Pe);
    front.programs = behind.map(|target| program(target, dist)).collect::<Result<_>>()?;

    let mapped = Mapped::open(&front.path)?;
    let pe = mapped.bytes().get(..usize::try_from(front.bytes)?).unwrap_or_default();
    if let Some(expected) = front.sha256.take() {
        let found: [u8; 32] = Sha256::digest(pe).into();
        ensure!(
            found == expected,
            "the runtime in {}: expected SHA-256 {}, found {}\nhint: that bundle is damaged; fetch it again",
            front.path.display(),
            Sha256Sum(expected),
            Sha256Sum(found)
        );
    }
    let cannot = || format!("{}: cannot put the script into this program", front.path.display());
    // The programs' offsets depend only on the length of the front, which does not depend on the script's text.
    front.bytes = pe::with_script(pe, STUB, "").with_context(cannot)?.len() as u64;
    let plan = TailPlan::new(front.bytes, front.programs.iter().map(Program::part).collect())?;
    let script = table(&front.programs, plan.parts()) + SCRIPT;
    front.changed = Some(pe::with_script(pe, STUB, &script).with_context(cannot)?);
    Ok(front)
}

/// Reads a program that goes behind the front.
fn program(target: Target, dist: Option<&Path>) -> Result<Program> {
    let Runtime { path, bytes, in_segment, .. } = runtime::for_target(target, dist)?;
    ensure!(
        !in_segment,
        "{}: this is a macOS bundle, from which the original program cannot be recovered\n\
         hint: rebuild it: make dist",
        path.display()
    );
    let mapped = Mapped::open(&path)?;
    let content = mapped.bytes().get(..usize::try_from(bytes)?).unwrap_or_default();
    let sha256 = Sha256::digest(content).into();
    Ok(Program { target, cksum: cksum(content), path, bytes, sha256 })
}

/// The script's table of the file: each program's first block, length, checksum, and a unique name.
fn table(programs: &[Program], places: &[Placed]) -> String {
    let names: Vec<_> = programs.iter().map(|program| program.target.name()).collect();
    let mut table =
        format!("# tealight {}\ntl_targets='{}'\n", env!("CARGO_PKG_VERSION"), names.join(" "));
    table.push_str("tl_program() {\n\tcase $1 in\n");
    for (Program { target, bytes, sha256, cksum, .. }, place) in programs.iter().zip(places) {
        let block = place.data_offset / BLOCK;
        let name: String = Sha256Sum(*sha256).to_string().chars().take(32).collect();
        let _ = writeln!(
            table,
            "\t{target}) tl_block={block} tl_bytes={bytes} tl_sum={cksum} tl_name={name} ;;"
        );
    }
    table.push_str("\t*) return 1 ;;\n\tesac\n}\n\n");
    table
}

/// The checksum of POSIX `cksum`: CRC-32, highest bit first, over the content and then the bytes of its length, lowest
/// byte first.
fn cksum(content: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = (index as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                value = if value >> 31 == 1 { value << 1 ^ 0x04c1_1db7 } else { value << 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    let step = |sum: u32, byte: u8| sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)];
    let len = content.len().to_le_bytes();
    let len_bytes = len.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    !content.iter().chain(&len[..len_bytes]).fold(0, |sum, &byte| step(sum, byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn sums_match_the_cksum_command() {
        // As `printf … | cksum` prints them.
        assert_eq!(cksum(b""), 4_294_967_295);
        assert_eq!(cksum(b"123456789"), 930_766_865);
        assert_eq!(cksum(&[b'a'; 300]), 1_664_553_091);
    }

    #[test]
    fn the_script_fits_for_any_numbers() {
        let program = |target| Program {
            target,
            path: PathBuf::new(),
            bytes: u64::MAX,
            sha256: [0xff; 32],
            cksum: u32::MAX,
        };
        let programs: Vec<_> = Target::ALL.into_iter().map(program).collect();
        let part = programs[0].part();
        let place = Placed { part, header_offset: 0, data_offset: u64::MAX };
        let script = table(&programs, &vec![place; programs.len()]) + SCRIPT;
        let room = pe::SCRIPT_END - pe::SCRIPT_AT;
        assert!(script.len() <= room, "{} bytes, room for {room}", script.len());
        assert!(script.starts_with("# tealight "), "as stub.sh wants it");
        assert!(STUB.starts_with("'\n"));
        assert!(!script.contains('\0') && !STUB.contains('\0'));
        let reads = format!("bs={} skip=1 count={}", pe::SCRIPT_AT, room / pe::SCRIPT_AT);
        assert!(STUB.contains(&reads), "{reads}");
        assert!(SCRIPT.contains(&format!("bs={BLOCK} ")));
    }
}
