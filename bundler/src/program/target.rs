//! The systems that a runtime is built for. Input: a name as typed, or the first bytes of an executable. Output: a
//! [`Target`], which knows its runtime's file name in a `dist` folder.

use std::fmt;

use clap::ValueEnum;

use super::executable::ExecutableFormat;

/// A system and its processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Target {
    #[value(name = "linux-x86_64")]
    LinuxX86_64,
    #[value(name = "linux-aarch64")]
    LinuxAarch64,
    #[value(name = "windows-x86_64")]
    WindowsX86_64,
    #[value(name = "windows-arm64")]
    WindowsArm64,
    #[value(name = "macos-arm64")]
    MacosArm64,
    #[value(name = "macos-x86_64")]
    MacosX86_64,
}

impl Target {
    /// All targets, in the order in which people meet them.
    pub const ALL: [Target; 6] = [
        Target::WindowsX86_64,
        Target::WindowsArm64,
        Target::MacosArm64,
        Target::MacosX86_64,
        Target::LinuxX86_64,
        Target::LinuxAarch64,
    ];

    /// The name, as typed and as used in file names.
    pub fn name(self) -> &'static str {
        match self {
            Target::LinuxX86_64 => "linux-x86_64",
            Target::LinuxAarch64 => "linux-aarch64",
            Target::WindowsX86_64 => "windows-x86_64",
            Target::WindowsArm64 => "windows-arm64",
            Target::MacosArm64 => "macos-arm64",
            Target::MacosX86_64 => "macos-x86_64",
        }
    }

    /// The runtime's file name in a `dist` folder.
    pub fn runtime_name(self) -> String {
        format!("tealight-{}{}", self.name(), self.format().ending())
    }

    /// The format of its executables.
    pub fn format(self) -> ExecutableFormat {
        match self {
            Target::LinuxX86_64 | Target::LinuxAarch64 => ExecutableFormat::Elf,
            Target::WindowsX86_64 | Target::WindowsArm64 => ExecutableFormat::Pe,
            Target::MacosArm64 | Target::MacosX86_64 => ExecutableFormat::MachO,
        }
    }

    /// The target that an executable was built for; `None` for any other.
    pub fn of(bytes: &[u8]) -> Option<Target> {
        let u16_at = |at: usize| bytes.get(at..)?.first_chunk().map(|x| u16::from_le_bytes(*x));
        let u32_at = |at: usize| bytes.get(at..)?.first_chunk().map(|x| u32::from_le_bytes(*x));
        match ExecutableFormat::of(bytes)? {
            // 64 bits, little-endian, then e_machine.
            ExecutableFormat::Elf => match (bytes.get(4..6)?, u16_at(18)?) {
                ([2, 1], 62) => Some(Target::LinuxX86_64),
                ([2, 1], 183) => Some(Target::LinuxAarch64),
                _ => None,
            },
            // The machine follows `PE\0\0`.
            ExecutableFormat::Pe => {
                let header = usize::try_from(u32_at(0x3c)?).ok()?;
                match u16_at(header.checked_add(4)?)? {
                    0x8664 => Some(Target::WindowsX86_64),
                    0xaa64 => Some(Target::WindowsArm64),
                    _ => None,
                }
            }
            // 64 bits, little-endian, then the processor.
            ExecutableFormat::MachO => match (u32_at(0)?, u32_at(4)?) {
                (0xfeed_facf, 0x0100_0007) => Some(Target::MacosX86_64),
                (0xfeed_facf, 0x0100_000c) => Some(Target::MacosArm64),
                _ => None,
            },
        }
    }

    /// The system that this program itself was built for.
    pub fn host() -> Option<Target> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Some(Target::LinuxX86_64),
            ("linux", "aarch64") => Some(Target::LinuxAarch64),
            ("windows", "x86_64") => Some(Target::WindowsX86_64),
            ("windows", "aarch64") => Some(Target::WindowsArm64),
            ("macos", "aarch64") => Some(Target::MacosArm64),
            ("macos", "x86_64") => Some(Target::MacosX86_64),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_name_their_target() {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        assert_eq!(Target::of(&elf), Some(Target::LinuxX86_64));
        elf[18] = 183;
        assert_eq!(Target::of(&elf), Some(Target::LinuxAarch64));
        elf[4] = 1;
        assert_eq!(Target::of(&elf), None, "32 bits");
        assert_eq!(Target::of(&elf[..10]), None, "cut off");
        let mut mach = 0xfeed_facf_u32.to_le_bytes().to_vec();
        mach.extend(0x0100_000c_u32.to_le_bytes());
        assert_eq!(Target::of(&mach), Some(Target::MacosArm64));
        assert_eq!(Target::of(&mach[..6]), None, "cut off");
        let mut pe = vec![0; 0x90];
        (pe[0], pe[1], pe[0x3c]) = (b'M', b'Z', 0x80);
        pe[0x80..0x84].copy_from_slice(b"PE\0\0");
        for (machine, expected) in [
            (0x8664, Some(Target::WindowsX86_64)),
            (0xaa64, Some(Target::WindowsArm64)),
            (0x014c, None),
        ] {
            pe[0x84..0x86].copy_from_slice(&u16::to_le_bytes(machine));
            assert_eq!(Target::of(&pe), expected, "{machine:#x}");
        }
        assert_eq!(Target::of(b"GGUF"), None);
    }

    #[test]
    fn names_round_trip_through_the_command_line() {
        assert_eq!(Target::value_variants().len(), Target::ALL.len());
        for target in Target::ALL {
            assert_eq!(Target::from_str(target.name(), false), Ok(target));
        }
        assert_eq!(Target::WindowsX86_64.runtime_name(), "tealight-windows-x86_64.exe");
        assert_eq!(Target::MacosArm64.runtime_name(), "tealight-macos-arm64");
    }
}
