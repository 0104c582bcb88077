//! A job that ends with the host.

#![allow(unsafe_code)]

use std::io;
use std::os::windows::io::{AsRawHandle as _, BorrowedHandle, FromRawHandle as _, OwnedHandle};
use std::os::windows::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};
use windows_sys::Win32::Foundation::ERROR_NOT_ENOUGH_QUOTA;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectBasicAccountingInformation, JobObjectExtendedLimitInformation,
    QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{CREATE_NO_WINDOW, GetCurrentProcess};

use crate::os::worker_stream::WorkerEnd;

/// The interval at which to check whether the processes of a job are gone.
const JOB_POLL: Duration = Duration::from_millis(10);

/// The exit code of processes that this program kills, which is that of `taskkill`.
const CODE_KILLED: u32 = 1;

/// Does nothing: a job ends with the host that has it open, so that a killed host leaves nothing behind.
#[derive(Debug, Clone)]
pub struct GroupRecords(());

impl GroupRecords {
    /// Returns the records, which are empty.
    #[must_use]
    pub fn in_directory(_directory: PathBuf) -> Self {
        GroupRecords(())
    }

    /// Returns 0: see the type.
    #[must_use]
    pub fn end_left(&self) -> usize {
        0
    }
}

#[derive(Debug)]
pub(super) struct WorkerProcess {
    process: Child,
    pid: u32,
    job: JobObject,
}

impl WorkerProcess {
    /// The worker starts nothing before its first frame, so nothing escapes from the job.
    pub(super) fn start(
        mut command: Command,
        stdin: WorkerEnd,
        _records: &GroupRecords,
    ) -> io::Result<Self> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let job = JobObject::with(&limits)?;
        let mut process = command.stdin(stdin.into_stdin()).spawn()?;
        let taken = match process.raw_handle() {
            // SAFETY: the handle is open as long as its process is owned.
            Some(handle) => job.take(unsafe { BorrowedHandle::borrow_raw(handle) }),
            None => Err(io::Error::other("it ended at once")),
        };
        if let Err(error) = taken {
            // A process outside of the job would outlive its host. It may have ended by itself.
            let _ = process.start_kill();
            return Err(error);
        }
        let pid = process.id().unwrap_or(0);
        Ok(WorkerProcess { process, pid, job })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    pub(super) async fn exited(&mut self) {
        let _ = self.process.wait().await;
    }

    pub(super) fn kill_all(&self) {
        self.job.kill();
    }

    pub(super) async fn all_gone(&self) {
        while self.job.running().is_ok_and(|count| count > 0) {
            self.job.kill();
            tokio::time::sleep(JOB_POLL).await;
        }
    }

    pub(super) fn forget(&self) {}
}

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

    /// Puts a process, and all that it starts from now on, into the job.
    pub(crate) fn take(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
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

    fn running(&self) -> io::Result<u32> {
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

/// Without `SystemRoot` a process can't open a socket (error 10106): the library that implements them is found by it.
pub(crate) const SAFE_VARIABLES: &[&str] = &[
    "PATH",
    "PATHEXT",
    "SystemRoot",
    "SystemDrive",
    "windir",
    "ComSpec",
    "USERPROFILE",
    "USERNAME",
    "APPDATA",
    "LOCALAPPDATA",
    "ProgramData",
    "TEMP",
    "TMP",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Windows ignores the case of names.
pub(super) fn is_same_variable(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// A console of its own, which nobody sees. So no event of the host's console reaches the process or what it starts.
pub(super) fn prepare(command: &mut Command) {
    command.as_std_mut().creation_flags(CREATE_NO_WINDOW);
}

/// The system ends a process with the number of an exception as its exit code, and one whose job has used up its time with
/// that of an error.
pub(super) fn in_words(status: ExitStatus) -> String {
    let code = status.code().unwrap_or(0);
    if code.cast_unsigned() == ERROR_NOT_ENOUGH_QUOTA {
        return "was ended by Windows: its bound of CPU time".to_owned();
    }
    match meaning(code.cast_unsigned()) {
        Some(meaning) => format!("ended with {:#010X}: {meaning}", code.cast_unsigned()),
        None if code < 0 => format!("ended with {:#010X}", code.cast_unsigned()),
        None => format!("exited with code {code}"),
    }
}

/// The texts of `ntstatus.h`, shortened.
fn meaning(code: u32) -> Option<&'static str> {
    Some(match code {
        0x4001_0005 | 0xC000_013A => "Ctrl-C",
        0xC000_0005 => "access violation",
        0xC000_0006 => "a page of a file could not be read",
        0xC000_0017 => "no memory could be had",
        0xC000_001D => "illegal instruction",
        0xC000_0044 => "the quota of its job was used up",
        0xC000_0094 => "integer division by zero",
        0xC000_00FD => "stack overflow",
        0xC000_0135 => "a library that it needs was not found",
        0xC000_0139 => "a function that it needs was not found in a library",
        0xC000_0142 => "a library could not be initialized",
        0xC000_0374 => "heap corruption",
        0xC000_0409 => "abort",
        0xC000_0602 => "fail fast exception",
        _ => return None,
    })
}
