//! Job objects of Windows: processes that are bounded and ended together.

#![allow(unsafe_code)]

use std::io;
use std::os::windows::io::{
    AsHandle as _, AsRawHandle as _, BorrowedHandle, FromRawHandle as _, OwnedHandle,
};

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOBOBJECT_BASIC_ACCOUNTING_INFORMATION,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectBasicAccountingInformation,
    JobObjectExtendedLimitInformation, QueryInformationJobObject, SetInformationJobObject,
    TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, OpenThread, PROCESS_SET_QUOTA, PROCESS_TERMINATE, ResumeThread,
    THREAD_SUSPEND_RESUME,
};

/// The exit code of processes that this program kills, which is that of `taskkill`.
const CODE_KILLED: u32 = 1;

/// A job object. Its processes can start no other outside of it.
#[derive(Debug)]
pub(crate) struct JobObject(OwnedHandle);

impl JobObject {
    /// Creates a job with those limits.
    pub(crate) fn with(limits: &JOBOBJECT_EXTENDED_LIMIT_INFORMATION) -> io::Result<Self> {
        // SAFETY: both pointers may be null: the default security, and no name.
        let handle = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was made just now, and has no other owner.
        let job = JobObject(unsafe { OwnedHandle::from_raw_handle(handle) });
        let bytes = u32::try_from(size_of_val(limits)).unwrap_or(0);
        // SAFETY: the pointer leads to a value of that size, of the type that belongs to the class.
        let set = unsafe {
            SetInformationJobObject(
                job.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                std::ptr::from_ref(limits).cast(),
                bytes,
            )
        };
        checked(set)?;
        Ok(job)
    }

    /// Puts this process into the job.
    pub(crate) fn take_this_process(&self) -> io::Result<()> {
        // SAFETY: the call returns a constant that stands for this process, always.
        self.take(unsafe { BorrowedHandle::borrow_raw(GetCurrentProcess()) })
    }

    /// Puts a process that was created suspended into the job, and lets it run. It has started nothing by then, so nothing
    /// escapes from the job. The process must be a child that nobody has waited for: then its id is its own.
    ///
    /// # Errors
    /// The system's error. The process then still waits, and has to be killed.
    pub(crate) fn take_suspended(&self, child: u32) -> io::Result<()> {
        // SAFETY: the call touches no memory of this process.
        let process = unsafe { OpenProcess(PROCESS_SET_QUOTA | PROCESS_TERMINATE, 0, child) };
        if process.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was opened just now, and has no other owner.
        let process = unsafe { OwnedHandle::from_raw_handle(process) };
        self.take(process.as_handle())?;
        resume(child)
    }

    /// Puts a process, and all that it starts from now on, into the job.
    fn take(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
        // SAFETY: both handles are open.
        checked(unsafe {
            AssignProcessToJobObject(self.0.as_raw_handle(), process.as_raw_handle())
        })
    }

    /// Ends all its processes with the code that `taskkill` uses.
    pub(crate) fn kill(&self) {
        // SAFETY: the handle is open. A failure shows in the count of the running processes.
        unsafe { TerminateJobObject(self.0.as_raw_handle(), CODE_KILLED) };
    }

    /// Returns the number of its processes that run.
    pub(crate) fn running(&self) -> io::Result<u32> {
        let mut account = JOBOBJECT_BASIC_ACCOUNTING_INFORMATION::default();
        let bytes = u32::try_from(size_of_val(&account)).unwrap_or(0);
        // SAFETY: the pointer leads to a value of that size, of the type that belongs to the class.
        let asked = unsafe {
            QueryInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectBasicAccountingInformation,
                (&raw mut account).cast(),
                bytes,
                std::ptr::null_mut(),
            )
        };
        checked(asked)?;
        Ok(account.ActiveProcesses)
    }
}

fn checked(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets a child run that was created suspended.
///
/// The standard library keeps no handle of a child's first thread, so the thread is looked for among all threads.
///
/// # Errors
/// The system's error, or the child doesn't wait.
pub(crate) fn resume(child: u32) -> io::Result<()> {
    let mut has_waited = false;
    for thread in threads_of(child)? {
        // SAFETY: the call touches no memory of this process.
        let opened = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, thread) };
        if opened.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was opened just now, and has no other owner.
        let opened = unsafe { OwnedHandle::from_raw_handle(opened) };
        // SAFETY: the handle is open.
        match unsafe { ResumeThread(opened.as_raw_handle()) } {
            u32::MAX => return Err(io::Error::last_os_error()),
            waited => has_waited |= waited > 0,
        }
    }
    match has_waited {
        true => Ok(()),
        false => Err(io::Error::other("the process was not created suspended")),
    }
}

/// Returns the ids of the threads of a process.
fn threads_of(process: u32) -> io::Result<Vec<u32>> {
    // SAFETY: the call touches no memory of this process.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was opened just now, and has no other owner.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    let mut entry = THREADENTRY32 {
        dwSize: u32::try_from(size_of::<THREADENTRY32>()).unwrap_or(0),
        ..THREADENTRY32::default()
    };
    let mut threads = Vec::new();
    // SAFETY: the handle is open, and the entry has the size that it says.
    let mut is_more = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while is_more != 0 {
        if entry.th32OwnerProcessID == process {
            threads.push(entry.th32ThreadID);
        }
        // SAFETY: as above.
        is_more = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::under_test::until;
    use std::os::windows::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};
    use windows_sys::Win32::System::JobObjects::JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    use windows_sys::Win32::System::Threading::CREATE_SUSPENDED;

    fn job_with(flags: u32) -> JobObject {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = flags;
        JobObject::with(&limits).unwrap()
    }

    /// Starts a program that waits until somebody ends it.
    fn start(flags: u32) -> Child {
        let mut command = Command::new("cmd");
        command.args(["/c", "pause"]).creation_flags(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().unwrap()
    }

    #[test]
    fn a_child_runs_once_it_is_in_its_job() {
        let job = job_with(0);
        let mut child = Command::new("cmd");
        child
            .args(["/c", "exit 3"])
            .creation_flags(CREATE_SUSPENDED);
        let mut child = child.spawn().unwrap();
        job.take(child.as_handle()).unwrap();
        assert_eq!(job.running().unwrap(), 1, "it waits in the job");
        resume(child.id()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn a_child_that_runs_already_is_refused() {
        let job = job_with(0);
        let mut child = start(0);
        job.take_suspended(child.id()).unwrap_err();
        job.kill();
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }

    #[test]
    fn the_last_handle_of_a_job_ends_its_processes_if_it_is_to() {
        let job = job_with(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE);
        let mut child = start(CREATE_SUSPENDED);
        job.take_suspended(child.id()).unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        drop(job);
        until("the process ends with its job", || {
            child.try_wait().unwrap().is_some()
        });
    }
}
