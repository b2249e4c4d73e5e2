//! Executable formats, recognized by their first bytes.

/// Windows does not start an `.exe` longer than this.
pub const PE_BYTES_MAX: u64 = u32::MAX as u64;

/// An executable format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutableFormat {
    /// Linux and other Unixes.
    Elf,
    /// Windows.
    Pe,
    /// macOS.
    MachO,
}

impl ExecutableFormat {
    /// Recognizes a format by the first bytes; `None` for anything else.
    pub fn of(bytes: &[u8]) -> Option<ExecutableFormat> {
        let magic: [u8; 4] = *bytes.first_chunk()?;
        match magic {
            [0x7f, b'E', b'L', b'F'] => Some(ExecutableFormat::Elf),
            [b'M', b'Z', ..] => {
                let at = bytes.get(0x3c..0x40)?.first_chunk().map(|at| u32::from_le_bytes(*at))?;
                let header = bytes.get(usize::try_from(at).ok()?..)?;
                header.starts_with(b"PE\0\0").then_some(ExecutableFormat::Pe)
            }
            // One architecture, 32 and 64 bits, either byte order; then several in one file.
            [0xce | 0xcf, 0xfa, 0xed, 0xfe]
            | [0xfe, 0xed, 0xfa, 0xce | 0xcf]
            | [0xca, 0xfe, 0xba, 0xbe | 0xbf] => Some(ExecutableFormat::MachO),
            _ => None,
        }
    }

    /// The file name extension of its executables, with the dot.
    pub fn ending(self) -> &'static str {
        if self == ExecutableFormat::Pe { ".exe" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_recognized_by_their_first_bytes() {
        let mut pe = vec![0; 0x84];
        pe[..2].copy_from_slice(b"MZ");
        pe[0x3c] = 0x80;
        assert_eq!(ExecutableFormat::of(&pe), None, "a DOS program");
        pe[0x80..].copy_from_slice(b"PE\0\0");
        assert_eq!(ExecutableFormat::of(&pe), Some(ExecutableFormat::Pe));
        pe[0x3f] = 0xff;
        assert_eq!(ExecutableFormat::of(&pe), None, "an offset far outside");
        assert_eq!(ExecutableFormat::of(b"MZ\0\0"), None);
        assert_eq!(ExecutableFormat::of(b"\x7fELF"), Some(ExecutableFormat::Elf));
        assert_eq!(
            ExecutableFormat::of(&0xfeed_facf_u32.to_le_bytes()),
            Some(ExecutableFormat::MachO)
        );
        assert_eq!(
            ExecutableFormat::of(&0xcafe_babe_u32.to_be_bytes()),
            Some(ExecutableFormat::MachO)
        );
        assert_eq!(ExecutableFormat::of(b"GGUF"), None);
        assert_eq!(ExecutableFormat::of(b""), None);
    }
}
