//! Process groups of workers: finding what is left of one, and ending it without hitting other processes.
//!
//! A worker leads a group, whose number is the worker's process id. The kernel reuses numbers that are free. So a group
//! is signalled by its number only while its leader is not reaped, which keeps the number taken. After that its members
//! are found one by one in the kernel's table. The group's record distinguishes them from other processes, and each is
//! signalled by a descriptor of the process.
//!
//! The record stays in the home while the worker lives. A host that was killed together with its workers leaves records
//! behind, and the next host ends the processes that they name ([`GroupRecords::end_left`]).
//!
//! Systems other than Linux have no such table: there, groups are signalled by their numbers alone, and no records are
//! kept.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use dae_store::atomic_file;
use dae_store::home;

/// A group, distinguishable from any other that ever has its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessGroup {
    /// Its number, which is its leader's process id.
    number: i32,
    /// The start of its leader, in the kernel's ticks since the system's start.
    started: u64,
    /// The session that it belongs to.
    session: i32,
    /// The system's boot and the namespace of process ids, to which the other fields are relative.
    place: String,
}

/// The records of the groups that workers lead.
#[derive(Debug, Clone)]
pub struct GroupRecords {
    directory: PathBuf,
}

/// The row of one process in the kernel's table.
#[derive(Debug, PartialEq, Eq)]
struct ProcessRow {
    process: i32,
    has_ended: bool,
    group: i32,
    session: i32,
    started: u64,
}

impl ProcessGroup {
    /// Returns the group that an unreaped process leads. Returns `None` if it leads none, or where the kernel has no
    /// such table.
    pub(super) fn led_by(leader: Pid) -> Option<Self> {
        let row = ProcessRow::of(leader.as_raw_nonzero().get())?;
        (row.group == row.process).then(|| ProcessGroup {
            number: row.process,
            started: row.started,
            session: row.session,
            place: place(),
        })
    }

    /// Kills the members that are left, and returns how many there were. Zombies do not count.
    pub(super) fn kill_left(&self) -> usize {
        let rows = table();
        // The number was reused, so nothing is left of the group.
        let is_another =
            |row: &ProcessRow| row.process == self.number && row.started != self.started;
        if self.place != place() || rows.iter().any(is_another) {
            return 0;
        }
        let ours: Vec<&ProcessRow> = rows.iter().filter(|row| self.has(row)).collect();
        ours.iter().for_each(|row| self.kill(row));
        ours.len()
    }

    fn has(&self, row: &ProcessRow) -> bool {
        let is_member = row.group == self.number && row.session == self.session;
        is_member && row.started >= self.started && !row.has_ended
    }

    /// Kills a process by a descriptor. Once that is open, it can refer to no other process, so the process is checked
    /// again.
    #[cfg(target_os = "linux")]
    fn kill(&self, row: &ProcessRow) {
        use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
        let opened = Pid::from_raw(row.process).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        if let Some(Ok(process)) = opened
            && ProcessRow::of(row.process).is_some_and(|now| now.started == row.started)
        {
            // A process that has ended meanwhile needs no signal.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn kill(&self, _row: &ProcessRow) {}
}

impl GroupRecords {
    /// Returns the records in that directory, which is created when it is needed.
    pub fn in_directory(directory: PathBuf) -> Self {
        GroupRecords { directory }
    }

    /// Kills what is left of the groups that an earlier host has recorded, and removes the records. The caller must
    /// hold the home's lock. Returns how many processes were left.
    pub fn end_left(&self) -> usize {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let end = |entry: fs::DirEntry| {
            let text = atomic_file::read(&entry.path()).unwrap_or_default();
            let group = serde_json::from_slice::<ProcessGroup>(&text).ok();
            let left = group.map_or(0, |group| group.kill_left());
            let _ = fs::remove_file(entry.path());
            left
        };
        entries.flatten().map(end).sum()
    }

    /// Records a group. The record is not synced, because it need not outlive the system's run.
    ///
    /// # Errors
    /// The disk's error.
    pub(super) fn keep(&self, group: &ProcessGroup) -> anyhow::Result<()> {
        let text = serde_json::to_vec(group)?;
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(self.path_of(group))?;
            atomic_file::make_owners(&file)?;
            file.write_all(&text)
        };
        if write().is_err() {
            home::make_private(&self.directory)?;
            write()?;
        }
        Ok(())
    }

    /// Removes the record of a group that is gone.
    pub(super) fn forget(&self, group: &ProcessGroup) {
        // A record that stays names a group that the next host does not find.
        let _ = atomic_file::remove(&self.path_of(group));
    }

    fn path_of(&self, group: &ProcessGroup) -> PathBuf {
        self.directory.join(group.number.to_string())
    }
}

/// Returns the boot and the namespace to which process ids and start times are relative.
fn place() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

/// Returns every process that the kernel shows this one.
fn table() -> Vec<ProcessRow> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(ProcessRow::of).collect()
}

impl ProcessRow {
    fn of(process: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        ProcessRow::read(process, &stat)
    }

    /// Reads a line in the format of proc(5). The name, in brackets, may contain anything. After the last bracket come
    /// state, parent, group and session, then as the 18th field the number of threads and as the 20th the time of the
    /// start. The state is that of the first thread, which can be a zombie while others still run and hold the
    /// process's sockets.
    fn read(process: i32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(ProcessRow {
            process,
            has_ended: matches!(*fields.first()?, "Z" | "X")
                && matches!(*fields.get(17)?, "0" | "1"),
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    /// Returns a group whose leader has started another process and then ended.
    fn group_without_leader() -> (ProcessGroup, Child) {
        let mut leader = Command::new("sh");
        leader.args(["-c", "sleep 60 & read -r line"]);
        let mut leader = leader
            .stdin(std::process::Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let group = ProcessGroup::led_by(Pid::from_child(&leader)).unwrap();
        until(|| members(&group) == 2);
        drop(leader.stdin.take());
        leader.wait().unwrap();
        (group, leader)
    }

    fn members(group: &ProcessGroup) -> usize {
        table().iter().filter(|row| group.has(row)).count()
    }

    #[expect(clippy::disallowed_methods, reason = "a test waits for the system")]
    #[track_caller]
    fn until(mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(20), "it never holds");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_a_host_of_before_has_recorded_is_ended_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let records = GroupRecords::in_directory(dir.path().join("workers"));
        assert_eq!(records.end_left(), 0, "there is nothing yet");
        let (group, _leader) = group_without_leader();
        records.keep(&group).unwrap();
        fs::write(dir.path().join("workers/1"), "nonsense").unwrap();
        assert_eq!(records.end_left(), 1);
        until(|| members(&group) == 0);
        assert_eq!(fs::read_dir(dir.path().join("workers")).unwrap().count(), 0);
    }

    /// Each case stands for a number that was reused.
    #[test]
    fn a_group_that_is_not_the_recorded_one_is_left_alone() {
        let (group, _leader) = group_without_leader();
        let differently = [
            ProcessGroup {
                started: group.started + 1_000_000,
                ..group.clone()
            },
            ProcessGroup {
                session: group.session + 1,
                ..group.clone()
            },
            ProcessGroup {
                place: "another system".to_owned(),
                ..group.clone()
            },
        ];
        for other in differently {
            assert_eq!(other.kill_left(), 0, "{other:?}");
        }
        // While the leader lives, its own start decides.
        let mut leader = Command::new("sleep")
            .arg("60")
            .process_group(0)
            .spawn()
            .unwrap();
        let led = ProcessGroup::led_by(Pid::from_child(&leader)).unwrap();
        let earlier = ProcessGroup {
            started: led.started - 1,
            ..led.clone()
        };
        assert_eq!(earlier.kill_left(), 0);
        assert_eq!((led.kill_left(), group.kill_left()), (1, 1));
        leader.wait().unwrap();
        until(|| members(&group) == 0);
    }

    #[test]
    fn a_name_with_brackets_is_no_end_of_the_name() {
        let stat = "7 (a) Z (b) S 1 5 6 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        let row = ProcessRow::read(7, stat).unwrap();
        assert_eq!((row.group, row.session, row.started), (5, 6, 4711));
        assert!(!row.has_ended);
    }

    #[test]
    fn a_process_runs_until_its_last_thread_has_ended() {
        let ended = |threads: u32| {
            let stat = format!("7 (a) Z 1 5 6 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0");
            ProcessRow::read(7, &stat).unwrap().has_ended
        };
        assert!(ended(1));
        assert!(!ended(2));
    }
}
