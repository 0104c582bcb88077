//! System calls a request, counted by `perf` from outside: the server is not slowed down much, and not changed.
//!
//! Where `perf` is missing or may not count them, that is said once and the figure is left out.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dae_tests::process;
use rustix::process::Signal;

/// Every entry into the kernel.
const EVENT: &str = "raw_syscalls:sys_enter";

/// How long `perf` may take to attach.
const ATTACH_MAX: Duration = Duration::from_secs(5);

/// Between two looks whether it has, and once more for it to begin.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether they can be counted here.
pub(super) fn can_be_counted() -> bool {
    let probe = Command::new("perf")
        .args(["stat", "-e", EVENT, "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: system calls a request; `perf stat -e {EVENT}` can't be run");
    }
    can
}

/// A count that goes on.
pub(super) struct Counting {
    perf: Child,
}

impl Counting {
    /// Begins to count those of the processes.
    ///
    /// Errors: `perf` can't be run, or doesn't attach.
    pub(super) fn of(processes: &[u32]) -> io::Result<Self> {
        let list: Vec<String> = processes.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", EVENT, "-p", &list.join(",")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let counting = Counting { perf };
        let start = Instant::now();
        while !counting.is_attached() {
            if start.elapsed() > ATTACH_MAX {
                return Err(io::Error::other("perf does not attach"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        std::thread::sleep(LOOK_EVERY);
        Ok(counting)
    }

    fn is_attached(&self) -> bool {
        let is_counter = |target: &std::path::PathBuf| target.to_string_lossy().contains("perf");
        let descriptors = process::descriptors(self.perf.id());
        descriptors.values().any(is_counter)
    }

    /// Ends it, and returns how many there were.
    ///
    /// Errors: `perf` says something else than a number.
    pub(super) fn end(self) -> io::Result<u64> {
        process::signal(self.perf.id(), Signal::INT);
        let output = self.perf.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.contains(EVENT));
        let count = line.and_then(|line| line.split(',').next()?.parse().ok());
        count.ok_or_else(|| io::Error::other(format!("perf says: {text}")))
    }
}
