//! Process 1, by wait(2).

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::os::{own_program, signals};

/// The process ID of the first process of a system or a container.
const FIRST: u32 = 1;

/// The number that a shell adds to the signal that ended a program, to form its exit code.
const CODE_OF_SIGNAL: i32 = 128;

/// Returns whether this is the first process.
#[must_use]
pub fn is_first() -> bool {
    std::process::id() == FIRST
}

/// Runs this program again with the same arguments, and reaps processes until that one has ended.
///
/// # Errors
/// The system's error: the host can't be started or waited for.
pub fn run() -> Result<ExitCode> {
    // Register before the host starts: the kernel drops signals for which the first process has no handler.
    let mut forwarded = signals::forwarded().context("cannot listen for signals")?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "dae-host".into());
    let program = own_program::path().context("cannot find the host's own program")?;
    let host = Command::new(program)
        .arg0(name)
        .args(arguments)
        // A Ctrl-C must reach this process alone, so that the host gets it once.
        .process_group(0)
        .spawn()
        .context("cannot start the host as a child of process 1")?;
    let host = Pid::from_child(&host);
    thread::Builder::new()
        .name("forward".to_owned())
        .spawn(move || {
            for signal in forwarded.forever() {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // The host may have ended just now.
                    let _ = kill_process(host, signal);
                }
            }
        })
        .context("cannot start the thread that hands on signals")?;
    Ok(code_of(reap_until(host)?))
}

fn reap_until(host: Pid) -> Result<ExitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((process, status))) if process == host => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the host"),
        }
    }
}

fn code_of(status: ExitStatus) -> ExitCode {
    let of_signal = || CODE_OF_SIGNAL + status.signal().unwrap_or(0);
    let code = status.code().unwrap_or_else(of_signal);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
