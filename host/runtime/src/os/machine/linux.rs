//! Linux tells it in files below `/proc`.

use std::fs;
use std::path::Path;

pub(super) fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(field(&text, "MemAvailable:")? * 1024)
}

pub(super) fn disk_available(directory: &Path) -> Option<u64> {
    let mount = rustix::fs::statvfs(directory).ok()?;
    Some(mount.f_bavail.saturating_mul(mount.f_frsize))
}

pub(super) fn descriptors_max(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let limits = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    limits.split_whitespace().nth(1)?.parse().ok()
}

pub(super) fn program_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Returns the number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_what_it_has() {
        assert!(memory_available().is_some_and(|bytes| bytes > 0));
        assert!(disk_available(Path::new("/")).is_some());
        assert_eq!(disk_available(Path::new("/not/there")), None);
        assert!(program_of(std::process::id()).is_some_and(|name| !name.is_empty()));
        let max = descriptors_max(std::process::id());
        assert!(max.is_none_or(|max| max >= 3), "{max:?}");
        assert_eq!(descriptors_max(u32::MAX), None);
    }
}
