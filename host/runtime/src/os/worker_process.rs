//! The process of a worker, with all that it starts: created, watched, ended and described.
//!
//! On Unix these processes are a process group, on Windows a job. The next instance of a daemon starts only when all of
//! them are gone.

#[cfg(unix)]
mod group;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use group::GroupRecords;
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;
#[cfg(windows)]
pub use windows::GroupRecords;

use std::io;
use std::process::ExitStatus;

use tokio::process::{ChildStderr, ChildStdout, Command};

use super::worker_stream::WorkerEnd;

/// The variables that every worker gets from the host's environment, if they are set. They locate programs and files, and
/// select language and time zone. None of them could hold a secret.
pub(crate) use system::SAFE_VARIABLES;

/// Returns whether both are names of one environment variable.
pub(crate) fn is_same_variable(one: &str, other: &str) -> bool {
    system::is_same_variable(one, other)
}

/// The process of a worker. The caller ends it: dropping this does not.
#[derive(Debug)]
pub struct WorkerProcess(system::WorkerProcess);

impl WorkerProcess {
    /// Starts the process with that standard input, and records what it will start. Call it on a runtime.
    ///
    /// # Errors
    /// The system's error.
    pub fn start(command: Command, stdin: WorkerEnd, records: &GroupRecords) -> io::Result<Self> {
        system::WorkerProcess::start(command, stdin, records).map(WorkerProcess)
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Takes its standard output and error, which are there once.
    pub fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        let process = self.0.process();
        (process.stdout.take(), process.stderr.take())
    }

    /// Waits until the process has ended. Dropping the future early loses nothing.
    pub async fn exited(&mut self) {
        self.0.exited().await;
    }

    /// Kills the process and all that it has started, and returns how it ended.
    ///
    /// # Errors
    /// The system's error.
    pub async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.0.kill_all();
        self.0.process().wait().await
    }

    /// Kills the process and all that it has started, and waits for nothing. Call it before [`WorkerProcess::kill`] has
    /// returned or not at all.
    pub fn kill_now(&self) {
        self.0.kill_all();
    }

    /// Waits until all that the killed process had started is gone.
    pub async fn all_gone(&self) {
        self.0.all_gone().await;
    }

    /// Removes the record of what it has started, all of which is gone.
    pub fn forget(&self) {
        self.0.forget();
    }
}

/// Prepares a command for [`WorkerProcess::start`]: the processes can be ended together, and no signal or event of the
/// host's terminal reaches them.
pub fn prepare(command: &mut Command) {
    system::prepare(command);
}

/// Does the same for another program than this one, which keeps its own name.
pub fn stand_apart(command: &mut Command) {
    system::stand_apart(command);
}

/// Describes how a process ended, for a person.
#[must_use]
pub fn in_words(status: ExitStatus) -> String {
    system::in_words(status)
}
