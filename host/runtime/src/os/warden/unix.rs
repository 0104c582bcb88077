//! A thread that ends the worker, with all that its daemon has started, when the host has ended.
//!
//! The kernel could kill the worker itself at that moment, but then nothing would end the rest of its group. So the
//! kernel is asked to send SIGCONT instead, which resumes a stopped worker, and a thread waits for the host's end
//! through a process descriptor. That thread runs whatever the daemon's code does.

use std::io;

#[cfg(target_os = "linux")]
use nix::sys::signal::SigSet;
#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open, set_parent_process_death_signal};

/// The stack of the thread (bytes). It waits and makes one call.
#[cfg(target_os = "linux")]
const STACK_BYTES: usize = 64 << 10;

pub(super) fn end_with(host: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if wait_for_end_of(host).is_err() {
        // Without the thread, at least the worker itself ends.
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    let parent = rustix::process::getppid().map_or(0, Pid::as_raw_pid);
    match u32::try_from(parent) {
        Ok(parent) if parent == host => Ok(()),
        _ => Err(io::Error::other("it ended before this process began")),
    }
}

#[cfg(target_os = "linux")]
fn wait_for_end_of(host: u32) -> io::Result<()> {
    let pid = i32::try_from(host).ok().and_then(Pid::from_raw);
    let host = pidfd_open(pid.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
    set_parent_process_death_signal(Some(Signal::CONT))?;
    let wait = move || {
        // Signals to this process are for the daemon's threads.
        let _ = SigSet::all().thread_block();
        while poll(&mut [PollFd::new(&host, PollFlags::IN)], None).is_err() {}
        end_group();
    };
    let thread = std::thread::Builder::new().name("warden".to_owned());
    thread.stack_size(STACK_BYTES).spawn(wait).map(drop)
}

pub(super) fn end_group() {
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() == own {
        let _ = rustix::process::kill_current_process_group(Signal::KILL);
    }
    let _ = rustix::process::kill_process(own, Signal::KILL);
}
