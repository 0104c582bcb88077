//! The counts of `GetProcessTimes` and `GetProcessMemoryInfo`. The processes that a process has started are not included.

#![allow(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::{FILETIME, HANDLE};
use windows_sys::Win32::System::ProcessStatus::{
    K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS_EX,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
};

use super::ProcessUsage;

pub(super) fn of_this_process() -> Option<ProcessUsage> {
    // SAFETY: the call returns a constant that stands for this process, always.
    of(unsafe { GetCurrentProcess() })
}

pub(super) fn of_groups(leaders: &BTreeSet<u32>) -> HashMap<u32, ProcessUsage> {
    let usage = |leader: &u32| Some((*leader, of_process(*leader)?));
    leaders.iter().filter_map(usage).collect()
}

pub(super) fn of_process(process: u32) -> Option<ProcessUsage> {
    // SAFETY: the call touches no memory of this process.
    let opened = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process) };
    if opened.is_null() {
        return None;
    }
    // SAFETY: the handle was opened just now, and has no other owner.
    let opened = unsafe { OwnedHandle::from_raw_handle(opened) };
    of(opened.as_raw_handle())
}

fn of(process: HANDLE) -> Option<ProcessUsage> {
    let memory = memory_of(process)?;
    Some(ProcessUsage {
        cpu: cpu_of(process)?,
        memory_bytes: memory.PrivateUsage as u64,
        resident_bytes: memory.WorkingSetSize as u64,
    })
}

fn cpu_of(process: HANDLE) -> Option<Duration> {
    let none = FILETIME {
        dwLowDateTime: 0,
        dwHighDateTime: 0,
    };
    let (mut start, mut end, mut kernel, mut user) = (none, none, none, none);
    // SAFETY: the handle is open, and the call writes one value behind each pointer.
    let is_known = unsafe {
        GetProcessTimes(
            process,
            &raw mut start,
            &raw mut end,
            &raw mut kernel,
            &raw mut user,
        )
    };
    (is_known != 0).then(|| in_time(kernel) + in_time(user))
}

/// Returns a number of 100 ns as a duration.
fn in_time(time: FILETIME) -> Duration {
    let hundreds = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos(hundreds.saturating_mul(100))
}

fn memory_of(process: HANDLE) -> Option<PROCESS_MEMORY_COUNTERS_EX> {
    let mut counters = PROCESS_MEMORY_COUNTERS_EX::default();
    let bytes = u32::try_from(size_of_val(&counters)).unwrap_or(0);
    counters.cb = bytes;
    // SAFETY: the handle is open, and the pointer leads to a value of that size. The call writes the longer form of the
    // counters if the size is that of the longer form.
    let is_known = unsafe { K32GetProcessMemoryInfo(process, (&raw mut counters).cast(), bytes) };
    (is_known != 0).then_some(counters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::under_test::is_lacking_in_wine;

    #[test]
    fn a_process_that_is_not_there_is_left_out() {
        let own = std::process::id();
        let groups = of_groups(&BTreeSet::from([own, u32::MAX]));
        assert_eq!(groups.keys().copied().collect::<Vec<_>>(), [own]);
        assert!(
            groups[&own].memory_bytes > 0 || is_lacking_in_wine("the private memory of a process")
        );
        assert!(of_this_process().is_some());
    }
}
