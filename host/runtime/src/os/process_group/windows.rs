//! A job object, which holds a process and all that it starts, and a process group of the console, which gets no Ctrl-C.

use std::os::windows::io::AsHandle as _;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command};

use windows_sys::Win32::System::JobObjects::JOBOBJECT_EXTENDED_LIMIT_INFORMATION;
use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

use crate::os::worker_process::JobObject;

/// The job of a process. Dropping it ends nothing.
#[derive(Debug)]
pub struct BuildGroup(JobObject);

/// Has a command lead a group of its own once it is started.
pub fn lead_group(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

impl BuildGroup {
    /// Puts a process that has just been started into a job. A process that it has started by then stays outside,
    /// and outlives [`Self::end`]; a build ends by itself. Returns `None` if the system makes no job.
    #[must_use]
    pub fn of(leader: &Child) -> Option<Self> {
        let job = JobObject::with(&JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default()).ok()?;
        job.take(leader.as_handle()).ok()?;
        Some(BuildGroup(job))
    }

    /// Ends all its processes.
    pub fn end(self) {
        self.0.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::worker_process::CODE_KILLED;
    use std::process::Stdio;

    #[test]
    fn a_group_ends_as_a_whole() {
        let mut command = Command::new("cmd");
        command.args(["/c", "cmd /c pause"]).stdin(Stdio::piped());
        lead_group(&mut command);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        BuildGroup::of(&child).unwrap().end();
        assert_eq!(
            child.wait().unwrap().code(),
            Some(CODE_KILLED.cast_signed())
        );
    }
}
