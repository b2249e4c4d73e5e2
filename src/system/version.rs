//! The name and version of the operating system.

/// Name and version in readable form.
#[must_use]
pub fn version() -> String {
    let name = name().unwrap_or_else(|| std::env::consts::OS.to_owned());
    format!("{name}, {}", std::env::consts::ARCH)
}

#[cfg(target_os = "linux")]
fn name() -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let release = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"));
    let distribution = release.as_deref().and_then(pretty_name);
    let kernel = read("/proc/sys/kernel/osrelease")?.trim().to_owned();
    // The kernel of WSL names Microsoft.
    let windows =
        if kernel.to_ascii_lowercase().contains("microsoft") { " in Windows" } else { "" };
    Some(match distribution {
        Some(distribution) => format!("{distribution}{windows} (Linux {kernel})"),
        None => format!("Linux {kernel}{windows}"),
    })
}

#[cfg(any(target_os = "linux", test))]
fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(target_os = "macos")]
fn name() -> Option<String> {
    super::output("/usr/bin/sw_vers", &["-productVersion"])
        .map(|version| format!("macOS {version}"))
}

#[cfg(windows)]
fn name() -> Option<String> {
    let text = super::output("cmd", &["/d", "/c", "ver"])?;
    Some(format!("Windows {}", numbers(&text)?))
}

/// The version in the output of `ver`, in any language: `Microsoft Windows [Version 10.0.22631.1]`.
#[cfg(any(windows, test))]
fn numbers(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words.find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn name() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_named() {
        let text = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("PRETTY_NAME=\n"), None);
        assert_eq!(numbers("Microsoft Windows [Version 10.0.22631.1]"), Some("10.0.22631.1"));
        assert_eq!(numbers("Microsoft Windows 6.1.7601\r\n"), Some("6.1.7601"));
        assert_eq!(numbers("Microsoft."), None);
        assert!(version().ends_with(std::env::consts::ARCH));
    }
}
