//! Total and available memory.

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The most this process may use: the machine's memory, or the limit of its container.
    pub total: u64,
    /// Available without pushing out another program; cached files count as free.
    pub available: u64,
    /// Swap space available beyond that.
    pub swap: u64,
    /// Whether a container's limit applies, not the machine's memory.
    pub limited: bool,
}

impl Memory {
    /// What the system reports now, `None` if it reports nothing.
    #[must_use]
    pub fn now() -> Option<Self> {
        now()
    }
}

/// Formats a number of bytes in a suitable unit.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(target_os = "linux")]
fn now() -> Option<Memory> {
    use std::path::Path;
    let machine = linux::machine(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(linux::within(machine, linux::limits(Path::new("/sys/fs/cgroup"), &groups)))
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Memory;
    use std::path::{Path, PathBuf};

    /// The machine's memory, from the text of /proc/meminfo.
    pub fn machine(text: &str) -> Option<Memory> {
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        let total = field("MemTotal")?;
        // Kernels before 3.14 do not estimate it.
        let available = field("MemAvailable")
            .or_else(|| Some(field("MemFree")?.saturating_add(field("Cached")?)))?;
        let swap = field("SwapFree").unwrap_or(0);
        Some(Memory { total, available: available.min(total), swap, limited: false })
    }

    /// A limit, and what is left of it.
    pub struct Limit {
        pub bytes: u64,
        pub left: u64,
    }

    /// The limits of the control groups, v1 and v2, that /proc/self/cgroup names, and of the groups above them.
    pub fn limits(root: &Path, groups: &str) -> Vec<Limit> {
        let mut found = Vec::new();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else { continue };
            let (root, names) = match controllers {
                "" => (root.to_owned(), &VERSION_2),
                list if list.split(',').any(|c| c == "memory") => (root.join("memory"), &VERSION_1),
                _ => continue,
            };
            // A container often sees its own group as the root, whatever the path says.
            let mut folder: PathBuf = own.split('/').filter(|p| *p != "..").collect();
            loop {
                found.extend(limit(&root.join(&folder), names));
                if !folder.pop() {
                    break;
                }
            }
        }
        found
    }

    /// File names of the limit and the usage, and the fields of `memory.stat` that count cached files.
    type Names = (&'static str, &'static str, [&'static str; 2]);
    const VERSION_2: Names = ("memory.max", "memory.current", ["inactive_file", "active_file"]);
    const VERSION_1: Names = (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ["total_inactive_file", "total_active_file"],
    );

    fn limit(folder: &Path, (limit, used, cached): &Names) -> Option<Limit> {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let bytes = number(limit)?;
        let stat = read("memory.stat").unwrap_or_default();
        let cache: u64 = stat
            .lines()
            .filter_map(|l| l.split_once(' '))
            .filter(|(name, _)| cached.contains(name))
            .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
            .sum();
        let used = number(used).unwrap_or(0).saturating_sub(cache);
        Some(Limit { bytes, left: bytes.saturating_sub(used) })
    }

    /// The machine's memory within limits.
    pub fn within(mut memory: Memory, limits: Vec<Limit>) -> Memory {
        for limit in limits {
            // Without a limit, v1 reports a number near 2^63.
            if limit.bytes < memory.total {
                memory = Memory { total: limit.bytes, limited: true, ..memory };
            }
            memory.available = memory.available.min(limit.left);
        }
        memory
    }
}

#[cfg(windows)]
fn now() -> Option<Memory> {
    let found = winsafe::GlobalMemoryStatusEx().ok()?;
    let (total, available) = (found.ullTotalPhys, found.ullAvailPhys);
    let swap = found.ullAvailPageFile.saturating_sub(available);
    Some(Memory { total, available, swap, limited: false })
}

#[cfg(target_os = "macos")]
fn now() -> Option<Memory> {
    let total = super::output("/usr/sbin/sysctl", &["-n", "hw.memsize"])?.parse().ok()?;
    let pages = super::output("/usr/bin/vm_stat", &[])?;
    let page = super::output("/usr/sbin/sysctl", &["-n", "hw.pagesize"])?.parse::<u64>().ok()?;
    // Swap grows on demand, as far as the disk allows.
    Some(Memory {
        total,
        available: vm_stat(&pages, page)?.min(total),
        swap: total,
        limited: false,
    })
}

/// Available bytes, from the output of `vm_stat`: `Pages free:    12345.`
#[cfg(any(target_os = "macos", test))]
fn vm_stat(text: &str, page: u64) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches('.').parse::<u64>().ok()
    };
    let had = ["Pages inactive", "Pages speculative", "Pages purgeable"];
    let more: u64 = had.iter().filter_map(|name| field(name)).sum();
    field("Pages free")?.checked_add(more)?.checked_mul(page)
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn now() -> Option<Memory> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_of_a_mac_is_parsed() {
        let text = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:   100.\nPages active:   7.\nPages inactive:   20.\nPages speculative:   3.\n";
        assert_eq!(vm_stat(text, 16384), Some(123 * 16384));
        assert_eq!(vm_stat("nothing", 1), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        let memory = Memory::now().unwrap();
        assert!(memory.total > 64 << 20);
        assert!(memory.available > 0 && memory.available <= memory.total, "{memory:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn malformed_text_gives_none() {
        for text in ["", "MemTotal: x kB", "MemTotal: 5", "MemTotal: 18446744073709551615 kB"] {
            assert_eq!(linux::machine(text), None, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_container_has_its_limit_and_cached_files_count_as_available() {
        let text = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable:  900 kB\nSwapFree: 7 kB\n";
        let machine = linux::machine(text).unwrap();
        assert_eq!((machine.total, machine.available, machine.swap), (1_024_000, 921_600, 7168));
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = |groups: &str| linux::within(machine, linux::limits(root.path(), groups));
        write("memory.max", "max\n");
        assert_eq!(found("0::/a/b\n"), machine);
        write("a/memory.max", "500000\n");
        write("a/memory.current", "450000\n");
        write("a/memory.stat", "anon 1\ninactive_file 100000\nactive_file 50000\n");
        let limited = Memory { total: 500_000, available: 200_000, swap: 7168, limited: true };
        assert_eq!(found("0::/a/b\n"), limited, "the group above limits those in it");
        assert_eq!(found("0::/c\n"), machine);
        write("memory/d/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(found("3:cpu,memory:/d\n"), machine);
        write("memory/d/memory.limit_in_bytes", "1000\n");
        write("memory/d/memory.usage_in_bytes", "2000\n");
        assert_eq!(found("3:cpu,memory:/d\n0::/\n").available, 0, "never below nothing");
        assert_eq!(found("nonsense\n:::\n0::/../../..\n"), machine);
    }
}
