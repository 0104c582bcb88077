//! A job object, which holds a process and all that it starts, and a process group of the console, which gets no Ctrl-C.

use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command};

use windows_sys::Win32::System::JobObjects::JOBOBJECT_EXTENDED_LIMIT_INFORMATION;
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_SUSPENDED};

use crate::os::job_object::{self, JobObject};

#[derive(Debug)]
pub(super) struct BuildGroup(JobObject);

pub(super) fn lead_group(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// The process waits until it is in the job, so that it starts nothing outside of it.
pub(super) fn start_leader(command: &mut Command) -> io::Result<(Child, Option<BuildGroup>)> {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP | CREATE_SUSPENDED);
    let mut leader = command.spawn()?;
    let job = JobObject::with(&JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default());
    let taken = job.and_then(|job| job.take_suspended(leader.id()).map(|()| BuildGroup(job)));
    if let Ok(group) = taken {
        return Ok((leader, Some(group)));
    }
    // Without a job it runs all the same: a build ends by itself.
    if let Err(error) = job_object::resume(leader.id()) {
        // It would wait for ever.
        let _ = leader.kill();
        return Err(error);
    }
    Ok((leader, None))
}

impl BuildGroup {
    pub(super) fn end(self) {
        self.0.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::under_test::until;
    use std::io::Read as _;
    use std::process::{ChildStdout, Stdio};

    /// Waits until `pause` has said something. Only then does it run.
    fn until_paused(mut output: ChildStdout) {
        output.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn a_group_holds_what_its_leader_starts_and_ends_as_a_whole() {
        let mut command = Command::new("cmd");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.args(["/c", "cmd /c pause"]);
        let (mut child, group) = start_leader(&mut command).unwrap();
        let BuildGroup(job) = group.unwrap();
        until_paused(child.stdout.take().unwrap());
        assert_eq!(job.running().unwrap(), 2);
        job.kill();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(1), "as `taskkill` ends it");
        until("the other ends too", || job.running().unwrap() == 0);
    }
}
