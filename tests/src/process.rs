//! Information from the kernel about another process: memory, CPU time, signals, processors. Linux only.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpriority_process, kill_process, kill_process_group, prlimit,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Converts a process id to the kernel's type.
///
/// # Panics
/// Panics for 0 and for numbers that no process can have.
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
/// Panics if there is no such process, or it is not ours.
#[track_caller]
pub fn signal(process: u32, signal: Signal) {
    kill_process(pid(process), signal).expect("a process of ours");
}

/// Kills a process and its whole group. It is not an error if they have already ended.
pub fn kill_group(leader: u32) {
    let _ = kill_process_group(pid(leader), Signal::KILL);
}

/// Returns the child processes of a process, including those that have ended but were not waited for.
#[must_use]
pub fn children(process: u32) -> Vec<u32> {
    let parent = process.to_string();
    let is_child =
        |child: &u32| fields(*child).is_some_and(|fields| fields.get(1) == Some(&parent));
    all().into_iter().filter(is_child).collect()
}

/// Returns the worker processes that a host has started, by their command line. The host may have ended.
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

/// Returns the worker processes of a host that have a daemon, or a preflight: those that don't wait in reserve.
#[must_use]
pub fn daemons_of(host: u32) -> Vec<u32> {
    let has_daemon = |process: &u32| name(*process).starts_with("dae:");
    workers_of(host).into_iter().filter(has_daemon).collect()
}

/// Returns the worker processes of a host that wait for a daemon.
#[must_use]
pub fn reserve_of(host: u32) -> Vec<u32> {
    let waits = |process: &u32| name(*process) == "dae-reserve";
    workers_of(host).into_iter().filter(waits).collect()
}

/// Returns the name of a process in lists; an empty one if it has ended.
fn name(process: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Returns every process of this machine.
fn all() -> Vec<u32> {
    let listed = fs::read_dir("/proc").expect("Linux has /proc");
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    listed.filter_map(Result::ok).filter_map(number).collect()
}

/// Returns the target of each open file descriptor of a process, by descriptor number.
///
/// # Panics
/// Panics if there is no such process, or it is not ours.
#[track_caller]
#[must_use]
pub fn descriptors(process: u32) -> BTreeMap<u32, PathBuf> {
    let listed = fs::read_dir(format!("/proc/{process}/fd")).expect("a process of ours");
    let entry = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        // The file descriptor may have been closed since the listing.
        Some((number, fs::read_link(entry.path()).ok()?))
    };
    listed.filter_map(Result::ok).filter_map(entry).collect()
}

/// Returns the environment with which a process was started.
///
/// # Panics
/// Panics if there is no such process, or it is not ours.
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

/// Returns a resource limit of a process by the kernel's name for it (`Max open files`): `unlimited` or a number.
///
/// # Panics
/// Panics if there is no such process or limit.
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

/// Returns the nice value of a process, -20 to 19.
///
/// # Panics
/// Panics if there is no such process.
#[track_caller]
#[must_use]
pub fn nice(process: u32) -> i32 {
    getpriority_process(Some(pid(process))).expect("a process that lives")
}

/// Returns a value from the kernel's status of a process, such as `SigBlk`.
///
/// # Panics
/// Panics if there is no such process or line.
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

/// Returns the resident memory of a process, in bytes.
///
/// # Panics
/// Panics if there is no such process.
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

/// Returns the CPU time of all threads of a process, in nanoseconds. The time of ended threads is not included, so this
/// suits servers whose threads stay. `utime` in `/proc/PID/stat` counts ticks of 10 ms, which is too coarse for a short
/// round. The scheduler's statistics are exact.
///
/// # Panics
/// Panics if there is no such process.
#[track_caller]
#[must_use]
pub fn cpu_ns(process: u32) -> u64 {
    let of_task = |task: u32| {
        // A thread may have ended since the listing.
        let path = format!("/proc/{process}/task/{task}/schedstat");
        let account = fs::read_to_string(path).unwrap_or_default();
        let ns = account.split(' ').next().and_then(|ns| ns.parse().ok());
        ns.unwrap_or(0)
    };
    tasks(process).into_iter().map(of_task).sum()
}

/// Returns the processors on which this thread may run.
///
/// # Panics
/// Panics if the kernel does not report them.
#[must_use]
pub fn processors() -> CpuSet {
    sched_getaffinity(None).expect("the kernel knows its processors")
}

/// Returns only the last of the given processors: the first one often handles the interrupts.
#[must_use]
pub fn last_of(processors: &CpuSet) -> CpuSet {
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|cpu| processors.is_set(*cpu));
    let mut one = CpuSet::new();
    last.into_iter().for_each(|cpu| one.set(cpu));
    one
}

/// Restricts all threads of a process to the given processors. Threads that end meanwhile are ignored.
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

/// Returns whether a process owns the connection whose local IPv4 address is `local`, or `None` if it no longer exists.
#[must_use]
pub fn has_connection_from(process: u32, local: SocketAddrV4) -> Option<bool> {
    // The kernel's format: the address as one number in native byte order, then the port.
    let address = u32::from_ne_bytes(local.ip().octets());
    let local = format!("{address:08X}:{:04X}", local.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let fields = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inode = fields
        .filter(|fields| fields.get(1) == Some(&&*local))
        .find_map(|fields| fields.get(9).map(|inode| (*inode).to_owned()));
    // A connection that its owner has closed remains listed for a while without an inode.
    let inode = inode.filter(|inode| inode != "0")?;
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"));
    let mut descriptors = descriptors.into_iter().flatten().flatten();
    Some(descriptors.any(|one| fs::read_link(one.path()).is_ok_and(|target| target == link)))
}

/// Returns the address space of a process, in bytes, for comparison with its limit.
///
/// # Panics
/// Panics if there is no such process.
#[track_caller]
#[must_use]
pub fn address_space_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("Linux tells the size of every process") << 10
}

/// Sets a resource limit of a process, both soft and hard.
///
/// # Panics
/// Panics if there is no such process, or it is not ours.
#[track_caller]
pub fn set_bound(process: u32, resource: Resource, max: u64) {
    let limit = Rlimit {
        current: Some(max),
        maximum: Some(max),
    };
    prlimit(Some(pid(process)), resource, limit).expect("a process of ours");
}

/// Returns the kernel's letter for the state of a process: `R` running, `S` sleeping, `T` stopped, `Z` ended but not
/// waited for. `None` if there is no such process.
#[must_use]
pub fn state(process: u32) -> Option<char> {
    fields(process)?.first()?.chars().next()
}

/// Returns whether a process has ended with all its threads. [`state`] is that of the first thread, which can be a
/// zombie while others still hold the process's sockets.
#[must_use]
pub fn is_gone(process: u32) -> bool {
    let Some(fields) = fields(process) else {
        return true;
    };
    let threads = fields.get(17).and_then(|count| count.parse::<u32>().ok());
    matches!(&*fields[0], "Z" | "X") && threads.is_none_or(|count| count <= 1)
}

/// Returns the fields of `/proc/PID/stat` from the state on. The name before it, in parentheses, may contain anything.
fn fields(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields = stat.rsplit(") ").next()?.split_whitespace();
    Some(fields.map(str::to_owned).collect())
}
