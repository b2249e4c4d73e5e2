//! The graphics processors of this computer, by name.

/// Their names, as far as the system knows them without a driver's library; `None` on systems that are not asked.
#[must_use]
pub fn graphics() -> Option<Vec<String>> {
    found()
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems are not asked")]
fn found() -> Option<Vec<String>> {
    use std::path::Path;
    let mut names = linux::nvidia(Path::new("/proc/driver/nvidia/gpus"));
    names.extend(linux::cards(Path::new("/sys/class/drm"), !names.is_empty()));
    Some(names)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    /// Names from NVIDIA's driver, one file per card: `Model:  NVIDIA GeForce RTX 3060`.
    pub fn nvidia(folder: &Path) -> Vec<String> {
        let model = |entry: std::fs::DirEntry| {
            let text = std::fs::read_to_string(entry.path().join("information")).ok()?;
            let name = text.lines().find_map(|l| l.strip_prefix("Model:"))?.trim();
            Some(name.to_owned())
        };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(model).collect();
        names.sort();
        names
    }

    /// Cards known to the kernel, by vendor number. `nvidia`: NVIDIA's are already known by name.
    pub fn cards(folder: &Path, nvidia: bool) -> Vec<String> {
        let card = |entry: std::fs::DirEntry| {
            // `card0` is a card; `card0-HDMI-A-1` is a connector for a screen.
            let number = entry.file_name().to_str()?.strip_prefix("card")?.to_owned();
            let number: u32 = number.parse().ok()?;
            let device = entry.path().join("device");
            let read = |name: &str| std::fs::read_to_string(device.join(name)).ok();
            let maker = match read("vendor")?.trim() {
                "0x10de" if nvidia => return None,
                "0x10de" => "NVIDIA, without NVIDIA's driver",
                "0x1002" => "AMD",
                "0x8086" => "Intel",
                "0x1af4" | "0x1234" | "0x15ad" | "0x80ee" | "0x1414" => "of a virtual machine",
                _ => "of another maker",
            };
            let id = read("device").unwrap_or_default().trim().to_owned();
            Some((number, format!("{maker} ({id})")))
        };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<(u32, String)> = entries.filter_map(card).collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }
}

#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
fn found() -> Option<Vec<String>> {
    Some(vec!["Apple".to_owned()])
}

#[cfg(not(any(target_os = "linux", all(target_os = "macos", target_arch = "aarch64"))))]
fn found() -> Option<Vec<String>> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn cards_are_named_once_and_connectors_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("gpus/0000:01:00.0/information", "Model: \t NVIDIA GeForce RTX 3060\nIRQ: 1\n");
        write("drm/card1/device/vendor", "0x10de\n");
        write("drm/card0/device/vendor", "0x1002\n");
        write("drm/card0/device/device", "0x73df\n");
        write("drm/card0-HDMI-A-1/device/vendor", "0x1002\n");
        write("drm/version", "drm 1.1.0\n");
        let (gpus, drm) = (folder.path().join("gpus"), folder.path().join("drm"));
        assert_eq!(linux::nvidia(&gpus), ["NVIDIA GeForce RTX 3060"]);
        assert_eq!(linux::cards(&drm, true), ["AMD (0x73df)"]);
        assert_eq!(linux::cards(&drm, false).len(), 2);
        assert!(linux::nvidia(&drm).is_empty() && linux::cards(&gpus, false).is_empty());
        assert!(graphics().is_some());
    }
}
