//! Limits of a job object, and priority classes.

#![allow(unsafe_code)]

use std::io;

use dae_store::settings::Bounds;
use windows_sys::Win32::System::JobObjects::{
    JOB_OBJECT_LIMIT_JOB_TIME, JOB_OBJECT_LIMIT_PROCESS_MEMORY,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
};
use windows_sys::Win32::System::Threading::{
    ABOVE_NORMAL_PRIORITY_CLASS, BELOW_NORMAL_PRIORITY_CLASS, GetCurrentProcess,
    HIGH_PRIORITY_CLASS, IDLE_PRIORITY_CLASS, NORMAL_PRIORITY_CLASS, SetPriorityClass,
};

use crate::os::job_object::JobObject;

/// The unit of times in a job's limits: 100 ns.
const TICKS_PER_SECOND: i64 = 10_000_000;

pub(super) fn apply(bounds: &Bounds) -> Result<(), String> {
    // The system has no limit on handles. There are no core files, so a bound on their size holds by itself.
    if let Some(files_max) = bounds.files_max {
        return Err(format!(
            "its bound files_max = {files_max}: Windows has no such limit; remove it from the settings"
        ));
    }
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    let mut named = Vec::new();
    if let Some(bytes) = bounds.memory_bytes {
        limits.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_PROCESS_MEMORY;
        limits.ProcessMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
        named.push(format!("memory_bytes = {bytes}"));
    }
    if let Some(seconds) = bounds.cpu_s {
        let ticks = i64::try_from(seconds).unwrap_or(i64::MAX);
        limits.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_JOB_TIME;
        limits.BasicLimitInformation.PerJobUserTimeLimit = ticks.saturating_mul(TICKS_PER_SECOND);
        named.push(format!("cpu_s = {seconds}"));
    }
    if named.is_empty() {
        return Ok(());
    }
    let bound = || -> io::Result<()> {
        let job = JobObject::with(&limits)?;
        job.take_this_process()?;
        // The job, and with it the limits, lasts until its processes have ended.
        Ok(())
    };
    bound().map_err(|error| format!("its bounds {}: {error}", named.join(", ")))
}

pub(super) fn set_nice(nice: i32) -> io::Result<()> {
    let class = match nice {
        ..=-10 => HIGH_PRIORITY_CLASS,
        -9..=-1 => ABOVE_NORMAL_PRIORITY_CLASS,
        0 => NORMAL_PRIORITY_CLASS,
        1..=9 => BELOW_NORMAL_PRIORITY_CLASS,
        10.. => IDLE_PRIORITY_CLASS,
    };
    // SAFETY: the handle of the own process is always valid.
    match unsafe { SetPriorityClass(GetCurrentProcess(), class) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::under_test::is_lacking_in_wine;
    use std::process::{Command, ExitStatus};

    /// The variable that tells a child of a test its bounds, in JSON.
    const BOUNDS: &str = "DAE_TEST_BOUNDS";

    /// The memory that a child asks for (bytes).
    const ASKED_BYTES: usize = 256 << 20;

    /// Runs one of this program's tests as a child with those bounds.
    fn child(test: &str, bounds: &str) -> ExitStatus {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = format!("os::bounds::windows::tests::{test}");
        command.arg(name).env(BOUNDS, bounds);
        command.status().unwrap()
    }

    /// Applies the bounds if this process is a child.
    fn is_child() -> bool {
        let Ok(bounds) = std::env::var(BOUNDS) else {
            return false;
        };
        apply(&serde_json::from_str(&bounds).unwrap()).unwrap();
        true
    }

    #[test]
    fn a_bound_on_memory_holds() {
        const TEST: &str = "a_bound_on_memory_holds";
        if is_child() {
            // A panic ends the child with another code.
            return Vec::<u8>::new().try_reserve_exact(ASKED_BYTES).unwrap();
        }
        let plenty = format!(r#"{{"memory_bytes": {}}}"#, 4 * ASKED_BYTES);
        assert!(child(TEST, &plenty).success());
        if is_lacking_in_wine("bounds of memory") {
            return;
        }
        let little = format!(r#"{{"memory_bytes": {}}}"#, ASKED_BYTES / 2);
        assert!(!child(TEST, &little).success());
    }

    #[test]
    fn a_bound_on_time_holds() {
        if is_child() {
            loop {
                std::hint::spin_loop();
            }
        }
        if is_lacking_in_wine("bounds of CPU time") {
            return;
        }
        let ended = child("a_bound_on_time_holds", r#"{"cpu_s": 1}"#);
        let words = crate::os::worker_process::in_words(ended);
        assert!(words.contains("its bound of CPU time"), "{words}");
    }

    #[test]
    fn a_bound_that_windows_lacks_is_named() {
        let bounds = serde_json::from_str(r#"{"files_max": 9}"#).unwrap();
        let text = apply(&bounds).unwrap_err();
        assert!(text.contains("files_max = 9"), "{text}");
    }
}
