//! What the kernel knows of another process: its memory, its CPU time, its signals, its processors. Linux alone.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpriority_process, kill_process, kill_process_group, prlimit,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A pid as the kernel's own type.
///
/// # Panics
/// For 0 and for numbers that no process has.
#[must_use]
pub fn pid(number: u32) -> Pid {
    i32::try_from(number)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id")
}

/// Sends a signal to one process.
///
/// # Panics
/// When there is no such process, or it is not ours.
#[track_caller]
pub fn signal(process: u32, signal: Signal) {
    kill_process(pid(process), signal).expect("a process of ours");
}

/// Kills a process and all of its group. That it has ended already is no error.
pub fn kill_group(leader: u32) {
    let _ = kill_process_group(pid(leader), Signal::KILL);
}

/// The processes whose parent this one is, those that have ended and were not waited for included.
#[must_use]
pub fn children(process: u32) -> Vec<u32> {
    let is_child = |child: &u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name, in brackets, may hold anything; what follows the last bracket is state and parent.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1) == Some(process.to_string().as_str())
    };
    all().into_iter().filter(is_child).collect()
}

/// The worker processes that a host has made, whether or not it still lives: found by what they were started with.
#[must_use]
pub fn workers_of(host: u32) -> Vec<u32> {
    let words = ["dae-host-worker", "__dae-worker", &host.to_string()].map(str::to_owned);
    let is_worker = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let mut line = line.split(|byte| *byte == 0);
        words
            .iter()
            .all(|word| line.next() == Some(word.as_bytes()))
    };
    all().into_iter().filter(is_worker).collect()
}

/// Every process of this machine.
fn all() -> Vec<u32> {
    let listed = fs::read_dir("/proc").expect("Linux has /proc");
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    listed.filter_map(Result::ok).filter_map(number).collect()
}

/// What each open descriptor of a process leads to, by its number.
///
/// # Panics
/// When there is no such process, or it is not ours.
#[track_caller]
#[must_use]
pub fn descriptors(process: u32) -> BTreeMap<u32, PathBuf> {
    let listed = fs::read_dir(format!("/proc/{process}/fd")).expect("a process of ours");
    let entry = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        // It may be closed between the listing and this.
        Some((number, fs::read_link(entry.path()).ok()?))
    };
    listed.filter_map(Result::ok).filter_map(entry).collect()
}

/// The environment that a process was started with.
///
/// # Panics
/// When there is no such process, or it is not ours.
#[track_caller]
#[must_use]
pub fn environment(process: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{process}/environ")).expect("a process of ours");
    let text = String::from_utf8_lossy(&bytes);
    let pairs = text
        .split('\0')
        .filter_map(|variable| variable.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A bound of a process as the kernel calls it (`Max open files`), `unlimited` or a number.
///
/// # Panics
/// When there is no such process or bound.
#[track_caller]
#[must_use]
pub fn bound(process: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("a process");
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let values = line.unwrap_or_else(|| panic!("no bound {name}: {limits}"));
    values
        .split_whitespace()
        .next()
        .expect("a value")
        .to_owned()
}

/// How far a process lets others go first, -20 to 19.
///
/// # Panics
/// When there is no such process.
#[track_caller]
#[must_use]
pub fn nice(process: u32) -> i32 {
    getpriority_process(Some(pid(process))).expect("a process that lives")
}

/// A line of what the kernel says of a process's state, such as `SigBlk`, without its name.
///
/// # Panics
/// When there is no such process or line.
#[track_caller]
#[must_use]
pub fn status_line(process: u64, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find(|(found, _)| *found == name);
    line.unwrap_or_else(|| panic!("no line {name}: {status}"))
        .1
        .trim()
        .to_owned()
}

/// Resident memory, in bytes.
///
/// # Panics
/// When there is no such process.
#[track_caller]
#[must_use]
pub fn resident_bytes(process: u32) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{process}/status")).expect("a process that lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS in /proc");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of kB");
    kib * 1024
}

/// CPU time that all its threads have taken, in nanoseconds. A thread that has ended takes its time with it, so this
/// is for servers whose threads stay. `utime` in `/proc/PID/stat` counts ticks of 10 ms, which is too coarse for a
/// short round; the scheduler's own account is exact.
///
/// # Panics
/// When there is no such process, or the kernel keeps no such account.
#[track_caller]
#[must_use]
pub fn cpu_ns(process: u32) -> u64 {
    let of_task = |task: u32| {
        // A thread may end between the listing and this.
        let path = format!("/proc/{process}/task/{task}/schedstat");
        let account = fs::read_to_string(path).unwrap_or_default();
        let ns = account.split(' ').next().and_then(|ns| ns.parse().ok());
        ns.unwrap_or(0)
    };
    tasks(process).into_iter().map(of_task).sum()
}

/// The processors that this thread may run on.
///
/// # Panics
/// When the kernel doesn't say.
#[must_use]
pub fn processors() -> CpuSet {
    sched_getaffinity(None).expect("the kernel knows its processors")
}

/// Only the last of these processors: the first one often has the interrupts.
#[must_use]
pub fn last_of(processors: &CpuSet) -> CpuSet {
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|cpu| processors.is_set(*cpu));
    let mut one = CpuSet::new();
    last.into_iter().for_each(|cpu| one.set(cpu));
    one
}

/// Lets all threads of a process run on these processors alone; a thread that ends meanwhile is let go.
pub fn confine(process: u32, processors: &CpuSet) {
    for task in tasks(process) {
        let _ = sched_setaffinity(Some(pid(task)), processors);
    }
}

fn tasks(process: u32) -> Vec<u32> {
    let listed = fs::read_dir(format!("/proc/{process}/task")).expect("a process that lives");
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    listed.filter_map(Result::ok).filter_map(number).collect()
}

/// Whether that process has a connection whose own end is `local`, an IPv4 address; `None` where the connection is gone.
#[must_use]
pub fn has_connection_from(process: u32, local: SocketAddrV4) -> Option<bool> {
    // As the kernel writes it: the address as one number of this machine's, then the port.
    let address = u32::from_ne_bytes(local.ip().octets());
    let local = format!("{address:08X}:{:04X}", local.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let fields = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inode = fields
        .filter(|fields| fields.get(1) == Some(&&*local))
        .find_map(|fields| fields.get(9).map(|inode| (*inode).to_owned()));
    // One that its owner has closed lingers without an inode.
    let inode = inode.filter(|inode| inode != "0")?;
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"));
    let mut descriptors = descriptors.into_iter().flatten().flatten();
    Some(descriptors.any(|one| fs::read_link(one.path()).is_ok_and(|target| target == link)))
}

/// Address space, in bytes: what a bound of it is compared with.
///
/// # Panics
/// When there is no such process.
#[track_caller]
#[must_use]
pub fn address_space_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("Linux tells the size of every process") << 10
}

/// Bounds what a process may have from now on; its own limits never rise by it.
///
/// # Panics
/// When there is no such process, or it is not ours.
#[track_caller]
pub fn set_bound(process: u32, resource: Resource, max: u64) {
    let limit = Rlimit {
        current: Some(max),
        maximum: Some(max),
    };
    prlimit(Some(pid(process)), resource, limit).expect("a process of ours");
}

/// The letter by which the kernel tells what a process does: `R` runs, `S` waits, `T` is stopped, `Z` has ended and
/// nobody has asked how. `None` where there is no such process.
#[must_use]
pub fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit(") ").next()?.chars().next()
}

/// Whether it has ended, by the state that [`state`] tells.
#[must_use]
pub fn is_gone(process: u32) -> bool {
    matches!(state(process), None | Some('Z' | 'X'))
}
