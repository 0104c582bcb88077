//! A process group. It has the id of the process that leads it.

use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};

/// The group of a process that leads one.
#[derive(Debug)]
pub struct BuildGroup(Pid);

/// Has a command lead a group of its own once it is started.
pub fn lead_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

impl BuildGroup {
    /// Returns the group of a process that was started by a command with [`lead_group`].
    #[must_use]
    pub fn of(leader: &Child) -> Option<Self> {
        let id = i32::try_from(leader.id()).ok();
        id.and_then(Pid::from_raw).map(BuildGroup)
    }

    /// Ends all its processes with SIGTERM. The leader must not have been waited for: then its id is another's.
    pub fn end(self) {
        // The group may have ended by itself.
        let _ = kill_process_group(self.0, Signal::TERM);
    }
}
