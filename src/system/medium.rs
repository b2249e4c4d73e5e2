//! The file system that holds a file, and what it permits.

use std::path::Path;

/// The file system that holds a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// Its type in the system's words, such as `ext4`, `exfat` or `NTFS`.
    pub kind: String,
    /// Whether nothing can be written there.
    pub read_only: bool,
    /// Whether no program may be started from there.
    pub no_exec: bool,
}

impl Medium {
    /// The file system that holds `path`, `None` if the system does not say.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        of(&path.canonicalize().ok()?)
    }

    /// Whether it cannot hold a file of 4 GiB.
    #[must_use]
    pub fn is_fat32(&self) -> bool {
        ["vfat", "msdos", "fat32", "fat"].contains(&self.kind.to_ascii_lowercase().as_str())
    }

    /// Whether it stores no execute bits: mounting sets one rule for all its files.
    #[must_use]
    pub fn lacks_execute_bit(&self) -> bool {
        self.is_fat32() || self.kind.eq_ignore_ascii_case("exfat")
    }
}

/// Whether this user may create files in `folder`, found out without creating any.
#[must_use]
pub fn is_writable(folder: &Path) -> bool {
    writable(folder)
}

/// The system's mark of a file from the network, if it has one.
#[must_use]
pub fn quarantine(path: &Path) -> Option<String> {
    marked(path)
}

#[cfg(unix)]
fn writable(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Opening a folder with the right to add files checks that right and adds none.
#[cfg(windows)]
fn writable(folder: &Path) -> bool {
    use std::os::windows::fs::OpenOptionsExt as _;
    const FILE_ADD_FILE: u32 = 2;
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    let mut options = std::fs::OpenOptions::new();
    options.access_mode(FILE_ADD_FILE).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    options.open(folder).is_ok() && of(folder).is_none_or(|medium| !medium.read_only)
}

#[cfg(target_os = "macos")]
fn marked(path: &Path) -> Option<String> {
    let mut value = [0; 256];
    let len = rustix::fs::getxattr(path, "com.apple.quarantine", &mut value[..]).ok()?;
    Some(format!("com.apple.quarantine: {}", String::from_utf8_lossy(value.get(..len)?)))
}

#[cfg(windows)]
fn marked(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut stream = path.as_os_str().to_owned();
    stream.push(":Zone.Identifier");
    let mut text = String::new();
    std::fs::File::open(stream).ok()?.take(4096).read_to_string(&mut text).ok()?;
    // 3: the internet, 4: sites that are not trusted.
    let zone = text.lines().find_map(|l| l.trim().strip_prefix("ZoneId="))?;
    ["3", "4"].contains(&zone.trim()).then(|| format!("Zone.Identifier: {zone}"))
}

#[cfg(not(any(windows, target_os = "macos")))]
fn marked(_: &Path) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
fn of(path: &Path) -> Option<Medium> {
    mountinfo(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, path)
}

/// Finds the mount that holds `path` in the text of /proc/self/mountinfo:
/// `36 35 98:0 /root /mount/point rw,noexec master:1 - ext4 /dev/x rw`.
#[cfg(target_os = "linux")]
fn mountinfo(text: &str, path: &Path) -> Option<Medium> {
    let mut found: Option<(usize, Medium)> = None;
    for line in text.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let mut mount = mount.split(' ').skip(4);
        let mut source = source.split(' ');
        let (Some(point), Some(options), Some(kind), Some(_), Some(all)) =
            (mount.next(), mount.next(), source.next(), source.next(), source.next())
        else {
            continue;
        };
        let point = unescaped(point);
        let has = |options: &str, wanted: &str| options.split(',').any(|o| o == wanted);
        // The later of two mounts on one point hides the earlier.
        if path.starts_with(&point) && found.as_ref().is_none_or(|(len, _)| point.len() >= *len) {
            let read_only = has(options, "ro") || has(all, "ro");
            let no_exec = has(options, "noexec");
            found = Some((point.len(), Medium { kind: kind.to_owned(), read_only, no_exec }));
        }
    }
    found.map(|(_, medium)| medium)
}

/// Decodes octal escapes: `\040` is a space.
#[cfg(target_os = "linux")]
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|o| std::str::from_utf8(o).ok());
        let byte = octal.and_then(|o| u8::from_str_radix(o, 8).ok()).filter(|_| first == b'\\');
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(target_os = "macos")]
fn of(path: &Path) -> Option<Medium> {
    mount(&super::output("/sbin/mount", &[])?, path)
}

/// Finds the mount that holds `path` in what `mount` prints on macOS:
/// `/dev/disk4s1 on /Volumes/STICK (exfat, local, nodev, nosuid, read-only)`.
#[cfg(any(target_os = "macos", test))]
fn mount(text: &str, path: &Path) -> Option<Medium> {
    let mut found: Option<(usize, Medium)> = None;
    for line in text.lines() {
        let Some((_, rest)) = line.split_once(" on ") else { continue };
        let Some((point, options)) = rest.rsplit_once(" (") else { continue };
        let mut options = options.trim_end_matches(')').split(", ");
        let Some(kind) = options.next() else { continue };
        if path.starts_with(point) && found.as_ref().is_none_or(|(len, _)| point.len() >= *len) {
            let options: Vec<&str> = options.collect();
            let (read_only, no_exec) =
                (options.contains(&"read-only"), options.contains(&"noexec"));
            found = Some((point.len(), Medium { kind: kind.to_owned(), read_only, no_exec }));
        }
    }
    found.map(|(_, medium)| medium)
}

#[cfg(windows)]
fn of(path: &Path) -> Option<Medium> {
    let root = winsafe::GetVolumePathName(path.to_str()?).ok()?;
    let (mut kind, mut flags) = (String::new(), winsafe::co::FILE_VOL::default());
    winsafe::GetVolumeInformation(Some(&root), None, None, None, Some(&mut flags), Some(&mut kind))
        .ok()?;
    let read_only = flags.has(winsafe::co::FILE_VOL::READ_ONLY_VOLUME);
    Some(Medium { kind, read_only, no_exec: false })
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn of(_: &Path) -> Option<Medium> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "compared with what may be missing")]
    fn medium(kind: &str, read_only: bool, no_exec: bool) -> Option<Medium> {
        Some(Medium { kind: kind.to_owned(), read_only, no_exec })
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_nearest_mount_counts_and_the_later_of_two_on_one_point() {
        let text = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            2 1 0:5 / /tmp rw,nosuid,noexec - tmpfs tmpfs rw\n\
            3 1 8:17 / /media/My\\040Stick rw,nosuid shared:3 master:2 - vfat /dev/sdb1 ro,fmask=0022\n\
            4 1 0:9 / /mnt rw - ext4 /dev/x rw\n\
            5 4 0:9 / /mnt ro,noexec - squashfs /dev/y ro\n\
            nonsense\n6 - \n7 1 2:2 / /tmp - x\n";
        let of = |path: &str| mountinfo(text, Path::new(path));
        assert_eq!(of("/home/me/chat"), medium("ext4", false, false));
        assert_eq!(of("/tmp/chat"), medium("tmpfs", false, true));
        assert_eq!(of("/tmpfile"), medium("ext4", false, false), "a name is no folder");
        assert_eq!(of("/media/My Stick/chat"), medium("vfat", true, false));
        assert_eq!(of("/mnt/chat"), medium("squashfs", true, true));
        assert_eq!(mountinfo("", Path::new("/")), None);
        assert!(Medium::of(Path::new("/proc/self/mounts")).is_some_and(|m| m.kind == "proc"));
    }

    #[test]
    fn macos_mounts_are_parsed() {
        let text = "/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)\n\
            /dev/disk4s1 on /Volumes/My Stick (exfat, local, nodev, nosuid, noowners, noexec)\nmap auto_home on x\n";
        let of = |path: &str| mount(text, Path::new(path));
        assert_eq!(of("/Applications/x"), medium("apfs", true, false));
        let stick = of("/Volumes/My Stick/chat");
        assert_eq!(stick, medium("exfat", false, true));
        assert!(stick.is_some_and(|m| m.lacks_execute_bit() && !m.is_fat32()));
    }

    #[test]
    fn an_own_folder_is_writable_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_writable(folder.path()));
        assert!(!is_writable(&folder.path().join("missing")));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
