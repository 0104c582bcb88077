//! The first process of a container: it reaps orphans, and the host is its child.
//!
//! Whatever loses its parent becomes a child of the first process, and stays in the kernel's table until that asks how it
//! ended. A host can't ask for everybody: it would take the answers away from daemons that have started processes of
//! their own. So as process 1 this program only starts itself once more, as the host, hands on every signal, reaps all
//! that ends, and ends as the host has.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use dae_runtime::process::signals;

/// The number of the first process of a system or a container.
const FIRST: u32 = 1;

/// What a shell adds to the number of the signal that has ended a program.
const CODE_OF_SIGNAL: i32 = 128;

/// Whether this is the first process.
pub(super) fn is_first() -> bool {
    std::process::id() == FIRST
}

/// Runs this program once more with the same arguments, and reaps until that has ended.
pub(super) fn run() -> Result<ExitCode> {
    // Before the host is there, since the kernel drops what the first process has no handler for.
    let mut forwarded = signals::forwarded().context("cannot listen for signals")?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "dae-host".into());
    let host = Command::new("/proc/self/exe")
        .arg0(name)
        .args(arguments)
        // A Ctrl-C comes to this process alone, and reaches the host once.
        .process_group(0)
        .spawn()
        .context("cannot start the host as a child of process 1")?;
    let host = Pid::from_child(&host);
    thread::Builder::new()
        .name("forward".to_owned())
        .spawn(move || {
            for signal in forwarded.forever() {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // It may have ended just now.
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
