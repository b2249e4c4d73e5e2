//! File systems of USB sticks.

use std::path::Path;

use clap::ValueEnum;

/// A file system that every system can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileSystem {
    /// On most sticks as they are sold; no file of 4 GiB or more.
    Fat32,
    /// On large ones.
    Exfat,
}

impl FileSystem {
    /// The usual name.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Fat32 => "FAT32",
            FileSystem::Exfat => "exFAT",
        }
    }

    /// The longest file it can hold, in bytes.
    pub fn file_bytes_max(self) -> u64 {
        match self {
            FileSystem::Fat32 => u32::MAX.into(),
            FileSystem::Exfat => i64::MAX as u64,
        }
    }
}

/// The folder's file system; `None` if it is another one or unknown.
pub fn of(folder: &Path) -> Option<FileSystem> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    in_mounts(&mounts, &folder.canonicalize().ok()?)
}

/// Looks up a folder in Linux's list of mounts: the last of the longest mount points that contain it.
fn in_mounts(mounts: &str, folder: &Path) -> Option<FileSystem> {
    let mounted = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = unescape(before.split(' ').nth(4)?);
        let depth = Path::new(&point).components().count();
        folder.starts_with(&point).then(|| (depth, after.split(' ').next().unwrap_or_default()))
    });
    // Of equal mount points the later one is on top, and `max_by_key` takes the last.
    match mounted.max_by_key(|(depth, _)| *depth)?.1 {
        "vfat" | "msdos" => Some(FileSystem::Fat32),
        "exfat" => Some(FileSystem::Exfat),
        _ => None,
    }
}

/// In that list, blanks and the like are escaped in octal, as `\040`.
fn unescape(text: &str) -> String {
    let mut pieces = text.split('\\');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = digits.filter(u8::is_ascii) {
            out.push(char::from(byte));
            out.push_str(piece.get(3..).unwrap_or_default());
        } else {
            out.push('\\');
            out.push_str(piece);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_mount_gives_its_file_system() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 22 8:17 / /media/me/MY\\040STICK rw,nosuid shared:5 - vfat /dev/sdb1 rw,showexec\n\
            31 22 8:33 / /media/me/big rw - exfat /dev/sdc1 rw\n\
            32 31 8:34 / /media/me/big rw - vfat /dev/sdd1 rw\n";
        let of = |folder: &str| in_mounts(mounts, Path::new(folder));
        assert_eq!(of("/home/me"), None);
        assert_eq!(of("/media/me/MY STICK/chat"), Some(FileSystem::Fat32));
        assert_eq!(of("/media/me/MY STICKS"), None);
        assert_eq!(of("/media/me/big"), Some(FileSystem::Fat32), "the later mount is on top");
        assert_eq!(in_mounts("nonsense", Path::new("/")), None);
    }
}
