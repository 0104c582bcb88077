//! A process that is started with all its descendants in one group, so that they can be ended together, and so that a
//! Ctrl-C at the terminal doesn't reach them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;
use std::process::{Child, Command};

/// The group of a process. Dropping it ends nothing.
#[derive(Debug)]
pub struct BuildGroup(system::BuildGroup);

impl BuildGroup {
    /// Ends all its processes. The leader must not have been waited for: on Unix its id is another's then.
    pub fn end(self) {
        self.0.end();
    }
}

/// Starts a command as the leader of a group, which holds all that the command starts. The group is `None` if the system
/// makes none.
///
/// # Errors
/// The system's error.
pub fn start_leader(command: &mut Command) -> io::Result<(Child, Option<BuildGroup>)> {
    let (child, group) = system::start_leader(command)?;
    Ok((child, group.map(BuildGroup)))
}

/// Keeps a Ctrl-C at the terminal from the process of a command.
pub fn keep_ctrl_c_from(command: &mut Command) {
    system::lead_group(command);
}
