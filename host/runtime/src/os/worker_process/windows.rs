//! A job that ends with the host.

use std::io;
use std::os::windows::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};
use windows_sys::Win32::Foundation::ERROR_NOT_ENOUGH_QUOTA;
use windows_sys::Win32::System::JobObjects::{
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
};
use windows_sys::Win32::System::Threading::{CREATE_NO_WINDOW, CREATE_SUSPENDED};

use crate::os::job_object::JobObject;
use crate::os::worker_stream::WorkerEnd;

/// The interval at which to check whether the processes of a job are gone.
const JOB_POLL: Duration = Duration::from_millis(10);

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
    pub(super) fn start(
        mut command: Command,
        stdin: WorkerEnd,
        _records: &GroupRecords,
    ) -> io::Result<Self> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let job = JobObject::with(&limits)?;
        let flags = CREATE_NO_WINDOW | CREATE_SUSPENDED;
        command.as_std_mut().creation_flags(flags);
        let mut process = command.stdin(stdin.into_stdin()).spawn()?;
        if let Err(error) = job.take_suspended(process.id().unwrap_or(0)) {
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

/// Does nothing: [`WorkerProcess::start`] gives the process a console of its own, which nobody sees. So no event of the
/// host's console reaches the process or what it starts.
pub(super) fn prepare(_command: &mut Command) {}

/// Does nothing, for the same reason.
pub(super) fn stand_apart(_command: &mut Command) {}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::worker_stream::{self, HostEnd};
    use std::process::Stdio;
    use tokio::io::AsyncReadExt as _;
    use tokio::runtime;

    fn on_runtime<T>(test: impl Future<Output = T>) -> T {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test)
    }

    /// Starts a worker that starts another process, and waits until that runs.
    async fn start_two() -> (WorkerProcess, HostEnd) {
        let (mut process, host) = start("cmd /c pause");
        let output = process.process().stdout.as_mut().unwrap();
        // Only when it says something does it run.
        output.read_exact(&mut [0]).await.unwrap();
        // The server of its console may be another one.
        assert!(process.job.running().unwrap() >= 2);
        (process, host)
    }

    /// Starts `cmd` as a worker.
    fn start(script: &str) -> (WorkerProcess, HostEnd) {
        let (host, worker) = worker_stream::pair().unwrap();
        let mut command = Command::new("cmd");
        command.args(["/c", script]).stdout(Stdio::piped());
        prepare(&mut command);
        let records = GroupRecords::in_directory(PathBuf::new());
        let process = WorkerProcess::start(command, worker, &records).unwrap();
        (process, host)
    }

    #[test]
    fn a_worker_ends_by_itself_and_its_code_is_told() {
        on_runtime(async {
            let (mut process, _host) = start("exit 7");
            assert_ne!(process.pid(), 0);
            process.exited().await;
            let status = process.process().wait().await.unwrap();
            assert_eq!(in_words(status), "exited with code 7");
            process.all_gone().await;
        });
    }

    #[test]
    fn a_worker_that_is_killed_takes_along_what_it_has_started() {
        on_runtime(async {
            let (mut process, _host) = start_two().await;
            process.kill_all();
            let status = process.process().wait().await.unwrap();
            assert_eq!(status.code(), Some(1), "as `taskkill` ends it");
            process.all_gone().await;
            assert_eq!(process.job.running().unwrap(), 0);
        });
    }

    /// The end of a host closes all its handles, and this test one of them.
    #[test]
    fn a_worker_ends_with_its_host() {
        on_runtime(async {
            let (process, _host) = start_two().await;
            let WorkerProcess {
                mut process, job, ..
            } = process;
            drop(job);
            process.wait().await.unwrap();
        });
    }

    #[test]
    fn the_codes_of_the_system_are_told_in_words() {
        use std::os::windows::process::ExitStatusExt as _;
        for (code, words) in [
            (0, "exited with code 0"),
            (0xC000_0005, "ended with 0xC0000005: access violation"),
            (0xC000_FFFF, "ended with 0xC000FFFF"),
            (
                ERROR_NOT_ENOUGH_QUOTA,
                "was ended by Windows: its bound of CPU time",
            ),
        ] {
            assert_eq!(in_words(ExitStatus::from_raw(code)), words);
        }
    }
}
