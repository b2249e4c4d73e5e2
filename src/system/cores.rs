//! The processor's cores.

/// Core counts by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Physical cores.
    pub physical: usize,
    /// Hardware threads.
    pub logical: usize,
    /// Hardware threads that this process may use.
    pub allowed: usize,
    /// Performance cores, if there are two kinds and the system says so.
    pub performance: Option<usize>,
}

impl Cores {
    /// Counts for this computer.
    #[must_use]
    pub fn of_this_computer() -> Self {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        let (physical, logical) = (num_cpus::get_physical(), num_cpus::get());
        Self { physical, logical: logical.max(allowed), allowed, performance: performance() }
    }
}

#[cfg(target_os = "linux")]
fn performance() -> Option<usize> {
    // A list of hardware threads; performance cores have two each.
    let list = std::fs::read_to_string("/sys/devices/cpu_core/cpus").ok()?;
    let mut cores = std::collections::HashSet::new();
    for cpu in members(list.trim())? {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/core_id");
        cores.insert(std::fs::read_to_string(path).ok()?.trim().to_owned());
    }
    Some(cores.len()).filter(|&n| n > 0)
}

/// The numbers of a list like `0-3,8`.
#[cfg(any(target_os = "linux", test))]
fn members(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= 1 << 16 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(target_os = "macos")]
fn performance() -> Option<usize> {
    super::output("/usr/sbin/sysctl", &["-n", "hw.perflevel0.physicalcpu"])?.parse().ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn performance() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_parsed() {
        assert_eq!(members("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(members("5"), Some(vec![5]));
        for wrong in ["", "a", "1-", "0-99999999999", "0-4294967295"] {
            assert_eq!(members(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn there_is_a_core() {
        let cores = Cores::of_this_computer();
        assert!(cores.physical >= 1 && cores.allowed >= 1 && cores.logical >= cores.allowed);
    }
}
