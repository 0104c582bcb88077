//! A process group. It has the id of the process that leads it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};

#[derive(Debug)]
pub(super) struct BuildGroup(Pid);

pub(super) fn lead_group(command: &mut Command) {
    command.process_group(0);
}

pub(super) fn start_leader(command: &mut Command) -> io::Result<(Child, Option<BuildGroup>)> {
    lead_group(command);
    let leader = command.spawn()?;
    let id = i32::try_from(leader.id()).ok();
    Ok((leader, id.and_then(Pid::from_raw).map(BuildGroup)))
}

impl BuildGroup {
    /// Sends SIGTERM.
    pub(super) fn end(self) {
        // The group may have ended by itself.
        let _ = kill_process_group(self.0, Signal::TERM);
    }
}
