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

use crate::os::worker_process::JobObject;

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
