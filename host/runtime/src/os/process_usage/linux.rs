//! The counts of procfs.
//!
//! CPU time is that of `/proc/PID/stat`, in ticks of the clock (10 ms). For a group it includes ended children that were
//! waited for, so that a daemon that starts many short processes shows. The members of all groups are found in one pass
//! over `/proc`, since the kernel keeps no list of a group.
//!
//! Memory is the resident pages of `/proc/PID/statm` without those that belong to files or are shared. These are the
//! anonymous pages, which are the process's own: the kernel counts them anyway, so reading them takes constant time.
//! `smaps_rollup` would also tell private pages of files, but walks all page tables for it, some milliseconds for a
//! large process.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::time::Duration;

use super::ProcessUsage;

/// The CPU times in a row of `/proc/PID/stat`, in ticks, and the group.
#[derive(Debug, PartialEq, Eq)]
struct StatRow {
    group: u32,
    own: u64,
    /// The times of ended children that were waited for.
    children: u64,
}

impl StatRow {
    /// Reads a line in the format of proc(5). The name, in brackets, may contain anything. Behind the last bracket the
    /// group is the 3rd field, and the times are the 12th to the 15th.
    fn read(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let group = fields.nth(2)?.parse().ok()?;
        let mut fields = fields.skip(8);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let (user, system) = (ticks()?, ticks()?);
        let (children_user, children_system) = (ticks()?, ticks()?);
        Some(StatRow {
            group,
            own: user.saturating_add(system),
            children: children_user.saturating_add(children_system),
        })
    }

    fn of(process: &str) -> Option<Self> {
        StatRow::read(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }
}

pub(super) fn of_this_process() -> Option<ProcessUsage> {
    usage_of("self")
}

pub(super) fn of_process(pid: u32) -> Option<ProcessUsage> {
    usage_of(&pid.to_string())
}

fn usage_of(process: &str) -> Option<ProcessUsage> {
    let memory = MemoryRow::of(process)?;
    Some(ProcessUsage {
        cpu: in_time(StatRow::of(process)?.own),
        memory_bytes: in_bytes(memory.anonymous),
        resident_bytes: in_bytes(memory.resident),
    })
}

pub(super) fn of_groups(leaders: &BTreeSet<u32>) -> HashMap<u32, ProcessUsage> {
    let mut groups: HashMap<u32, ProcessUsage> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let Some(process) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        // A process may end at any moment, and then counts no more.
        let Some(row) = StatRow::of(process).filter(|row| leaders.contains(&row.group)) else {
            continue;
        };
        let usage = groups.entry(row.group).or_default();
        usage.cpu += in_time(row.own.saturating_add(row.children));
        let memory = MemoryRow::of(process).unwrap_or_default();
        usage.memory_bytes += in_bytes(memory.anonymous);
        usage.resident_bytes += in_bytes(memory.resident);
    }
    groups
}

fn in_time(ticks: u64) -> Duration {
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1_000) / ticks_per_second)
}

/// The numbers of pages in `/proc/PID/statm`.
#[derive(Debug, Default, PartialEq, Eq)]
struct MemoryRow {
    resident: u64,
    anonymous: u64,
}

impl MemoryRow {
    /// Reads a line in the format of proc(5): the 2nd field is the resident pages, the 3rd those of files and shared
    /// memory.
    fn read(statm: &str) -> Option<Self> {
        let mut fields = statm.split_ascii_whitespace().skip(1);
        let mut pages = || fields.next()?.parse::<u64>().ok();
        let (resident, shared) = (pages()?, pages()?);
        Some(MemoryRow {
            resident,
            anonymous: resident.saturating_sub(shared),
        })
    }

    fn of(process: &str) -> Option<Self> {
        MemoryRow::read(&fs::read_to_string(format!("/proc/{process}/statm")).ok()?)
    }
}

fn in_bytes(pages: u64) -> u64 {
    pages.saturating_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_row_is_read_behind_any_name() {
        let stat = "7 (a) Z (b) S 1 5 6 0 -1 4 0 0 0 0 11 12 13 14 20 0 1 0 4711 0";
        let expected = StatRow {
            group: 5,
            own: 23,
            children: 27,
        };
        assert_eq!(StatRow::read(stat), Some(expected));
        for torn in [
            "",
            "7 (a",
            "7 (a) S 1 5 6",
            "7 (a) S 1 x 6 0 -1 4 0 0 0 0 1 1 1 1",
        ] {
            assert_eq!(StatRow::read(torn), None, "{torn}");
        }
    }

    #[test]
    fn pages_of_files_are_not_private() {
        let pages = |statm| MemoryRow::read(statm).map(|row| (row.resident, row.anonymous));
        assert_eq!(pages("5000 700 300 1 0 600 0"), Some((700, 400)));
        assert_eq!(pages("5000 1 300 1 0 600 0"), Some((1, 0)));
        assert_eq!(pages("5000"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let memory = vec![1_u8; 64 << 20];
        let with = of_this_process().expect("a usage of this process");
        assert!(with.memory_bytes > 64 << 20, "{with:?}");
        assert!(with.resident_bytes > with.memory_bytes, "{with:?}");
        assert_eq!(memory.iter().filter(|byte| **byte == 1).count(), 64 << 20);
    }

    #[test]
    fn the_members_of_a_group_count_together() {
        use std::os::unix::process::CommandExt as _;
        let mut shell = Command::new("sh");
        // The child's time counts for the group once it was waited for.
        shell.args([
            "-c",
            "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo; read -r line",
        ]);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut leader = shell.process_group(0).spawn().expect("a shell");
        let mut first = [0];
        std::io::Read::read_exact(leader.stdout.as_mut().unwrap(), &mut first).expect("a line");
        let leaders = BTreeSet::from([leader.id(), u32::MAX]);
        let groups = of_groups(&leaders);
        assert_eq!(groups.len(), 1, "{groups:?}");
        let usage = groups[&leader.id()];
        assert!(
            usage.cpu > Duration::ZERO && usage.memory_bytes > 0,
            "{usage:?}"
        );
        drop(leader.stdin.take());
        leader.wait().expect("it ends");
        assert!(of_groups(&leaders).is_empty());
    }
}
