//! The files of `/proc`, as proc(5) describes them.

use std::fs;

/// Returns the number of open descriptors, without the one that reads the directory.
pub(super) fn open_descriptors() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(entries.saturating_sub(1))
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn started_s() -> Option<f64> {
    // The name of the program may not be UTF-8.
    let stat = fs::read("/proc/self/stat").ok()?;
    let ticks = start_ticks(&String::from_utf8_lossy(&stat))?;
    let boot = boot_s(&fs::read_to_string("/proc/stat").ok()?)?;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(boot as f64 + ticks as f64 / ticks_per_second as f64)
}

/// Reads the field 22: the start, in ticks after that of the system. The second field is the program's name in
/// parentheses, and may itself have parentheses and spaces in it.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name
        .split_ascii_whitespace()
        .nth(22 - 3)?
        .parse()
        .ok()
}

/// Reads the start of the system, in seconds since 1970.
fn boot_s(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_whatever_the_programs_name_is() {
        let stat = "71 (a ) b (c)) S 1 71 71 0 -1 4194560 9 0 0 0 150 50 7 8 20 0 3 0 2500 1000000 256 1844 1 1 0";
        assert_eq!(start_ticks(stat), Some(2500));
        assert_eq!(start_ticks("71"), None);
        assert_eq!(boot_s("cpu 1 2\nbtime 1000\nprocesses 3"), Some(1000));
        assert_eq!(boot_s("cpu 1 2"), None);
    }

    #[test]
    fn this_process_has_descriptors_and_a_start() {
        let own = super::super::now();
        assert!(own.descriptors > Some(2), "{own:?}");
        assert!(own.descriptors_max >= own.descriptors, "{own:?}");
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - own.started_s.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{own:?}");
    }
}
