//! Default number of compute threads: the fast physical cores.
//!
//! Input: the system's information about its processors. Output: a number. A second thread on a core competes for its
//! vector units, and every step of a token waits for the slowest thread, so a slow core among fast ones costs more than
//! it gains.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// Upper limit on processor numbers in a list; anything beyond is treated as garbage.
const PROCESSORS_MAX: usize = 65_536;
/// A fast core has at least 1/2 of the largest capacity. The large and middle cores of ARM's designs reach that, the
/// small ones do not.
const FAST_PART: u32 = 2;

/// Number of fast physical cores that this process may use, counted once.
#[must_use]
pub fn default_threads() -> usize {
    static THREADS: LazyLock<usize> = LazyLock::new(|| {
        // Respects affinity and, in a container, the CPU quota.
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        let fast = if cfg!(target_os = "linux") { fast_cores(Path::new("/")) } else { None };
        fast.unwrap_or_else(num_cpus::get_physical).clamp(1, allowed)
    });
    *THREADS
}

/// Number of fast physical cores of a Linux system with its root at `root`; `None` if its files don't tell.
fn fast_cores(root: &Path) -> Option<usize> {
    let system = root.join("sys/devices/system/cpu");
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let allowed = processors(allowed)?;
    let fast = performance(root, &allowed)
        .or_else(|| largest(&system, &allowed))
        .unwrap_or_else(|| allowed.clone());
    // Processors on the same core report the same list.
    let cores: Option<BTreeSet<String>> = fast
        .iter()
        .map(|cpu| {
            let topology = system.join(format!("cpu{cpu}/topology"));
            let siblings = ["core_cpus_list", "thread_siblings_list"];
            siblings.iter().find_map(|name| fs::read_to_string(topology.join(name)).ok())
        })
        .collect();
    cores.map(|cores| cores.len()).filter(|&n| n > 0)
}

/// The performance cores of an Intel hybrid processor; `None` if there are none that the process may use.
fn performance(root: &Path, allowed: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
    let list = fs::read_to_string(root.join("sys/devices/cpu_core/cpus")).ok()?;
    Some(&processors(&list)? & allowed).filter(|fast| !fast.is_empty())
}

/// The large cores of a processor that reports core capacities, as ARM's do.
fn largest(system: &Path, allowed: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
    let capacity = |cpu: usize| -> Option<u32> {
        let text = fs::read_to_string(system.join(format!("cpu{cpu}/cpu_capacity"))).ok()?;
        text.trim().parse().ok()
    };
    let all: Option<Vec<(usize, u32)>> =
        allowed.iter().map(|&cpu| Some((cpu, capacity(cpu)?))).collect();
    let all = all?;
    let most = all.iter().map(|&(_, capacity)| capacity).max()?;
    Some(all.into_iter().filter(|&(_, c)| c >= most / FAST_PART).map(|(cpu, _)| cpu).collect())
}

/// Parses a Linux kernel CPU list such as `0-3,8`.
fn processors(list: &str) -> Option<BTreeSet<usize>> {
    let mut all = BTreeSet::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= PROCESSORS_MAX {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fake system with the given processors: each one's core siblings and capacity.
    fn system(allowed: &str, cores: &[(&str, Option<u32>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/status", &format!("Name:\tx\nCpus_allowed_list:\t{allowed}\nMems:\t0\n"));
        for (cpu, (siblings, capacity)) in cores.iter().enumerate() {
            let at = format!("sys/devices/system/cpu/cpu{cpu}");
            write(&format!("{at}/topology/thread_siblings_list"), &format!("{siblings}\n"));
            if let Some(capacity) = capacity {
                write(&format!("{at}/cpu_capacity"), &format!("{capacity}\n"));
            }
        }
        root
    }

    #[test]
    fn two_threads_of_a_core_count_once() {
        let cores = [("0,2", None), ("1,3", None), ("0,2", None), ("1,3", None)];
        assert_eq!(fast_cores(system("0-3", &cores).path()), Some(2));
        assert_eq!(fast_cores(system("0,2", &cores).path()), Some(1), "bound to one core");
        assert_eq!(fast_cores(system("2-3", &cores).path()), Some(2), "bound to half of each");
    }

    #[test]
    fn on_an_intel_hybrid_only_the_performance_cores_count() {
        let cores = [("0-1", None), ("0-1", None), ("2", None), ("3", None), ("4", None)];
        for (allowed, expected) in [("0-4", 1), ("1-4", 1), ("2-4", 3)] {
            let root = system(allowed, &cores);
            let named = root.path().join("sys/devices/cpu_core");
            fs::create_dir_all(&named).unwrap();
            fs::write(named.join("cpus"), "0-1\n").unwrap();
            assert_eq!(fast_cores(root.path()), Some(expected), "allowed {allowed}");
        }
    }

    #[test]
    fn on_arm_small_cores_do_not_count_and_middle_ones_do() {
        let names = ["0", "1", "2", "3", "4", "5", "6", "7"];
        let capacities = [250, 250, 250, 250, 870, 870, 870, 1024];
        let cores: Vec<_> = names.into_iter().zip(capacities.map(Some)).collect();
        assert_eq!(fast_cores(system("0-7", &cores).path()), Some(4));
        assert_eq!(fast_cores(system("0-3", &cores).path()), Some(4), "bound to the small ones");
    }

    #[test]
    fn missing_or_malformed_topology_gives_none() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(fast_cores(empty.path()), None);
        for allowed in ["", "x", "0-", "-1", "0-99999999999", "3-1", "0-70000"] {
            assert_eq!(fast_cores(system(allowed, &[("0", None)]).path()), None, "{allowed:?}");
        }
        assert_eq!(fast_cores(system("0-1", &[("0", None)]).path()), None, "one without topology");
    }

    #[test]
    fn there_is_at_least_one_thread_and_no_more_than_allowed() {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        assert!((1..=allowed).contains(&default_threads()));
    }
}
