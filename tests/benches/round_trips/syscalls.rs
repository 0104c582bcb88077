//! The system calls per request, counted from outside with `perf`, which barely slows the server down and does not
//! change it.
//!
//! If `perf` is missing or may not count, a note says so once and the figure is left out.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dae_tests::process;
use rustix::process::Signal;

/// The event for every entry into the kernel.
const EVENT: &str = "raw_syscalls:sys_enter";

/// The longest time for `perf` to attach.
const ATTACH_MAX: Duration = Duration::from_secs(5);

/// The time between two checks whether `perf` has attached, and a last delay for it to start counting.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Returns whether system calls can be counted on this machine.
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

/// A count in progress.
pub(super) struct Counting {
    perf: Child,
}

impl Counting {
    /// Starts to count the system calls of the given processes.
    ///
    /// Returns an error if `perf` cannot be run, or does not attach.
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

    /// Ends the count, and returns the number of system calls.
    ///
    /// Returns an error if `perf` prints something other than a number.
    pub(super) fn end(self) -> io::Result<u64> {
        process::signal(self.perf.id(), Signal::INT);
        let output = self.perf.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.contains(EVENT));
        let count = line.and_then(|line| line.split(',').next()?.parse().ok());
        count.ok_or_else(|| io::Error::other(format!("perf says: {text}")))
    }
}
